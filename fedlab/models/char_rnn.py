"""Next-character model of TensorFlow Federated's text-generation tutorial."""

import tensorflow as tf

from fedlab import _checks, optimizers
from fedlab.tasks.generation.text import CHAR_VOCABULARY


def char_rnn(
    vocabulary_size=len(CHAR_VOCABULARY),
    embedding_dim=256,
    units=1024,
    *,
    cell="gru",
    num_layers=1,
    stateful=False,
    batch_size=None,
    reset_after=True,
    learning_rate=0.5,
):
    """A compiled character-level recurrent model: embedding, GRU or LSTM, dense logits.

    The loss masks labels of -1 and the accuracy honours sample weights, so that padded sequences count only for their characters.

    Args:
      vocabulary_size: number of character ids, input and output alike.
      embedding_dim: width of the embedding.
      units: width of each recurrent layer.
      cell: "gru" or "lstm".
      num_layers: number of recurrent layers.
      stateful: whether the recurrent state goes on from batch to batch; needs `batch_size`. A simulation starts every client at zero.
      batch_size: fixed batch size, or None for any.
      reset_after: where a GRU applies its reset gate. True is Keras's default; False is the form of the published Dickens model.
      learning_rate: of the SGD optimizer it is compiled with; 0.5 is the tutorial's.

    Returns:
      A `tf.keras.Sequential`: int [batch, time] -> float32 logits [batch, time, vocabulary_size].

    Example:
      >>> char_rnn(units=8, embedding_dim=4).count_params()
      1454
    """
    layers = tf.keras.layers
    if cell not in ("gru", "lstm"):
        raise ValueError(f"cell is {cell!r}; allowed: 'gru', 'lstm'.")
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
            "stateful=True needs a fixed batch size: pass batch_size, for example batch_size=8."
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


def compile_char_rnn(model, learning_rate=0.5):
    """Compiles a next-character model as `char_rnn` does: SGD, cross-entropy over real characters, their accuracy. Returns it."""
    if not isinstance(model, tf.keras.Model):
        raise TypeError(
            f"received {_checks.kind(model)}; allowed: a next-character tf.keras model, such as fedlab.models.char_rnn makes."
        )
    if not isinstance(learning_rate, tf.keras.optimizers.schedules.LearningRateSchedule):
        optimizers.check_rate(learning_rate)
    model.compile(
        optimizer=tf.keras.optimizers.SGD(learning_rate),
        loss=tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=-1),
        weighted_metrics=[tf.keras.metrics.SparseCategoricalAccuracy(name="accuracy")],
    )
    return model
