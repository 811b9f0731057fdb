"""Efficacy: the number of questions that a model needs to answer a given number correctly.

```
i_0, i_1, ... = uniform draws from the questions, with replacement, a pure function of the seed
correct(i)    = the best legal span of question i matches a gold answer exactly
num_draws     = the first D with correct(i_0) + ... + correct(i_{D-1}) = num_correct,
                or max_draws if there is none
accuracy      = (num_correct - 1) / (D - 1), which is unbiased if the last draw is the
                num_correct-th success; otherwise the share of correct answers
```

The estimate is that of Haldane 1945, "On a method of estimating frequencies",
Biometrika 33(3). Another model that is asked the same draws (`replay`) differs from the
first only by what it answers. `fedlab.tasks.question_answering.efficacy_database` keeps
the draws.
"""

import collections
import hashlib
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fedlab import _checks
from fedlab.clients import seeding
from fedlab.tasks.question_answering import scores as squad
from fedlab.tasks.question_answering import spans
from fedlab.tasks.question_answering.windows import Question, Windows

if TYPE_CHECKING:
    import tensorflow as tf

MOST_DRAWS = 10**8  # their indices are held in memory
_DRAWS_AT_ONCE = 128  # answered together; those after the last one needed are discarded


class Draw(NamedTuple):
    """A question as it was drawn and answered.

    Attributes:
      question: the index of the question.
      question_id: the question's id.
      answer: the model's answer; "" for no answer.
      exact_match: whether the answer matches exactly.
      f1: the answer's F1 score, 0 to 1.
    """

    question: int
    question_id: str
    answer: str
    exact_match: bool
    f1: float


class Efficacy(NamedTuple):
    """The result of the draws.

    Attributes:
      draws: a list of `Draw`, in order.
      num_correct: the target number of correct answers; None in a replay.
    """

    draws: list
    num_correct: int | None

    @property
    def reached(self) -> int:
        """How many answers are correct."""
        return sum(draw.exact_match for draw in self.draws)

    @property
    def accuracy(self) -> float:
        """The estimated share of questions that the model answers exactly; see the module."""
        if self.num_correct is not None and self.reached == self.num_correct > 1:
            return (self.num_correct - 1) / (len(self.draws) - 1)
        return self.reached / len(self.draws)

    @property
    def repeated(self) -> dict[int, int]:
        """Question index -> number of draws, for repeated questions, most frequent first."""
        counts = collections.Counter(draw.question for draw in self.draws)
        return {question: times for question, times in counts.most_common() if times > 1}


def draw(num_questions: int, max_draws: int, seed: int = 0) -> np.ndarray:
    """Returns the drawn question indices, int64 [max_draws]; fewer draws are a prefix of more.

    Args:
      num_questions: number of questions to draw from, 1 or more.
      max_draws: number of draws, 1 or more.
      seed: an int of 0 or more.

    Example:
      >>> draw(1000, 4, seed=7).tolist() == draw(1000, 6, seed=7)[:4].tolist()
      True
    """
    _checks.check_int("num_questions", num_questions)
    _checks.check_int("max_draws", max_draws, maximum=MOST_DRAWS)
    return seeding.generator(seed, "efficacy").integers(num_questions, size=max_draws)


