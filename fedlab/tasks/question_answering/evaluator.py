"""Exact match, F1 and loss of a question-answering model, for `fedlab.simulate`."""

import hashlib

import numpy as np

from fedlab import _checks
from fedlab.tasks.question_answering import scores as squad
from fedlab.tasks.question_answering import spans
from fedlab.tasks.question_answering.windows import Windows


class Evaluator:
    """Scores a model on questions.

    ```
    exact_match, f1    0 to 100, of the best legal spans, as in SQuAD's official script
    loss               mean of  -(log p[start] + log p[end]) / 2  over the windows that
                       contain their answer; p is the softmax over positions
    ```

    Args:
      windows: `fedlab.tasks.question_answering.windows.Windows` of questions that have
        answers.
      batch_size: windows per step.
      max_answer_length: tokens, 1 or more.

    Attributes:
      name, settings: what a run's config.json says about the evaluation.

    Raises:
      ValueError: no window contains its answer.

    Example:
      >>> import fedlab as fl
      >>> train, test = fl.datasets.squad.synthetic_windows(num_clients=2)
      >>> sizes = dict(hidden_size=8, intermediate_size=16, num_layers=1, length=48)
      >>> model = fl.models.bert.question_answering(vocab_size=58, **sizes)
      >>> sorted(fl.question_answering.Evaluator(test)(model))
      ['exact_match', 'f1', 'loss']
    """

    name = "questions"

    def __init__(self, windows, *, batch_size=32, max_answer_length=30):
        if not isinstance(windows, Windows):
            expected = "Windows, as fedlab.datasets.squad.load_windows returns"
            raise _checks.type_error("windows", windows, expected)
        _checks.check_int("batch_size", batch_size)
        _checks.check_int("max_answer_length", max_answer_length)
        if not windows.y.any():
            raise ValueError(
                f"{windows.num_windows} windows: expected one that contains its answer, got none; "
                "evaluate on questions that have answers"
            )
        contents = hashlib.sha256(repr(windows.questions).encode())
        for array in (windows.question, windows.first, windows.count, windows.y):
            contents.update(array.tobytes())
        self.settings = {
            "questions": len(windows.questions),
            "contents": contents.hexdigest(),
            "windows": windows.num_windows,
            "max_answer_length": max_answer_length,
        }
        self._windows, self._batch_size = windows, batch_size

    def __call__(self, model, round_num=0):
        """Returns `exact_match`, `f1` and `loss`. They do not depend on the round."""
        logits = spans.logits(model, self._windows, self._batch_size)
        found = spans.answers(
            self._windows, logits, max_answer_length=self.settings["max_answer_length"]
        )
        scores = squad.summary(
            squad.scores(self._windows.questions, spans.predictions(self._windows, found))
        )
        return {
            "exact_match": scores["exact_match"],
            "f1": scores["f1"],
            "loss": cross_entropy(logits, self._windows.y),
        }


def cross_entropy(logits: np.ndarray, y: np.ndarray) -> float:
    """Returns the mean cross-entropy of start and end over windows with an answer.

    Args:
      logits: float [n, 2, length].
      y: int [n, 2], positions; rows of 0, 0 are left out.

    Example:
      >>> logits = np.log([[[0.5, 0.25, 0.25], [0.5, 0.25, 0.25]]])
      >>> round(cross_entropy(logits, np.array([[1, 2]])), 6)  # log 4
      1.386294
    """
    held = y.any(axis=1)
    logits, y = logits[held].astype(np.float64), y[held]
    highest = logits.max(axis=2, keepdims=True)
    log_sum = highest[:, :, 0] + np.log(np.exp(logits - highest).sum(axis=2))
    return float((log_sum - np.take_along_axis(logits, y[:, :, None], axis=2)[:, :, 0]).mean())
