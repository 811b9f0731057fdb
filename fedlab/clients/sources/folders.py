"""Folders of images or texts as clients.

PATH/CLIENT/FILE          a folder per client, without labels
PATH/CLIENT/CLASS/FILE    a folder per client with a folder per class
PATH/CLASS/FILE           a folder per class, and a partitioner
"""

import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from fedlab import _checks
from fedlab.clients.client_data import ClientData
from fedlab.clients.sources import files, images, tables
from fedlab.clients.sources.source import Source
from fedlab.clients.store import CACHE_BYTES, Store

_IMAGES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"}
_TEXTS = {".txt", ".md"}

DAMAGED = "files that cannot be read"
EMPTY = "clients without files"


class _Example(NamedTuple):
    """A file, and the number of its class, or -1."""

    path: pathlib.Path
    label: int


def read(
    path: str | os.PathLike,
    *,
    partitioner: tables.Partitioner | None = None,
    class_names: Sequence[str] | None = None,
    image_size: tuple[int, int] | None = None,
    color: str = "rgb",
    skip_invalid: bool = False,
) -> ClientData:
    """Makes a ClientData of folders; see `ClientData.from_folder`."""
    root = files.existing(path, "a folder with a folder for each client or class", folder=True)
    size, color = images.check_size(image_size), images.check_color(color)
    folders = _folders(root)
    if not folders:
        raise ValueError(
            f"path={str(path)!r:.200}: expected a folder in it for each client, or for each class "
            "with a partitioner, but there is none; check the path"
        )
    skipped: dict[str, int] = {}
    if partitioner is not None:
        names = _class_names(class_names, [folder.name for folder in folders], root)
        number = {name: i for i, name in enumerate(names)}
        examples = [
            _Example(file, number[folder.name]) for folder in folders for file in _files(folder)
        ]
    else:
        inner = {folder: _folders(folder) for folder in folders}
        found = sorted({each.name for classes in inner.values() for each in classes})
        names = _class_names(class_names, found, root) if found else ()
        number = {name: i for i, name in enumerate(names)}
        of_client = {
            folder.name: _of_client(folder, classes, number) for folder, classes in inner.items()
        }
        examples = [example for mine in of_client.values() for example in mine]
    kind = _kind(examples, root)
    num_rows = len(examples)

    def load(chosen: Sequence[_Example], owner: str) -> dict[str, np.ndarray]:
        paths = [example.path for example in chosen]
        if kind == "text":
            columns = {"x": np.array([_text(file) for file in paths], object)}
        else:
            decoded = [
                images.decode(file, str(file.relative_to(root)), size=size, color=color)
                for file in paths
            ]
            columns = {"x": images.stacked(decoded, owner, [file.name for file in paths])}
        if names:
            columns["y"] = np.array([example.label for example in chosen], np.int64)
        return columns

    def is_valid(example: _Example) -> bool:
        try:
            load([example], "")
        except ValueError:
            return False
        return True

    if skip_invalid:
        valid = {example.path: is_valid(example) for example in examples}
        if bad := num_rows - sum(valid.values()):
            skipped[DAMAGED] = bad
        examples = [example for example in examples if valid[example.path]]
    if partitioner is not None:
        if isinstance(partitioner, Mapping) and skipped:
            raise ValueError(
                f"{root.name}: {skipped[DAMAGED]} files cannot be read: expected a function as "
                "partitioner, since the row numbers of a partition are then not known; remove them"
            )
        from fedlab.clients import partitioners

        labels = np.array([example.label for example in examples], np.int64)
        partition = partitioners.partition({"y": labels}, partitioner)
        of_client = {
            client_id: [examples[row] for row in rows] for client_id, rows in partition.items()
        }
    else:
        for client_id in list(of_client):
            if skip_invalid:
                of_client[client_id] = [e for e in of_client[client_id] if valid[e.path]]
            if of_client[client_id]:
                continue
            if not skip_invalid:
                raise ValueError(
                    f"{root.name}, client {client_id!r} has no files: expected images or texts; "
                    "remove the folder, or pass skip_invalid=True to leave such clients out"
                )
            del of_client[client_id]
            skipped[EMPTY] = skipped.get(EMPTY, 0) + 1
    if not of_client:
        raise ValueError(
            f"{root.name}: no client is left {skipped}: expected at least one; see why"
        )
    return ClientData._of_store(
        list(of_client),
        Store(
            lambda client_id: load(of_client[client_id], f"{root.name}, client {client_id!r}"),
            CACHE_BYTES,
        ),
        Source(root.name, num_rows, skipped, tuple(names)),
    )


def _of_client(
    folder: pathlib.Path, classes: Sequence[pathlib.Path], number: dict[str, int]
) -> list[_Example]:
    direct = _files(folder)
    if direct and number:
        raise ValueError(
            f"{folder.parent.name}, client {folder.name!r} has the file {direct[0].name!r} beside "
            "folders of classes, or other clients have such folders: expected either files or "
            "folders of classes in the folders of all clients; move it"
        )
    labelled = [_Example(file, number[each.name]) for each in classes for file in _files(each)]
    return [_Example(file, -1) for file in direct] + labelled


def _class_names(
    given: Sequence[str] | None, found: Sequence[str], root: pathlib.Path
) -> tuple[str, ...]:
    """The names of the classes in the order of their numbers."""
    if given is None:
        return tuple(found)
    names = tables.checked_class_names(given)
    for name in found:
        if name not in names:
            raise _checks.value_error(
                "class_names", list(names), f"all classes of {root.name}, also {name!r}"
            )
    return names


def _folders(folder: pathlib.Path) -> list[pathlib.Path]:
    return sorted(each for each in folder.iterdir() if each.is_dir() and each.name[0] != ".")


def _files(folder: pathlib.Path) -> list[pathlib.Path]:
    """The files in a folder, in the order of their names; hidden ones are left out."""
    return sorted(each for each in folder.iterdir() if each.is_file() and each.name[0] != ".")


def _kind(examples: Sequence[_Example], root: pathlib.Path) -> str:
    if not examples:
        raise ValueError(
            f"{root.name} has no files in its folders: expected images or texts; check the path"
        )
    first = ""
    for path, _ in examples:
        suffix = path.suffix.lower()
        kind = "image" if suffix in _IMAGES else "text" if suffix in _TEXTS else ""
        first = first or kind
        if not kind or kind != first:
            expected = (
                f"{first}s, as before" if kind else "images (.png, .jpg, ...) or texts (.txt)"
            )
            raise ValueError(
                f"{str(path.relative_to(root))!r} in {root.name}: expected {expected}; remove "
                "other files"
            )
    return first


def _text(file: pathlib.Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{file.parent.name}/{file.name} is not UTF-8 text, at byte {error.start}; convert it, "
            "or leave it out with skip_invalid=True"
        ) from None
