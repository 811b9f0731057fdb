"""Compares exact match and F1 on held-out articles after training from different weights.

    python -m experiments.squad.compare --path=FOLDER

Runs the presets that are not yet done in --folder, one after the other, goes on where
an earlier call was stopped, and writes the picture.
"""

import csv
import pathlib
import subprocess
import sys

from absl import flags, logging

from fedlab.cli.flags import UsageError, check_folder, run_with_flags

_HERE = pathlib.Path(__file__).resolve().parent
_PRESETS = flags.DEFINE_list(
    "presets", ["pretrained", "scratch"], "Which flag files of this folder to compare."
)
_FLAGS = flags.DEFINE_list(
    "flags", [], "Flags for every preset, such as --flags=--rounds=20,--max_length=192."
)
_SOURCE = flags.DEFINE_string(
    "source", "json", "Where the questions come from: json, tfds, synthetic."
)
_PATH = flags.DEFINE_string(
    "path",
    None,
    "With json: the folder with train-v1.1.json and dev-v1.1.json, or the same as .json.gz.",
)
_FOLDER = flags.DEFINE_string("folder", "runs/squad", "Folder that keeps the runs.")
_PICTURE = flags.DEFINE_string("picture", str(_HERE / "compare.png"), "The PNG file to write.")

# Of the Okabe-Ito palette, which people with any colour vision can tell apart.
_STYLES = {
    "pretrained": dict(color="#0072B2", marker="o"),
    "scratch": dict(color="#D55E00", marker="s"),
    "head_only": dict(color="#E69F00", marker="^"),
    "centralized": dict(color="#555555", marker="x", linestyle="--"),
}


def history(preset, folder):
    """The evaluated rows of a preset's metrics.csv; runs it first where it is not done."""
    command = [
        "-m",
        "experiments.squad.run",
        f"--flagfile={_HERE / preset}.flags",
        f"--source={_SOURCE.value}",
        *_FLAGS.value,
    ]
    command += [f"--path={pathlib.Path(_PATH.value).resolve()}"] if _PATH.value else []
    command.append(f"--run_dir={folder / preset}")
    file = folder / f"{preset}.log"
    logging.info("%s runs; its rounds are told in %s: python %s", preset, file, " ".join(command))
    with open(file, "w", encoding="utf-8") as log:
        code = subprocess.run(
            [sys.executable, *command], cwd=_HERE.parents[1], stdout=log, stderr=log
        ).returncode
    if code:
        last = file.read_text(encoding="utf-8").strip().splitlines()[-1:]
        raise ValueError(
            f"preset {preset} ended with exit code {code}; the end of {file}: {' '.join(last)}"
        )
    with open(folder / preset / "metrics.csv", encoding="utf-8") as table:
        rows = list(csv.DictReader(table))
    seconds = sum(float(row["seconds"] or 0) for row in rows)
    return [row for row in rows if row["held_out_f1"]], seconds


def table(results):
    """Loss, exact match and F1 on held-out articles by round, as the README has them."""
    columns = {
        "held_out_loss": 3,
        "held_out_exact_match": 2,
        "held_out_f1": 2,
    }  # with so many digits
    presets = {
        preset: {int(row["round"]): row for row in rows} for preset, (rows, _) in results.items()
    }
    lines = [["round"], ["---"] * (1 + len(columns) * len(presets))]
    for preset in presets:
        lines[0] += [f"{preset}: loss", "EM", "F1"]
    for round_num in sorted(set().union(*presets.values())):
        rows = (evaluated.get(round_num, {}) for evaluated in presets.values())
        cells = [
            f"{float(row[name]):.{digits}f}" if row else ""
            for row in rows
            for name, digits in columns.items()
        ]
        lines.append([str(round_num), *cells])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def draw(results, picture):
    """Left: exact match by round; right: F1."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    plt.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False})
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.5), dpi=100, layout="constrained", sharey=True)
    for axis, (column, title) in zip(
        axes, (("held_out_exact_match", "Exact match"), ("held_out_f1", "F1"))
    ):
        for preset, (rows, _) in results.items():
            rounds, values = (
                [int(row["round"]) for row in rows],
                [float(row[column]) for row in rows],
            )
            axis.plot(
                rounds,
                values,
                label=preset.replace("_", " "),
                linewidth=2,
                **_STYLES.get(preset, {}),
            )
        axis.set(title=f"{title}, held-out articles", xlabel="round")
        axis.grid(axis="y", alpha=0.3)
    axes[0].set_ylim(bottom=0)
    axes[0].legend(loc="upper left", frameon=False)
    figure.savefig(picture)
    plt.close(figure)


def check():
    """Raises UsageError where a flag names what there is not."""
    unknown = [preset for preset in _PRESETS.value if not (_HERE / f"{preset}.flags").is_file()]
    if unknown or not _PRESETS.value:
        known = ", ".join(sorted(file.stem for file in _HERE.glob("*.flags")))
        raise UsageError(
            f"received --presets={','.join(_PRESETS.value)}; allowed: some of {known}."
        )
    check_folder("folder", _FOLDER.value)


def main():
    folder = pathlib.Path(_FOLDER.value).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    results = {preset: history(preset, folder) for preset in _PRESETS.value}
    draw(results, _PICTURE.value)
    print(table(results))
    for preset, (_, seconds) in results.items():
        print(f"{preset}: {seconds:.0f} seconds of training")
    print(f"The picture is {_PICTURE.value}.")


if __name__ == "__main__":
    run_with_flags(main, check)
