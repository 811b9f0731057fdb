"""Models of words: next-word prediction, tag prediction, and sentiment.

Adaptive Federated Optimization
Sashank Reddi et al. ICLR 2021. https://arxiv.org/abs/2003.00295

LEAF: A Benchmark for Federated Settings
Sebastian Caldas et al. 2018. https://arxiv.org/abs/1812.01097
"""

from typing import Any

import tensorflow as tf

from fedlab import _checks, optimizers
from fedlab.models.char_rnn import compile_char_rnn
from fedlab.models.images import compile_classifier

layers = tf.keras.layers


def next_word_lstm(
    vocabulary_size: int = 10_004,
    embedding_dim: int = 96,
    units: int = 670,
    *,
    num_layers: int = 1,
    learning_rate: float | tf.keras.optimizers.schedules.LearningRateSchedule = 10**-0.5,
) -> tf.keras.Sequential:
    """Builds the next-word model of Reddi et al. (appendix B) for StackOverflow.

    ```
    embedding; LSTM; a dense layer back to the embedding's width; logits
    ```

    Departure from TFF's code: padding is not masked by the embedding. It follows the
    words, so that no output before it changes; the loss and the accuracy leave it out.

    Args:
      vocabulary_size: number of word ids: 10,000 words, padding, out-of-vocabulary, begin
        and end of a sentence.
      embedding_dim: width of the embedding, and of the dense layer.
      units: width of each LSTM.
      num_layers: number of LSTMs, each followed by a dense layer.
      learning_rate: of the SGD optimizer; the default is the paper's.

    Returns:
      The compiled model: int [batch, time] -> logits [batch, time, vocabulary_size];
      4,050,748 parameters. The loss leaves out labels of -1.

    Raises:
      ValueError: an argument is out of its range.

    Example:
      >>> next_word_lstm().count_params()
      4050748
    """
    for name, value in (
        ("vocabulary_size", vocabulary_size),
        ("embedding_dim", embedding_dim),
        ("units", units),
        ("num_layers", num_layers),
    ):
        _checks.check_int(name, value)
    recurrent: list[Any] = []
    for _ in range(num_layers):
        recurrent += [layers.LSTM(units, return_sequences=True), layers.Dense(embedding_dim)]
    model = tf.keras.Sequential(
        [
            layers.Input([None], dtype="int32", name="words"),
            layers.Embedding(vocabulary_size, embedding_dim),
            *recurrent,
            layers.Dense(vocabulary_size),
        ],
        name="next_word_lstm",
    )
    return compile_char_rnn(model, learning_rate)


def tag_regression(
    num_words: int = 10_000,
    num_tags: int = 500,
    *,
    learning_rate: float | tf.keras.optimizers.schedules.LearningRateSchedule = 10_000.0,
) -> tf.keras.Sequential:
    """Builds the logistic regression of Reddi et al. (appendix B) for StackOverflow's tags.

    ```
    P(tag | words) = sigmoid(W' x + b), one for each tag
    ```

    The loss is averaged over the tags and the examples of a batch. Departure from TFF's
    code, which sums over the examples: its learning rate, 100 for batches of 100 examples,
    corresponds to 10,000 here.

    Args:
      num_words: length of an input, the frequencies of words.
      num_tags: number of tags.
      learning_rate: of the SGD optimizer; the default is the paper's, see above.

    Returns:
      The compiled model: float32 [batch, num_words] -> probabilities [batch, num_tags];
      5,000,500 parameters. Metrics: recall at 5 and precision.

    Raises:
      ValueError: an argument is out of its range.

    Example:
      >>> tag_regression().count_params()
      5000500
    """
    _checks.check_int("num_words", num_words)
    _checks.check_int("num_tags", num_tags)
    if not isinstance(learning_rate, tf.keras.optimizers.schedules.LearningRateSchedule):
        optimizers.check_rate(learning_rate)
    model = tf.keras.Sequential(
        [layers.Input([num_words], name="words"), layers.Dense(num_tags, activation="sigmoid")],
        name="tag_regression",
    )
    model.compile(
        optimizer=tf.keras.optimizers.SGD(learning_rate),
        loss=tf.keras.losses.BinaryCrossentropy(),
        metrics=[
            tf.keras.metrics.Precision(name="precision"),
            tf.keras.metrics.Recall(top_k=min(5, num_tags), name="recall_at_5"),
        ],
    )
    return model


def sentiment_lstm(
    vocabulary_size: int = 10_000,
    num_classes: int = 2,
    *,
    embedding_dim: int = 100,
    units: int = 100,
    learning_rate: float | tf.keras.optimizers.schedules.LearningRateSchedule = 0.3,
) -> tf.keras.Sequential:
    """Builds the model of LEAF for Sent140: two LSTMs, 128 units, logits.

    Departure from LEAF's code, which can start from GloVe's word vectors: they are random
    here. Set the weights of the layer "embedding" to use others.

    Args:
      vocabulary_size: number of word ids.
      num_classes: number of labels.
      embedding_dim: width of the embedding.
      units: width of each LSTM.
      learning_rate: of the SGD optimizer; LEAF's experiments use 0.0003 to 0.1, the
        default is a good value for short runs.

    Returns:
      The compiled model: int [batch, time] -> logits [batch, num_classes].

    Raises:
      ValueError: an argument is out of its range.

    Example:
      >>> sentiment_lstm(vocabulary_size=50, embedding_dim=4, units=4).count_params()
      1386
    """
    for name, value in (
        ("vocabulary_size", vocabulary_size),
        ("num_classes", num_classes),
        ("embedding_dim", embedding_dim),
        ("units", units),
    ):
        _checks.check_int(name, value)
    model = tf.keras.Sequential(
        [
            layers.Input([None], dtype="int32", name="words"),
            layers.Embedding(vocabulary_size, embedding_dim, name="embedding"),
            layers.LSTM(units, return_sequences=True),
            layers.LSTM(units),
            layers.Dense(128),
            layers.Dense(num_classes),
        ],
        name="sentiment_lstm",
    )
    return compile_classifier(model, learning_rate)
