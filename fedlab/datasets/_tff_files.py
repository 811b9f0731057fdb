"""The federated files that TensorFlow Federated publishes: SQLite, and earlier HDF5."""

import os
import pathlib
from collections.abc import Mapping
from typing import Any

from fedlab import _cache
from fedlab.clients.client_data import ClientData
from fedlab.datasets import _archives, _locate
from fedlab.datasets._locate import File

URL = "https://storage.googleapis.com/tff-datasets-public/"


def load(
    dataset: str,
    splits: Mapping[str, str],
    *,
    sqlite: str,
    hdf5: Mapping[str, str],
    path: str | os.PathLike | None,
    cache_dir: str | os.PathLike | None,
    **options: Any,
) -> dict[str, ClientData]:
    """Returns the clients of each part, with the columns of the file.

    Nothing but the client ids is read before a client is used.

    Args:
      dataset: the data set's name.
      splits: part -> its split in the SQLite file.
      sqlite: the name of the SQLite file, which is published as NAME.lzma.
      hdf5: part -> the name of its HDF5 file.
      path: a folder with the SQLite file, also as .lzma, or with the HDF5 files. With
        None, the SQLite file is found in the cache, or downloaded.
      cache_dir: see `fedlab._cache.folder`.
      **options: of `ClientData.from_tff_file`.
    """
    if path is not None:
        folder = pathlib.Path(path).expanduser()
        if hdf5 and all((folder / name).is_file() for name in hdf5.values()):
            return {part: ClientData.from_tff_file(folder / name) for part, name in hdf5.items()}
    file = File(f"{sqlite}.lzma", f"{URL}{sqlite}.lzma")
    names = (sqlite,)
    try:
        found = _locate.find(file, dataset, path=path, cache_dir=cache_dir, names=names)
    except FileNotFoundError as error:
        if not hdf5:
            raise
        raise FileNotFoundError(f"{error}; or with {' and '.join(hdf5.values())}") from None
    plain = _archives.decompressed(found, _cache.folder(cache_dir) / dataset)
    return {
        part: ClientData.from_tff_file(plain, split=split, **options)
        for part, split in splits.items()
    }
