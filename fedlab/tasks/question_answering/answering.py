"""Answers from a model that marks where they start and end."""

from typing import TYPE_CHECKING

from fedlab.tasks.question_answering import spans
from fedlab.tasks.question_answering.preprocessing import Vocabulary, make_windows
from fedlab.tasks.question_answering.windows import Question

if TYPE_CHECKING:
    import tensorflow as tf


def answer(
    model: "tf.keras.Model",
    question: str,
    context: str,
    vocabulary: Vocabulary = None,
    *,
    max_length: int | None = None,
    stride: int | None = None,
    max_answer_length: int = 30,
) -> spans.Span:
    """Finds the answer to a question in a text.

    A text that is too long for the model is cut into overlapping windows. The answer is
    the legal span with the highest score in any of them
    (`fedlab.tasks.question_answering.spans`; Devlin et al. 2019, section 4.2).

    Args:
      model: a Keras model with the inputs of `fedlab.tasks.question_answering.windows`
        and one output [n, 2, length], such as `fedlab.models.bert.question_answering`.
      question, context: str.
      vocabulary: a `WordPiece`, or what makes one: the path of a vocab.txt, or None for
        BERT's uncased vocabulary.
      max_length: tokens per window; by default the length that the model is built for,
        otherwise 384, or the number of the model's positions if that is less.
      stride: tokens that neighbouring windows share; by default a third of max_length.
      max_answer_length: tokens, 1 or more.

    Returns:
      A `fedlab.tasks.question_answering.spans.Span`: `text == context[start:end]`, and
      score, the sum of its logits.

    Raises:
      ValueError: the question or context is empty, a setting is out of range, or the
        model has other inputs or another vocabulary.

    Example:
      >>> from fedlab.datasets import squad
      >>> from fedlab.models import bert
      >>> words = squad.SYNTHETIC_VOCABULARY
      >>> sizes = dict(hidden_size=8, intermediate_size=16, num_layers=1, length=32)
      >>> model = bert.question_answering(vocab_size=len(words), **sizes)
      >>> context = "Anna found the river in Paris in 1901."
      >>> found = answer(model, "Who found the river?", context, words)
      >>> found.text == context[found.start : found.end]
      True
    """
    spans.check_is_model(model)
    for name, text in (("question", question), ("context", context)):
        if not isinstance(text, str) or not text.strip():
            raise ValueError(f"{name}={text!r:.40}: expected a text that is not empty")
    windows = make_windows(
        [Question("", "", context, question, ())],
        vocabulary,
        cache=False,
        max_length=window_length(model, max_length),
        stride=stride,
    )
    [[best]] = spans.answers(
        windows, spans.logits(model, windows), max_answer_length=max_answer_length
    )
    return best


def window_length(
    model: "tf.keras.Model", max_length: int | None = None, default: int = 384
) -> int:
    """Returns the number of tokens per window for a model.

    Args:
      model: a Keras model with the inputs of `fedlab.tasks.question_answering.windows`.
      max_length: the requested length. None means the length that the model is built
        for, otherwise `default`, or the number of its positions if that is less.
      default: 16 or more.

    Raises:
      ValueError: the model is built for another length, or has fewer positions.

    Example:
      >>> from fedlab.models import bert
      >>> window_length(bert.encoder(vocab_size=9, hidden_size=8, num_layers=1, max_positions=64))
      64
    """
    inputs = getattr(model, "inputs", None)
    length = inputs[0].shape[1] if inputs and len(inputs[0].shape) > 1 else None
    if length:
        if max_length not in (None, length):
            raise ValueError(
                f"max_length={max_length}: expected {length}, for which the model is built"
            )
        return length
    positions = next(
        (
            layer.input_dim
            for layer in getattr(model, "layers", ())
            if layer.name == "embeddings_position"
        ),
        None,
    )
    if positions and max_length and max_length > positions:
        raise ValueError(
            f"max_length={max_length}: expected at most {positions}, the model's positions"
        )
    return max_length or min(default, positions or default)
