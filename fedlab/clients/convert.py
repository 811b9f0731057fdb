"""ClientData from and to `tf.data` and TensorFlow Federated, both imported when needed."""

import functools
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from fedlab import _checks
from fedlab.clients import columns as columns_lib
from fedlab.clients.client_data import ClientData

# batch() with more elements than any dataset has reads whole columns at once.
_WHOLE_DATASET = 2**62


def to_dataset(
    client_data: ClientData,
    batch_size: int | None,
    client_ids: Iterable[str] | None,
    drop_remainder: bool,
    input_names: Sequence[str],
) -> Any:
    """Returns the clients' examples as one `tf.data.Dataset`; see `ClientData.to_dataset`."""
    import tensorflow as tf

    if batch_size is not None:
        _checks.check_int("batch_size", batch_size, what="or None for single examples")
    dataset = tf.data.Dataset.from_tensor_slices(
        columns_lib.keras_batch(client_data.to_arrays(client_ids), input_names)
    )
    return (
        dataset if batch_size is None else dataset.batch(batch_size, drop_remainder=drop_remainder)
    )


def from_dataset(
    datasets: Mapping[str, Any] | Callable[[str], Any], client_ids: Iterable[str] | None
) -> ClientData:
    """Makes a ClientData of one `tf.data.Dataset` per client; see `ClientData.from_dataset`."""
    if isinstance(datasets, Mapping):
        dataset_fn: Callable[[str], Any] = datasets.__getitem__
        client_ids = datasets if client_ids is None else client_ids
    elif callable(datasets):
        dataset_fn = datasets
    else:
        expected = (
            "a mapping or a function client_id -> tf.data.Dataset (for one dataset, pass "
            "{'client': dataset})"
        )
        raise _checks.type_error("datasets", datasets, expected)
    if client_ids is None:
        raise _checks.value_error(
            "client_ids", client_ids, "the client ids, since datasets is a function"
        )
    return ClientData(
        client_ids,
        lambda client_id: dataset_columns(dataset_fn(client_id), f"client {client_id!r}"),
    )


def dataset_columns(dataset: Any, owner: str = "the dataset") -> dict[str, np.ndarray]:
    """Reads a finite, unbatched `tf.data.Dataset` into columns.

    Args:
      dataset: its elements are a dict of tensors; a tuple (x,), (x, y) or (x, y,
        sample_weight) where x is a tensor or a dict of tensors; or a tensor, which
        becomes the column x.
      owner: whose dataset it is, for error messages.

    Returns:
      name -> array [n, ...] with the dataset's dtypes; strings as object arrays of
      bytes. An empty dataset gives zero rows with unknown dimensions of size 0.

    Raises:
      ValueError: the elements have another structure, differ in shape, or never end.

    Example:
      >>> import tensorflow as tf
      >>> dataset_columns(tf.data.Dataset.from_tensor_slices(([1, 2], [0, 1])))
      {'x': array([1, 2], dtype=int32), 'y': array([0, 1], dtype=int32)}
    """
    import tensorflow as tf

    if not isinstance(dataset, tf.data.Dataset):
        expected = "a tf.data.Dataset (for arrays, use ClientData.from_dict)"
        raise _checks.type_error(owner, dataset, expected)
    spec = _named(dataset.element_spec, owner)
    for name, leaf in spec.items():
        if not isinstance(leaf, tf.TensorSpec):
            raise ValueError(
                f"{owner}: {name!r} is {leaf}: expected dense tensors; convert them with map()"
            )
    if dataset.cardinality() == tf.data.INFINITE_CARDINALITY:
        raise ValueError(
            f"{owner}: an infinite dataset: expected a finite one; remove its repeat()"
        )
    try:
        whole = next(iter(dataset.batch(_WHOLE_DATASET)), None)
    except tf.errors.InvalidArgumentError:
        raise ValueError(
            f"{owner}: elements of different shapes: expected one shape; call unbatch() on a "
            "batched dataset, or pad"
        ) from None
    if whole is None:
        return {
            name: np.zeros([0, *(size or 0 for size in leaf.shape)], leaf.dtype.as_numpy_dtype)
            for name, leaf in spec.items()
        }
    return {name: tensor.numpy() for name, tensor in _named(whole, owner).items()}


