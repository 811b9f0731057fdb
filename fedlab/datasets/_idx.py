"""IDX, the file format of MNIST: a header of sizes, then the values.

0 0 <type> <number of dimensions>   <size of each dimension: 4 bytes, big-endian>   values
"""

import pathlib

import numpy as np

from fedlab.datasets import _archives

_DTYPES = {8: "u1", 9: "i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}


def read(file: pathlib.Path) -> np.ndarray:
    """Returns the array in an IDX file, also in an .gz one.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: the file is damaged or in another format.
    """
    data = _archives.read(file)
    with _archives.readable(file, "an IDX file"):
        return parse(data)


def parse(data: bytes) -> np.ndarray:
    """Returns the array in the content of an IDX file.

    Example:
      >>> parse(bytes([0, 0, 8, 2, 0, 0, 0, 1, 0, 0, 0, 3, 7, 8, 9]))
      array([[7, 8, 9]], dtype=uint8)
    """
    if data[:2] != b"\0\0" or len(data) < 4 or data[2] not in _DTYPES:
        raise ValueError(f"it starts with {data[:4].hex()}")
    dtype, num_dimensions = np.dtype(_DTYPES[data[2]]), data[3]
    start = 4 + 4 * num_dimensions
    if len(data) < start:
        raise ValueError(f"it ends after {len(data)} bytes, in its header")
    shape = np.frombuffer(data, ">u4", num_dimensions, 4).tolist()
    size = start + dtype.itemsize * int(np.prod(shape, dtype=object))
    if len(data) != size:
        raise ValueError(f"it has {len(data)} bytes, and its header says {size}")
    values = np.frombuffer(data, dtype, offset=start).reshape(shape)
    return values.astype(dtype.newbyteorder("="))
