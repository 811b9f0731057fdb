"""ClientData from and to `tf.data` and TensorFlow Federated; each imported only when its function is called."""

import functools
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from fedlab import _checks
from fedlab.clients import columns as columns_lib
from fedlab.clients.client_data import ClientData

_WHOLE_DATASET = 2**62  # batch() with more than any dataset holds: the columns come in one read


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
    """Makes a ClientData of a `tf.data.Dataset` a client; see `ClientData.from_dataset`."""
    if isinstance(datasets, Mapping):
        dataset_fn, client_ids = (
            datasets.__getitem__,
            datasets if client_ids is None else client_ids,
        )
    elif callable(datasets):
        dataset_fn = datasets
    else:
        raise TypeError(
            f"received {type(datasets).__name__}; allowed is a mapping or a function client_id -> tf.data.Dataset; "
            "for one dataset pass {'client': dataset}."
        )
    if client_ids is None:
        raise ValueError(
            "received a function without client_ids; name the clients: from_dataset(fn, client_ids=[...])."
        )
    return ClientData(
        client_ids,
        lambda client_id: dataset_columns(dataset_fn(client_id), f"client {client_id!r}"),
    )


def dataset_columns(dataset: Any, owner: str = "the dataset") -> dict[str, np.ndarray]:
    """Reads a finite, unbatched `tf.data.Dataset` into columns.

    Args:
      dataset: elements are a dict of tensors, a tuple (x,), (x, y) or (x, y, sample_weight) where x is a tensor or a
        dict of tensors, or a tensor (which becomes the column x).
      owner: whose dataset it is, for the messages.

    Returns:
      name -> array [n, ...] with the dataset's dtypes; strings as object arrays of bytes. An empty dataset gives
      zero rows, its unknown dimensions 0.

    Raises:
      ValueError: the elements are no such structure, differ in shape, or never end.

    Example:
      >>> import tensorflow as tf
      >>> dataset_columns(tf.data.Dataset.from_tensor_slices(([1, 2], [0, 1])))
      {'x': array([1, 2], dtype=int32), 'y': array([0, 1], dtype=int32)}
    """
    import tensorflow as tf

    if not isinstance(dataset, tf.data.Dataset):
        raise TypeError(
            f"{owner}: received {type(dataset).__name__}; allowed is a tf.data.Dataset; for arrays use ClientData.from_dict."
        )
    spec = _named(dataset.element_spec, owner)
    for name, leaf in spec.items():
        if not isinstance(leaf, tf.TensorSpec):
            raise ValueError(
                f"{owner}: received {name!r} as {leaf}; allowed are dense tensors: map the dataset first."
            )
    if dataset.cardinality() == tf.data.INFINITE_CARDINALITY:
        raise ValueError(
            f"{owner}: received a dataset without an end; allowed are finite ones: drop its repeat()."
        )
    try:
        whole = next(iter(dataset.batch(_WHOLE_DATASET)), None)
    except tf.errors.InvalidArgumentError:
        raise ValueError(
            f"{owner}: received elements of different shapes; allowed is one shape for all; "
            "call unbatch() on a batched dataset, or pad."
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
        raise TypeError(
            f"received {type(tff_client_data).__name__}; allowed is a tff.simulation.datasets.ClientData; "
            "for plain arrays use ClientData.from_dict."
        )
    return from_dataset(tff_client_data.create_tf_dataset_for_client, tff_client_data.client_ids)


def to_tff(client_data: ClientData) -> Any:
    """Makes TFF's client data of ours; see `ClientData.to_tff`."""
    return _tff_class()(client_data)


@functools.cache
def _tff_class() -> type:
    import tensorflow as tf

    try:
        import tensorflow_federated as tff
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "to_tff needs tensorflow_federated, which is not installed; install it from requirements.lock."
        ) from error

    class ColumnsClientData(tff.simulation.datasets.ClientData):
        """A ClientData of fedlab behind TFF's interface; elements are dicts of columns."""

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
            # A graph that TFF's worker process can run has no way back to Python: all the data go into it.
            columns = {
                client_id: OrderedDict(self._client_data.in_schema(client_id))
                for client_id in self._client_data
            }
            self._in_graph = tff.simulation.datasets.TestClientData(
                columns
            )  # its method does not keep it alive
            return self._in_graph.serializable_dataset_fn

    return ColumnsClientData


def _tf_dtype(dtype: np.dtype) -> Any:
    import tensorflow as tf

    return tf.string if dtype.kind == "O" else tf.as_dtype(dtype)


def _named(structure: Any, owner: str) -> dict[str, Any]:
    """Names the parts of an element, or of its spec: {'x': ..., 'y': ..., 'sample_weight': ...} or a dict's own."""
    if isinstance(structure, Mapping):
        named = dict(structure)
    elif isinstance(structure, tuple) and 1 <= len(structure) <= 3:
        x, *rest = structure
        named = dict(x) if isinstance(x, Mapping) else {"x": x}
        reserved = dict(zip(columns_lib.RESERVED, rest))
        if clash := named.keys() & reserved.keys():
            raise ValueError(
                f"{owner}: received inputs named {sorted(clash)}, which are reserved; rename them."
            )
        named |= reserved
    else:
        named = {"x": structure}
    for name, part in named.items():
        if not isinstance(name, str) or isinstance(part, (Mapping, tuple, list)):
            raise ValueError(
                f"{owner}: received elements of the structure {structure}; allowed are a dict of tensors, "
                "(x,), (x, y) and (x, y, sample_weight): map the dataset first."
            )
    return named
