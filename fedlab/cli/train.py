"""Trains a Keras model on data that is divided among clients, and writes a run folder."""

import argparse
import contextlib
import pathlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fedlab._text import visible
from fedlab.cli import _arguments, _data_files, _preprocessing

if TYPE_CHECKING:
    from fedlab import ClientData, Run

_EXAMPLE = """\
example:
  fedlab train --data visits.csv --client user_id --label bought --rounds 30

trains a small dense network on the other columns of visits.csv. A fifth of
the clients is held out for evaluation. The run folder runs/visits has the
model and report.html. The same command resumes a run that was interrupted.
Other models and algorithms:

  fedlab train --data visits.csv --client user_id --x minutes,pages \\
    --label bought --model model.keras --algorithm "fed_adam(0.01)"
  fedlab train --data letters.csv --client author --text letter --rounds 50
  fedlab train --dataset shakespeare --model dickens_char_rnn --rounds 20
"""

_TRACKERS = {"mlflow": "MLflow", "wandb": "WandB"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = _EXAMPLE
    _arguments.add_model(parser, required=False)
    _data_files.add_file(parser)
    group = parser.add_argument_group("options for data sets of fedlab")
    group.add_argument("--dataset", help="the data set; `fedlab datasets` lists them")
    _arguments.add_data(group, split=False)
    group = parser.add_argument_group("options for clients and evaluation")
    group.add_argument(
        "--partitioner",
        metavar="TEXT",
        help="divides the rows of a table without --client, such as "
        "'dirichlet(num_clients=10, alpha=0.5)'",
    )
    group.add_argument(
        "--test_data", metavar="FILE", help="a file like --data for evaluation; trains on all of it"
    )
    group.add_argument(
        "--test_fraction",
        type=_arguments.fraction,
        metavar="F",
        help="the share of --data to hold out for evaluation; 0 for none (default: 0.2)",
    )
    group.add_argument(
        "--test_by",
        choices=("client", "example"),
        help="hold out whole clients (default), or examples of every client",
    )
    group.add_argument(
        "--evaluate_every",
        type=_arguments.positive_int,
        default=1,
        metavar="N",
        help="rounds between evaluations (default: 1)",
    )
    group = parser.add_argument_group("options for training")
    group.add_argument(
        "--algorithm",
        default="fed_avg",
        metavar="TEXT",
        help="such as 'fed_adam(0.01)' or 'fed_prox(mu=0.1)'; `fedlab algorithms` lists them "
        "(default: fed_avg)",
    )
    group.add_argument(
        "--aggregator",
        default="mean",
        metavar="TEXT",
        help="such as 'clipped(quantized(mean()))'; `fedlab aggregators` lists them "
        "(default: mean)",
    )
    for name, default, what in (
        ("rounds", 20, "rounds"),
        ("clients_per_round", None, "clients that are drawn in each round (default: 10, or all)"),
        ("batch_size", 8, "examples per step of a client"),
        ("local_epochs", 1, "passes of a client over its examples per round"),
        ("max_batches", None, "the most steps of a client per round (default: no limit)"),
    ):
        group.add_argument(
            f"--{name}",
            type=_arguments.positive_int,
            default=default,
            metavar="N",
            help=what if default is None else f"{what} (default: {default})",
        )
    group.add_argument(
        "--client_learning_rate",
        type=_arguments.positive_float,
        metavar="RATE",
        help="the learning rate of clients, in place of the model's",
    )
    group.add_argument(
        "--optimizer", metavar="TEXT", help="compiles the model: such as sgd or 'SGD(momentum=0.9)'"
    )
    group.add_argument(
        "--loss",
        metavar="TEXT",
        help="compiles the model: such as mse or 'SparseCategoricalCrossentropy(from_logits=True)'",
    )
    group.add_argument(
        "--metrics", metavar="NAMES", help="compiles the model: comma-separated, such as accuracy"
    )
    group.add_argument(
        "--seed",
        type=_arguments.non_negative_int,
        default=0,
        metavar="N",
        help="seed of everything random (default: 0)",
    )
    group.add_argument(
        "--engine", default="local", help="where clients train: local (default), tff"
    )
    group.add_argument("--num_workers", type=_arguments.positive_int, metavar="N", help="threads")
    group = parser.add_argument_group("options for results")
    group.add_argument(
        "--run_dir",
        metavar="FOLDER",
        help="the run folder (default: runs/NAME, by the data's name)",
    )
    group.add_argument(
        "--track",
        action="append",
        choices=sorted(_TRACKERS),
        default=[],
        help="also log to MLflow (folder mlruns) or Weights & Biases (offline, folder wandb)",
    )


def run(args: argparse.Namespace) -> None:
    """Trains, and prints what was trained and the results."""
    _check(args)
    import fedlab as fl
    from fedlab import callbacks
    from fedlab.cli import _expressions
    from fedlab.clients import partitioners

    with contextlib.suppress(RuntimeError):  # if TensorFlow has already started
        fl.one_core_per_client()
    algorithm = _expressions.algorithm(args.algorithm)
    aggregator = _expressions.aggregator(args.aggregator)
    partitioner = args.partitioner and partitioners.parse(args.partitioner, args.seed)
    trackers = [getattr(callbacks, _TRACKERS[name])() for name in dict.fromkeys(args.track)]
    model = None if args.model is None else fl.models.load(args.model, trust_model=args.trust_model)
    known = _preprocessing.of_model(args.model)
    train, evaluate_on, known = _data(args, model, partitioner, known)
    model = _model(args, model, train, evaluate_on, known)
    print(_title(args, model, train, evaluate_on, known), flush=True)
    path = pathlib.Path(args.run_dir or pathlib.Path("runs") / _name(args))
    found = fl.simulate(
        model,
        train,
        algorithm,
        aggregator=aggregator,
        rounds=args.rounds,
        clients_per_round=args.clients_per_round or min(10, len(train)),
        batch_size=args.batch_size,
        local_epochs=args.local_epochs,
        max_batches=args.max_batches,
        client_learning_rate=_schedule(args),
        seed=args.seed,
        engine=args.engine,
        num_workers=args.num_workers,
        evaluate_on=evaluate_on or None,
        evaluate_every=args.evaluate_every,
        callbacks=trackers or None,
        run_dir=path,
    )
    _preprocessing.write(path, known)
    print(_summary(args, found, known))


def _check(args: argparse.Namespace) -> None:
    """Raises ValueError for options that do not go together, before TensorFlow is imported."""
    from fedlab import datasets

    if (args.data is None) == (args.dataset is None):
        raise ValueError(
            "expected one of --data=FILE, for data of your own, and --dataset=NAME, one of "
            f"{', '.join(datasets.names())}"
        )
    _data_files.check_options(args, dataset=args.dataset, source=args.source, path=args.path)
    if args.dataset is not None:
        if args.model is None:
            raise ValueError(
                f"--dataset={args.dataset}: expected --model=NAME_OR_PATH as well; add it"
            )
        for name in ("partitioner", "test_data", "test_fraction", "test_by"):
            if getattr(args, name) is not None:
                raise ValueError(
                    f"--{name}={getattr(args, name)}: expected only with --data; --dataset has "
                    "clients and test data"
                )
    if args.test_data is not None:
        for name in ("test_fraction", "test_by"):
            if getattr(args, name) is not None:
                raise ValueError(
                    f"--{name}={getattr(args, name)}: expected only without --test_data="
                    f"{args.test_data}; leave one of them out"
                )
    if args.partitioner is not None and args.client is not None:
        raise ValueError(
            f"--partitioner={args.partitioner}: expected only without --client={args.client}; "
            "leave one of them out"
        )


def _data(
    args: argparse.Namespace,
    model: Any,
    partitioner: Any,
    known: "_preprocessing.Preprocessing",
) -> "tuple[ClientData, dict[str, ClientData], _preprocessing.Preprocessing]":
    """Returns the training data, the evaluation sets by name, and the preprocessing."""
    from fedlab.learner import graph

    if args.data is None:
        train, test = _arguments.load_splits(args.dataset, args)
        return train, {"test": test}, known
    args.split = "train"
    names = () if model is None else graph.input_names(model)
    options: dict[str, Any] = {"input_names": names, "by_name": model is None and not args.text}
    data = _data_files.read(args, partitioner, class_names=known.class_names or None, **options)
    known = _preprocessing.of_data(args, data, model, known)
    if known.class_names and data.schema["y"].dtype == object:
        data = _data_files.read(args, partitioner, class_names=known.class_names, **options)
    data = _preprocessing.apply(data, known)
    if args.test_data is not None:
        other = argparse.Namespace(**{**vars(args), "data": args.test_data, "split": "test"})
        test = _data_files.read(
            other, partitioner, class_names=known.class_names or None, **options
        )
        return data, {"test": _preprocessing.apply(test, known)}, known
    share = 0.2 if args.test_fraction is None else args.test_fraction
    if share == 0:
        return data, {}, known
    if args.test_by == "example":
        train, test = data.split(share, by="example", seed=args.seed)
        return train, {"held_out_examples": test}, known
    train, test = data.split_clients(share, args.seed)
    return train, {"new_clients": test}, known


def _model(
    args: argparse.Namespace,
    model: Any,
    train: "ClientData",
    evaluate_on: "Mapping[str, ClientData]",
    known: "_preprocessing.Preprocessing",
) -> Any:
    """Returns the compiled model: the given one, or a new one for the data."""
    import tensorflow as tf

    from fedlab import models
    from fedlab.learner import graph
    from fedlab.models.dense import count_classes

    given = {name: getattr(args, name) for name in ("optimizer", "loss", "metrics")}
    tf.keras.utils.set_random_seed(args.seed)
    if model is None and args.text is not None:
        model = models.char_rnn(len(known.characters), 64, 256, learning_rate=1.0)
    elif model is None:
        if "y" not in train.schema:
            raise ValueError(
                f"--data={args.data}: expected --label=COLUMN as well, the column to predict"
                if args.client or args.partitioner
                else f"--data={args.data} has no labels: expected clients with folders of classes, "
                "or --partitioner=... if its folders are classes; or pass --model"
            )
        rate = {"learning_rate": args.client_learning_rate} if args.client_learning_rate else {}
        # Test clients may have classes that no training client has.
        num_classes = len(known.class_names) or count_classes(train, *evaluate_on.values())
        model = models.dense(train, num_classes=num_classes, **rate)
    elif not graph.is_compiled(model) and not any(given.values()):
        if args.text is None and not _reads_characters(model):
            raise ValueError(
                f"--model={args.model} is not compiled: expected --loss=NAME as well, such as "
                "--loss=mse, and perhaps --optimizer and --metrics"
            )
        models.compile_char_rnn(model)
    return _compiled(model, given) if any(given.values()) else model


def _reads_characters(model: Any) -> bool:
    from fedlab.tasks.generation.text import CHAR_VOCABULARY

    return bool(
        model.built and model.outputs and model.outputs[0].shape[-1] == len(CHAR_VOCABULARY)
    )


def _compiled(model: Any, given: Mapping[str, str | None]) -> Any:
    """Compiles a model with what the options give, and keeps the rest."""
    from fedlab.cli import _expressions
    from fedlab.learner import graph

    before = graph.compile_arguments(model) if graph.is_compiled(model) else {}
    made = {
        name: _expressions.of_keras(name, text)
        for name, text in given.items()
        if text is not None and name != "metrics"
    }
    if given["metrics"] is not None:
        parts = _split(given["metrics"])
        made["metrics"] = [_expressions.of_keras("metrics", each) for each in parts]
    if "loss" not in made and before.get("loss") is None:
        raise ValueError("the model is not compiled: expected --loss=NAME as well; add it")
    kept = {
        name: before[name]
        for name in ("optimizer", "loss", "metrics", "weighted_metrics")
        if before.get(name) is not None
    }
    model.compile(**{"optimizer": "sgd", **kept, **made})
    return model


def _split(text: str) -> list[str]:
    """Comma-separated texts, without the commas in brackets."""
    parts, depth = [""], 0
    for char in text:
        depth += (char in "([{") - (char in ")]}")
        if char == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += char
    return [part.strip() for part in parts]


def _schedule(args: argparse.Namespace) -> Any:
    from fedlab.optimizers import schedules

    rate = args.client_learning_rate
    # The network that is made here is already compiled with it.
    ours = args.model is None and args.text is None
    return None if rate is None or ours else schedules.constant(rate)


def _name(args: argparse.Namespace) -> str:
    """The default name of the run folder."""
    if args.data is None:
        return args.dataset
    return pathlib.Path(args.data).expanduser().absolute().name.split(".")[0] or "run"


def _title(
    args: argparse.Namespace,
    model: Any,
    train: "ClientData",
    evaluate_on: "Mapping[str, ClientData]",
    known: "_preprocessing.Preprocessing",
) -> str:
    """What is trained on what, before training."""
    rows = {"data": f"{args.data or args.dataset}"}
    sets = {"train": train, **evaluate_on}
    for name, data in sets.items():
        examples = sum(map(data.num_examples, data))
        rows[name.replace("_", " ")] = (
            f"{len(data):,} client{'s' * (len(data) != 1)}, "
            f"{examples:,} example{'s' * (examples != 1)}"
        )
    if skipped := _data_files.skipped(train):
        rows["skipped"] = skipped
    made = args.model or "a new recurrent network" if args.text else args.model or "a dense network"
    rows["model"] = f"{made}, {model.count_params():,} parameters"
    if known.class_names:
        rows["classes"] = ", ".join(known.class_names)
    elif args.model is None and args.text is None:
        outputs = model.output_shape[-1]
        regression = type(model.loss).__name__ == "MeanSquaredError"
        rows["predicts"] = "a number" if regression else f"{outputs} classes"
    rows["algorithm"] = f"{args.algorithm}, aggregator {args.aggregator}"
    return _lines(rows)


def _summary(args: argparse.Namespace, found: "Run", known: "_preprocessing.Preprocessing") -> str:
    """The results, and what to do next."""
    from fedlab._wording import duration, spoken
    from fedlab.cli.runs import _table

    first, last = found.history[0], found.history[-1]
    measured = [name for name in first if isinstance(first[name], float) and name in last]
    seconds = sum(row.get("seconds") or 0 for row in found.history)
    rows = [["", "before", f"after {last['round']} rounds"]]
    rows += [[spoken(name), f"{first[name]:.4f}", f"{last[name]:.4f}"] for name in measured]
    assert found.path is not None
    ends = {"time": duration(seconds)}
    if found.stopped is not None:
        ends["stopped"] = found.stopped
    report = found.path / "report.html"
    if report.exists():
        ends["report"] = str(report)
    ends["model"] = str(found.path / "model.keras")
    parts = [_lines(ends)]
    if len(rows) > 1:
        parts.insert(0, "\n" + _table.text(rows))
    return "\n\n".join(parts)


def _lines(rows: Mapping[str, str]) -> str:
    width = max(map(len, rows))
    return "\n".join(f"{name:<{width}}  {visible(value)}" for name, value in rows.items())
