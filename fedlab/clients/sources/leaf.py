"""LEAF's JSON files: users, num_samples, and user_data with x and y of each user.

Caldas et al. 2018, "LEAF: A Benchmark for Federated Settings".
"""

import logging
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from fedlab import _json
from fedlab.clients.client_data import ClientData
from fedlab.clients.sources import files, lazy, tables
from fedlab.clients.sources.source import Source
from fedlab.clients.store import Store

logger = logging.getLogger(__name__)

DUPLICATES = "clients that occur twice"


def read(path: str | os.PathLike, *, skip_invalid: bool = False) -> ClientData:
    """Makes a ClientData of LEAF's JSON files; see `ClientData.from_leaf`."""
    found = files.existing(path, "a JSON file of LEAF or a folder of them", folder=None)
    parts = sorted(found.glob("*.json")) if found.is_dir() else [found]
    if not parts:
        raise FileNotFoundError(
            f"path={str(path)!r:.200}: expected a folder with .json files of LEAF, but there is "
            "none; pass the folder of a split, such as data/train"
        )
    clients: dict[str, dict[str, np.ndarray]] = {}
    file_of: dict[str, str] = {}
    skipped: dict[str, int] = {}
    num_rows = 0

    def skip(reason: str, number: int = 1) -> None:
        skipped[reason] = skipped.get(reason, 0) + number

    for file in parts:
        for user, data, size in _users(file):
            owner = f"{file.name}, user {user!r}"
            num_rows += size
            if user in clients:
                if not skip_invalid:
                    raise ValueError(
                        f"{owner} occurs twice, also in {file_of[user]}: expected each user once; "
                        "remove one, or pass skip_invalid=True to use the first"
                    )
                skip(DUPLICATES)
                continue
            columns = _columns(data, size, owner)
            invalid = lazy.invalid_rows(columns)
            if invalid.any():
                row = int(np.argmax(invalid))
                if not skip_invalid:
                    raise ValueError(
                        f"{owner}, example {row} (counted from 0) has no value: expected a value "
                        "in x and y; correct it, or pass skip_invalid=True to skip such examples"
                    )
                skip(tables.MISSING, int(invalid.sum()))
                columns = {name: _narrowed(array[~invalid]) for name, array in columns.items()}
            if not len(columns["y"]):
                if not skip_invalid:
                    raise ValueError(
                        f"{owner} has no examples: expected at least one; remove it, or pass "
                        "skip_invalid=True to leave such users out"
                    )
                skip(tables.EMPTY_CLIENTS)
                continue
            clients[user], file_of[user] = columns, file.name
    if not clients:
        raise ValueError(f"{found.name} has no users {skipped or ''}: expected at least one")
    if skipped:
        logger.info("%s: skipped %s", found.name, skipped)
    _alike(clients)
    return ClientData._of_store(
        clients, Store(clients.__getitem__, in_memory=True), Source(found.name, num_rows, skipped)
    )


def _users(file: pathlib.Path) -> list[tuple[str, Mapping[str, Any], int]]:
    """The users of a file: (id, data, number of examples)."""
    form = (
        'expected a JSON object of LEAF with "users", "num_samples" and "user_data"; check the path'
    )
    try:
        content = _json.read(file)
    except ValueError as error:
        raise ValueError(f"{file.name} is not valid JSON ({error}): {form}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{file.name} has a JSON {type(content).__name__}: {form}")
    for name, kind in (("users", list), ("num_samples", list), ("user_data", dict)):
        if not isinstance(content.get(name), kind):
            raise ValueError(f"{file.name} has no {kind.__name__} {name!r}: {form}")
    users, sizes, data = content["users"], content["num_samples"], content["user_data"]
    if len(users) != len(sizes):
        raise ValueError(
            f"{file.name} has {len(users)} users, but {len(sizes)} num_samples: expected equally "
            "many; get the file again"
        )
    for user, size in zip(users, sizes):
        if not isinstance(user, (str, int)) or str(user) not in data:
            raise ValueError(
                f"{file.name}, user {user!r:.80} is not in user_data: expected the data of each "
                "user; get the file again"
            )
        if not isinstance(size, int) or size < 0:
            raise ValueError(
                f"{file.name}, user {user!r}: num_samples={size!r:.80}: expected an integer of at "
                "least 0; get the file again"
            )
    return [(str(user), data[str(user)], size) for user, size in zip(users, sizes)]


def _columns(data: Any, size: int, owner: str) -> dict[str, np.ndarray]:
    if not isinstance(data, dict) or not {"x", "y"} <= data.keys():
        raise ValueError(f"{owner} has no x and y: expected a list of each; get the file again")
    columns = {}
    for name in ("x", "y"):
        values = data[name]
        if not isinstance(values, list) or len(values) != size:
            number = len(values) if isinstance(values, list) else "no"
            raise ValueError(
                f"{owner} has {number} values of {name!r}, but num_samples says {size}: expected "
                "equally many; get the file again"
            )
        columns[name] = _array(values, f"{owner}: {name!r}")
    return columns


def _array(values: list, owner: str) -> np.ndarray:
    """Numbers as int64 or float32, and texts as objects."""
    try:
        array = np.asarray(values)
    except (ValueError, OverflowError):
        raise ValueError(
            f"{owner} has rows of different lengths: expected rows of one length; pad them"
        ) from None
    if array.dtype.kind in "SU" or array.dtype == object:
        texts = np.asarray(values, dtype=object)
        kinds = {type(value) for value in texts.flat if value is not None and value == value}
        if len(kinds - {int, float}) + bool(kinds & {int, float}) > 1:
            names = ", ".join(sorted(kind.__name__ for kind in kinds))
            raise ValueError(
                f"{owner} has values of different types ({names}): expected numbers or texts; "
                "correct the file"
            )
        return texts
    return _narrowed(array)


def _narrowed(array: np.ndarray) -> np.ndarray:
    if array.dtype == object and array.size and not isinstance(array.flat[0], str):
        array = np.array(array.tolist())
    return array.astype(np.float32) if array.dtype.kind == "f" else array


def _alike(clients: dict[str, dict[str, np.ndarray]]) -> None:
    """Numbers of all clients in one dtype: 1.0 may be written as 1."""
    for name in ("x", "y"):
        kinds = {columns[name].dtype.kind for columns in clients.values()}
        if "f" in kinds and kinds <= set("fi"):
            for columns in clients.values():
                columns[name] = columns[name].astype(np.float32, copy=False)
