"""Texts with labels: from standard data sets, from SQuAD's questions, and from a table."""

import pathlib
from typing import NamedTuple

import numpy as np

import fedlab as fl
from fedlab.clients import seeding


class Texts(NamedTuple):
    """Texts to train on and texts that are held out.

    Attributes:
      clients: the texts that may train, with the columns text, [n] str, and y, [n] int32.
      held_out: the texts for testing; with the same columns.
      class_names: the names of the labels 0, 1, ...
    """

    clients: fl.ClientData
    held_out: fl.ClientData
    class_names: tuple[str, ...]


class Division(NamedTuple):
    """Which client has which text.

    Attributes:
      method: "natural" (the clients of the data), "dirichlet" or "uniform".
      num_clients: the number of clients; for "natural", those of the data count.
      alpha: the Dirichlet parameter: the smaller, the fewer labels a client has.
      hold_out: the share to hold out, of data that have no test set: of the clients for
        "natural", of the texts otherwise.
      seed: the seed of everything.
    """

    method: str
    num_clients: int
    alpha: float
    hold_out: float
    seed: int


def squad_topics(path: pathlib.Path, num_topics: int, division: Division) -> Texts:
    """Questions of SQuAD, each labelled with the Wikipedia article that it is about.

    The labels are the `num_topics` articles with the most questions. A share of each
    article's paragraphs is held out with all questions about them. The natural clients
    are the articles, each of which has one label.

    Args:
      path: the folder with train-v1.1.json, also as .json.gz.
      num_topics: the number of articles, 2 or more.
      division: see `Division`.

    Raises:
      FileNotFoundError, ValueError: the file is missing or damaged, or has fewer articles.
    """
    questions, _ = fl.datasets.squad.load_questions(path=path)
    titles, counts = np.unique([question.title for question in questions], return_counts=True)
    if num_topics > len(titles):
        raise ValueError(
            f"--num_topics={num_topics}: expected an integer between 2 and {len(titles)}, the "
            "number of articles"
        )
    largest = titles[np.argsort(-counts, kind="stable")[:num_topics]].tolist()
    names = tuple(sorted(largest))
    label_of = {name: label for label, name in enumerate(names)}
    paragraphs: dict[str, list[str]] = {name: [] for name in names}
    for question in questions:
        if question.title in label_of and question.context not in paragraphs[question.title]:
            paragraphs[question.title].append(question.context)
    held_out: set[str] = set()
    for name, contexts in paragraphs.items():
        rng = seeding.generator(division.seed, "held-out paragraphs", name)
        size = min(max(1, round(division.hold_out * len(contexts))), len(contexts) - 1)
        held_out.update(contexts[i] for i in rng.permutation(len(contexts))[:size])
    parts = []
    for held in (False, True):
        chosen = [q for q in questions if q.title in label_of and (q.context in held_out) == held]
        parts.append(
            {
                "text": np.array([question.question for question in chosen], object),
                "y": np.array([label_of[question.title] for question in chosen], np.int32),
                "client": np.array([question.title for question in chosen], object),
            }
        )
    train, test = parts
    return Texts(_divided(train, division), fl.ClientData.from_dict({"held_out": test}), names)


def twenty_newsgroups(path: pathlib.Path | None, division: Division) -> Texts:
    """20 Newsgroups, with its own test set; see `fedlab.datasets.twenty_newsgroups`."""
    parts = fl.datasets.twenty_newsgroups.load_text(path=path)
    held_out = fl.ClientData.from_dict({"held_out": parts["test"]})
    names = fl.datasets.twenty_newsgroups.CLASSES
    return Texts(_divided(parts["train"], division), held_out, names)


def sent140(path: pathlib.Path | None, division: Division) -> Texts:
    """Sent140: the last tweets of every account are held out; see `fedlab.datasets.sent140`."""
    train, test = fl.datasets.sent140.load_text(path=path)
    if division.method != "natural":
        train = _divided(train.to_arrays(), division)
    return Texts(train, test, ("negative", "positive"))


