"""Plots a run's probe: losses, logits over token positions and the head's weights, by round."""

import argparse
import pathlib


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments."""
    parser.add_argument(
        "--run_dir", required=True, metavar="FOLDER", help="the run's folder, with its probe.npz"
    )
    parser.add_argument(
        "--output", metavar="FOLDER", help="where the PNG files go (default: the run's folder)"
    )


def run(args: argparse.Namespace) -> None:
    """Draws the plots and prints their paths."""
    if not pathlib.Path(args.run_dir).is_dir():
        raise FileNotFoundError(f"--run_dir={args.run_dir}: expected a run folder; check the path")
    output = pathlib.Path(args.output or args.run_dir)
    if output.exists() and not output.is_dir():
        raise NotADirectoryError(f"--output={args.output}: expected a folder, got a file")

    from fedlab.tasks.question_answering import probe
    from fedlab.tasks.question_answering import probe_plot as plots

    record = probe.read(args.run_dir)
    for path in plots.draw(record, output):
        print(path)
