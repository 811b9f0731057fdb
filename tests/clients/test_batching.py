"""Batches and cohorts."""

import numpy as np
import pytest

from fedlab.clients import Batching, fixed, seeding, uniform
from fedlab.clients.batching import batch_rows
from fedlab.engines.batches import Fill, make_batches

rng = lambda: np.random.default_rng(0)  # noqa: E731


def test_no_example_is_dropped_by_default():
    rows, sizes = batch_rows(7, Batching(batch_size=3), rng())
    assert sizes.tolist() == [3, 3, 1]
    assert sorted(np.concatenate([r[:s] for r, s in zip(rows, sizes)])) == list(range(7))


def test_epochs_differ_in_order_and_hold_everything():
    rows, sizes = batch_rows(8, Batching(batch_size=4, epochs=2), rng())
    assert sizes.tolist() == [4] * 4
    assert sorted(rows[:2].ravel()) == sorted(rows[2:].ravel()) == list(range(8))
    assert rows[:2].tolist() != rows[2:].tolist()


@pytest.mark.parametrize("examples, expected", [(7, [3, 3]), (2, []), (0, [])])
def test_drop_remainder(examples, expected):
    assert (
        batch_rows(examples, Batching(batch_size=3, drop_remainder=True), rng())[1].tolist()
        == expected
    )


@pytest.mark.parametrize(
    "cap, expected", [(1, [3]), (3, [3, 3, 1]), (4, [3, 3, 1, 3]), (9, [3, 3, 1, 3, 3, 1])]
)
def test_batches_are_capped(cap, expected):
    assert (
        batch_rows(7, Batching(batch_size=3, epochs=2, max_batches=cap), rng())[1].tolist()
        == expected
    )


def test_a_fixed_batch_size_is_filled_up_with_rows_that_count_for_nothing():
    columns = {
        "x": np.arange(3)[:, None],
        "y": np.array([[4, 5], [6, 7], [8, -1]]),
        "sample_weight": np.array([[1, 1], [1, 1], [1, 0.0]]),
    }
    batches = make_batches(columns, Batching(batch_size=2, shuffle=False), None, Fill(2, -1))
    assert batches.sizes.tolist() == [2, 2]
    assert batches.columns["y"].tolist() == [[[4, 5], [6, 7]], [[8, -1], [-1, -1]]]
    assert batches.columns["sample_weight"].tolist() == [[[1, 1], [1, 1]], [[1, 0], [0, 0]]]
    assert batches.examples.tolist() == [2, 1] and batches.tokens.tolist() == [4, 1]


def test_a_batch_size_for_all_examples_takes_no_more_memory_than_they_do():
    rows, sizes = batch_rows(5, Batching(batch_size=2**31 - 1, epochs=2), rng())
    assert rows.shape == (2, 5) and rows.dtype == np.int32 and sizes.tolist() == [5, 5]


@pytest.mark.parametrize(
    "setting",
    [
        {"batch_size": 0},
        {"batch_size": 2.5},
        {"epochs": -1},
        {"max_batches": 0},
        {"batch_size": True},
    ],
)
def test_settings_out_of_range(setting):
    expected = "expected an integer (of at least 1|between 1 and)"
    with pytest.raises(ValueError, match=f"{next(iter(setting))}=.*: {expected}"):
        Batching(**setting).check()


def test_cohorts_are_pure_functions_of_seed_and_round():
    ids = [f"c{i}" for i in range(50)]
    sample = uniform(10)
    assert sample(ids, 3, 0) == sample(ids, 3, 0)
    assert sample(ids, 3, 0) != sample(ids, 4, 0) and sample(ids, 3, 0) != sample(ids, 3, 1)
    assert len(set(sample(ids, 3, 0))) == 10
    counts = np.bincount([int(c[1:]) for r in range(1000) for c in sample(ids, r, 0)], minlength=50)
    assert abs(counts - 200).max() < 5 * np.sqrt(
        200
    )  # each client is drawn in a fifth of the rounds


def test_impossible_cohorts():
    with pytest.raises(
        ValueError, match="clients_per_round=3: expected an integer between 1 and 2"
    ):
        uniform(3)(["a", "b"], 1, 0)
    with pytest.raises(ValueError, match="distinct client ids"):
        fixed(["a", "a"])
    with pytest.raises(ValueError, match=r"unknown clients \['z'\]"):
        fixed(["z"])(["a", "b"], 1, 0)


def test_draws_of_different_purposes_are_independent():
    draw = lambda *key: seeding.generator(*key).integers(2**62)  # noqa: E731
    assert (
        len(
            {
                draw(0, "a", 1),
                draw(0, "a", 2),
                draw(0, "b", 1),
                draw(1, "a", 1),
                draw(0, "a", "1", ""),
            }
        )
        == 5
    )
    with pytest.raises(ValueError, match="seed=-1: expected"):
        seeding.generator(-1, "a")
