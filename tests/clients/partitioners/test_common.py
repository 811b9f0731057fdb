"""Partitioners: every row once, the sizes and mixtures of the papers, seeds, and errors."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedlab.clients import partitioners as partitions

LABELS = np.repeat(np.arange(10), 60)

ALL = {
    "uniform": lambda labels, num_clients, seed: partitions.uniform(len(labels), num_clients, seed),
    "dirichlet": lambda labels, num_clients, seed: partitions.dirichlet(
        labels, num_clients, 0.5, seed, min_examples=0
    ),
    "shards": lambda labels, num_clients, seed: partitions.shards(
        labels, num_clients, seed, shards_per_client=1
    ),
    "quantity_skew": lambda labels, num_clients, seed: partitions.quantity_skew(
        len(labels), num_clients, 0.5, seed, min_examples=0
    ),
    "natural": lambda labels, num_clients, seed: partitions.natural(labels),
}


@pytest.mark.parametrize("name", ALL)
@settings(max_examples=50, deadline=None)
@given(
    labels=st.lists(st.integers(0, 4), min_size=1, max_size=60),
    num_clients=st.integers(1, 60),
    seed=st.integers(0, 2**40),
)
def test_every_row_belongs_to_one_client(name, labels, num_clients, seed):
    num_clients = min(num_clients, len(labels))
    partition = ALL[name](labels, num_clients, seed)
    assert len(partition) == (len(set(labels)) if name == "natural" else num_clients)
    assert sorted(np.concatenate(list(partition.values())).tolist()) == list(range(len(labels)))
    for rows in partition.values():
        assert rows.dtype == np.int64 and (np.diff(rows) > 0).all()
    again = ALL[name](labels, num_clients, seed)
    assert all((again[client_id] == rows).all() for client_id, rows in partition.items())


@pytest.mark.parametrize("name", ["uniform", "dirichlet", "shards", "quantity_skew"])
def test_another_seed_is_another_partition(name):
    first, second = ALL[name](LABELS, 5, 0), ALL[name](LABELS, 5, 1)
    assert any(first[client_id].tolist() != second[client_id].tolist() for client_id in first)


def test_uniform_sizes_differ_by_one():
    assert sorted(map(len, partitions.uniform(103, 10, seed=3).values())) == [10] * 7 + [11] * 3


def test_two_shards_a_client_are_at_most_two_labels():
    partition = partitions.shards(LABELS, 30, seed=0)  # 60 shards of 10, all of one label
    assert all(len(rows) == 20 and len(set(LABELS[rows])) <= 2 for rows in partition.values())


def test_dirichlet_shares_have_the_variance_of_the_distribution():
    alpha, num_clients = 0.5, 4
    labels = np.repeat(np.arange(400), 200)
    partition = partitions.dirichlet(labels, num_clients, alpha, seed=0)
    shares = np.array(
        [np.bincount(labels[rows], minlength=400) / 200 for rows in partition.values()]
    )  # [clients, labels]
    # The variance of one part of a symmetric Dirichlet is m (1 - m) / (num_clients alpha + 1)
    # with m = 1 / num_clients.
    assert shares.var() == pytest.approx(0.25 * 0.75 / (num_clients * alpha + 1), rel=0.1)
    assert shares.mean(axis=1) == pytest.approx([0.25] * 4, abs=0.05)


def test_a_large_alpha_is_almost_uniform_and_a_small_one_is_not():
    wide = partitions.dirichlet(LABELS, 6, 1e6, seed=0)
    assert all(
        np.bincount(LABELS[rows], minlength=10).tolist() == [10] * 10 for rows in wide.values()
    )
    narrow = partitions.dirichlet(LABELS, 6, 1e-3, seed=0, min_examples=0)
    assert sum(len(set(LABELS[rows])) for rows in narrow.values()) == 10  # each label has one owner


def test_quantity_skew_is_of_size_only():
    partition = partitions.quantity_skew(10_000, 10, 0.5, seed=0)
    sizes = sorted(map(len, partition.values()))
    assert sizes[-1] > 5 * sizes[0] >= 5
    largest = max(partition.values(), key=len)
    assert np.mean(largest) == pytest.approx(4999.5, rel=0.1)  # drawn from everywhere


def test_natural_keeps_the_order_of_first_sight():
    partition = partitions.natural(np.array(["Paris", "Oslo", "Paris"]))
    assert list(partition) == ["Paris", "Oslo"] and partition["Paris"].tolist() == [0, 2]


def test_clients_of_columns():
    data = partitions.clients(
        {"x": np.arange(6.0), "y": LABELS[:6]}, {"a": np.array([4, 5]), "b": np.array([], np.int64)}
    )
    assert data["a"]["x"].tolist() == [4, 5] and data.num_examples("b") == 0


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: partitions.uniform(5, 6, 0), "num_clients=6: expected an integer between 1 and 5"),
        (lambda: partitions.uniform(5, True, 0), "num_clients=True"),
        (lambda: partitions.uniform(5, 2, -1), "seed=-1"),
        (lambda: partitions.dirichlet(LABELS, 0, 1.0, 0), "num_clients=0"),
        (
            lambda: partitions.dirichlet(LABELS, 2, 0.0, 0),
            "alpha=0.0: expected a number above 0",
        ),
        (lambda: partitions.dirichlet(LABELS, 2, float("nan"), 0), "alpha=nan"),
        (
            lambda: partitions.dirichlet(LABELS, 100, 1e-3, 0),
            "larger alpha, fewer clients, or min_examples=0",
        ),
        (
            lambda: partitions.dirichlet(LABELS, 100, 1.0, 0, min_examples=7),
            "min_examples=7: expected an integer between 0 and 6",
        ),
        (lambda: partitions.dirichlet([[1, 2]], 1, 1.0, 0), r"labels has shape \[1, 2\]"),
        (
            lambda: partitions.shards(LABELS, 301, 0),
            "num_clients=301: expected an integer between 1 and 300",
        ),
        (lambda: partitions.shards(LABELS, 2, 0, shards_per_client=0), "shards_per_client=0"),
        (lambda: partitions.quantity_skew(10, 3, -1, 0), "alpha=-1"),
        (lambda: partitions.natural([]), r"labels has shape \[0\]"),
    ],
)
def test_settings_out_of_range(make, message):
    with pytest.raises(ValueError, match=message):
        make()
