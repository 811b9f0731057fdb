"""What each client has: examples, labels, and missing values."""

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from fedlab import _checks
from fedlab._text import visible
from fedlab._wording import number
from fedlab.clients import seeding
from fedlab.clients.client_data import ClientData
from fedlab.clients.columns import num_rows, targets

QUANTILES = dict(
    zip(
        ("min", "5 %", "25 %", "median", "75 %", "95 %", "max"),
        (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0),
    )
)
OTHERS = "other labels"

_MOST_LABELS = 100  # that are told apart
_MOST_VALUES = 20  # of a float column that are labels, not numbers
_BINS = 10  # of targets that are numbers
_GRID = (np.arange(1000) + 0.5) / 1000  # quantiles that represent a distribution of numbers
_MOST_CLIENTS, _MOST_BYTES = 1000, 2**30  # of a sample
_LINES = 12  # clients and labels that are printed as a table
_MOST_LINES = 20  # labels that are listed


class Column(NamedTuple):
    """A column of the described clients.

    Attributes:
      dtype: the dtypes, such as "float32".
      shape: the shape of one example, with None where examples differ.
      missing: the number of examples with a missing value: NaN, NaT or None.
    """

    dtype: str
    shape: tuple[int | None, ...]
    missing: int


class Description(NamedTuple):
    """What each client has.

    `print(description)` shows a table, and `save` draws it.

    Attributes:
      num_clients: the number of clients.
      client_ids: [c] the described clients: all, or a sample.
      num_examples: [c] int64.
      columns: name -> `Column`.
      label: the name of the label column; None if there is none.
      kind: "classes", or "numbers" if the labels are intervals of numbers; None without
        labels.
      labels: [l] the names of the labels in increasing order: at most 100, of which the
        last may be "other labels", all but the 99 most frequent.
      num_labels: the number of different labels.
      counts: [c, l] int64, how many labels of a kind a client has.
      distances: [c] float64, the earth mover's distance of a client's labels to those of
        all described clients; NaN for clients without labels. See `describe`.
    """

    num_clients: int
    client_ids: tuple[str, ...]
    num_examples: np.ndarray
    columns: dict[str, Column]
    label: str | None
    kind: str | None
    labels: tuple[str, ...]
    num_labels: int
    counts: np.ndarray
    distances: np.ndarray

    @property
    def quantiles(self) -> dict[str, float]:
        """Quantiles of the numbers of examples per client: "min", "5 %", ..., "max"."""
        return _quantiles(self.num_examples)

    @property
    def distance_quantiles(self) -> dict[str, float]:
        """Quantiles of the earth mover's distances over clients with labels; {} without."""
        return _quantiles(self.distances[np.isfinite(self.distances)])

    @property
    def mean_distance(self) -> float | None:
        """The mean of the earth mover's distances over clients with labels."""
        finite = self.distances[np.isfinite(self.distances)]
        return float(finite.mean()) if len(finite) else None

    @property
    def shares(self) -> np.ndarray:
        """[c, l] float64, the shares of the labels at each client; 0 without labels."""
        return self.counts / np.maximum(1, self.counts.sum(axis=1, keepdims=True))

    def __repr__(self) -> str:
        return (
            f"Description({self.num_clients} clients, {int(self.num_examples.sum())} examples, "
            f"{self.num_labels} labels)"
        )

    def __str__(self) -> str:
        return "\n".join(_lines(self))

    def save(self, file: str | os.PathLike) -> None:
        """Draws the description as a PNG: sizes, distances, and labels by client.

        Args:
          file: the path of the PNG.

        Raises:
          ModuleNotFoundError: matplotlib is not installed.
        """
        from fedlab.data import plots

        plots.save(self, file)


