"""Plots the tutorial's learning curves: as published, and with the engines tff and local.

    python -m experiments.shakespeare.three_curves

Runs what is not yet in --folder (about ten minutes in all on two cores), reads the
three tables and writes the picture.
"""

import csv
import math
import pathlib
import subprocess
import sys

from absl import flags, logging

from fedlab.cli.flags import run_with_flags

_HERE = pathlib.Path(__file__).resolve().parent
_FOLDER = flags.DEFINE_string("folder", "runs/three_curves", "Folder that keeps the three runs.")
_PICTURE = flags.DEFINE_string("picture", str(_HERE / "three_curves.png"), "The PNG file to write.")

# The Okabe-Ito palette, which people with any colour vision can tell apart.
_VERMILION, _BLUE, _ORANGE, _GREY = "#D55E00", "#0072B2", "#E69F00", "#555555"


def curves(folder):
    """Runs what is missing; returns name -> (rounds, train losses from round 1, accuracies)."""
    folder.mkdir(parents=True, exist_ok=True)
    ours = [
        "experiments.shakespeare.run",
        f"--flagfile={_HERE / 'tutorial.flags'}",
        "--num_chars=0",
    ]
    published = folder / "as_published.csv"
    runs = {
        "published": (
            published,
            "test_accuracy",
            ["experiments.shakespeare.as_published", f"--out={published}"],
        ),
        "tff": (
            folder / "tff" / "metrics.csv",
            "same_accuracy",
            [*ours, "--engine=tff", f"--run_dir={folder / 'tff'}"],
        ),
        "local": (
            folder / "local" / "metrics.csv",
            "same_accuracy",
            [*ours, "--engine=local", f"--run_dir={folder / 'local'}"],
        ),
    }
    return {name: _curve(name, folder, *run) for name, run in runs.items()}


def _curve(name, folder, table, accuracy, command):
    if command[0].endswith(".run") or not table.is_file():  # a finished run folder is left as it is
        logging.info("%s: python -m %s", name, " ".join(command))
        with open(folder / f"{name}.log", "w", encoding="utf-8") as log:
            code = subprocess.run(
                [sys.executable, "-m", *command], cwd=_HERE.parents[1], stdout=log, stderr=log
            ).returncode
        if code:
            raise ValueError(f"{' '.join(command)} ended with exit code {code}; see {log.name}.")
    with open(table, encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    losses = [
        float(row["train_loss"] or "nan") for row in rows[1:]
    ]  # empty where no update was usable
    return [int(row["round"]) for row in rows], losses, [float(row[accuracy]) for row in rows]


def draw(results, picture):
    """Left: train loss by round; right: accuracy on the two clients' held-out text."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    styles = {
        "published": dict(
            color=_VERMILION, marker="s", markersize=5, label="tutorial as published"
        ),
        "local": dict(
            color=_BLUE,
            marker="o",
            markersize=9,
            markerfacecolor="white",
            label="fedlab, engine local",
        ),
        "tff": dict(
            color=_ORANGE,
            marker="x",
            markersize=6,
            markeredgewidth=2,
            linestyle="none",
            label="fedlab, engine tff",
        ),
    }
    plt.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False})
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.5), dpi=100, layout="constrained")
    for name, style in styles.items():
        rounds, losses, accuracies = results[name]
        left.plot(rounds[1:], losses, linewidth=2, **style)
        right.plot(rounds, accuracies, linewidth=2, **style)
    left.axhline(math.log(86), color=_GREY, linestyle="--", linewidth=1)
    last = max(results["local"][0])
    left.text(
        last, math.log(86) + 0.06, "ln 86: knows nothing", color=_GREY, ha="right", va="bottom"
    )
    left.set(
        title="Train loss of the two clients",
        xlabel="round",
        ylim=(0, 5),
        xticks=range(1, last + 1),
    )
    right.set(
        title="Accuracy on their held-out text",
        xlabel="round (0: pretrained)",
        ylim=(0, 0.6),
        xticks=range(last + 1),
    )
    left.legend(loc="lower left", frameon=False)
    for axis in (left, right):
        axis.grid(axis="y", alpha=0.3)
    figure.savefig(picture)
    plt.close(figure)


def main():
    results = curves(pathlib.Path(_FOLDER.value).resolve())
    draw(results, _PICTURE.value)
    for name, (_, losses, accuracies) in results.items():
        print(
            f"{name:10} train loss",
            *(f"{loss:.4f}" for loss in losses),
            " accuracy",
            *(f"{accuracy:.4f}" for accuracy in accuracies),
        )
    print(f"\nThe picture is {_PICTURE.value}.")


if __name__ == "__main__":
    run_with_flags(main)
