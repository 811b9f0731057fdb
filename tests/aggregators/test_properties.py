"""What holds for aggregators whatever the updates are."""

import functools

import hypothesis
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from fedlab.aggregators import (
    clipped,
    differentially_private,
    krum,
    mean,
    median,
    quantized,
    trimmed_mean,
    zeroed,
)
from fedlab.aggregators.quantized import decode, encode, quantize
from tests.aggregators.rounds import run_round

# Derived from the test's source alone: every run draws the same.
checked = functools.partial(hypothesis.settings, derandomize=True, deadline=None, database=None)

numbers = st.floats(-100, 100, width=32).map(
    lambda x: 0.0 if abs(x) < 1e-3 else x
)  # sums of far smaller ones round to nothing


@st.composite
def updates(draw, most=8):
    """[clients, size], float32."""
    shape = draw(st.tuples(st.integers(1, most), st.integers(1, 5)))
    return draw(st_numpy.arrays(np.float32, shape, elements=numbers))


@st.composite
def weighted_updates(draw):
    """[clients, size] and [clients] of weights from 0, not all of them 0."""
    found = draw(updates())
    weights = draw(
        st.lists(
            st.sampled_from([0.0, 0.5, 1.0, 3.0, 20.0]), min_size=len(found), max_size=len(found)
        )
    )
    hypothesis.assume(any(weights))
    return found, weights


MAKERS = {
    "mean": mean,
    "clipped": lambda: clipped(mean(), 2.0),
    "zeroed": lambda: zeroed(mean(), 5.0),
    "median": median,
    "trimmed_mean": lambda: trimmed_mean(0.2),
    "differentially_private": lambda: differentially_private(0.0, 4, 10, norm=2.0),
}


def aggregate(name, found, weights=None):
    return run_round(MAKERS[name](), found, weights)[0]


def close(found, expected, scale):
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * (1 + np.abs(scale).max()))


@pytest.mark.parametrize("name", MAKERS)
@checked(max_examples=15)
@hypothesis.given(weighted_updates(), st.randoms(use_true_random=False))
def test_the_order_of_clients_does_not_matter(name, given, random):
    found, weights = given
    order = random.sample(range(len(found)), len(found))
    close(
        aggregate(name, found[order], [weights[i] for i in order]),
        aggregate(name, found, weights),
        found,
    )


@pytest.mark.parametrize("name", ["mean", "median", "trimmed_mean", "krum"])
@checked(max_examples=15)
@hypothesis.given(updates(), st.sampled_from([-3.0, 0.5, 8.0]), numbers)
def test_scaled_and_moved_updates_give_a_scaled_and_moved_result(name, found, scale, shift):
    """f(scale x + shift) = scale f(x) + shift, exactly so in the reals."""
    if name == "krum":
        # Distances that are equal but for rounding may be ordered in another way.
        found = np.concatenate([found[:1] + np.float32(step) for step in (0, 1, 3, 7, 100)])
        run = lambda values: run_round(krum(0.2), values)[0]  # noqa: E731
    else:
        run = functools.partial(aggregate, name)
    close(run(scale * found + np.float32(shift)), scale * run(found) + shift, scale * found)


@pytest.mark.parametrize("name", [name for name in MAKERS if name != "differentially_private"])
@checked(max_examples=15)
@hypothesis.given(updates(most=1), st.integers(1, 8), st.sampled_from([0.5, 1.0, 20.0]))
def test_equal_updates_give_that_update(name, found, num_clients, weight):
    """But for what the norm takes away of each of them."""
    same = np.repeat(found, num_clients, axis=0)
    expected = {
        "clipped": found[0]
        * min(1.0, 2.0 / max(np.linalg.norm(found[0].astype(np.float64)), 1e-9)),
        "zeroed": found[0] * (np.abs(found[0]).max() <= 5.0),
    }.get(name, found[0])
    close(aggregate(name, same, [weight] * num_clients), expected, found)


@checked(max_examples=15)
@hypothesis.given(updates(most=1), st.integers(3, 8))
def test_equal_updates_give_that_update_of_krum_and_of_quantized_ones(found, num_clients):
    same = np.repeat(found, num_clients, axis=0)
    close(run_round(krum(0.0), same)[0], found[0], found)
    step = float(found.max() - found.min()) / (2**16 - 1)
    close(run_round(quantized(mean(), 16), same)[0], found[0], np.append(found, step * 1e5))


@pytest.mark.parametrize("name", MAKERS)
@checked(max_examples=15)
@hypothesis.given(weighted_updates(), st.sampled_from([0.25, 64.0]))
def test_the_unit_of_the_weights_does_not_matter(name, given, unit):
    found, weights = given
    close(
        aggregate(name, found, [unit * w for w in weights]), aggregate(name, found, weights), found
    )


@pytest.mark.parametrize("name", MAKERS)
@checked(max_examples=15)
@hypothesis.given(weighted_updates(), st.integers(1, 7))
def test_how_a_cohort_is_cut_in_blocks_does_not_matter(name, given, size):
    """Blocks are accumulated each for itself and merged in order."""
    found, weights = given
    aggregator, model, seed = (
        MAKERS[name](),
        [tf.zeros(found.shape[1])],
        tf.constant([0, 1], tf.int64),
    )
    state, whole = aggregator.init(model), None
    for first in range(0, len(found), size):
        block = aggregator.zero(state, model)
        for update, weight in zip(found[first : first + size], weights[first : first + size]):
            block = aggregator.accumulate(
                state, block, [tf.constant(update)], tf.constant(weight, tf.float32), seed
            )
        whole = block if whole is None else aggregator.merge(whole, block)
    close(
        aggregator.report(state, whole, seed)[0][0].numpy(), aggregate(name, found, weights), found
    )


