"""The learner for Keras 3 on its TensorFlow backend."""

import keras
import tensorflow as tf

if keras.backend.backend() != "tensorflow":
    raise ImportError(
        f"KERAS_BACKEND={keras.backend.backend()}: expected tensorflow, the only backend that "
        "fedlab supports; set KERAS_BACKEND=tensorflow before Keras is imported"
    )
if tf.keras.Model is not keras.Model:
    raise ImportError(
        "TF_USE_LEGACY_KERAS is set, so tf.keras is Keras 2: expected Keras 3, which is installed; "
        "unset TF_USE_LEGACY_KERAS"
    )

# Registers Yogi with Keras, to load models.
from fedlab.learner.keras3 import yogi  # noqa: E402, F401
