"""Clients in a folder of memory-mapped Arrow files, for data that is larger than memory.

| file | content |
| --- | --- |
| `examples.arrow` | the examples, client after client, in record batches of about 32 MB that contain whole clients; see `fedlab.clients.arrow.columns` |
| `clients.arrow` | one record batch with a row per client: its id, where its examples are, and their CRC-32; and the order of the ids' hashes |
| `clients.json` | the columns, the sizes and CRC-32 of the files, and its own CRC-32 |

Both Arrow files are in the IPC file format, which other programs read as well. Nothing is
read into memory as a whole: an opened folder takes the same memory with a thousand
clients and with millions. A client's numbers are views of the file.
"""  # noqa: E501

from fedlab.clients.arrow.reading import read
from fedlab.clients.arrow.rows import write_rows
from fedlab.clients.arrow.writing import write

__all__ = ["read", "write", "write_rows"]
