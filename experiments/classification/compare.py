"""Compares the accuracy on held-out texts after training from different weights.

    python -m experiments.classification.compare --path=FOLDER

Runs the presets that are not finished in --folder, one after the other: each by federated
averaging, and with --centralized on the data of all clients together. Draws the plot. A
run that was interrupted is resumed.
"""

import pathlib

from absl import flags

from experiments import common, presets
from fedlab.cli.flags import run_with_flags

_HERE = pathlib.Path(__file__).resolve().parent
_PRESETS = flags.DEFINE_list(
    "presets", ["pretrained", "frozen", "scratch"], "Which flag files of this folder to compare."
)
_FLAGS = flags.DEFINE_list(
    "flags", [], "Flags for every run, such as --flags=--rounds=20,--max_length=64."
)
_PATH = flags.DEFINE_string("path", None, "Folder of the data set's files.")
_FOLDER = flags.DEFINE_string("folder", "runs/classification", "Folder that keeps the runs.")
_PICTURE = flags.DEFINE_string("picture", str(_HERE / "compare.png"), "The PNG file to write.")

_COLOURS = {"pretrained": common.BLUE, "frozen": common.ORANGE, "scratch": common.VERMILION}
_MARKERS = {"pretrained": "o", "frozen": "^", "scratch": "s"}


def history(preset, centralized, folder):
    """Completes a run; returns its evaluated rows, its seconds, and what it prints at its end."""
    name = f"{preset}_centralized" if centralized else preset
    arguments = [*_FLAGS.value, *(["--centralized"] if centralized else [])]
    rows = presets.complete(_HERE, preset, arguments, _PATH.value, folder, name)
    seconds = sum(float(row["seconds"] or 0) for row in rows)
    said = (folder / f"{name}.log").read_text(encoding="utf-8").splitlines()
    ending = [line for line in said if line.startswith(("Accuracy on", "A client sends"))]
    return [row for row in rows if row["held_out_accuracy"]], seconds, ending


def table(results):
    """Returns the accuracy on held-out texts by round, as the README has it."""
    curves = {
        key: {int(row["round"]): float(row["held_out_accuracy"]) for row in rows}
        for key, (rows, _, _) in results.items()
    }
    titles = [f"{preset}{', centralized' * centralized}" for preset, centralized in curves]
    lines = [["round", *titles], ["---"] * (1 + len(curves))]
    for round_num in sorted(set().union(*curves.values())):
        cells = (curve.get(round_num) for curve in curves.values())
        lines.append([str(round_num), *("" if c is None else f"{c:.3f}" for c in cells)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def draw(results, file):
    """Draws the accuracy by round: a colour per preset, dashed if centralized."""
    with common.picture(file, 7, 4) as (_, [[axis]]):
        for (preset, centralized), (rows, _, _) in results.items():
            axis.plot(
                [int(row["round"]) for row in rows],
                [float(row["held_out_accuracy"]) for row in rows],
                label=f"{preset}, {'centralized' if centralized else 'federated'}",
                color=_COLOURS.get(preset),
                marker=_MARKERS.get(preset),
                linestyle="--" if centralized else "-",
                markerfacecolor="white" if centralized else None,
                linewidth=1.5 if centralized else 2,
            )
        axis.set(xlabel="round", ylabel="accuracy on held-out texts", ylim=(0, 1))
        axis.grid(axis="y", alpha=0.3)
        axis.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)


def check():
    """Raises UsageError if a preset or the folder cannot be used."""
    presets.check(_PRESETS.value, _HERE, _FOLDER.value)


def main():
    folder = pathlib.Path(_FOLDER.value).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    results = {
        (preset, centralized): history(preset, centralized, folder)
        for preset in _PRESETS.value
        for centralized in (False, True)
    }
    draw(results, _PICTURE.value)
    print(table(results))
    for (preset, centralized), (_, seconds, ending) in results.items():
        print(f"\n{preset}{', centralized' * centralized}: {seconds:.0f} seconds of training")
        print("\n".join(ending))
    print(f"\nThe picture is {_PICTURE.value}.")


if __name__ == "__main__":
    run_with_flags(main, check)
