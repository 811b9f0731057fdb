"""Median, trimmed mean and Krum, worked out by hand and against NumPy."""

import numpy as np
import pytest
import scipy.spatial
import scipy.stats
import tensorflow as tf

from fedlab.aggregators import _collected, krum, mean, median, trimmed_mean
from tests.aggregators.rounds import run_round

rng = np.random.default_rng(0)
UPDATES = rng.normal(size=[9, 3, 2])


@pytest.mark.parametrize("num_clients", [1, 2, 8, 9])
def test_median_is_that_of_numpy(num_clients):
    delta, _, metrics = run_round(median(), UPDATES[:num_clients])
    np.testing.assert_allclose(delta, np.median(UPDATES[:num_clients], axis=0), rtol=1e-6)
    assert metrics == {}


@pytest.mark.parametrize("trim", [0.0, 0.1, 0.3, 0.45])
def test_trimmed_mean_is_that_of_scipy(trim):
    np.testing.assert_allclose(
        run_round(trimmed_mean(trim), UPDATES)[0],
        scipy.stats.trim_mean(UPDATES, trim, axis=0),
        rtol=1e-5,
        atol=1e-7,
    )


def test_trimmed_mean_by_hand():
    # .3 of ten clients is three, though .3 * 10 may be less in binary.
    updates = [[float(k)] for k in [100, 0, 1, 2, 3, 4, 5, 6, -100, 50]]
    assert run_round(trimmed_mean(0.3), updates)[0] == pytest.approx([(2 + 3 + 4 + 5) / 4])
    assert run_round(trimmed_mean(0.0), updates)[0] == pytest.approx(run_round(mean(), updates)[0])


def test_weights_do_not_count_but_for_0():
    updates = [[1.0], [3.0], [4.0], [50.0]]
    for aggregator, expected in [(median(), 3.0), (trimmed_mean(0.34), 3.0), (krum(0.0), 3.0)]:
        assert run_round(aggregator, updates, weights=[5.0, 0.1, 1.0, 0.0])[0] == pytest.approx(
            [expected]
        ), aggregator.name


def test_krum_by_hand():
    # Seven clients on a line, two of them may attack: 7 - 2 - 2 = 3 closest neighbours.
    updates = [[0.0], [1.0], [2.0], [3.0], [4.5], [100.0], [101.0]]
    # 0: 1 + 4 + 9.  1: 1 + 1 + 4.  2: 1 + 1 + 4.  3: 1 + 4 + 2.25.  4.5: 2.25 + 6.25 + 12.25.
    assert run_round(krum(0.3), updates)[0] == pytest.approx(
        [1.0]
    )  # the first of the two of the same score
    assert run_round(krum(0.3), updates[:4] + [[2.5]] + updates[5:])[0] == pytest.approx(
        [2.0]
    )  # .25 + 1 + 1
    # The three of the lowest score, 6, 6 and 7.25, then all that cannot be attackers.
    assert run_round(krum(0.3, num_selected=3), updates)[0] == pytest.approx([2.0])
    assert run_round(krum(0.3, num_selected=99), updates)[0] == pytest.approx(
        [(0 + 1 + 2 + 3 + 4.5) / 5]
    )


def test_krum_as_written_in_numpy():
    n, f = 9, 3
    distances = ((UPDATES[:, None] - UPDATES[None]) ** 2).sum(axis=(2, 3))
    scores = np.sort(distances, axis=1)[:, 1 : n - f - 1].sum(axis=1)
    np.testing.assert_allclose(
        run_round(krum(f / n), UPDATES)[0], UPDATES[np.argmin(scores)], rtol=1e-6
    )
    chosen = np.argsort(scores)[:4]
    np.testing.assert_allclose(
        run_round(krum(f / n, 4), UPDATES)[0], UPDATES[chosen].mean(axis=0), rtol=1e-5
    )


def test_large_updates_are_combined_piece_by_piece():
    updates = np.random.default_rng(1).normal(size=[9, 40_001]).astype(np.float32)
    assert updates.size > 2 * _collected._VALUES_PER_PIECE
    np.testing.assert_array_equal(run_round(median(), updates)[0], np.median(updates, axis=0))
    np.testing.assert_allclose(
        run_round(trimmed_mean(0.3), updates)[0],
        scipy.stats.trim_mean(updates, 0.3, axis=0),
        rtol=1e-5,
        atol=1e-6,
    )
    distances = scipy.spatial.distance.cdist(
        updates.astype(np.float64), updates.astype(np.float64), "sqeuclidean"
    )
    scores = np.sort(distances, axis=1)[:, 1:5].sum(axis=1)  # 9 - 3 - 2 neighbours
    np.testing.assert_array_equal(run_round(krum(3 / 9), updates)[0], updates[np.argmin(scores)])


@pytest.mark.parametrize("make", [median, lambda: trimmed_mean(0.2), lambda: krum(0.2)])
def test_the_order_of_clients_changes_no_bit(make):
    updates = rng.normal(size=[11, 500])
    np.testing.assert_array_equal(
        run_round(make(), updates)[0], run_round(make(), updates[::-1])[0]
    )


def test_krum_sees_small_distances_beside_large_attackers():
    honest = 1 + 1e-3 * rng.normal(size=[5, 50])
    honest[3] = honest.mean(axis=0)  # the most central one
    attackers = 1e8 * rng.normal(size=[2, 50])
    delta, _, _ = run_round(krum(0.3), np.concatenate([attackers, honest]))
    np.testing.assert_allclose(delta, honest[3], rtol=1e-6)


@pytest.mark.parametrize(
    "make", [mean, median, lambda: trimmed_mean(0.3), lambda: krum(0.3), lambda: krum(0.3, 5)]
)
def test_three_attackers_of_ten_break_the_mean_alone(make):
    honest = rng.normal(size=[7, 20]).astype(np.float32)
    delta, _, _ = run_round(make(), np.concatenate([honest, np.full([3, 20], 1000.0)]))
    within = (honest.min(axis=0) <= delta).all() and (delta <= honest.max(axis=0)).all()
    assert within == (make is not mean)


def test_krum_needs_clients():
    with pytest.raises(
        ValueError,
        match="6 clients: krum with 2 attackers expected at least 7: raise clients_per_round",
    ):
        run_round(krum(0.4), UPDATES[:6])


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: trimmed_mean(0.5), "trim=0.5: expected a number of at least 0 and below 0.5"),
        (lambda: krum(0.5), "attackers=0.5: expected a number of at least 0 and below 0.5"),
        (lambda: krum(0.1, num_selected=0), "num_selected=0: expected an integer of at least 1"),
    ],
)
def test_bad_arguments_raise_one_line_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_shapes_and_dtypes_of_float64():
    delta, _, _ = run_round(median(), UPDATES, dtype=np.float64)
    assert delta.dtype == np.float64
    np.testing.assert_array_equal(delta, np.median(UPDATES, axis=0))
    assert run_round(krum(), UPDATES, dtype=np.float64)[0].dtype == tf.float64
