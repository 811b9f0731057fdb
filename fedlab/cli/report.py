"""Writes a run's report.html: settings, curves, clients, bytes and samples as one page."""


def add_arguments(parser):
    parser.add_argument("run_dir", metavar="RUN_DIR", help="the run's folder")
    parser.add_argument(
        "--output",
        metavar="FILE",
        help="the file to write (default: report.html in the run's folder)",
    )


def run(args):
    from fedlab._text import visible
    from fedlab.runs.read.report import write_report

    print(visible(str(write_report(args.run_dir, args.output))))
