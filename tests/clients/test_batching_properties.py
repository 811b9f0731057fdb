"""Batches of any size: no example is lost or repeated, and limits only shorten."""

import functools

import hypothesis
import numpy as np
from hypothesis import strategies as st

from fedlab.clients import Batching
from fedlab.clients.batching import batch_rows
from fedlab.engines import blocks
from fedlab.engines.batches import Fill, first_batches, in_order, make_batches

checked = functools.partial(hypothesis.settings, derandomize=True, deadline=None, database=None)

batchings = st.builds(
    Batching,
    batch_size=st.integers(1, 9),
    epochs=st.integers(1, 4),
    shuffle=st.booleans(),
    max_batches=st.none(),
    drop_remainder=st.booleans(),
)
seeds = st.integers(0, 2**64)


def read(rows, sizes):
    """What each step reads."""
    return [row[:size].tolist() for row, size in zip(rows, sizes, strict=True)]


@checked(max_examples=200)
@hypothesis.given(st.integers(0, 30), batchings, seeds)
def test_every_row_comes_once_an_epoch(num_examples, batching, seed):
    steps = read(*batch_rows(num_examples, batching, np.random.default_rng(seed)))
    assert len(steps) % batching.epochs == 0
    each = len(steps) // batching.epochs
    full, rest = divmod(num_examples, batching.batch_size)
    expected = [batching.batch_size] * full + (
        [rest] if rest and not batching.drop_remainder else []
    )
    for epoch in range(batching.epochs):
        part = steps[epoch * each : (epoch + 1) * each]
        assert [len(step) for step in part] == expected
        rows = [row for step in part for row in step]
        assert len(set(rows)) == len(rows) == sum(expected) and set(rows) <= set(
            range(num_examples)
        )
        assert batching.shuffle or rows == list(range(len(rows)))


@checked(max_examples=100)
@hypothesis.given(st.integers(0, 30), batchings, seeds, st.integers(1, 20))
def test_a_cap_cuts_and_changes_nothing_else(num_examples, batching, seed, most):
    whole = read(*batch_rows(num_examples, batching, np.random.default_rng(seed)))
    capped = read(
        *batch_rows(num_examples, batching._replace(max_batches=most), np.random.default_rng(seed))
    )
    assert capped == whole[:most]


@st.composite
def columns(draw):
    """A client's columns, whose rows contain their number; some have sample weights."""
    num_examples = draw(st.integers(1, 20))
    found = {
        "x": np.arange(num_examples * 3).reshape(num_examples, 3),
        "y": np.arange(num_examples),
    }
    if draw(st.booleans()):
        found["sample_weight"] = np.array(
            draw(
                st.lists(
                    st.sampled_from([0.0, 0.5, 1.0]), min_size=num_examples, max_size=num_examples
                )
            )
        )
    return found


@checked(max_examples=100)
@hypothesis.given(columns(), batchings, seeds)
def test_batches_hold_the_rows_that_they_say_and_count_them(found, batching, seed):
    batches = make_batches(found, batching, np.random.default_rng(seed))
    rows, sizes = batch_rows(len(found["y"]), batching, np.random.default_rng(seed))
    laid_out = batches.columns
    weights = found.get("sample_weight", np.ones(len(found["y"])))
    for i, step in enumerate(read(rows, sizes)):
        for name, column in found.items():
            assert laid_out[name][i, : sizes[i]].tolist() == column[step].tolist()
        assert batches.examples[i] == batches.tokens[i] == np.count_nonzero(weights[step] > 0)


@checked(max_examples=100)
@hypothesis.given(columns(), st.integers(1, 9), st.sampled_from([None, -1]))
def test_a_fixed_batch_size_adds_rows_that_count_for_nothing(found, size, ignore_label):
    batches = in_order(found, size, Fill(size, ignore_label))
    num_examples, steps = len(found["y"]), len(batches.sizes)
    assert (
        batches.sizes.tolist() == [size] * steps
        and (steps - 1) * size < num_examples <= steps * size
    )
    laid_out = {
        name: column.reshape(steps * size, *column.shape[2:])
        for name, column in batches.columns.items()
    }
    weights = found.get("sample_weight", np.ones(num_examples))
    assert laid_out["sample_weight"].tolist() == [
        *weights.tolist(),
        *[0.0] * (steps * size - num_examples),
    ]
    assert laid_out["x"][:num_examples].tolist() == found["x"].tolist()
    if ignore_label is not None:
        assert laid_out["y"].tolist() == [
            *found["y"].tolist(),
            *[ignore_label] * (steps * size - num_examples),
        ]
    assert batches.examples.sum() == np.count_nonzero(weights)


@checked(max_examples=30)
@hypothesis.given(
    st.lists(columns(), min_size=1, max_size=4),
    batchings,
    seeds,
    st.sampled_from([None, -1]),
    st.booleans(),
)
def test_a_block_gives_each_client_its_batches(clients, batching, seed, ignore_label, fixed):
    """Also where clients have rows of different lengths: those of client k get k more values."""
    clients = [{name: client[name] for name in ("x", "y")} for client in clients]
    for k, client in enumerate(clients):
        client["x"] = np.pad(client["x"], [[0, 0], [0, k]])
    fill = (
        Fill(batching.batch_size, ignore_label) if fixed and not batching.drop_remainder else None
    )
    parts = [
        make_batches(client, batching, np.random.default_rng(seed), fill) for client in clients
    ]
    parts = [first_batches(part, 1 + k) for k, part in enumerate(parts)]
    specs = blocks.column_specs_of(clients)
    block = blocks.make_block(parts, list(map(blocks.pack, clients)))
    step = 0
    for k, part in enumerate(parts):
        examples = blocks.examples_of(block, k, specs)
        for i, size in enumerate(part.sizes):
            found = blocks.batch_columns(
                block, examples, step, batching.batch_size if fixed else None, fill
            )
            assert {name: column.numpy().tolist() for name, column in found.items()} == {
                name: column[i, :size].tolist() for name, column in part.columns.items()
            }
            assert block.num_examples[step] == part.examples[i]
            step += 1
    assert step == len(block.batches)
