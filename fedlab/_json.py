"""JSON from files that others may have written."""

import json
import pathlib


def loads(data):
    """The value in a JSON text, str or bytes.

    Raises:
      ValueError: it is none, whatever is wrong with it.
    """
    try:
        return json.loads(data)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def read(file):
    """The value in a file of JSON.

    Raises:
      ValueError: as `loads`, or the file is no UTF-8 text.
    """
    try:
        text = pathlib.Path(file).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"it is no UTF-8 text, at byte {error.start}") from None
    return loads(text)
