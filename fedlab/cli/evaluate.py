"""Evaluates a Keras model on clients' data: loss and metrics over all their examples."""

import json
import sys

from fedlab.cli import _arguments


def add_arguments(parser):
    _arguments.add_model(parser)
    parser.add_argument(
        "--dataset",
        default="shakespeare",
        help="name of a data set (default: shakespeare); `fedlab datasets` lists them",
    )
    _arguments.add_data(parser)
    parser.add_argument(
        "--clients",
        metavar="N_OR_IDS",
        help="the first N clients, or client ids with commas between (default: all)",
    )
    parser.add_argument(
        "--batch_size",
        type=_arguments.positive_int,
        default=64,
        metavar="N",
        help="examples a step (default: 64)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def run(args):
    import fedlab as fl

    data = choose_clients(_arguments.load_data(args.dataset, args), args.clients)
    model = fl.models.load(args.model, trust_model=args.trust_model)
    if getattr(model, "_compile_config", None) is None:
        # Only compile() says what to compute; that of next-character models is known.
        if not (model.built and model.outputs and model.outputs[0].shape[-1] == _num_characters()):
            raise ValueError(
                f"{args.model} is not compiled, so that it has no loss: call model.compile(...) and save it again."
            )
        print(
            "fedlab: the model is not compiled; using the loss and accuracy of next-character models",
            file=sys.stderr,
        )
        fl.models.compile_char_rnn(model)
    metrics = fl.evaluate(model, data, batch_size=args.batch_size)
    result = {
        "model": args.model,
        "dataset": args.dataset,
        "source": args.source,
        "split": args.split,
        "clients": len(data),
        "examples": sum(map(data.num_examples, data)),
        "metrics": {name: float(value) for name, value in metrics.items()},
    }
    print(json.dumps(result) if args.json else table(result))


def choose_clients(data, clients):
    """The clients that --clients names: a number, or ids with commas between."""
    if clients is None:
        return data
    if clients.isdecimal() and clients not in data:
        if not 1 <= int(clients) <= len(data):
            raise ValueError(
                f"received --clients={clients}; allowed: 1 to {len(data)}, or client ids."
            )
        return data.select(data.client_ids[: int(clients)])
    return data.select(client_id.strip() for client_id in clients.split(","))


def table(result):
    """The result as lines of name and value."""
    rows = {name: result[name] for name in ("model", "dataset", "source", "split")}
    rows |= {name: f"{result[name]:,}" for name in ("clients", "examples")}
    rows |= {name: f"{value:.4f}" for name, value in result["metrics"].items()}
    width = max(map(len, rows))
    return "\n".join(f"{name:<{width}}  {value}" for name, value in rows.items())


def _num_characters():
    from fedlab.tasks.generation.text import CHAR_VOCABULARY

    return len(CHAR_VOCABULARY)