def from_tff(tff_client_data: Any) -> ClientData:
    """Makes a ClientData of TFF's; see `ClientData.from_tff`. TFF itself is not imported."""
    if not hasattr(tff_client_data, "create_tf_dataset_for_client"):
        expected = "a tff.simulation.datasets.ClientData (for arrays, use ClientData.from_dict)"
        raise _checks.type_error("tff_client_data", tff_client_data, expected)
    return from_dataset(tff_client_data.create_tf_dataset_for_client, tff_client_data.client_ids)


def to_tff(client_data: ClientData) -> Any:
    """Makes TFF client data of a ClientData; see `ClientData.to_tff`."""
    return _tff_class()(client_data)


@functools.cache
def _tff_class() -> type:
    import tensorflow as tf

    try:
        import tensorflow_federated as tff
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "to_tff: expected tensorflow_federated, which is not installed; run scripts/setup "
            "--stack=tff in fedlab's repository and use .venv-tff/bin/python"
        ) from error

    class ColumnsClientData(tff.simulation.datasets.ClientData):
        """A fedlab ClientData with TFF's interface; elements are dicts of columns."""

        def __init__(self, client_data: ClientData):
            self._client_data = client_data

        @property
        def client_ids(self) -> list[str]:
            return list(self._client_data.client_ids)

        def create_tf_dataset_for_client(self, client_id: str) -> tf.data.Dataset:
            return tf.data.Dataset.from_tensor_slices(
                OrderedDict(self._client_data.in_schema(client_id))
            )

        @property
        def element_type_structure(self) -> Any:
            schema = self._client_data.schema.items()
            return OrderedDict(
                (name, tf.TensorSpec(column.shape, _tf_dtype(column.dtype)))
                for name, column in schema
            )

        @functools.cached_property
        def serializable_dataset_fn(self) -> Callable[[Any], tf.data.Dataset]:
            # A graph that TFF's worker process can run cannot call Python, so it
            # contains all data.
            columns = {
                client_id: OrderedDict(self._client_data.in_schema(client_id))
                for client_id in self._client_data
            }
            # An attribute, since its method does not keep the object alive.
            self._in_graph = tff.simulation.datasets.TestClientData(columns)
            return self._in_graph.serializable_dataset_fn

    return ColumnsClientData


def _tf_dtype(dtype: np.dtype) -> Any:
    import tensorflow as tf

    return tf.string if dtype.kind == "O" else tf.as_dtype(dtype)


def _named(structure: Any, owner: str) -> dict[str, Any]:
    """Names the parts of an element or of its spec: 'x', 'y', 'sample_weight' or a dict's keys."""
    if isinstance(structure, Mapping):
        named = dict(structure)
    elif isinstance(structure, tuple) and 1 <= len(structure) <= 3:
        x, *rest = structure
        named = dict(x) if isinstance(x, Mapping) else {"x": x}
        reserved = dict(zip(columns_lib.RESERVED, rest))
        if clash := named.keys() & reserved.keys():
            raise ValueError(
                f"{owner}: inputs named {sorted(clash)}: expected other names than these "
                "reserved ones; rename them"
            )
        named |= reserved
    else:
        named = {"x": structure}
    for name, part in named.items():
        if not isinstance(name, str) or isinstance(part, (Mapping, tuple, list)):
            raise ValueError(
                f"{owner}: elements of the structure {structure}: expected a dict of tensors, "
                "(x,), (x, y) or (x, y, sample_weight); convert them with map()"
            )
    return named
