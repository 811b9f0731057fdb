"""Exact match and F1 of answers, as computed by SQuAD's official scripts 1.1 and 2.0.

```
normalize(text)      lower case; no ASCII punctuation; no "a", "an", "the"; single spaces
exact match          1 where normalize(prediction) == normalize(gold), else 0
F1                   2 p r / (p + r) over the words of the normalized texts as multisets
a question           the best over its gold answers
the data set         100 * mean over the questions
```

Rajpurkar et al. 2016, section 6.1; Rajpurkar et al. 2018, section 5.
"""

import collections
import logging
import re
import string
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from fedlab.tasks.question_answering.windows import Question

logger = logging.getLogger(__name__)

_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLES = re.compile(r"\b(a|an|the)\b")


def normalize(text: str) -> str:
    """Returns the form in which answers are compared.

    Example:
      >>> normalize("The  Eiffel-Tower, a landmark!")
      'eiffeltower landmark'
    """
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def exact_match(prediction: str, gold: str) -> float:
    """Returns 1.0 if the two are equal after `normalize`, else 0.0.

    Example:
      >>> exact_match("the Tower", "tower.")
      1.0
    """
    return float(normalize(prediction) == normalize(gold))


def f1(prediction: str, gold: str, version: str = "1.1") -> float:
    """Returns the F1 score of the words that both texts have, as multisets.

    If at least one of the normalized texts has no words, the result is 0. Version 2.0
    returns 1 if neither has words.

    Example:
      >>> f1("the tall tower", "a tower of iron")  # p = 1/2, r = 1/3
      0.4
    """
    predicted, expected = normalize(prediction).split(), normalize(gold).split()
    if version == "2.0" and not (predicted and expected):
        return float(predicted == expected)
    same = sum((collections.Counter(predicted) & collections.Counter(expected)).values())
    if not same:
        return 0.0
    precision, recall = same / len(predicted), same / len(expected)
    return 2 * precision * recall / (precision + recall)


class Score(NamedTuple):
    """The score of one question.

    Attributes:
      question_id: its id.
      exact_match, f1: 0 to 1.
      answerable: False if its context has no answer.
    """

    question_id: str
    exact_match: float
    f1: float
    answerable: bool


def scores(
    questions: Sequence[Question], predictions: Mapping[str, str], version: str | None = None
) -> list[Score]:
    """Scores the predictions for questions.

    Args:
      questions: `fedlab.tasks.question_answering.windows.Question`s.
      predictions: question_id -> text; "" means that there is no answer. Questions
        without a prediction score 0, and their number is logged; script 2.0 leaves them
        out instead.
      version: "1.1" or "2.0"; by default 2.0 if a question has no answer. In 2.0 the gold
        answer of such a question is "".

    Returns:
      A list of `Score`, in the order of the questions.

    Raises:
      ValueError: no questions, or a version that does not exist.
    """
    if version is None:
        version = "1.1" if all(question.answers for question in questions) else "2.0"
    if version not in ("1.1", "2.0"):
        raise ValueError(f"version={version!r}: expected 1.1 or 2.0")
    if not questions:
        raise ValueError("questions: expected one or more, got no questions")
    missing = sum(question.question_id not in predictions for question in questions)
    if missing:
        logger.warning(
            "squad: %d of %d questions have no prediction and score 0", missing, len(questions)
        )
    return [
        _score(question, predictions.get(question.question_id), version) for question in questions
    ]


def _score(question, prediction, version):
    golds = [answer.text for answer in question.answers]
    if version == "2.0":
        golds = [gold for gold in golds if normalize(gold)] or [""]
    if prediction is None or not golds:
        return Score(question.question_id, 0.0, 0.0, bool(question.answers))
    best = (
        max(exact_match(prediction, gold) for gold in golds),
        max(f1(prediction, gold, version) for gold in golds),
    )
    return Score(question.question_id, *best, bool(question.answers))


def summary(scores: Sequence[Score]) -> dict[str, float]:
    """Summarizes the scores of a data set.

    Returns:
      exact_match and f1, 0 to 100, and total. If some questions have no answer, also the
      same three for the questions with an answer (HasAns_...) and without (NoAns_...).

    Example:
      >>> summary([Score("1", 1.0, 1.0, True), Score("2", 0.0, 0.5, True)])
      {'exact_match': 50.0, 'f1': 75.0, 'total': 2}
    """
    result = _means(scores)
    parts = {
        "HasAns": [s for s in scores if s.answerable],
        "NoAns": [s for s in scores if not s.answerable],
    }
    if parts["NoAns"]:
        for name, part in parts.items():
            result |= (
                {f"{name}_{key}": value for key, value in _means(part).items()} if part else {}
            )
    return result


def by_client(
    scores: Sequence[Score],
    questions: Sequence[Question],
    client_of: Mapping[str, Sequence[int]] | None = None,
) -> list[dict[str, Any]]:
    """Summarizes the scores of each client.

    Args:
      scores, questions: of equal length, in the same order.
      client_of: client_id -> indices of its questions, as
        `fedlab.datasets.squad.client_questions` returns; by default one client per title.

    Returns:
      A list of dicts with client_id and the items of `summary`, in the order of the
      clients. Clients without questions are left out.
    """
    if client_of is None:
        by_title: dict[str, list[int]] = {}
        for number, question in enumerate(questions):
            by_title.setdefault(question.title, []).append(number)
        client_of = by_title
    return [
        {"client_id": client_id, **summary([scores[i] for i in rows])}
        for client_id, rows in client_of.items()
        if len(rows)
    ]


def _means(scores):
    return {
        "exact_match": 100 * sum(s.exact_match for s in scores) / len(scores),
        "f1": 100 * sum(s.f1 for s in scores) / len(scores),
        "total": len(scores),
    }
