"""Evaluates a Keras model on clients' data: loss and metrics over all examples."""

import argparse
import json
import sys
from typing import TYPE_CHECKING, Any

from fedlab._text import visible
from fedlab.cli import _arguments, _data_files, _preprocessing

if TYPE_CHECKING:
    from fedlab import ClientData


_EXAMPLE = """\
example:
  fedlab evaluate --model runs/visits/model.keras --data visits.csv --client user_id \\
    --label bought
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = _EXAMPLE
    _arguments.add_model(parser)
    parser.add_argument(
        "--dataset",
        help="the data set (default: shakespeare); `fedlab datasets` lists them",
    )
    _arguments.add_data(parser)
    _data_files.add_file(parser)
    parser.add_argument(
        "--clients",
        metavar="N_OR_IDS",
        help="the first N clients, or comma-separated client ids (default: all)",
    )
    parser.add_argument(
        "--batch_size",
        type=_arguments.positive_int,
        default=64,
        metavar="N",
        help="examples per step (default: 64)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def run(args: argparse.Namespace) -> None:
    """Prints the metrics."""
    import fedlab as fl
    from fedlab import models
    from fedlab.learner import graph

    _data_files.check_options(args, dataset=args.dataset, source=args.source, path=args.path)
    if args.data is None:
        args.dataset = args.dataset or "shakespeare"
        data = choose_clients(_arguments.load_data(args.dataset, args), args.clients)
        described = {"dataset": args.dataset, "source": args.source, "split": args.split}
    model = models.load(args.model, trust_model=args.trust_model)
    if args.data is not None:
        known = _preprocessing.of_model(args.model)
        names, classes = graph.input_names(model), known.class_names or None
        found = _data_files.read(args, input_names=names, class_names=classes)
        if args.text is not None:
            known = _preprocessing.of_data(args, found, model, known)
            found = _preprocessing.apply(found, known)
        data, described = choose_clients(found, args.clients), {"data": args.data}
        if skipped := _data_files.skipped(found):
            described["skipped"] = skipped
    if not graph.is_compiled(model):
        # Without compile() the metrics are unknown, except those of next-character
        # models.
        if not (model.built and model.outputs and model.outputs[0].shape[-1] == _num_characters()):
            raise ValueError(
                f"--model={args.model}: expected a compiled model, which has a loss; call "
                "model.compile(...) and save it again"
            )
        print(
            "fedlab: the model is not compiled; using the loss and accuracy of character models",
            file=sys.stderr,
        )
        models.compile_char_rnn(model)
    metrics = fl.evaluate(model, data, batch_size=args.batch_size)
    result = {
        "model": args.model,
        **described,
        "clients": len(data),
        "examples": sum(map(data.num_examples, data)),
        "metrics": {name: float(value) for name, value in metrics.items()},
    }
    print(json.dumps(result) if args.json else table(result))


def choose_clients(data: "ClientData", clients: str | None) -> "ClientData":
    """Returns the clients that --clients selects: a number, or comma-separated ids."""
    if clients is None:
        return data
    if clients.isdecimal() and clients not in data:
        if not 1 <= int(clients) <= len(data):
            raise ValueError(
                f"--clients={clients}: expected an integer between 1 and {len(data)}, the number "
                "of clients, or client ids"
            )
        return data.select(data.client_ids[: int(clients)])
    return data.select(client_id.strip() for client_id in clients.split(","))


def table(result: dict[str, Any]) -> str:
    """Formats the result as lines of name and value."""
    names = ("model", "dataset", "source", "split", "data", "skipped")
    rows = {name: visible(result[name]) for name in names if name in result}
    rows |= {name: f"{result[name]:,}" for name in ("clients", "examples")}
    rows |= {name: f"{value:.4f}" for name, value in result["metrics"].items()}
    width = max(map(len, rows))
    return "\n".join(f"{name:<{width}}  {value}" for name, value in rows.items())


def _num_characters() -> int:
    from fedlab.tasks.generation.text import CHAR_VOCABULARY

    return len(CHAR_VOCABULARY)
