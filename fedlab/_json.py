"""JSON from files that others may have written."""

import json


def loads(data):
    """The value in a JSON text, str or bytes.

    Raises:
      ValueError: it is none, whatever is wrong with it.
    """
    try:
        return json.loads(data)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
