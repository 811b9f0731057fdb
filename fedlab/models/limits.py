"""How much memory a model file may ask for.

A few bytes can describe gigabytes: a compressed archive, an array that is declared but not stored, a layer with a billion units. Keras
allocates what it is told. Here sizes are compared with the size of the file before anything is read, unpacked or built.
"""

import contextlib
import math
import mmap

import tensorflow as tf

_MB = 2**20
_TEXT = 16 * _MB  # as Python objects, JSON takes about twenty times as much
_STORED_TEXT = 64 * _MB
_PARTS = 500_000  # of lists and objects: the description of a layer has about 50
_FREE = 64 * _MB
_TIMES = 8  # a weight that is stored without them may have two moments, and half precision doubles


class TooLargeError(Exception):
    """A file asks for more memory than its size accounts for. The message says what does."""


def memory(size_bytes):
    """How many bytes of arrays a file may ask for: 64 MB, which covers what is not stored, and eight times its own size."""
    return _FREE + _TIMES * size_bytes


def check_text(name, size_bytes, packed_bytes):
    """Checks a description, or another text of a model, by its size.

    Descriptions take kilobytes. Those with a list of words or numbers take more, up to 64 MB, but then they do not compress much.

    Args:
      name: of the text, for the message.
      size_bytes: its size when unpacked.
      packed_bytes: its size in the file.

    Raises:
      TooLargeError: it is too large.
    """
    if size_bytes > _STORED_TEXT or size_bytes > max(_TEXT, _TIMES * packed_bytes):
        raise TooLargeError(f"{name} of {_megabytes(size_bytes)}")


def check_json(name, text):
    """Checks a JSON text, in bytes, by its number of lists and objects before they are made.

    Raises:
      TooLargeError: there are too many.
    """
    if text.count(b"[") + text.count(b"{") > _PARTS:
        raise TooLargeError(f"{name} of more than {_PARTS:,} lists and objects")


def check_weights(weights_bytes, size_bytes):
    """Checks how many bytes of weights a file of `size_bytes` declares.

    Raises:
      TooLargeError: too many.
    """
    if weights_bytes > memory(size_bytes):
        raise TooLargeError(
            f"declaration of {_megabytes(weights_bytes)} of weights in a file of {_megabytes(size_bytes)}"
        )


def check_arrays(file, size_bytes):
    """Checks how many bytes of arrays Keras would read from an open `h5py.File` of `size_bytes`.

    Keras reads each array once, or as often as the attributes of a group name it.

    Raises:
      TooLargeError: too many, or it cannot be told.
    """
    import h5py

    for arrays in (_walk(file), _named(file)):
        check_weights(
            sum(_size_of(array) for array in arrays if isinstance(array, h5py.Dataset)), size_bytes
        )


def check_names(path):
    """Checks how many bytes the lists of names in a HDF5 file take: each of their texts may be the same long one.

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
    """An upper bound, in bytes: the size of the largest "global heap collection", where HDF5 keeps texts of any length."""
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
    """HDF5 never ends where an object of a collection takes no bytes."""
    at = 16
    while data[5:8] == bytes(3) and at + 16 <= len(data):
        index, size = (
            int.from_bytes(data[at : at + 2], "little"),
            int.from_bytes(data[at + 8 : at + 16], "little"),
        )
        step = size if index == 0 else 16 + -(-size // 8) * 8  # the rest, or a header and a text
        if not 0 < step <= len(data) - at:
            raise ValueError("a text of its attributes is damaged")
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
        if isinstance(part, h5py.Group) and address not in seen:  # a group may be its own part
            seen.add(address)
            waiting += [
                part[name]
                for name in part
                if not isinstance(part.get(name, getlink=True), h5py.SoftLink)
            ]


def _named(file):
    """The datasets that Keras reads for each layer and for the optimizer, as often as their names are listed."""
    import h5py
    from keras.src.saving.legacy.hdf5_format import load_attributes_from_hdf5_group as read

    groups = [file.get("optimizer_weights"), file.get("model_weights/top_level_model_weights")]
    if isinstance(layers := file.get("model_weights"), h5py.Group):
        groups += [layers.get(name) for name in read(layers, "layer_names")]
    for group in groups:
        if isinstance(group, h5py.Group):
            yield from (group.get(name) for name in read(group, "weight_names"))


def _size_of(dataset):
    if dataset.dtype.hasobject:
        raise TooLargeError(f"weight {dataset.name!r:.100} that is not made of numbers")
    if dataset.chunks and dataset.id.get_create_plist().get_nfilters():
        raise TooLargeError(
            f"compressed weight {dataset.name!r:.100}, which may unpack to any size"
        )
    return math.prod(dataset.shape or (0,)) * dataset.dtype.itemsize


def check_saved_model(path, graphs):
    """Checks the arrays of a SavedModel: those of its checkpoint, and the constants of its graphs.

    Args:
      path: the folder.
      graphs: its SavedModel protocol buffer.

    Returns:
      Its size in bytes.

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


_TEXT_BYTES = 24  # of a tensor of texts, for an empty one


@contextlib.contextmanager
def variables(limit_bytes):
    """Within it, TensorFlow's variables may take so many bytes together.

    Raises:
      TooLargeError: more were asked for, whatever Keras made of the error.
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


def _megabytes(size_bytes):
    return f"{size_bytes / _MB:,.0f} MB"
