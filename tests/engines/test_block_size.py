"""How many clients a worker trains in one call."""

import numpy as np
import pytest
import tensorflow as tf

import fedlab as fl
from fedlab.engines.rounds import block_size
from fedlab.learner import multiply_adds


@pytest.mark.parametrize(
    "num_clients, unknown, few",
    [(1, 1, 1), (15, 1, 1), (16, 1, 4), (31, 1, 7), (100, 6, 25), (1000, 62, 64), (5000, 64, 64)],
)
def test_sizes_by_hand(num_clients, unknown, few):
    assert block_size(num_clients) == block_size(num_clients, 10**6) == unknown
    assert block_size(num_clients, 209_200) == block_size(num_clients, 0) == few


def small_model():
    tf.keras.utils.set_random_seed(2)
    model = tf.keras.Sequential([tf.keras.Input([4]), tf.keras.layers.Dense(3)])
    model.compile(
        tf.keras.optimizers.SGD(0.1),
        tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    return model


def clients(num_clients):
    rng = np.random.default_rng(0)
    return fl.ClientData.from_dict(
        {
            f"client {i}": {
                "x": rng.normal(size=[3 + i % 5, 4]).astype(np.float32),
                "y": rng.integers(3, size=3 + i % 5),
            }
            for i in range(num_clients)
        }
    )


@pytest.mark.slow
def test_blocks_of_several_clients_give_the_same_bits_for_any_number_of_workers():
    """19 clients are four blocks of 4 and one of 3."""
    assert block_size(19, multiply_adds(small_model())) == 4
    options = dict(rounds=2, clients_per_round=19, batch_size=2, seed=3, progress=False)
    weights = [
        fl.simulate(small_model(), clients(19), num_workers=n, **options).model.get_weights()
        for n in (1, 2, 3)
    ]
    for other in weights[1:]:
        for ours, theirs in zip(weights[0], other):
            np.testing.assert_array_equal(ours, theirs)


@pytest.mark.slow
def test_blocks_do_not_change_the_average(monkeypatch):
    """One client per block gives the same weights but for the order of sums."""
    options = dict(rounds=2, clients_per_round=19, batch_size=2, seed=3, progress=False)
    in_blocks = fl.simulate(small_model(), clients(19), **options).model.get_weights()
    monkeypatch.setattr("fedlab.engines.rounds.block_size", lambda *_: 1)
    one_by_one = fl.simulate(small_model(), clients(19), **options).model.get_weights()
    for ours, theirs in zip(in_blocks, one_by_one):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-6)
