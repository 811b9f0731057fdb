"""The two stacks that fedlab runs on.

modern    Keras 3 with current TensorFlow
tff       Keras 2.14 with TensorFlow 2.14, for TensorFlow Federated (TFF) 0.87
"""

import functools
import importlib.metadata


@functools.cache
def name() -> str:
    """Returns "modern" or "tff", by the version of Keras that is installed.

    TensorFlow and Keras are not imported.

    Raises:
      ModuleNotFoundError: Keras is not installed.

    Example:
      >>> name() in ("modern", "tff")
      True
    """
    return "tff" if importlib.metadata.version("keras").startswith("2.") else "modern"
