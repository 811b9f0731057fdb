"""The learner for Keras 2."""

from fedlab.learner.keras2 import yogi  # registers Yogi with Keras, to load models  # noqa: F401