def synthetic(division: Division) -> Texts:
    """Synthetic messages: held-out clients if clients are natural, other messages otherwise."""
    clients, test = fl.datasets.twenty_newsgroups.synthetic_text(
        division.num_clients, division.seed, num_examples=50
    )
    names = fl.datasets.twenty_newsgroups.CLASSES
    if division.method == "natural":
        return Texts(*_some_held_out(clients, division), names)
    return Texts(_divided(clients.to_arrays(), division), test, names)


# Of each kind of table: the function of ClientData, and its options.
_READERS: dict[str, tuple[str, dict[str, str]]] = {
    ".csv": ("from_csv", {}),
    ".tsv": ("from_csv", {"delimiter": "\t"}),
    ".jsonl": ("from_jsonl", {}),
    ".parquet": ("from_parquet", {}),
}


def table(file: str, client: str | None, text: str, label: str, division: Division) -> Texts:
    """The rows of a table: .csv, .tsv, .jsonl or .parquet.

    Args:
      file: the table.
      client: the column of the client ids, or None without natural clients.
      text, label: the columns of the texts and of their labels, which are texts or
        integers.
      division: see `Division`.

    Raises:
      FileNotFoundError, TypeError, ValueError: the table cannot be read, a column does
        not exist or has other values, or a row is not valid.
    """
    path = pathlib.Path(file)
    suffix = next((each for each in path.suffixes[::-1] if each not in (".gz", ".bz2")), "")
    if suffix not in _READERS:
        raise ValueError(
            f"--data={file}: expected a file whose name ends with one of {', '.join(_READERS)}; "
            "rename it"
        )
    name, options = _READERS[suffix]
    everyone = None if client else fl.clients.partitioners.uniform(num_clients=1, seed=0)
    reader = getattr(fl.ClientData, name)
    clients = reader(path, client, text, label, partitioner=everyone, **options)
    columns = clients.to_arrays()
    texts, labels = columns["x"], columns["y"]
    if texts.dtype != object or not all(isinstance(each, str) for each in texts):
        raise ValueError(f"--text={text}: expected a column of texts, got {texts.dtype}")
    if labels.ndim != 1 or labels.dtype.kind not in "Oiub":
        raise ValueError(
            f"--label={label}: expected a column of texts or integers, got {labels.dtype} of "
            f"shape {list(labels.shape)}"
        )
    values = np.unique(labels).tolist()
    if len(values) < 2:
        raise ValueError(f"--label={label}: expected 2 or more labels, got only {values}")
    number_of = {value: number for number, value in enumerate(values)}

    def renamed(mine):
        y = np.array([number_of[value] for value in mine["y"].tolist()], np.int32)
        return {"text": mine["x"], "y": y}

    named = clients.map(renamed)
    if client is None or division.method != "natural":
        train, held_out = _held_out_rows(named.to_arrays(), division)
        parts = _divided(train, division), fl.ClientData.from_dict({"held_out": held_out})
    else:
        parts = _some_held_out(named, division)
    return Texts(*parts, tuple(map(str, values)))


def _divided(columns, division):
    """Clients of these columns; the natural ones are those of the column "client"."""
    partitioners = fl.clients.partitioners
    groups = columns.get("client")
    shown = {name: column for name, column in columns.items() if name != "client"}
    if division.method == "natural":
        return partitioners.clients(shown, partitioners.natural(groups))
    options = {"num_clients": division.num_clients, "seed": division.seed}
    if division.method == "dirichlet":
        options["alpha"] = division.alpha
    return partitioners.clients(shown, getattr(partitioners, division.method)(**options))


def _some_held_out(clients, division):
    return clients.split_clients(division.hold_out, division.seed)


def _held_out_rows(columns, division):
    """Divides the rows into (train, held out), at random."""
    num_rows = len(columns["y"])
    order = seeding.generator(division.seed, "held-out texts").permutation(num_rows)
    size = min(max(1, round(division.hold_out * num_rows)), num_rows - 1)
    rows = np.sort(order[size:]), np.sort(order[:size])
    return tuple({name: column[mine] for name, column in columns.items()} for mine in rows)
