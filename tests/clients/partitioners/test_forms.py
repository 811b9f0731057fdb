"""The two forms of a partitioner, what is passed in its place, and what `natural` encodes."""

import inspect
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fedlab as fl
from fedlab.clients import partitioners

LABELS = np.repeat(np.arange(5), 12)
COLUMNS = {"x": np.arange(60.0), "y": LABELS, "topic": LABELS[::-1], "writer": LABELS % 2}


def same(first, second):
    assert list(first) == list(second)
    assert all(first[name].tolist() == second[name].tolist() for name in first)


@pytest.mark.parametrize(
    "waiting, applied",
    [
        (partitioners.uniform(num_clients=4, seed=1), partitioners.uniform(60, 4, seed=1)),
        (
            partitioners.dirichlet(num_clients=4, alpha=0.5, seed=1, min_examples=2),
            partitioners.dirichlet(LABELS, 4, 0.5, 1, min_examples=2),
        ),
        (
            partitioners.dirichlet("topic", 4, 0.5, seed=1),
            partitioners.dirichlet(LABELS[::-1], 4, 0.5, 1),
        ),
        (
            partitioners.dirichlet(labels="topic", num_clients=4, alpha=0.5, seed=1),
            partitioners.dirichlet(labels=LABELS[::-1], num_clients=4, alpha=0.5, seed=1),
        ),
        (partitioners.shards(num_clients=4, seed=1), partitioners.shards(LABELS, 4, 1)),
        (partitioners.natural("writer"), partitioners.natural(LABELS % 2)),
        (
            partitioners.quantity_skew(num_clients=4, alpha=0.5, seed=1),
            partitioners.quantity_skew(60, 4, 0.5, 1),
        ),
    ],
    ids=repr,
)
def test_a_partitioner_that_waits_gives_the_same_partition(waiting, applied):
    assert isinstance(waiting, partitioners.Partitioner)
    same(waiting(COLUMNS), applied)
    same(partitioners.partition(COLUMNS, waiting), applied)
    assert partitioners.clients(COLUMNS, waiting).client_ids == tuple(applied)


def test_the_name_of_a_partitioner_can_be_evaluated():
    for waiting in (
        partitioners.dirichlet(num_clients=4, alpha=0.5, seed=1),
        partitioners.dirichlet("topic", num_clients=4, alpha=0.5, seed=1, min_examples=0),
        partitioners.natural("writer"),
    ):
        same(eval(repr(waiting), vars(partitioners).copy())(COLUMNS), waiting(COLUMNS))


def test_any_function_and_any_partition_can_be_used_in_its_place():
    halves = {"a": [0, 1], 2: np.array([4, 3], np.int8), "none": []}
    for given_partition in (halves, lambda columns: halves):
        found = partitioners.partition(COLUMNS, given_partition)
        same(found, {"a": np.array([0, 1]), "2": np.array([4, 3]), "none": np.array([])})
        assert {rows.dtype for rows in found.values()} == {np.dtype(np.int64)}


def test_the_signature_is_that_of_the_function():
    assert list(inspect.signature(fl.partitioners.dirichlet).parameters)[:4] == [
        "labels",
        "num_clients",
        "alpha",
        "seed",
    ]


@settings(max_examples=100, deadline=None)
@given(
    groups=st.one_of(
        st.lists(st.integers(-(2**62), 2**62), min_size=1, max_size=30),
        st.lists(st.floats(allow_nan=False), min_size=1, max_size=30),
        st.lists(st.text(max_size=3), min_size=1, max_size=30),
        st.lists(st.booleans(), min_size=1, max_size=30),
    ),
    as_objects=st.booleans(),
)
def test_natural_has_the_ids_and_rows_of_a_loop(groups, as_objects):
    array = np.array(groups, object) if as_objects else np.array(groups)
    rows = {}
    for row, group in enumerate(map(str, array)):
        rows.setdefault(group, []).append(row)
    found = partitioners.natural(array)
    assert {name: each.tolist() for name, each in found.items()} == rows
    assert list(found) == list(rows)
    assert all(each.dtype == np.int64 for each in found.values())


def test_natural_decodes_bytes():
    assert list(partitioners.natural(np.array([b"Bj\xc3\xb6rk", b"ann"], object))) == [
        "Björk",
        "ann",
    ]


@pytest.mark.parametrize("kind", ["integers", "texts", "objects"])
def test_a_natural_partition_of_670_000_rows_takes_less_than_a_second(kind):
    writers = np.random.default_rng(0).integers(0, 3400, 670_000)
    if kind != "integers":
        writers = np.char.add("f", writers.astype(str)).astype(object if kind == "objects" else str)
    start = time.process_time()
    found = partitioners.natural(writers)
    assert time.process_time() - start < 1
    assert len(found) == 3400 and sum(map(len, found.values())) == 670_000
    name = str(writers[0])
    assert found[name].tolist() == np.flatnonzero(writers == writers[0]).tolist()
