"""A description as JSON, which the folder of a run keeps for its report."""

import json
import math
import os
from typing import Any

import numpy as np

from fedlab import _checks, _json
from fedlab._text import is_unicode
from fedlab.data.description import Column, Description

FILE = "data.json"
_MOST = 10**18


def dumps(found: Description) -> bytes:
    """Returns a description as JSON.

    Example:
      >>> from fedlab import ClientData
      >>> from fedlab.data.description import describe
      >>> found = describe(ClientData.from_dict({"ann": {"x": [1.0], "y": [1]}}))
      >>> loads(dumps(found)).labels
      ('1',)
    """
    finite = np.isfinite(found.distances)
    value = found._asdict() | {
        "num_examples": found.num_examples.tolist(),
        "columns": {name: column._asdict() for name, column in found.columns.items()},
        "counts": found.counts.tolist(),
        "distances": [
            round(distance, 6) if ok else None
            for distance, ok in zip(found.distances.tolist(), finite)
        ],
    }
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode(errors="replace")


def read(file: str | os.PathLike) -> Description:
    """Returns the description in a JSON file.

    Raises:
      ValueError: the file is damaged.
    """
    with open(file, "rb") as stream:
        return loads(stream.read())


def loads(data: bytes) -> Description:
    """Returns the description in a JSON text.

    Raises:
      ValueError: the text is not JSON, or something else.
    """
    try:
        return _description(_json.loads(data.decode(), _json.MOST_LEVELS))
    except UnicodeDecodeError as error:
        raise ValueError(f"it is not UTF-8 text, at byte {error.start}") from None
    except (KeyError, TypeError, AttributeError, OverflowError):
        raise ValueError("it is not the description of data") from None


def _description(value: Any) -> Description:
    ids, labels = _texts(value["client_ids"]), _texts(value["labels"])
    distances = [_distance(each) for each in value["distances"]]
    counts = [[*map(_count, row)] for row in value["counts"]]
    if not len(ids) == len(counts) == len(value["num_examples"]) == len(distances) or any(
        len(row) != len(labels) for row in counts
    ):
        raise TypeError
    found = Description(
        _count(value["num_clients"]),
        ids,
        np.array([*map(_count, value["num_examples"])], np.int64),
        {_text(name): _column(column) for name, column in value["columns"].items()},
        None if value["label"] is None else _text(value["label"]),
        value["kind"],
        labels,
        _count(value["num_labels"]),
        np.array(counts, np.int64).reshape(len(ids), len(labels)),
        np.array(distances, np.float64),
    )
    if (
        not 1 <= len(ids) <= found.num_clients
        or found.kind not in ("classes", "numbers", None)
        or (found.kind is None) != (found.label is None)
    ):
        raise TypeError
    return found


def _column(value: Any) -> Column:
    shape = tuple(None if size is None else _count(size) for size in value["shape"])
    return Column(_text(value["dtype"]), shape, _count(value["missing"]))


def _texts(values: Any) -> tuple[str, ...]:
    if not isinstance(values, list):
        raise TypeError
    return tuple(map(_text, values))


def _text(value: Any) -> str:
    if not isinstance(value, str) or not is_unicode(value):
        raise TypeError
    return value


def _count(value: Any) -> int:
    if not _checks.is_int(value, 0, _MOST):
        raise TypeError
    return value


def _distance(value: Any) -> float:
    if value is None:
        return math.nan
    if not _checks.is_number(value) or not 0 <= value < math.inf:
        raise TypeError
    return float(value)
