"""Data sets of TensorFlow Datasets as clients."""

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from fedlab import _checks, _extras
from fedlab.clients.client_data import ClientData
from fedlab.clients.sources import images, tables, values
from fedlab.clients.sources import roles as roles_lib

_BATCH = 1024


def read(
    dataset: Any,
    client: str | None,
    x: roles_lib.Inputs,
    y: roles_lib.Inputs,
    *,
    split: str = "train",
    data_dir: str | os.PathLike | None = None,
    sample_weight: str | None = None,
    keep: Sequence[str] = (),
    partitioner: tables.Partitioner | None = None,
    image_size: tuple[int, int] | None = None,
    skip_invalid: bool = False,
) -> ClientData:
    """Makes a ClientData of a data set of tfds; see `ClientData.from_tfds`."""
    tables.check_one_of(client, partitioner)
    size = images.check_size(image_size)
    builder = _builder(dataset, data_dir)
    name = builder.info.name
    splits = list(builder.info.splits or ())
    if not splits:
        raise FileNotFoundError(
            f"dataset={name!r}: expected a prepared data set, but its files are not there; call "
            "download_and_prepare() of the builder"
        )
    if not isinstance(split, str) or not split or split.partition("[")[0] not in [*splits, "all"]:
        raise _checks.value_error("split", split, f"one of {', '.join(map(repr, splits))}")
    data = _flat(builder.as_dataset(split=split, shuffle_files=False))
    features = dict(_leaves(builder.info.features))
    roles = roles_lib.find(
        list(data.element_spec),
        name,
        client=client,
        x=x,
        y=y,
        sample_weight=sample_weight,
        keep=keep,
    )
    columns = _columns(data, roles.used, size, name)
    target = next((output.sources[0] for output in roles.outputs if output.name == "y"), "")
    class_names = getattr(features.get(target), "names", None)
    return tables.clients(
        tables.Table(
            name,
            {column: values.of_array(array) for column, array in columns.items()},
            len(next(iter(columns.values()))),
            class_names=tuple(class_names or ()),
        ),
        roles,
        partitioner=partitioner,
        skip_invalid=skip_invalid,
    )


def _builder(dataset: Any, data_dir: str | os.PathLike | None) -> Any:
    if hasattr(dataset, "as_dataset") and hasattr(dataset, "info"):
        return dataset
    if not isinstance(dataset, str):
        expected = (
            "the name of a data set, such as 'mnist', or a tfds.core.DatasetBuilder (for a "
            "tf.data.Dataset per client, use ClientData.from_dataset)"
        )
        raise _checks.type_error("dataset", dataset, expected)
    try:
        import tensorflow_datasets as tfds
    except ModuleNotFoundError:
        raise _extras.error("from_tfds needs", "tensorflow_datasets") from None
    try:
        builder = tfds.builder(dataset, data_dir=None if data_dir is None else str(data_dir))
    except (tfds.core.DatasetNotFoundError, ValueError) as error:
        first = str(error).strip().splitlines()[:1]
        raise _checks.value_error(
            "dataset", dataset, f"the name of a data set of tensorflow-datasets {first}"
        ) from None
    builder.download_and_prepare()
    return builder


def _flat(data: Any) -> Any:
    """The data set with nested features named "outer/inner"."""

    def flatten(example: Any) -> dict[str, Any]:
        return dict(_leaves(example))

    return data.map(flatten)


def _leaves(features: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, feature in features.items():
        # A sequence has no items of its own, other than a dict of features.
        if isinstance(feature, Mapping) or hasattr(feature, "items"):
            yield from _leaves(feature, f"{prefix}{name}/")
        else:
            yield f"{prefix}{name}", feature


def _columns(
    data: Any, used: Sequence[str], size: tuple[int, int] | None, owner: str
) -> dict[str, np.ndarray]:
    """The columns that are used, [n, ...] each."""
    import tensorflow as tf

    def choose(example: Mapping[str, Any]) -> dict[str, Any]:
        return {name: resized(example[name]) for name in used}

    def resized(value: Any) -> Any:
        if size is None or value.dtype != tf.uint8 or value.shape.rank != 3:
            return value
        image = tf.image.resize(value, size, antialias=True)
        return tf.cast(tf.clip_by_value(tf.round(image), 0, 255), tf.uint8)

    for name in used:
        spec = data.element_spec[name]
        if not isinstance(spec, tf.TensorSpec):
            raise ValueError(
                f"{owner}: column {name!r} is {type(spec).__name__}: expected dense tensors; "
                "choose other columns"
            )
    parts: dict[str, list[np.ndarray]] = {name: [] for name in used}
    try:
        for batch in data.map(choose).batch(_BATCH).as_numpy_iterator():
            for name in used:
                parts[name].append(batch[name])
        return {name: np.concatenate(arrays) for name, arrays in parts.items()}
    except (tf.errors.InvalidArgumentError, ValueError) as error:
        if not any(parts.values()) and isinstance(error, ValueError):
            raise ValueError(f"{owner} has no rows: expected at least one; pass a split") from None
        open_ = [name for name in used if None in tuple(data.element_spec[name].shape)]
        raise ValueError(
            f"{owner} has rows of different shapes in {', '.join(map(repr, open_))}: expected one "
            "shape; pass image_size=(height, width), to which images are resized, or choose other "
            "columns"
        ) from None
