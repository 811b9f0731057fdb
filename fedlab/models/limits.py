"""Limits on the memory that loading a model file may take.

A few bytes can describe gigabytes: a compressed archive, an array that is declared but not
stored, a layer with a billion units. Keras allocates whatever the file declares. The checks
in this module compare declared sizes with the size of the file before anything is read,
unpacked or built.
"""

import contextlib
import math
import mmap
import pathlib
from collections.abc import Iterator
from typing import Any

import tensorflow as tf

from fedlab.learner import saving

_MB = 2**20
_TEXT = 16 * _MB  # parsed JSON takes about twenty times as much memory
_STORED_TEXT = 64 * _MB
_PARTS = 500_000  # lists and objects; the configuration of a layer has about 50
_FREE = 64 * _MB
# An optimizer may add two moments per weight, and weights stored in half precision double.
_TIMES = 8


class TooLargeError(Exception):
    """A file asks for more memory than its size allows. The message says for what."""


def memory(size_bytes: int) -> int:
    """Returns how many bytes of arrays a file of `size_bytes` may ask for.

    This is eight times its size plus 64 MB, for arrays that are not stored.
    """
    return _FREE + _TIMES * size_bytes


def check_text(name: str, size_bytes: int, packed_bytes: int) -> None:
    """Checks the size of a model's configuration, or of another text in a model file.

    Configurations take kilobytes. A list of words or numbers can make them larger, up to
    64 MB, but such a list does not compress well.

    Args:
      name: what the message calls the text.
      size_bytes: its size when unpacked.
      packed_bytes: its size in the file.

    Raises:
      TooLargeError: it is too large.
    """
    if size_bytes > _STORED_TEXT or size_bytes > max(_TEXT, _TIMES * packed_bytes):
        raise TooLargeError(f"{name} of {_megabytes(size_bytes)}")


def check_json(name: str, text: bytes) -> None:
    """Checks the number of lists and objects in a JSON text before it is parsed.

    Raises:
      TooLargeError: there are too many.
    """
    if text.count(b"[") + text.count(b"{") > _PARTS:
        raise TooLargeError(f"{name} of more than {_PARTS:,} lists and objects")


def check_weights(weights_bytes: int, size_bytes: int) -> None:
    """Checks how many bytes of weights a file of `size_bytes` declares.

    Raises:
      TooLargeError: too many.
    """
    if weights_bytes > memory(size_bytes):
        raise TooLargeError(
            f"declaration of {_megabytes(weights_bytes)} of weights in a file of "
            f"{_megabytes(size_bytes)}"
        )


def check_arrays(file: Any, size_bytes: int) -> None:
    """Checks how many bytes of arrays Keras would read from an open `h5py.File` of `size_bytes`.

    Keras reads an array once, or as often as the attributes of a group list its name.

    Raises:
      TooLargeError: too many, or an array whose size cannot be known in advance.
    """
    import h5py

    for arrays in (_walk(file), _named(file)):
        check_weights(
            sum(_size_of(array) for array in arrays if isinstance(array, h5py.Dataset)), size_bytes
        )


def check_names(path: pathlib.Path) -> None:
    """Checks how many bytes the lists of names in an HDF5 file take when read.

    All entries of a list may refer to the same long text.

    Raises:
      TooLargeError: too many.
    """
    import h5py

    lengths = [0]
    with h5py.File(path, "r") as file:
        for part in _walk(file):
            attributes = [part.attrs.get_id(name) for name in part.attrs]
            lengths += [
                math.prod(attribute.shape) for attribute in attributes if attribute.dtype.hasobject
            ]
    if max(lengths) and (names := (max(lengths) - 1) * _longest_text(path)) > memory(
        path.stat().st_size
    ):
        raise TooLargeError(f"list of {_megabytes(names)} of names")


