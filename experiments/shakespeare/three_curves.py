"""Plots the tutorial's learning curves: as published, and with the engines tff and local.

    python -m experiments.shakespeare.three_curves

Runs what is not yet in --folder (about ten minutes in all on two cores), reads the
three tables and writes the picture.
"""

import math
import pathlib

from absl import flags, logging

from experiments import common
from fedlab.cli.flags import check_engine, run_with_flags

_HERE = pathlib.Path(__file__).resolve().parent
_FOLDER = flags.DEFINE_string("folder", "runs/three_curves", "Folder that keeps the three runs.")
_PICTURE = flags.DEFINE_string("picture", str(_HERE / "three_curves.png"), "The PNG file to write.")


def curves(folder):
    """Runs what is missing; returns name -> (rounds, train losses from round 1, accuracies)."""
    folder.mkdir(parents=True, exist_ok=True)
    published = folder / "as_published.csv"
    if not published.is_file():
        _run("published", folder, "as_published", [f"--out={published}"])
    results = {"published": _curve(published, "test_accuracy")}
    for engine in ("tff", "local"):
        # A finished run folder is left as it is.
        preset = [f"--flagfile={_HERE / 'tutorial.flags'}", "--num_chars=0"]
        options = [f"--engine={engine}", f"--run_dir={folder / engine}"]
        _run(engine, folder, "run", [*preset, *options])
        results[engine] = _curve(folder / engine / "metrics.csv", "held_out_text_accuracy")
    return results


def _run(name, folder, module, arguments):
    logging.info("%s: experiments.shakespeare.%s %s", name, module, " ".join(arguments))
    common.run_module(f"experiments.shakespeare.{module}", arguments, folder / f"{name}.log")


def _curve(table, accuracy):
    rows = common.read_table(table)
    # The loss of a round without a usable update is empty.
    losses = [float(row["train_loss"] or "nan") for row in rows[1:]]
    return [int(row["round"]) for row in rows], losses, [float(row[accuracy]) for row in rows]


def draw(results, file):
    """Draws the train loss by round on the left, and the held-out accuracy on the right."""
    styles = {
        "published": dict(
            color=common.VERMILION, marker="s", markersize=5, label="tutorial as published"
        ),
        "local": dict(
            color=common.BLUE,
            marker="o",
            markersize=9,
            markerfacecolor="white",
            label="fedlab, engine local",
        ),
        "tff": dict(
            color=common.ORANGE,
            marker="x",
            markersize=6,
            markeredgewidth=2,
            linestyle="none",
            label="fedlab, engine tff",
        ),
    }
    with common.picture(file, 9, 3.5, columns=2) as (_, [(left, right)]):
        for name, style in styles.items():
            rounds, losses, accuracies = results[name]
            left.plot(rounds[1:], losses, linewidth=2, **style)
            right.plot(rounds, accuracies, linewidth=2, **style)
        uniform = math.log(86)
        left.axhline(uniform, color=common.GREY, linestyle="--", linewidth=1)
        last = max(results["local"][0])
        left.text(
            last, uniform + 0.06, "ln 86: knows nothing", color=common.GREY, ha="right", va="bottom"
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
    run_with_flags(main, lambda: check_engine("tff"))
