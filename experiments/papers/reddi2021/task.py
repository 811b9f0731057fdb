"""The Shakespeare task of Reddi et al. 2021: model, preprocessing, and what counts."""

import pathlib

import numpy as np

from fedlab.tasks.generation.text import CHAR_VOCABULARY

SEQUENCE_LENGTH = 80
PADDING, UNKNOWN, START, END = 0, 87, 88, 89
VOCABULARY_SIZE = 90

_ID_OF_BYTE = np.full([256], UNKNOWN, np.int32)
_ID_OF_BYTE[list(CHAR_VOCABULARY.encode())] = 1 + np.arange(len(CHAR_VOCABULARY))


def rows(columns):
    """Turns a client's snippets into rows, as the authors' code does.

    Each snippet becomes `[START] + ids + [END]`, padded to a multiple of 81 and cut into
    chunks of 81.

    Args:
      columns: with snippets: [n] of bytes.

    Returns:
      x: int32 [rows, 80]; y: int32 [rows, 80], the next ids.

    Example:
      >>> made = rows({"snippets": [b"dh"]})
      >>> made["x"][0, :5].tolist(), made["y"][0, :5].tolist()
      ([88, 1, 2, 89, 0], [1, 2, 89, 0, 0])
    """
    chunks = []
    for snippet in columns["snippets"]:
        text = _ID_OF_BYTE[np.frombuffer(snippet, np.uint8)]
        ids = np.concatenate([[START], text, [END]])
        padded = np.pad(ids, [0, -len(ids) % (SEQUENCE_LENGTH + 1)])
        chunks.append(padded.reshape([-1, SEQUENCE_LENGTH + 1]))
    made = np.concatenate(chunks).astype(np.int32)
    return {"x": made[:, :-1], "y": made[:, 1:]}


def clients(source: str, path: pathlib.Path | None):
    """Returns (train, test) as `ClientData` with the columns of `rows`."""
    from fedlab.datasets import shakespeare

    return tuple(part.map(rows) for part in shakespeare.load_text(source, path=path))


def num_tokens(train):
    """Returns client id -> number of labels that are not padding, by which the authors weight."""
    return {each: int((train[each]["y"] != PADDING).sum()) for each in train}


def make_model(seed: int, learning_rate: float, masked_loss: bool, units: int = 256):
    """Builds the compiled model, of 820,522 parameters with 256 units.

    Args:
      seed: of the initial weights.
      learning_rate: of the clients' SGD.
      masked_loss: whether padding is left out of the loss. The authors' code has it in the
        loss. The LSTM layers skip it in either case, and the accuracy leaves it out.
      units: width of each LSTM layer.
    """
    import tensorflow as tf

    keras = tf.keras

    @keras.utils.register_keras_serializable("experiments.papers")
    class WithoutMask(keras.layers.Layer):
        """Passes its input on, but not the mask, which would leave padding out of the loss."""

        def __init__(self, **options):
            super().__init__(**options)
            self.supports_masking = True

        def call(self, inputs):
            return tf.identity(inputs)

        def compute_mask(self, inputs, mask=None):
            return None

    @keras.utils.register_keras_serializable("experiments.papers")
    class AccuracyOfCharacters(keras.metrics.SparseCategoricalAccuracy):
        """Accuracy over the labels that are not padding."""

        def update_state(self, y_true, y_pred, sample_weight=None):
            return super().update_state(y_true, y_pred, tf.cast(y_true != PADDING, tf.float32))

    keras.utils.set_random_seed(seed)
    layers = [
        keras.layers.Input([SEQUENCE_LENGTH], dtype="int32"),
        keras.layers.Embedding(VOCABULARY_SIZE, 8, mask_zero=True, name="embedding"),
        *[
            keras.layers.LSTM(
                units, kernel_initializer="he_normal", return_sequences=True, name=f"lstm_{i}"
            )
            for i in (1, 2)
        ],
        keras.layers.Dense(VOCABULARY_SIZE, kernel_initializer="glorot_normal", name="logits"),
    ]
    if not masked_loss:
        layers.append(WithoutMask(name="without_mask"))
    model = keras.Sequential(layers, name="shakespeare")
    model.compile(
        keras.optimizers.SGD(learning_rate),
        keras.losses.SparseCategoricalCrossentropy(
            from_logits=True, ignore_class=PADDING if masked_loss else None
        ),
        metrics=[AccuracyOfCharacters(name="accuracy")],
    )
    return model
