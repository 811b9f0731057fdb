"""Answers from a model that marks where they start and end."""

from fedlab.tasks.question_answering import spans
from fedlab.tasks.question_answering.windows import Question


def answer(
    model, question, context, vocabulary=None, *, max_length=None, stride=None, max_answer_length=30
):
    """Finds the answer to a question in a text.

    A text that is too long for the model is cut into windows that overlap; the legal
    span with the highest score among all of them is the answer
    (`fedlab.tasks.question_answering.spans`; Devlin et al. 2019, section 4.2).

    Args:
      model: a Keras model with the inputs of `fedlab.tasks.question_answering.windows`
        and one output [n, 2, length], such as `fedlab.models.bert.question_answering`.
      question, context: str.
      vocabulary: a `WordPiece`, or what makes one: the path of a vocab.txt, or None for
        BERT's uncased vocabulary.
      max_length: tokens a window; by default what the model is built for, or 384, or
        the most that it has positions for.
      stride: tokens that neighbouring windows share; by default a third of max_length.
      max_answer_length: tokens, 1 or more.

    Returns:
      A `fedlab.tasks.question_answering.spans.Span`: `text == context[start:end]`, and
      score, the sum of its logits.

    Raises:
      ValueError: an empty question or context, a setting out of range, or a model of
        another form or for another vocabulary.

    Example:
      >>> from fedlab.datasets import squad
      >>> from fedlab.models import bert
      >>> words = squad.SYNTHETIC_VOCABULARY
      >>> model = bert.question_answering(vocab_size=len(words), hidden_size=8, intermediate_size=16, num_layers=1, length=32)
      >>> context = "Anna found the river in Paris in 1901."
      >>> found = answer(model, "Who found the river?", context, words)
      >>> found.text == context[found.start : found.end]
      True
    """
    from fedlab.datasets import squad

    spans.check_is_model(model)
    for name, text in (("question", question), ("context", context)):
        if not isinstance(text, str) or not text.strip():
            raise ValueError(f"received {name}={text!r:.40}; allowed: a text that is not empty.")
    windows = squad.make_windows(
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


def window_length(model, max_length=None, default=384):
    """How many tokens a window for this model has.

    Args:
      model: a Keras model with the inputs of `fedlab.tasks.question_answering.windows`.
      max_length: what is asked for, or None for the model's own length, or else
        `default`, or the positions it has where these are fewer.
      default: 16 or more.

    Raises:
      ValueError: the model has another length than the one asked for, or fewer
        positions.

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
                f"received max_length={max_length}; allowed: {length}, for which the model is built."
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
            f"received max_length={max_length}; allowed: at most {positions}, the model's positions."
        )
    return max_length or min(default, positions or default)
