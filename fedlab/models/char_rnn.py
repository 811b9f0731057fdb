"""The next-character model of TensorFlow Federated's text-generation tutorial."""

import tensorflow as tf

from fedlab import _checks, optimizers
from fedlab.tasks.generation.text import CHAR_VOCABULARY


def char_rnn(
    vocabulary_size: int = len(CHAR_VOCABULARY),
    embedding_dim: int = 256,
    units: int = 1024,
    *,
    cell: str = "gru",
    num_layers: int = 1,
    stateful: bool = False,
    batch_size: int | None = None,
    reset_after: bool = True,
    learning_rate: float | tf.keras.optimizers.schedules.LearningRateSchedule = 0.5,
) -> tf.keras.Sequential:
    """Builds a compiled character-level recurrent model: embedding, GRU or LSTM, dense logits.

    The loss masks labels of -1, and the accuracy uses sample weights: padding does not count.

    Args:
      vocabulary_size: number of character ids, of the input and of the output.
      embedding_dim: width of the embedding.
      units: width of each recurrent layer.
      cell: "gru" or "lstm".
      num_layers: number of recurrent layers.
      stateful: whether the recurrent state is passed from batch to batch; requires
        `batch_size`. A simulation resets it at the start of every client.
      batch_size: fixed batch size, or None for any.
      reset_after: where a GRU applies its reset gate. True is Keras's default; False is the
        form of the published Dickens model.
      learning_rate: of the SGD optimizer, a positive number or a Keras schedule; 0.5 is the
        tutorial's.

    Returns:
      A `tf.keras.Sequential`: int [batch, time] -> float32 logits
      [batch, time, vocabulary_size].

    Raises:
      ValueError: an argument is out of its range.

    Example:
      >>> char_rnn(units=8, embedding_dim=4).count_params()
      1454
    """
    layers = tf.keras.layers
    if cell not in ("gru", "lstm"):
        raise _checks.value_error("cell", cell, "'gru' or 'lstm'")
    for name, value in (
        ("vocabulary_size", vocabulary_size),
        ("embedding_dim", embedding_dim),
        ("units", units),
        ("num_layers", num_layers),
    ):
        _checks.check_int(name, value)
    if batch_size is not None:
        _checks.check_int("batch_size", batch_size, what="or None for any batch size")
    if stateful and batch_size is None:
        raise ValueError(
            "stateful=True with batch_size=None: expected a fixed batch size, such as batch_size=8"
        )

    def recurrent():
        options = dict(units=units, return_sequences=True, stateful=stateful)
        return (
            layers.GRU(reset_after=reset_after, **options)
            if cell == "gru"
            else layers.LSTM(**options)
        )

    model = tf.keras.Sequential(
        [
            layers.Input([None], batch_size=batch_size, dtype="int32", name="characters"),
            layers.Embedding(vocabulary_size, embedding_dim),
            *[recurrent() for _ in range(num_layers)],
            layers.Dense(vocabulary_size),
        ],
        name="char_rnn",
    )
    return compile_char_rnn(model, learning_rate)


def compile_char_rnn(
    model: tf.keras.Model,
    learning_rate: float | tf.keras.optimizers.schedules.LearningRateSchedule = 0.5,
) -> tf.keras.Model:
    """Compiles a next-character model as `char_rnn` does.

    The optimizer is SGD, the loss is the cross-entropy of characters that are not padding,
    and the metric is their accuracy.

    Args:
      model: a Keras model: int [batch, time] -> logits [batch, time, vocabulary_size].
      learning_rate: as in `char_rnn`.

    Returns:
      The model.
    """
    if not isinstance(model, tf.keras.Model):
        raise _checks.type_error(
            "model", model, "a next-character Keras model, such as from fedlab.models.char_rnn"
        )
    if not isinstance(learning_rate, tf.keras.optimizers.schedules.LearningRateSchedule):
        optimizers.check_rate(learning_rate)
    model.compile(
        optimizer=tf.keras.optimizers.SGD(learning_rate),
        loss=tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=-1),
        weighted_metrics=[tf.keras.metrics.SparseCategoricalAccuracy(name="accuracy")],
    )
    return model
