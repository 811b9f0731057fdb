"""Which Keras the tests run with."""

from importlib import metadata

import pytest

IS_KERAS_3 = int(metadata.version("keras").partition(".")[0]) == 3

keras_3 = pytest.mark.skipif(not IS_KERAS_3, reason="tests what fedlab does with Keras 3")
keras_2 = pytest.mark.skipif(IS_KERAS_3, reason="tests what fedlab does with Keras 2")