def measure(
    model: "tf.keras.Model",
    windows: Windows,
    *,
    num_correct: int,
    max_draws: int | None = None,
    seed: int = 0,
    batch_size: int = 32,
    max_answer_length: int = 30,
) -> Efficacy:
    """Draws questions until a model has answered `num_correct` of them correctly.

    A question that is drawn again is not answered again. If some questions have no
    answer, as in SQuAD 2.0, "no answer" is one of the possible answers.

    Args:
      model: a Keras model with the inputs of `fedlab.tasks.question_answering.windows`
        and one output [n, 2, length].
      windows: `Windows` of the questions to draw from.
      num_correct: 1 or more.
      max_draws: maximum number of draws; by default 10 * num_correct.
      seed: seed of the draws.
      batch_size: windows per step.
      max_answer_length: tokens, 1 or more.

    Returns:
      An `Efficacy` with indices into `windows.questions`.

    Raises:
      ValueError: a setting is out of range, or the model has other inputs or outputs or
        another vocabulary.

    Example:
      >>> import fedlab as fl
      >>> train, test = fl.datasets.squad.synthetic_windows(num_clients=2)
      >>> sizes = dict(hidden_size=8, intermediate_size=16, num_layers=1, length=48)
      >>> model = fl.models.bert.question_answering(vocab_size=58, **sizes)
      >>> found = measure(model, test, num_correct=100, max_draws=20)
      >>> len(found.draws)
      20
    """
    _checks.check_int("num_correct", num_correct)
    numbers = draw(
        len(windows.questions), 10 * num_correct if max_draws is None else max_draws, seed
    )
    answered = _Answers(model, windows, batch_size, max_answer_length)
    draws, reached = [], 0
    for first in range(0, len(numbers), _DRAWS_AT_ONCE):
        for found in answered(numbers[first : first + _DRAWS_AT_ONCE]):
            draws.append(found)
            reached += found.exact_match
            if reached == num_correct:
                return Efficacy(draws, num_correct)
    return Efficacy(draws, num_correct)


def replay(
    model: "tf.keras.Model",
    windows: Windows,
    numbers: Sequence[int] | np.ndarray,
    *,
    batch_size: int = 32,
    max_answer_length: int = 30,
) -> Efficacy:
    """Asks a model the questions with these indices, in this order.

    Args:
      model, windows, batch_size, max_answer_length: as in `measure`.
      numbers: int [n], indices into `windows.questions`.

    Returns:
      An `Efficacy`.

    Raises:
      ValueError: as in `measure`, or an index is out of range.
    """
    numbers = np.asarray(numbers, np.int64)
    if not numbers.size or not 0 <= numbers.min() <= numbers.max() < len(windows.questions):
        raise ValueError(
            f"questions {numbers.tolist()!s:.60}: expected one or more indices from 0 to "
            f"{len(windows.questions) - 1}"
        )
    answered = _Answers(model, windows, batch_size, max_answer_length)
    blocks = (
        answered(numbers[first : first + _DRAWS_AT_ONCE])
        for first in range(0, len(numbers), _DRAWS_AT_ONCE)
    )
    return Efficacy([found for block in blocks for found in block], None)


def weights_sha256(model: "tf.keras.Model") -> str:
    """Returns the SHA-256 of a model's weights, in Keras's order, with shapes and dtypes."""
    digest = hashlib.sha256()
    for array in model.get_weights():
        digest.update(
            f"{array.dtype.str}{array.shape}".encode() + np.ascontiguousarray(array).tobytes()
        )
    return digest.hexdigest()


def questions_sha256(questions: Iterable[Question]) -> str:
    """Returns the SHA-256 of the ids, texts and answers of `Question`s."""
    digest = hashlib.sha256()
    for question in questions:
        digest.update(repr(tuple(question)).encode())
    return digest.hexdigest()


class _Answers:
    """A model's answers to questions as `Draw`s, each question answered once."""

    def __init__(self, model, windows, batch_size, max_answer_length):
        _checks.check_int("batch_size", batch_size)
        self._model, self._windows = model, windows
        self._batch_size, self._max_answer_length = batch_size, max_answer_length
        all_answered = all(question.answers for question in windows.questions)
        self._version, self._null_threshold = ("1.1", None) if all_answered else ("2.0", 0.0)
        self._known = {}

    def __call__(self, numbers):
        new = [number for number in dict.fromkeys(numbers.tolist()) if number not in self._known]
        if new:
            part = self._windows.select(new)
            found = spans.answers(
                part,
                spans.logits(self._model, part, self._batch_size),
                max_answer_length=self._max_answer_length,
                null_threshold=self._null_threshold,
            )
            texts = spans.predictions(part, found)
            for number, score in zip(new, squad.scores(part.questions, texts, self._version)):
                answer = texts[score.question_id]
                self._known[number] = Draw(
                    number, score.question_id, answer, score.exact_match == 1.0, score.f1
                )
        return [self._known[number] for number in numbers.tolist()]
