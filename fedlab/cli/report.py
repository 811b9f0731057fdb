"""Writes a run's report.html: settings, curves, clients, bytes and samples as one page."""

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments."""
    parser.add_argument("run_dir", metavar="RUN_DIR", help="the run's folder")
    parser.add_argument(
        "--output",
        metavar="FILE",
        help="the file to write (default: report.html in the run's folder)",
    )


def run(args: argparse.Namespace) -> None:
    """Writes the report and prints its path."""
    from fedlab._text import visible
    from fedlab.runs.read.report import write_report

    print(visible(str(write_report(args.run_dir, args.output))))
