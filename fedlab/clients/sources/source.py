"""What is known about data that was read from a source."""

from collections.abc import Mapping
from typing import NamedTuple


class Source(NamedTuple):
    """Where the data of clients came from, and what was left out.

    Attributes:
      name: the file's name, or the kind of object, such as "ratings.csv".
      num_rows: the number of rows, files or examples in the source.
      skipped: reason -> how many rows, files or clients were left out for it. Empty
        unless the data was read with `skip_invalid=True` and something was not valid.
      class_names: the name of each class number in `y`, if the source has names.

    Example:
      >>> Source("ratings.csv", 1000, {"rows with a missing value": 2}).num_rows
      1000
    """

    name: str
    num_rows: int
    skipped: Mapping[str, int] = {}
    class_names: tuple[str, ...] = ()
