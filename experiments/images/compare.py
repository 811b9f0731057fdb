"""Compares runs of images: accuracy by round, and which labels their clients have.

    python -m experiments.images.compare --path=FOLDER
    python -m experiments.images.compare --presets=frozen,fine_tuned,scratch --path=FOLDER

Runs the presets that are not finished in --folder, one after the other, and draws the
plot. A run that was interrupted is resumed. The plot has accuracy by megabytes if the
presets differ in what a client sends, and a heat map for each preset if they differ in
what clients have.
"""

import pathlib

from absl import flags

from experiments import common, presets
from fedlab.cli.flags import run_with_flags

_HERE = pathlib.Path(__file__).resolve().parent
_PRESETS = flags.DEFINE_list(
    "presets",
    ["fashion_iid", "fashion_dirichlet", "fashion_shards"],
    "Which flag files of this folder to compare.",
)
_FLAGS = flags.DEFINE_list(
    "flags", [], "Flags for every preset, such as --flags=--rounds=20,--num_images=5000."
)
_SOURCE = flags.DEFINE_string(
    "source", None, "Where the images come from, if not as the presets say; synthetic needs none."
)
_PATH = flags.DEFINE_string(
    "path", None, "Folder that holds the data set's files, instead of installed or downloaded ones."
)
_FOLDER = flags.DEFINE_string("folder", "runs/images", "Folder that keeps the runs.")
_PICTURE = flags.DEFINE_string(
    "picture", None, "The PNG file to write. Default: compare.png in --folder."
)

_COLORS = (common.BLUE, common.VERMILION, common.GREEN, common.ORANGE, common.PINK, common.SKY)


def complete(preset, folder):
    """Completes the run of a preset; returns the rows of its metrics.csv with numbers."""
    arguments = [*_FLAGS.value, *([f"--source={_SOURCE.value}"] if _SOURCE.value else [])]
    rows = presets.complete(_HERE, preset, arguments, _PATH.value, folder)
    return [{name: float(value) for name, value in row.items() if value} for row in rows]


def evaluated(rows):
    return [row for row in rows if "test_accuracy" in row]


def megabytes(rows):
    """Returns what one client would have sent by each evaluated round, in every round asked."""
    sent, by_round = 0.0, []
    for row in rows:
        sent += row.get("bytes_up", 0) / max(1, row.get("clients_finished", 1)) / 1e6
        if "test_accuracy" in row:
            by_round.append(sent)
    return by_round


def draw(results, clients, file):
    """Draws the curves, and the heat maps below.

    Args:
      results: preset -> rows.
      clients: preset -> `fedlab.data.Description`.
      file: the PNG to write.
    """
    import numpy as np

    by_bytes = len({megabytes(rows)[-1] for rows in results.values()}) > 1
    counts = [found.counts for found in clients.values()]
    differ = any(not np.array_equal(counts[0], other) for other in counts[1:])
    width = max(9.0, 3.4 * len(clients) if differ else 0.0)
    with common.picture(file, width, 6 if differ else 3.5) as (figure, axes):
        axes[0][0].remove()
        parts = figure.subfigures(2 if differ else 1, 1, squeeze=False)[:, 0]
        _draw_curves(parts[0].subplots(1, 2 if by_bytes else 1, squeeze=False)[0], results)
        if differ:
            _draw_heat_maps(parts[1], clients)


def _draw_curves(axes, results):
    for (preset, rows), color in zip(results.items(), _COLORS * len(results)):
        accuracies = [row["test_accuracy"] for row in evaluated(rows)]
        rounds = [row["round"] for row in evaluated(rows)]
        axes[0].plot(rounds, accuracies, color=color, label=preset.replace("_", " "))
        if len(axes) > 1:
            axes[1].plot(megabytes(rows)[1:], accuracies[1:], color=color)
    axes[0].set(xlabel="round", ylabel="test accuracy")
    axes[0].xaxis.get_major_locator().set_params(integer=True)
    if len(axes) > 1:
        axes[1].set(xlabel="megabytes sent by a client that is in every round", xscale="log")
    for axis in axes:
        axis.grid(alpha=0.3)
    axes[0].legend(frameon=False, loc="lower right")


def _draw_heat_maps(part, clients):
    import numpy as np

    axes = part.subplots(1, len(clients), squeeze=False, sharey=True)[0]
    for axis, (preset, found) in zip(axes, clients.items()):
        shares = found.shares
        # Clients with the same most frequent label stand together.
        order = np.lexsort([-shares.max(axis=1), shares.argmax(axis=1)])
        image = axis.imshow(
            shares[order].T, aspect="auto", interpolation="nearest", cmap="Blues", vmin=0, vmax=1
        )
        axis.set_title(
            f"{preset.replace('_', ' ')}\nearth mover's distance {found.mean_distance:.2f}",
            fontsize=9,
        )
        axis.set_xlabel("client")
    if len(found.labels) <= 20:
        axes[0].set_yticks(range(len(found.labels)), found.labels)
    part.colorbar(image, ax=list(axes), label="share of the client's labels", pad=0.01)


def table(results, clients):
    """Returns the figures that the README has, as a Markdown table."""
    lines = [
        ["preset", "clients", "examples", "distance of labels", "rounds", "accuracy", "best"],
    ]
    lines[0] += ["bytes sent per client and round", "seconds"]
    lines.append(["---"] * len(lines[0]))
    for preset, rows in results.items():
        found, last = clients[preset], rows[-1]
        accuracies = [row["test_accuracy"] for row in evaluated(rows)]
        lines.append(
            [
                f"`{preset}`",
                f"{found.num_clients:,}",
                f"{int(found.num_examples.sum()):,}",
                f"{found.mean_distance:.2f}",
                f"{last['round']:.0f}",
                f"{accuracies[-1]:.4f}",
                f"{max(accuracies):.4f}",
                f"{last['bytes_up'] / max(1, last['clients_finished']):,.0f}",
                f"{sum(row.get('seconds', 0) for row in rows):.0f}",
            ]
        )
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def check():
    """Raises UsageError if a preset or the folder cannot be used."""
    presets.check(_PRESETS.value, _HERE, _FOLDER.value)


def main():
    from fedlab.data import description_json

    folder = pathlib.Path(_FOLDER.value).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    results = {preset: complete(preset, folder) for preset in _PRESETS.value}
    clients = {
        preset: description_json.read(folder / preset / "clients.json") for preset in results
    }
    picture = _PICTURE.value or folder / "compare.png"
    draw(results, clients, picture)
    print(table(results, clients))
    print(f"The picture is {picture}.")


if __name__ == "__main__":
    run_with_flags(main, check)