def describe(
    clients: ClientData,
    label: str | None = None,
    *,
    max_clients: int | None = None,
    names: Sequence[str] | None = None,
) -> Description:
    """Describes what each client has: examples, labels, and missing values.

    The earth mover's distance of a client measures the skew of its labels. With p_k the
    label distribution of client k and p that of all clients together:

    ```
    classes:  sum over labels y of |p_k(y) - p(y)|, from 0 (as all together) to 2
    numbers:  the area between the quantile functions of p_k and p,
              in standard deviations of p
    ```

    For classes it is that of Zhao et al. 2018, "Federated Learning with Non-IID Data",
    section 3.2, where one class per client of 10 has a distance of 1.8. It is the earth
    mover's distance if moving a share from one class to any other costs 2; half of it is
    the total variation distance. For numbers it is the first Wasserstein distance,
    computed from 1,000 quantiles.

    Labels are the values of the label column: integers, booleans, strings, or floats with
    at most 20 different values. Floats with more are numbers, divided into 10 intervals.
    Rows of zeros and ones are several labels per example (one-hot or multi-hot). For
    sequences, every position is a label, except where `sample_weight` is 0 and except
    negative values. Other targets, such as images, have no labels.

    Args:
      clients: the clients. Each is read once.
      label: the label column; by default "y", or the first output's "y/...".
      max_clients: describe a random sample of that many clients, the same each time; 1 or
        more. By default all.
      names: the names of the classes 0, 1, ...; by default those of the data's source, if
        it has any.

    Returns:
      A `Description`.

    Raises:
      TypeError: `clients` is not a ClientData.
      ValueError: there is no such column, or `max_clients` is out of range.

    Example:
      >>> ann, bob = {"x": [[1.0], [2.0]], "y": [0, 1]}, {"x": [[3.0], [4.0]], "y": [1, 1]}
      >>> found = describe(ClientData.from_dict({"ann": ann, "bob": bob}))
      >>> found.labels, found.counts.tolist(), found.distances.tolist()
      (('0', '1'), [[1, 1], [0, 2]], [0.5, 0.5])
    """
    if not isinstance(clients, ClientData):
        raise _checks.type_error("clients", clients, "a fedlab.ClientData")
    if max_clients is not None:
        _checks.check_int("max_clients", max_clients, what="or None for all")
    return _described(clients, label, max_clients, names)


def sample(clients: ClientData) -> Description:
    """Returns the description of some clients, for the report of a run.

    As `describe` with at most 1,000 clients, but stops after 1 GiB.

    Example:
      >>> sample(ClientData.from_dict({"ann": {"x": [1.0], "y": [0]}}))
      Description(1 clients, 1 examples, 1 labels)
    """
    return _described(clients, None, _MOST_CLIENTS, None, _MOST_BYTES)


def _described(
    clients: ClientData,
    label: str | None,
    max_clients: int | None,
    names: Sequence[str] | None,
    most_bytes: float = math.inf,
) -> Description:
    ids = clients.client_ids
    if max_clients is None:
        order = np.arange(len(ids))
    else:
        rng = seeding.generator(0, "describe")
        order = rng.choice(len(ids), min(max_clients, len(ids)), replace=False)
    label = _label_column(clients[ids[0]], label)
    found: dict[int, tuple[int, _Labels]] = {}
    columns: dict[str, Column] = {}
    num_bytes = 0
    for i in order.tolist():
        mine = clients[ids[i]]
        found[i] = num_rows(mine), _labels(mine, label)
        for name, column in mine.items():
            columns[name] = _merged(columns.get(name), column)
        num_bytes += sum(column.nbytes for column in mine.values())
        if num_bytes >= most_bytes:
            break
    described = sorted(found)
    if names is None and label == "y":
        names = getattr(getattr(clients, "source", None), "class_names", None)
    kind, labels, num_labels, counts, distances = _distribution(
        [found[i][1] for i in described], names
    )
    return Description(
        len(clients),
        tuple(ids[i] for i in described),
        np.array([found[i][0] for i in described], np.int64),
        columns,
        label if kind else None,
        kind,
        labels,
        num_labels,
        counts,
        distances,
    )


def _label_column(columns: Mapping[str, np.ndarray], label: str | None) -> str | None:
    if label is not None:
        if label not in columns:
            raise _checks.value_error("label", label, f"one of the columns {list(columns)}")
        return label
    return next(iter(targets(columns)), None)


def _merged(before: Column | None, column: np.ndarray) -> Column:
    """Returns what is known of a column, with one more client."""
    dtype = _dtype_name(column)
    shape: tuple[int | None, ...] = tuple(column.shape[1:])
    missing = _num_missing(column)
    if before is None:
        return Column(dtype, shape, missing)
    if len(shape) == len(before.shape):
        shape = tuple(a if a == b else None for a, b in zip(before.shape, shape))
    kinds = dict.fromkeys([*before.dtype.split(" or "), dtype])
    return Column(" or ".join(kinds), shape, before.missing + missing)


def _dtype_name(column: np.ndarray) -> str:
    if column.dtype.kind == "O" and column.size:
        return type(column.flat[0]).__name__ if column.flat[0] is not None else "object"
    return column.dtype.name


def _num_missing(column: np.ndarray) -> int:
    """Returns the number of rows with NaN, NaT or None."""
    if column.dtype.kind == "O":
        flat = (value is None or value != value for value in column.flat)
        missing = np.fromiter(flat, bool, column.size).reshape(column.shape)
    elif column.dtype.kind in "fcmM":
        missing = np.isnan(column)
    else:
        return 0
    return int(missing.reshape(len(column), -1).any(axis=1).sum()) if column.size else 0