@checked(max_examples=25)
@hypothesis.given(weighted_updates(), st.sampled_from([0.25, 1.0, 64.0]))
def test_the_mean_is_the_weighted_mean_whatever_the_unit_of_the_weights(given, unit):
    found, weights = given
    expected = np.average(found.astype(np.float64), axis=0, weights=weights)
    close(aggregate("mean", found, [unit * w for w in weights]), expected, found)


@pytest.mark.parametrize("name", MAKERS)
@checked(max_examples=15)
@hypothesis.given(updates(), st.integers(0, 3))
def test_clients_of_weight_0_count_for_nothing(name, found, more):
    extended = np.concatenate([found, np.full([more, found.shape[1]], 77.0, np.float32)])
    close(
        aggregate(name, extended, [1.0] * len(found) + [0.0] * more), aggregate(name, found), found
    )


@pytest.mark.parametrize("name", ["mean", "median", "trimmed_mean"])
@checked(max_examples=20)
@hypothesis.given(updates())
def test_the_result_is_between_the_smallest_and_the_largest(name, found):
    result, slack = aggregate(name, found), 1e-5 * (1 + np.abs(found).max())
    assert (found.min(axis=0) - slack <= result).all() and (
        result <= found.max(axis=0) + slack
    ).all()


@checked(max_examples=40)
@hypothesis.given(updates(), st.sampled_from([1e-3, 0.5, 10.0]))
def test_no_client_moves_the_clipped_mean_by_more_than_its_share_of_the_norm(found, norm):
    """Adding or removing a client changes a sum of clipped updates by at most the clip norm."""

    def run(values):
        delta, _, _ = run_round(differentially_private(0.0, 10, 10, norm=norm), values)
        return delta.astype(np.float64)

    without = run(found[1:]) if len(found) > 1 else 0.0
    assert (
        np.linalg.norm(run(found) - without)
        <= norm / 10 * (1 + 1e-5) + 1e-5 * np.abs(run(found)).max()
    )
    received = run_round(clipped(mean(), norm), found[:1])[0]
    assert np.linalg.norm(received) <= min(norm, np.linalg.norm(found[0])) * (1 + 1e-5)
    norms = np.linalg.norm(found.astype(np.float64), axis=1)
    hypothesis.assume(
        (np.abs(norms - norm) > 1e-4 * norm).all()
    )  # on the bound it is rounding that decides
    assert run_round(clipped(mean(), norm), found)[2]["clipped_fraction"] == pytest.approx(
        (norms > norm).mean()
    )


@checked(max_examples=30)
@hypothesis.given(updates(), st.sampled_from([0.5, 20.0]))
def test_zeroing_leaves_an_update_whole_or_nothing_of_it(found, norm):
    delta, _, metrics = run_round(zeroed(mean(), norm), found)
    large = np.abs(found).max(axis=1) > norm
    close(delta, np.where(large[:, None], 0, found).mean(axis=0), found)
    assert metrics["zeroed_count"] == large.sum()


@checked(max_examples=40)
@hypothesis.given(updates(most=1), st.integers(1, 16), st.integers(0, 2**31))
def test_quantized_values_are_neighbours_on_the_grid(found, bits, seed):
    values = tf.constant(found[0])
    levels, low, step = quantize(values, bits, tf.constant([seed, 1], tf.int64))
    received = decode(encode(levels, low, step, bits), values.shape, np.float32, bits)
    rounding = 1e-6 * np.abs(found).max() + 1e-30
    assert (
        np.abs(received - found[0]) <= 1.02 * float(step) + rounding
    ).all()  # of 65,535 steps, rounding is .01 of one
    assert (
        np.all(levels.numpy() == np.floor(levels))
        and levels.numpy().min() >= 0
        and levels.numpy().max() <= 2**bits - 1
    )
    assert received.min() >= found.min() - rounding and received.max() <= found.max() + rounding


@checked(max_examples=10)
@hypothesis.given(st.floats(-5, 5, width=32), st.integers(1, 4), st.integers(0, 2**31))
def test_quantization_is_unbiased(value, bits, seed):
    """The mean of many quantized copies of a value is the value, within five standard errors."""
    num = 4000
    values = tf.constant(np.append(np.full(num, value, np.float32), [-5.0, 5.0]).astype(np.float32))
    levels, low, step = quantize(values, bits, tf.constant([seed, 2], tf.int64))
    received = (low + step * levels).numpy()[:num].astype(np.float64)
    share = (value + 5) / float(step) % 1
    standard_error = float(step) * np.sqrt(share * (1 - share) / num)
    assert abs(received.mean() - value) <= 5 * standard_error + 1e-5
    assert len(set(received)) <= 2


@checked(max_examples=15)
@hypothesis.given(updates(), st.integers(1, 8))
def test_the_quantized_mean_is_within_a_step_of_the_mean(found, bits):
    wide = np.tile(found, (1, 40))  # large enough to be encoded
    delta, _, metrics = run_round(quantized(mean(), bits), wide)
    steps = (wide.max(axis=1) - wide.min(axis=1)) / (2**bits - 1)
    assert (np.abs(delta - wide.mean(axis=0)) <= steps.mean() + 1e-4).all()
    assert metrics["bytes_up"] == len(wide) * (8 + -(-wide.shape[1] * bits // 8))
