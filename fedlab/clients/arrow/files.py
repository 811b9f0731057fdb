"""What a folder of clients consists of, for writing and reading it."""

import json
import pathlib
import zlib
from typing import Any

import numpy as np

from fedlab import _extras
from fedlab.clients.arrow.columns import Layout

ABOUT, CLIENTS, EXAMPLES = "clients.json", "clients.arrow", "examples.arrow"
FORMAT, VERSION = "fedlab clients", 1

# One number per client, in the order of the clients; "hash" and "place" in the order of
# the hashes.
NUMBERS = {
    "num_examples": np.int64,
    "num_bytes": np.int64,
    "batch": np.int32,
    "row": np.int64,
    "checksum": np.uint32,
    "hash": np.uint32,
    "place": np.uint32,
}

_READ_BYTES = 2**20


def check_installed() -> None:
    """Raises ModuleNotFoundError if pyarrow is not installed."""
    try:
        import pyarrow.ipc  # noqa: F401
    except ModuleNotFoundError:
        raise _extras.error("ClientData.save and ClientData.open need", "pyarrow") from None


def shape_of(layout: Layout) -> str:
    """Returns the name of the column of the index with the shapes of a column's rows."""
    return f"shape of {layout.name}"


def checksum(file: pathlib.Path) -> int:
    """Returns the CRC-32 of a file, which is read in pieces."""
    result = 0
    with open(file, "rb") as opened:
        while piece := opened.read(_READ_BYTES):
            result = zlib.crc32(piece, result)
    return result


def checksum_of(value: Any) -> int:
    """Returns the CRC-32 of a JSON value."""
    return zlib.crc32(json.dumps(value, sort_keys=True).encode())