class _Labels(NamedTuple):
    """What may be the labels of a client.

    Attributes:
      values: [number of labels] the values of the column; None if they are no labels.
      positions: [number of labels] the positions of ones, if all values are zeros and
        ones; else None.
    """

    values: np.ndarray | None
    positions: np.ndarray | None = None


def _labels(columns: Mapping[str, np.ndarray], name: str | None) -> _Labels:
    """Returns what may be the labels of a client in a column."""
    column = columns.get(name) if name else None
    if column is None:
        return _Labels(None)
    kind = column.dtype.kind
    if not column.size:
        empty = column.reshape(-1).astype(object if kind in "OSU" else column.dtype)
        return _Labels(empty, np.zeros(0, np.int64))
    if column.ndim > 1 and column.shape[1:] == (1,):
        column = column[:, 0]
    if column.ndim == 1:
        if kind == "O":
            present = (value for value in column if value is not None and value == value)
            return _Labels(np.array([*map(_text, present)], object))
        return _Labels(column[np.isfinite(column)] if kind == "f" else column)
    positions = None
    if column.ndim == 2 and kind in "biuf" and ((column == 0) | (column == 1)).all():
        positions = np.nonzero(column)[1]
    if kind not in "iu":
        return _Labels(None, positions)
    weight = columns.get("sample_weight")
    counted = column >= 0
    if weight is not None and weight.shape == column.shape[: weight.ndim]:
        counted &= (weight != 0).reshape(weight.shape + (1,) * (column.ndim - weight.ndim))
    return _Labels(column[counted], positions)


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _distribution(candidates: Sequence[_Labels], names: Sequence[str] | None) -> tuple[Any, ...]:
    """Returns (kind, labels, num_labels, counts, distances) of the labels of clients."""
    nothing = np.zeros([len(candidates), 0], np.int64), np.full(len(candidates), np.nan)
    hot = [each.positions for each in candidates]
    # One-hot or multi-hot, if those of all clients are.
    values: list[Any] = (
        [each.values for each in candidates] if any(each is None for each in hot) else hot
    )
    if any(each is None for each in values) or not any(map(len, values)):
        return None, (), 0, *nothing
    owners = np.repeat(np.arange(len(values)), [*map(len, values)])
    filled = [each for each in values if len(each)]
    if len({each.dtype.kind == "O" for each in filled}) > 1:
        filled = [each.astype(str).astype(object) for each in filled]
    everything = np.concatenate(filled)
    distinct, codes = _encoded(everything)
    if everything.dtype.kind == "f" and len(distinct) > _MOST_VALUES:
        return "numbers", *_of_numbers(owners, everything, len(values))
    return "classes", *_of_classes(owners, distinct, codes, len(values), names)


