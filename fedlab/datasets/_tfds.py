"""Images that tensorflow-datasets has prepared."""

import os
import pathlib
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from fedlab import _extras
from fedlab.datasets._mnist_files import Images


def images(name: str, path: str | os.PathLike | None) -> dict[str, Images]:
    """Returns "train" and "test" of a prepared data set of images; see `arrays`."""
    parts = arrays(name, path, ("image", "label"))
    return {part: Images(*columns) for part, columns in parts.items()}


def arrays(
    name: str, path: str | os.PathLike | None, features: Sequence[str]
) -> dict[str, tuple[np.ndarray, ...]]:
    """Returns the features of "train" and "test" of a prepared data set.

    Opens no connection.

    Args:
      name: the data set's name in tensorflow-datasets.
      path: its data folder; by default $TFDS_DATA_DIR, else ~/tensorflow_datasets.
      features: the names of features.

    Raises:
      ModuleNotFoundError: tensorflow-datasets is not installed.
      FileNotFoundError: the data set is not prepared there.
    """
    try:
        import tensorflow_datasets as tfds
    except ModuleNotFoundError:
        raise _extras.error(
            "source='tfds' needs", "tensorflow_datasets", "or use source='auto'"
        ) from None
    folder = pathlib.Path(path or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets")
    folder = folder.expanduser()
    prepared = [file.parent for file in folder.glob(f"{name}/*/dataset_info.json")]
    if not prepared:
        raise FileNotFoundError(
            f"path={str(folder)!r}: expected the data folder of tensorflow-datasets with {name}, "
            f"which is not prepared there; call tfds.load({name!r}), or use source='auto'"
        )
    builder = tfds.builder_from_directory(max(prepared, key=_version))
    parts = {}
    for part in ("train", "test"):
        dataset: Any = builder.as_dataset(split=part, batch_size=-1)
        columns = tfds.as_numpy(dataset)
        parts[part] = tuple(np.asarray(columns[feature]) for feature in features)
    return parts


def _version(folder: pathlib.Path) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", folder.name)]
