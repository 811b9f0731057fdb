"""Cohort samplers and conditions: pure functions, their frequencies, and their mistakes."""

import math

import numpy as np
import pytest

from fedlab.clients import Participation, dropouts, fixed, poisson, stragglers, uniform, weighted
from fedlab.clients import availability as conditions

IDS = [f"c{k}" for k in range(20)]
SAMPLERS = {
    "uniform": lambda: uniform(5),
    "weighted": lambda: weighted(5, {client_id: k for k, client_id in enumerate(IDS)}),
    "poisson": lambda: poisson(5),
    "fixed": lambda: fixed(["c3", "c1"]),
}


@pytest.mark.parametrize("name", SAMPLERS)
def test_samplers_are_pure_functions_of_seed_and_round(name):
    sample, again = SAMPLERS[name](), SAMPLERS[name]()
    cohorts = [sample(IDS, round_num, 0) for round_num in range(1, 6)]
    assert cohorts == [again(IDS, round_num, 0) for round_num in range(1, 6)]
    assert all(len(set(cohort)) == len(cohort) and set(cohort) <= set(IDS) for cohort in cohorts)
    others = [sample(IDS, round_num, 1) for round_num in range(1, 6)]
    if name == "fixed":
        assert cohorts == others == [["c3", "c1"]] * 5
    else:
        assert len(set(map(tuple, cohorts))) == 5 and cohorts != others


def counts(sample, rounds=2000):
    cohorts = [sample(IDS, round_num, 0) for round_num in range(rounds)]
    return np.array([sum(client_id in cohort for cohort in cohorts) for client_id in IDS]), list(
        map(len, cohorts)
    )


def test_uniform_frequencies():
    times, sizes = counts(uniform(5))
    assert set(sizes) == {5}
    assert np.abs(times - 500).max() < 4.5 * math.sqrt(2000 * 0.25 * 0.75)


def test_poisson_frequencies_and_sizes():
    times, sizes = counts(poisson(5))
    assert np.abs(times - 500).max() < 4.5 * math.sqrt(2000 * 0.25 * 0.75)
    # A binomial size: mean 5, variance 20 * .25 * .75.
    assert abs(np.mean(sizes) - 5) < 4 * math.sqrt(3.75 / 2000)
    assert np.var(sizes) == pytest.approx(3.75, rel=0.15)
    assert counts(poisson(20), rounds=3)[1] == [20, 20, 20]


def test_weighted_frequencies():
    weights = {client_id: float(k) for k, client_id in enumerate(IDS)}
    times, sizes = counts(weighted(1, weights))
    share = np.arange(20) / 190
    assert set(sizes) == {1} and times[0] == 0
    assert (np.abs(times - 2000 * share) <= 4.5 * np.sqrt(2000 * share * (1 - share))).all()
    # Sampled without replacement with weights 3 and 1, both a and b are chosen, and a comes
    # first in 3 of 4 cases.
    first = [
        weighted(2, {"a": 3, "b": 1})(["a", "b"], round_num, 0)[0] == "a"
        for round_num in range(2000)
    ]
    assert abs(np.mean(first) - 0.75) < 4 * math.sqrt(0.75 * 0.25 / 2000)


@pytest.mark.parametrize(
    "make, message",
    [
        (
            lambda: uniform(21)(IDS, 1, 0),
            "clients_per_round=21: expected an integer between 1 and 20, the number of clients",
        ),
        (
            lambda: poisson(0)(IDS, 1, 0),
            "clients_per_round=0: expected a number above 0 and of at most 20",
        ),
        (
            lambda: weighted(2, {"c0": 1})(IDS, 1, 0),
            r"weights has no value for the clients \['c1', 'c2', 'c3'\]",
        ),
        (
            lambda: weighted(2, {"a": 1, "b": -1})(["a", "b"], 1, 0),
            r"weights\['b'\]=-1: expected a number of at least 0",
        ),
        (
            lambda: weighted(2, {"a": 1, "b": 0})(["a", "b"], 1, 0),
            "clients_per_round=2: expected an integer between 1 and 1, the number of clients "
            "with a weight above 0",
        ),
        (lambda: fixed(["c1", "c1"]), "expected a list of one or more distinct client ids"),
        (lambda: fixed(["x"])(IDS, 1, 0), r"unknown clients \['x'\]"),
        (lambda: dropouts(1.1), "rate=1.1: expected a number between 0 and 1"),
        (lambda: stragglers("half"), "rate='half'"),
    ],
)
def test_bad_arguments_raise_one_line_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# How clients fare.


def works(condition, rounds=100, seed=0):
    return [
        condition(client_id, round_num, seed) for round_num in range(rounds) for client_id in IDS
    ]


def test_dropouts():
    drawn = works(dropouts(0.3))
    assert drawn == works(dropouts(0.3)) != works(dropouts(0.3), seed=1)
    assert {work.drop_reason for work in drawn} == {"", "dropout"} and {
        work.share for work in drawn
    } == {1.0}
    lost = np.mean([work.drop_reason != "" for work in drawn])
    assert abs(lost - 0.3) < 4 * math.sqrt(0.3 * 0.7 / 2000)
    assert {work.drop_reason for work in works(dropouts(0))} == {""} and {
        work.drop_reason for work in works(dropouts(1))
    } == {"dropout"}


def test_stragglers_do_a_share_of_their_work_or_miss_the_deadline():
    drawn = works(stragglers(0.5))
    shares = np.array([work.share for work in drawn if work.share < 1])
    assert abs(len(shares) / 2000 - 0.5) < 4 * math.sqrt(0.25 / 2000)
    assert 0 < shares.min() and abs(shares.mean() - 0.5) < 4 * math.sqrt(1 / 12 / len(shares))
    dropped = works(stragglers(0.5, drop=True))
    assert [work.drop_reason == "deadline" for work in dropped] == [
        work.share < 1 for work in drawn
    ]  # the same clients are slow
    assert {work.share for work in dropped} == {1.0}


def test_conditions_hold_together():
    both = works(
        conditions.together(
            [stragglers(0.5), dropouts(0.3), lambda client_id, round_num, seed: Participation(0.9)]
        )
    )
    for work, slow, lost in zip(both, works(stragglers(0.5)), works(dropouts(0.3))):
        assert work == Participation(min(slow.share, 0.9), lost.drop_reason)