def _longest_text(path):
    """An upper bound, in bytes, of a file's longest text.

    HDF5 stores texts of variable length in "global heap collections". The bound is the size
    of the largest one.
    """
    longest = 0
    with open(path, "rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as data:
        at = data.find(_HEAP)
        while at >= 0:
            size = int.from_bytes(data[at + 8 : at + 16], "little")
            longest = max(longest, min(size, len(data) - at))
            _check_heap(data[at : at + size])
            at = data.find(_HEAP, at + 1)
    return longest


def _check_heap(data):
    """Raises ValueError if an object of a collection takes no bytes: HDF5 would never end."""
    at = 16
    while data[5:8] == bytes(3) and at + 16 <= len(data):
        index, size = (
            int.from_bytes(data[at : at + 2], "little"),
            int.from_bytes(data[at + 8 : at + 16], "little"),
        )
        step = size if index == 0 else 16 + -(-size // 8) * 8  # free space, or header and text
        if not 0 < step <= len(data) - at:
            raise ValueError("a text in its attributes is damaged")
        at += step


_HEAP = b"GCOL\x01"  # signature and version


def _walk(file):
    """The groups and datasets of a file."""
    import h5py

    seen, waiting = set(), [file["/"]]
    while waiting:
        part = waiting.pop()
        yield part
        address = h5py.h5o.get_info(part.id).addr
        # A group may contain itself.
        if isinstance(part, h5py.Group) and address not in seen:
            seen.add(address)
            waiting += [
                part[name]
                for name in part
                if not isinstance(part.get(name, getlink=True), h5py.SoftLink)
            ]


def _named(file):
    """The datasets that Keras reads by their listed names, as often as they are listed."""
    import h5py

    groups = [file.get("optimizer_weights"), file.get("model_weights/top_level_model_weights")]
    if isinstance(layers := file.get("model_weights"), h5py.Group):
        groups += [layers.get(name) for name in saving.names_in_hdf5(layers, "layer_names")]
    for group in groups:
        if isinstance(group, h5py.Group):
            yield from (group.get(name) for name in saving.names_in_hdf5(group, "weight_names"))


def _size_of(dataset):
    if dataset.dtype.hasobject:
        raise TooLargeError(f"weight {dataset.name!r:.100} that is not made of numbers")
    if dataset.chunks and dataset.id.get_create_plist().get_nfilters():
        raise TooLargeError(
            f"compressed weight {dataset.name!r:.100}, which may unpack to any size"
        )
    return math.prod(dataset.shape or (0,)) * dataset.dtype.itemsize


def check_saved_model(path: pathlib.Path, graphs: Any) -> int:
    """Checks the arrays of a SavedModel: its checkpoint, and the constants of its graphs.

    Args:
      path: the folder.
      graphs: its SavedModel protocol buffer.

    Returns:
      The size of its files in bytes.

    Raises:
      TooLargeError: it declares too many.
    """
    size_bytes = sum(
        file.stat().st_size for file in [path / "saved_model.pb", *(path / "variables").glob("*")]
    )
    stored = tf.compat.v1.train.NewCheckpointReader(str(path / "variables" / "variables"))
    types = stored.get_variable_to_dtype_map()
    check_weights(
        sum(
            _bytes(shape, types[name]) for name, shape in stored.get_variable_to_shape_map().items()
        ),
        size_bytes,
    )
    check_weights(
        sum(
            _constant_bytes(node)
            for graph in graphs.meta_graphs
            for node in _nodes(graph.graph_def)
        ),
        size_bytes,
    )
    return size_bytes


def _nodes(graph):
    yield from graph.node
    for function in graph.library.function:
        yield from function.node_def


def _constant_bytes(node):
    if node.op != "Const" or "value" not in node.attr:
        return 0
    tensor = node.attr["value"].tensor
    return _bytes(
        [dimension.size for dimension in tensor.tensor_shape.dim], tf.dtypes.as_dtype(tensor.dtype)
    )


def _bytes(shape, dtype):
    return math.prod(max(0, size) for size in shape) * (
        _TEXT_BYTES if dtype == tf.string else dtype.size or 1
    )


_TEXT_BYTES = 24  # per text of a tensor, for an empty text


@contextlib.contextmanager
def variables(limit_bytes: float) -> Iterator[None]:
    """Limits the bytes of all TensorFlow variables that are created in the `with` block.

    Raises:
      TooLargeError: the limit was exceeded, even if Keras caught the error.
    """
    budget = _Budget(limit_bytes)
    try:
        with tf.variable_creator_scope(budget.create):
            yield
    except Exception:
        budget.check()
        raise
    budget.check()


class _Budget:
    def __init__(self, limit_bytes):
        self.limit_bytes = limit_bytes
        self.total = 0

    def create(self, next_creator, **settings):
        shape, value = settings.get("shape"), settings.get("initial_value")
        if shape is None and callable(value):
            value = _shape_of_result(value)
        if shape is None:
            shape = getattr(value, "shape", ())
        shape = tf.TensorShape(shape)
        dtype = tf.dtypes.as_dtype(settings.get("dtype") or getattr(value, "dtype", tf.float32))
        if shape.is_fully_defined():
            self.total += _bytes(shape, dtype)
        self.check()
        return next_creator(**settings)

    def check(self):
        if self.total > self.limit_bytes:
            raise TooLargeError(
                f"model whose weights take more than {_megabytes(self.limit_bytes)}"
            )


def _shape_of_result(initialize):
    """The result of an initializer in a graph that never runs, and so without its memory."""
    with tf.Graph().as_default():
        return tf.convert_to_tensor(initialize())


def _megabytes(size_bytes):
    return f"{size_bytes / _MB:,.0f} MB"
