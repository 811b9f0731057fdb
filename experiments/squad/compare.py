"""Compares exact match and F1 on held-out articles after training from different weights.

    python -m experiments.squad.compare --path=FOLDER

Runs the presets that are not finished in --folder, one after the other, and draws the
plot. A run that was interrupted is resumed.
"""

import pathlib

from absl import flags

from experiments import common, presets
from fedlab.cli.flags import run_with_flags

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

_STYLES = {
    "pretrained": dict(color=common.BLUE, marker="o"),
    "scratch": dict(color=common.VERMILION, marker="s"),
    "head_only": dict(color=common.ORANGE, marker="^"),
    "centralized": dict(color=common.GREY, marker="x", linestyle="--"),
}


def history(preset, folder):
    """Completes the run of a preset; returns its evaluated rows and its seconds."""
    arguments = [f"--source={_SOURCE.value}", *_FLAGS.value]
    rows = presets.complete(_HERE, preset, arguments, _PATH.value, folder)
    seconds = sum(float(row["seconds"] or 0) for row in rows)
    return [row for row in rows if row["held_out_f1"]], seconds


def table(results):
    """Loss, exact match and F1 on held-out articles by round, as the README has them."""
    columns = {"held_out_loss": 3, "held_out_exact_match": 2, "held_out_f1": 2}  # name -> digits
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


def draw(results, file):
    """Draws exact match by round on the left, and F1 on the right."""
    with common.picture(file, 9, 3.5, columns=2, sharey=True) as (_, [axes]):
        for axis, (column, title) in zip(
            axes, (("held_out_exact_match", "Exact match"), ("held_out_f1", "F1"))
        ):
            for preset, (rows, _) in results.items():
                axis.plot(
                    [int(row["round"]) for row in rows],
                    [float(row[column]) for row in rows],
                    label=preset.replace("_", " "),
                    linewidth=2,
                    **_STYLES.get(preset, {}),
                )
            axis.set(title=f"{title}, held-out articles", xlabel="round")
            axis.grid(axis="y", alpha=0.3)
        axes[0].set_ylim(bottom=0)
        axes[0].legend(loc="upper left", frameon=False)


def check():
    """Raises UsageError if a preset or the folder cannot be used."""
    presets.check(_PRESETS.value, _HERE, _FOLDER.value)


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
