"""Draws the picture of the README: the demo's learning curve, and its text before and after.

    scripts/demo
    .venv/bin/python docs/images/make.py --run_dir=runs/demo

The badges next to it are drawn by the same program.
"""

import argparse
import json
import textwrap
from pathlib import Path

import matplotlib

matplotlib.use("agg")
from matplotlib import pyplot as plt

import fedlab as fl

FOLDER = Path(__file__).resolve().parent
BLUE, ORANGE, GRAY = "#3f51b5", "#e8710a", "#5f6368"
# The evaluation sets: text of roles that never train, and held-out text of those that do.
SETS = [("new_clients", "new roles", BLUE), ("held_out_text", "training roles", ORANGE)]
OLD_NAMES = {"new_clients": "other", "held_out_text": "same"}
BADGES = [
    ("python", "3.11 | 3.12 | 3.13", "#3f51b5"),
    ("keras", "3.15 | 2.14", "#d00000"),
    ("license", "Apache 2.0", "#2e7d32"),
]


def draw(run_dir: Path, output: Path) -> None:
    """Draws a run of the demo."""
    history = fl.runs.read_run(run_dir).history
    samples = json.loads((run_dir / "samples.json").read_text(encoding="utf-8"))
    figure = plt.figure(figsize=(10, 3.9), facecolor="white")
    axis = figure.add_axes((0.065, 0.14, 0.36, 0.73))
    for name, label, color in SETS:
        key = f"{name}_accuracy"
        if key not in history[0]:
            key = f"{OLD_NAMES[name]}_accuracy"
        points = [(row["round"], 100 * row[key]) for row in history if row.get(key) is not None]
        axis.plot(*zip(*points), color=color, label=f"held-out text of {label}")
        axis.annotate(
            f"{points[-1][1]:.1f} %",
            points[-1],
            xytext=(4, 4 if color == ORANGE else -9),
            textcoords="offset points",
            color=color,
            fontsize=9,
        )
    axis.set_title("Next characters predicted correctly", fontsize=11, loc="left")
    axis.set_xlabel("round of federated training")
    axis.set_ylabel("accuracy in %")
    axis.set_xlim(0, 1.13 * history[-1]["round"])
    axis.grid(alpha=0.25)
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False, loc="lower right", fontsize=9)

    titles = ["Before: a model that has read Dickens", f"After {history[-1]['round']} rounds"]
    for top, title, color, sample in zip((0.93, 0.45), titles, (GRAY, BLUE), samples):
        lines = [
            part for line in sample["text"].splitlines() for part in textwrap.wrap(line, 66) or [""]
        ]
        figure.text(0.47, top - 0.01, title, fontsize=11, color=color, weight="bold")
        figure.text(
            0.47,
            top - 0.045,
            "\n".join(lines[:8]) + (" ..." if len(lines) > 8 else ""),
            fontsize=8.6,
            family="monospace",
            va="top",
            linespacing=1.25,
            color="#202124",
        )
    figure.savefig(output, dpi=130, metadata={"Software": None})
    plt.close(figure)


def badge(name: str, value: str, color: str) -> str:
    """Returns an SVG of a name and a value, side by side."""
    left, right = 12 + 7 * len(name), 12 + 6.6 * len(value)
    center = left + right / 2
    return f"""<svg xmlns="http://www.w3.org/2000/svg" width="{left + right:.0f}" height="20" \
role="img" aria-label="{name}: {value}">
<title>{name}: {value}</title>
<clipPath id="c"><rect width="{left + right:.0f}" height="20" rx="3"/></clipPath>
<g clip-path="url(#c)"><rect width="{left}" height="20" fill="#555"/>
<rect x="{left}" width="{right:.1f}" height="20" fill="{color}"/></g>
<g fill="#fff" text-anchor="middle" font-family="Verdana,DejaVu Sans,sans-serif" font-size="11">
<text x="{left / 2}" y="14">{name}</text><text x="{center:.1f}" y="14">{value}</text></g>
</svg>
"""


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run_dir", type=Path, required=True, help="a run of scripts/demo")
    draw(parser.parse_args().run_dir, FOLDER / "demo.png")
    for name, value, color in BADGES:
        (FOLDER / f"{name}.svg").write_text(badge(name, value, color), encoding="utf-8")
