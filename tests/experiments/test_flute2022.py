"""The times of the FLUTE study."""

import time
import types

import pytest

from experiments.papers.flute2022 import study as flute


def record(rounds, seed=0, **figures):
    return {
        "case": "fed_avg",
        "seed": seed,
        "settings": {**flute.SCALES["paper"], "rounds": rounds},
        "cores": 2,
        "columns": ["round", "test_accuracy"],
        "rows": [[0, 0.01], [rounds, 0.5625]],
        "figures": figures,
    }


def test_the_published_times():
    assert flute.PUBLISHED["FLUTE"] * 60 == 21 * 60 + 50
    assert flute.PUBLISHED["FedML"] * 60 == 6 * 3600 + 46 * 60 + 21


def test_a_complete_run_counts_every_second():
    found = record(1200, total_seconds=3000.0, round_seconds=1.0, evaluation_seconds=1.0)
    assert flute.minutes(found) == 50.0


def test_fewer_rounds_are_extrapolated():
    found = record(100, total_seconds=400.0, round_seconds=2.5, evaluation_seconds=10.0)
    assert flute.minutes(found) == (1200 * 2.5 + 24 * 10) / 60 == 54.0
    row, *_ = flute.rows({"fed_avg": [found]})
    assert "rounds 2 to 100" in row.measure and row.values == [54.0]


def test_the_first_round_and_evaluations_are_not_in_the_time_of_a_round():
    measured = [[9.0, 8.0, 0], [2.0, 1.9, 0], [5.0, 2.0, 1], [4.0, 3.8, 0], [7.0, 2.0, 1]]
    assert flute.times(measured) == {
        "total_seconds": 27.0,
        "round_seconds": 3.0,
        "evaluation_seconds": 4.0,
    }


@pytest.mark.parametrize("rounds, holds", [(1200, True), (100, None)])
def test_the_verdict_is_about_the_complete_run(rounds, holds):
    found = record(rounds, total_seconds=3275.0, round_seconds=2.5, evaluation_seconds=11.4583)
    verdict = flute.verdict({"fed_avg": [found]})
    assert verdict.holds is holds
    assert "take 55 minutes on 2 CPU cores: 2.5 times the published time of FLUTE" in verdict.text
    found["rows"][-1][1] = 0.55
    assert flute.verdict({"fed_avg": [found]}).holds is (False if holds else None)


def test_an_interruption_does_not_count():
    def end_of_round(clock, round_num, **metrics):
        clock.on_round_end(types.SimpleNamespace(round_num=round_num, metrics=metrics))

    first, second = flute._clock(), flute._clock()
    first.on_run_begin([])
    time.sleep(0.2)  # the evaluation before training
    end_of_round(first, 0, test_accuracy=0.1)
    time.sleep(0.1)
    end_of_round(first, 1, seconds=0.07)
    state = first.state()
    time.sleep(0.4)
    second.on_run_begin([{}, {}])
    second.restore(state)
    end_of_round(second, 2, seconds=0.0, test_accuracy=0.2)
    (taken, training, evaluated), (_, _, then_evaluated) = second.rounds
    assert 0.1 <= taken == first.rounds[0][0]
    assert (training, evaluated, then_evaluated) == (0.07, 0, 1)
    assert second.rounds[1][0] < 0.2