def _encoded(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the distinct values in increasing order, and the place of each among them."""
    if values.dtype.kind in "iu" and values.min() >= 0 and values.max() < 2**20:
        present = np.bincount(values) > 0  # much faster than sorting
        return np.flatnonzero(present), (np.cumsum(present) - 1)[values]
    return np.unique(values, return_inverse=True)


def _of_classes(
    owners: np.ndarray,
    distinct: np.ndarray,
    codes: np.ndarray,
    num_clients: int,
    names: Sequence[str] | None,
) -> tuple[tuple[str, ...], int, np.ndarray, np.ndarray]:
    pairs, counts = np.unique(owners * len(distinct) + codes, return_counts=True)
    clients, labels = pairs // len(distinct), pairs % len(distinct)
    totals = np.bincount(clients, counts, num_clients)
    overall = np.bincount(labels, counts) / counts.sum()
    # The labels that a client has, and the overall shares of those that it has not.
    share = counts / totals[clients]
    distances = np.bincount(clients, np.abs(share - overall[labels]), num_clients)
    distances += 1 - np.bincount(clients, overall[labels], num_clients)
    distances = np.where(totals > 0, np.clip(distances, 0, 2), np.nan)

    shown = np.arange(len(distinct))
    if len(distinct) > _MOST_LABELS:
        shown = np.sort(np.argsort(-overall, kind="stable")[: _MOST_LABELS - 1])
    place = np.full(len(distinct), len(shown))
    place[shown] = np.arange(len(shown))
    width = len(shown) + (len(shown) < len(distinct))
    table = np.zeros([num_clients, width], np.int64)
    np.add.at(table, (clients, place[labels]), counts)
    called = [_class_name(distinct[i], names) for i in shown]
    if width > len(shown):
        called.append(OTHERS)
    return tuple(called), len(distinct), table, distances


def _class_name(value: Any, names: Sequence[str] | None) -> str:
    if names is not None and _checks.is_int(value, 0, len(names) - 1):
        return str(names[int(value)])
    if _checks.is_number(value) and float(value).is_integer():
        return str(int(value))
    return str(value)


def _of_numbers(
    owners: np.ndarray, values: np.ndarray, num_clients: int
) -> tuple[tuple[str, ...], int, np.ndarray, np.ndarray]:
    values = values.astype(np.float64)
    edges = np.linspace(values.min(), values.max(), _BINS + 1)
    places = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, _BINS - 1)
    table = np.zeros([num_clients, _BINS], np.int64)
    np.add.at(table, (owners, places), 1)
    overall, deviation = np.quantile(values, _GRID), values.std()
    distances = np.full(num_clients, np.nan)
    parts = np.split(values, np.searchsorted(owners, np.arange(1, num_clients)))
    for client, mine in enumerate(parts):
        if len(mine):
            moved = np.abs(np.quantile(mine, _GRID) - overall).mean()
            distances[client] = moved / deviation
    called = tuple(f"{number(low)} to {number(high)}" for low, high in zip(edges, edges[1:]))
    return called, len(np.unique(values)), table, distances


def _quantiles(values: np.ndarray) -> dict[str, float]:
    if not len(values):
        return {}
    return dict(zip(QUANTILES, np.quantile(values, [*QUANTILES.values()]).tolist()))


def counts_of_all(found: Description) -> list[tuple[str, str]]:
    """Returns the numbers of a description, (what, number), as tables show them."""
    rows = [("clients", number(found.num_clients))]
    examples = "examples"
    if len(found.client_ids) < found.num_clients:
        rows.append(("described clients", number(len(found.client_ids))))
        examples = "examples of these"
    empty = int((found.num_examples == 0).sum())
    rows += [
        (examples, number(int(found.num_examples.sum()))),
        *([("clients without examples", number(empty))] if empty else []),
    ]
    if found.kind:
        what = "labels" if found.kind == "classes" else "values"
        rows.append((f"different {what} ({found.label})", number(found.num_labels)))
    return rows


def distance_name(found: Description) -> str:
    """Returns what the earth mover's distances of a description measure, in words."""
    unit = "0 to 2" if found.kind == "classes" else "standard deviations"
    return f"earth mover's distance ({unit})"


def quantile_rows(found: Description) -> list[list[str]]:
    """Returns the head and the rows of the table of quantiles over clients."""
    head = ["over clients", *QUANTILES, "mean"]
    rows = {"examples": [*found.quantiles.values(), float(found.num_examples.mean())]}
    if (mean := found.mean_distance) is not None:
        rows[distance_name(found)] = [*found.distance_quantiles.values(), mean]
    return [head, *([name, *map(number, values)] for name, values in rows.items())]


def column_rows(found: Description) -> list[list[str]]:
    """Returns the head and the rows of the table of columns."""
    head = ["column", "dtype", "shape of an example", "examples with missing values"]
    rows = [
        [name, column.dtype, str(list(column.shape)), number(column.missing)]
        for name, column in found.columns.items()
    ]
    return [head, *rows]


def label_rows(found: Description, most: int = _MOST_LINES) -> list[list[str]]:
    """Returns the head and the rows of the table of labels, the `most` most frequent ones."""
    head = ["label" if found.kind == "classes" else "interval", "number", "share", "clients"]
    totals = found.counts.sum(axis=0)
    shares = 100 * totals / max(1, int(totals.sum()))
    having = (found.counts > 0).sum(axis=0)
    shown = [*range(len(found.labels))]
    if len(found.labels) > most:
        head[0] = f"the {most} most frequent labels"
        named = [i for i in shown if found.labels[i] != OTHERS]
        shown = sorted(sorted(named, key=lambda i: -totals[i])[:most])
    rows = [
        [found.labels[i], number(int(totals[i])), f"{shares[i]:.1f} %", number(int(having[i]))]
        for i in shown
    ]
    return [head, *rows]


def _lines(found: Description) -> Iterable[str]:
    yield from _table([[what, value] for what, value in counts_of_all(found)])
    yield ""
    yield from _table(quantile_rows(found))
    yield ""
    yield from _table(column_rows(found))
    if not found.kind:
        return
    yield ""
    yield from _table(label_rows(found))
    if len(found.client_ids) <= _LINES and len(found.labels) <= _LINES:
        yield ""
        head = ["client", *found.labels]
        rows = [
            [client_id, *map(number, counts.tolist())]
            for client_id, counts in zip(found.client_ids, found.counts)
        ]
        yield from _table([head, *rows])


def _table(rows: Sequence[Sequence[str]]) -> Iterable[str]:
    rows = [[visible(cell)[:60] for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows)]
    for row in rows:
        cells = [f"{row[0]:<{widths[0]}}"]
        cells += [f"{cell:>{width}}" for cell, width in zip(row[1:], widths[1:])]
        yield "  ".join(cells).rstrip()
