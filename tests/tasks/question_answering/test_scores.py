"""Exact match and F1 by hand, as the official scripts 1.1 and 2.0 have them."""

import logging
import re
import string
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedlab.tasks.question_answering import scores as squad
from fedlab.tasks.question_answering.windows import Answer, Question


def question(question_id, *golds, title="T"):
    return Question(
        question_id, title, " ".join(golds), "?", tuple(Answer(gold, 0) for gold in golds)
    )


@pytest.mark.parametrize(
    "text, normal",
    [
        ("The Eiffel Tower", "eiffel tower"),
        ("an apple, a pear and the  plum.", "apple pear and plum"),
        ("another theatre", "another theatre"),  # articles are whole words
        ("Jay-Z's", "jayzs"),
        ("a-b", "ab"),  # punctuation goes first
        ("U.S.A.", "usa"),
        ("$1,000", "1000"),
        ("\u201cyes\u201d \u2013 no", "\u201cyes\u201d \u2013 no"),  # only ASCII punctuation
        ("the", ""),
        ("\u00c9COLE\tdes\r\nArts", "\u00e9cole des arts"),
    ],
)
def test_normalize(text, normal):
    assert squad.normalize(text) == normal


@pytest.mark.parametrize(
    "prediction, gold, exact, f1",
    [
        ("the tower", "Tower!", 1, 1),
        ("tall tower of iron", "the iron tower", 0, 2 / 3),  # 2 of 4, 2 of 2
        (
            "to be or not to be",
            "to be",
            0,
            0.5,
        ),  # 2 of 6, 2 of 2: a word counts as often as both have it
        ("to to be", "to be to", 0, 1),
        ("1999", "2000", 0, 0),
        ("", "2000", 0, 0),
    ],
)
def test_exact_match_and_f1(prediction, gold, exact, f1):
    assert squad.exact_match(prediction, gold) == exact
    for version in ("1.1", "2.0"):
        assert squad.f1(prediction, gold, version) == pytest.approx(f1)


def test_texts_without_words():
    assert (
        squad.f1("the", "a", "1.1"),
        squad.f1("the", "a", "2.0"),
        squad.f1("the", "b", "2.0"),
    ) == (0, 1, 0)
    assert squad.exact_match("the", "") == 1


def test_the_best_gold_answer_counts_for_each_of_the_two():
    [score] = squad.scores(
        [question("q", "iron tower", "Paris", "the tall tower")], {"q": "tower of iron"}
    )
    assert score == ("q", 0.0, pytest.approx(0.8), True)


def test_version_1_by_hand(caplog):
    questions = [question("a", "Ann"), question("b", "Ann Lee", "Lee"), question("c", "Bob")]
    with caplog.at_level(logging.WARNING):
        scores = squad.scores(questions, {"a": "ann", "b": "Ann", "extra": "x"})
    assert caplog.messages == ["squad: 1 of 3 questions have no prediction and score 0"]
    assert squad.summary(scores) == {
        "exact_match": pytest.approx(100 / 3),
        "f1": pytest.approx(100 * (1 + 2 / 3) / 3),
        "total": 3,
    }


def test_version_2_by_hand():
    questions = [
        question("a", "Ann"),
        question("b", "Bob"),
        question("c"),
        question("d"),
        question("e", "the", "a"),
    ]
    predictions = {
        "a": "Ann Lee",
        "b": "",
        "c": "",
        "d": "Ann",
        "e": "",
    }  # "e": its golds have no words, so "" is right
    assert squad.summary(squad.scores(questions, predictions)) == {
        "exact_match": 40.0,
        "f1": pytest.approx(100 * (2 / 3 + 0 + 1 + 0 + 1) / 5),
        "total": 5,
        "HasAns_exact_match": pytest.approx(100 / 3),
        "HasAns_f1": pytest.approx(100 * (2 / 3 + 1) / 3),
        "HasAns_total": 3,
        "NoAns_exact_match": 50.0,
        "NoAns_f1": 50.0,
        "NoAns_total": 2,
    }
    only_no_answer = squad.summary(squad.scores([question("c")], {"c": ""}))
    assert only_no_answer == {
        "exact_match": 100,
        "f1": 100,
        "total": 1,
        "NoAns_exact_match": 100,
        "NoAns_f1": 100,
        "NoAns_total": 1,
    }


def test_by_client():
    questions = [
        question("a", "x", title="One"),
        question("b", "y", title="Two"),
        question("c", "z w", title="One"),
    ]
    scores = squad.scores(questions, {"a": "x", "b": "x", "c": "z"})
    assert squad.by_client(scores, questions) == [
        {
            "client_id": "One",
            "exact_match": 50.0,
            "f1": pytest.approx(100 * (1 + 2 / 3) / 2),
            "total": 2,
        },
        {"client_id": "Two", "exact_match": 0.0, "f1": 0.0, "total": 1},
    ]
    rows = squad.by_client(scores, questions, {"ann": [1, 0], "bob": [], "eve": [2]})
    assert [(row["client_id"], row["exact_match"], row["total"]) for row in rows] == [
        ("ann", 50.0, 2),
        ("eve", 0.0, 1),
    ]


def test_nothing_to_score():
    with pytest.raises(ValueError, match="no questions"):
        squad.scores([], {})
    with pytest.raises(ValueError, match="version='2': expected 1.1 or 2.0"):
        squad.scores([question("a", "x")], {}, version="2")


def by_definition(prediction, gold):
    """Precision and recall of words, one word at a time."""

    def words(text):
        kept = "".join(c for c in text.lower() if c not in string.punctuation)
        return [word for word in re.split(r"\s+", re.sub(r"\b(?:an?|the)\b", " ", kept)) if word]

    predicted, expected = Counter(words(prediction)), Counter(words(gold))
    shared = sum(min(count, expected[word]) for word, count in predicted.items())
    return 2 * shared / (predicted.total() + expected.total()) if shared else 0.0


words = st.lists(
    st.sampled_from(
        ["the", "The", "a", "Tower", "tower.", "iron", "of", "\u00e9cole", "a-b", "\n"]
    ),
    max_size=6,
).map(" ".join)


@settings(max_examples=200, deadline=None)
@given(words, words)
def test_f1_by_definition(prediction, gold):
    assert squad.f1(prediction, gold) == pytest.approx(by_definition(prediction, gold))
    assert squad.f1(prediction, gold) == squad.f1(gold, prediction)
