"""Finds the best legal span: from a model's logits over windows to a part of the context.

```
score of a span  =  start logit of its first token + end logit of its last token
legal            =  both of the context, first <= last, at most max_answer_length tokens
answer           =  the legal span with the highest score among all windows of the question
probability      =  exp(score) / sum of exp(score) over all legal spans (and "no answer")
```

The answer's text is the context from the first character of the first token to the last
character of the last token. Devlin et al. 2019, section 4.2. Their run_squad.py considers
only the 20 highest starts and ends of a window. This module considers all of them.

The score of "no answer" (section 4.3) is the sum of the logits at [CLS], the lowest among
the windows. It is the answer if it exceeds the best span's score by more than
`null_threshold`.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fedlab import _checks
from fedlab.tasks.question_answering.outputs import outputs
from fedlab.tasks.question_answering.windows import Windows

if TYPE_CHECKING:
    import tensorflow as tf

_BLOCK = 64  # windows at once: about 6 MB of scores at 384 positions and answers of 30 tokens


class Span(NamedTuple):
    """An answer.

    Attributes:
      text: `context[start:end]`; "" for no answer.
      start, end: characters [start, end) of the context; 0, 0 for no answer.
      score: the sum of the two logits.
      probability: among all possible answers to the question.
      window: index of the window with the answer; -1 for no answer.
    """

    text: str
    start: int
    end: int
    score: float
    probability: float
    window: int


def logits(model: "tf.keras.Model", windows: Windows, batch_size: int = 32) -> np.ndarray:
    """Returns a model's logits for windows: float32 [n, 2, length].

    For padding they may be -1e9, see `fedlab.tasks.question_answering.outputs`.

    Args:
      model: a Keras model with the inputs of `fedlab.tasks.question_answering.windows`
        and one output [n, 2, length].
      windows: the windows.
      batch_size: windows per step.

    Raises:
      ValueError: as in `check_model`, or the model's output has another shape.
    """
    check_is_model(model)
    check_model(model, windows)
    _checks.check_int("batch_size", batch_size)

    def columns(rows, length):
        found = windows.columns(rows, length)
        del found["y"]
        return found

    return _checked(
        outputs(model, columns, windows.lengths, windows.max_length, batch_size), windows
    )


def check_is_model(model: Any) -> None:
    """Raises TypeError if `model` has no `predict_on_batch`."""
    if not hasattr(model, "predict_on_batch"):
        raise _checks.type_error("model", model, "a Keras model, as fedlab.models.load returns")


def check_model(model: "tf.keras.Model", windows: Any) -> None:
    """Raises ValueError if a model has other inputs, another length or another vocabulary.

    A subclassed model cannot be checked before it runs, and the vocabulary only if the
    model uses Keras's `Embedding`.
    """
    from fedlab.learner import graph, input_names  # imports TensorFlow

    if not graph.is_functional(model):
        return
    inputs = dict(zip(input_names(model), model.inputs))
    known = ("input_ids", "token_type_ids", "attention_mask")
    if "input_ids" not in inputs or set(inputs) - set(known):
        raise ValueError(
            f"model {model.name!r}: expected the inputs {', '.join(known)}, got "
            f"{', '.join(inputs)}; "
            "use a model such as fedlab.models.bert"
        )
    length = inputs["input_ids"].shape[1]
    if length not in (None, windows.max_length):
        raise ValueError(
            f"windows of {windows.max_length} tokens: expected {length}, for which model "
            f"{model.name!r} is built"
        )
    for layer in graph.embeddings_of(model, "input_ids"):
        windows.vocabulary.check_fits(layer.input_dim)


def answers(
    windows: Windows,
    logits: np.ndarray,
    *,
    num_best: int = 1,
    max_answer_length: int = 30,
    null_threshold: float | None = None,
) -> list[list[Span]]:
    """Returns the best spans of each question.

    Args:
      windows: the windows.
      logits: float [n, 2, length], logits of start and end, one row per window.
      num_best: maximum number of different spans per question.
      max_answer_length: maximum number of tokens of an answer, 1 or more.
      null_threshold: None if every question has an answer, as in SQuAD 1.1. Otherwise a
        number, and "no answer" is among the spans: first if its score exceeds the best
        span's by more than this number, otherwise last.

    Returns:
      For each question, a list of spans, best first.

    Raises:
      ValueError: the logits have another shape or are not finite, or a setting is out of
        range.
    """
    logits = _checked(logits, windows)
    _checks.check_int("num_best", num_best)
    _checks.check_int("max_answer_length", max_answer_length)
    length = min(max_answer_length, windows.max_length)
    found, sums = [], []
    for first in range(0, windows.num_windows, _BLOCK):
        rows = np.arange(first, min(first + _BLOCK, windows.num_windows))
        block = _scores(windows, rows, logits[rows].astype(np.float64), length)
        flat = block.reshape(len(rows), -1)
        top = (
            flat.argmax(axis=1)[:, None]
            if num_best == 1
            else np.argpartition(flat, -min(num_best, flat.shape[1]))[:, -num_best:]
        )
        found += [
            [(flat[i, j], *divmod(j, windows.max_length)) for j in top[i] if flat[i, j] > -np.inf]
            for i in range(len(rows))
        ]
        sums.append(_log_sum_exp(flat))
    log_sums = np.concatenate(sums) if sums else np.zeros([0])
    nulls = logits[:, :, 0].sum(axis=1, dtype=np.float64)
    borders = np.searchsorted(windows.question, np.arange(len(windows.questions) + 1))
    return [
        _best(
            windows,
            number,
            range(low, high),
            found,
            log_sums[low:high],
            nulls[low:high],
            num_best,
            null_threshold,
        )
        for number, (low, high) in enumerate(zip(borders[:-1].tolist(), borders[1:].tolist()))
    ]


def predictions(windows: Windows, answers: Sequence[Sequence[Span]]) -> dict[str, str]:
    """Returns question_id -> text of the best answer, for `scores.scores`."""
    return {
        question.question_id: best[0].text for question, best in zip(windows.questions, answers)
    }


def _scores(windows, rows, logits, length):
    """Returns float64 [rows, length, positions]: entry [d, p] scores the span from p to p + d.

    Spans that are not legal score -inf.
    """
    position = np.arange(windows.max_length)
    at, count = windows.at[rows, None], windows.count[rows, None]
    legal = (position >= at) & (position < at + count)
    start, end = (np.where(legal, logits[:, i], -np.inf) for i in (0, 1))
    scores = np.full([len(rows), length, windows.max_length], -np.inf)
    for d in range(length):
        scores[:, d, : windows.max_length - d] = start[:, : windows.max_length - d] + end[:, d:]
    return scores


def _best(windows, number, rows, found, sums, nulls, num_best, null_threshold):
    """Returns the answers of one question."""
    context = windows.questions[number].context
    everything = sums if null_threshold is None else [*sums, nulls.min()]
    total = _log_sum_exp(np.asarray(everything)[None])[0]
    spans = {}
    for window in rows:
        for score, d, first in found[window]:
            start, end = windows.characters(window, first, first + d)
            span = Span(
                context[start:end], start, end, float(score), float(np.exp(score - total)), window
            )
            # Neighbouring windows find the same span.
            if (start, end) not in spans or spans[start, end].score < span.score:
                spans[start, end] = span
    best = sorted(spans.values(), key=lambda span: -span.score)[:num_best]
    if null_threshold is None:
        return best
    null = Span("", 0, 0, float(nulls.min()), float(np.exp(nulls.min() - total)), -1)
    return [null, *best] if null.score - best[0].score > null_threshold else [*best, null]


def _log_sum_exp(values):
    highest = values.max(axis=1)
    return highest + np.log(np.exp(values - highest[:, None]).sum(axis=1))


def _checked(logits, windows):
    logits = np.asarray(logits)
    expected = (windows.num_windows, 2, windows.max_length)
    if logits.shape != expected:
        raise ValueError(
            f"logits of shape {list(logits.shape)}: expected {list(expected)}, which are windows, "
            "start and end, positions"
        )
    if not np.isfinite(logits).all():
        raise ValueError(
            "logits that are not finite: expected finite values; the model's training diverged or "
            "its weights are damaged, load another model"
        )
    return logits
