"""Splits: every example is in exactly one part, and nothing leaks from one part to another."""

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from fedlab.clients import ClientData

checked = hypothesis.settings(derandomize=True, deadline=None, database=None, max_examples=80)


def numbered(sizes, times=None, wide=False):
    """Clients "c0", "c1", ... whose examples have distinct numbers, x, and times."""
    clients, first = {}, 0
    for i, size in enumerate(sizes):
        x = np.arange(first, first + size)
        t = np.zeros(size) if times is None else times[first : first + size]
        clients[f"c{i}"] = {"x": np.stack([x] * 2, 1) if wide else x, "t": np.asarray(t, float)}
        first += size
    return ClientData.from_dict(clients)


def contents(clients):
    """client id -> the numbers of its examples, without clients that have none."""
    return {
        client_id: columns["x"].tolist()
        for client_id in clients
        if len((columns := clients[client_id])["x"])
    }


@st.composite
def shares(draw):
    """The shares of 2 to 4 parts."""
    weights = draw(st.lists(st.integers(1, 9), min_size=2, max_size=4))
    return [weight / sum(weights) for weight in weights]


sizes = st.lists(st.integers(0, 12), min_size=1, max_size=6)
seeds = st.integers(0, 2**40)


def check_parts(clients, parts):
    """Every example is in one part, with its client, in the old order; sizes are right."""
    before = contents(clients)
    found = {client_id: [] for client_id in clients}
    for part in parts:
        assert part.schema == clients.schema
        for client_id, numbers in contents(part).items():
            assert numbers == sorted(numbers)
            assert part.num_examples(client_id) == len(numbers)
            found[client_id] += numbers
    for client_id, numbers in found.items():
        assert sorted(numbers) == before.get(client_id, [])


@checked
@hypothesis.given(sizes, shares(), seeds)
def test_by_example(sizes, fractions, seed):
    clients = numbered(sizes)
    parts = clients.split(fractions, by="example", seed=seed)
    assert len(parts) == len(fractions)
    check_parts(clients, parts)
    for size, client_id in zip(sizes, clients):
        for part, fraction in zip(parts, fractions):
            assert abs(part.num_examples(client_id) - fraction * size) < 1 + 1e-6
    again = clients.split(fractions, by="example", seed=seed)
    assert [*map(contents, parts)] == [*map(contents, again)]


@checked
@hypothesis.given(sizes, shares(), seeds, st.data())
def test_by_time(sizes, fractions, seed, data):
    total = sum(sizes)
    times = data.draw(st.lists(st.integers(0, 5), min_size=total, max_size=total))
    clients = numbered(sizes, times)
    parts = clients.split(fractions, by="time", column="t", seed=seed)
    check_parts(clients, parts)
    for client_id in clients:
        ordered = [each for each in (part[client_id]["t"] for part in parts) if len(each)]
        for earlier, later in zip(ordered, ordered[1:]):
            assert earlier.max() <= later.min()


@checked
@hypothesis.given(
    sizes, st.lists(st.integers(0, 6), min_size=1, max_size=3, unique=True), st.data()
)
def test_by_points_in_time(sizes, at, data):
    total, at = sum(sizes), sorted(at)
    times = data.draw(st.lists(st.integers(0, 5), min_size=total, max_size=total))
    clients = numbered(sizes, times)
    parts = clients.split(by="time", column="t", at=at)
    assert len(parts) == len(at) + 1
    check_parts(clients, parts)
    for begin, part, end in zip([-1, *at], parts, [*at, 99]):
        for client_id in part:
            assert all(begin <= time < end for time in part[client_id]["t"])


@checked
@hypothesis.given(st.integers(2, 40), shares(), seeds)
def test_by_client(num_clients, fractions, seed):
    hypothesis.assume(num_clients >= len(fractions))
    clients = numbered([1] * num_clients)
    parts = clients.split(fractions, seed=seed)
    together = [client_id for part in parts for client_id in part]
    assert sorted(together) == sorted(clients) and all(len(part) for part in parts)
    for part, fraction in zip(parts, fractions):
        assert list(part) == [client_id for client_id in clients if client_id in part]
        assert abs(len(part) - fraction * num_clients) <= len(fractions)
    held_out = min(max(1, round(fractions[-1] * num_clients)), num_clients - 1)
    if len(fractions) == 2:
        assert len(parts[1]) == held_out


def test_clients_are_held_out_as_by_split_clients():
    clients = numbered([1] * 50)
    for ours, theirs in zip(clients.split(0.3, seed=7), clients.split_clients(0.3, 7)):
        assert ours.client_ids == theirs.client_ids
    # The last part takes the first ranks: a larger test set contains the smaller one.
    _, _, test = clients.split([0.7, 0.2, 0.1], seed=7)
    assert set(test) < set(clients.split(0.3, seed=7)[1])


def test_the_examples_of_a_client_do_not_depend_on_other_clients():
    clients = numbered([7, 3, 9, 4])
    _, held_out = clients.split(0.4, by="example", seed=1)
    for some in (["c2"], ["c3", "c0"]):
        _, less = clients.select(some).split(0.4, by="example", seed=1)
        assert all(less[each]["x"].tolist() == held_out[each]["x"].tolist() for each in some)


def test_seeds_differ_and_shares_are_random():
    clients = numbered([1000])
    one, other = (clients.split(0.5, by="example", seed=s)[1]["c0"]["x"] for s in (0, 1))
    assert len(one) == len(other) == 500
    assert 200 < len(set(one.tolist()) & set(other.tolist())) < 300  # 250 expected, sigma 8


def test_small_clients_get_their_share_of_all_examples():
    """A tenth of clients with 3 examples each is 0.3 of each client, and a tenth of them all."""
    clients = numbered([3] * 2000)
    for by, column in (("example", None), ("time", "t")):
        train, test = clients.split(0.1, by=by, column=column)
        sizes = [test.num_examples(client_id) for client_id in test]
        assert set(sizes) == {0, 1} and abs(sum(sizes) - 600) < 90  # sigma 20
        assert sum(map(train.num_examples, train)) + sum(sizes) == 6000


def test_whole_numbers_are_exact():
    clients = numbered([10] * 20)
    for part, size in zip(clients.split([0.7, 0.2, 0.1], by="example"), (7, 2, 1)):
        assert {part.num_examples(client_id) for client_id in part} == {size}


def test_by_time_by_hand():
    clients = ClientData.from_dict(
        {"ann": {"x": [0, 1, 2, 3, 4], "t": [5, 1, 4, 1, 3]}, "bob": {"x": [5], "t": [9]}}
    )
    train, test = clients.split(0.4, by="time", column="t")
    assert train["ann"]["x"].tolist() == [1, 3, 4] and test["ann"]["x"].tolist() == [0, 2]
    before, since = clients.split(by="time", column="t", at=4)
    assert before["ann"]["x"].tolist() == [1, 3, 4] and since["ann"]["x"].tolist() == [0, 2]
    assert (before.num_examples("bob"), since.num_examples("bob")) == (0, 1)


def test_dates_and_texts_are_times():
    days = ["2024-03-01", "2023-12-31", "2024-01-01"]
    for t, at in (
        (np.array(days, "M8[D]"), "2024-01-01"),
        (np.array(days, "M8[ns]"), np.datetime64("2024-01-01")),
        (np.array(days, object), "2024-01-01"),
    ):
        clients = ClientData.from_dict({"a": {"x": [0, 1, 2], "t": t}})
        before, since = clients.split(by="time", column="t", at=at)
        assert before["a"]["x"].tolist() == [1] and since["a"]["x"].tolist() == [0, 2]
        first, last = clients.split([2 / 3, 1 / 3], by="time", column="t")
        assert first["a"]["x"].tolist() == [1, 2] and last["a"]["x"].tolist() == [0]


def test_parts_are_read_when_needed_and_take_the_form_of_all_clients():
    loads = []

    def load(client_id):
        loads.append(client_id)
        dtype = np.int8 if client_id == "a" else np.int16
        return {"x": np.zeros([4, 2], dtype), "y": np.array(["u", "v", "w", "z"])}

    clients = ClientData(["a", "b"], load)
    train, test = clients.split(0.25, by="example")
    assert not loads
    assert train["a"]["x"].dtype == test.in_schema("a")["x"].dtype == np.int16
    assert train["a"]["x"].shape == (3, 2) and test["b"]["y"].shape == (1,)
    assert not train["a"]["x"].flags.writeable
    assert sorted(loads) == ["a", "b"]
    assert train.map(lambda columns: {"x": columns["x"] + 1})["b"]["x"].tolist() == [[1, 1]] * 3
    assert train.fingerprint() != test.fingerprint()
    assert train.select(["b"]).client_ids == ("b",)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (dict(fractions=0), "fractions=0: expected a number above 0 and below 1"),
        (dict(fractions=1.0), "fractions=1.0: expected a number above 0 and below 1"),
        (dict(fractions=[0.5, 0.6]), r"fractions=\[0.5, 0.6\]: expected the share to hold out"),
        (dict(fractions=[1.0]), "expected the share to hold out"),
        (dict(fractions=[0.5, 0.5, 0.0]), "expected the share to hold out"),
        (dict(fractions="half"), "fractions='half': expected the share to hold out"),
        (dict(fractions=0.5, by="user"), "by='user': expected 'client', 'example' or 'time'"),
        (dict(fractions=0.5, by="time"), "column=None: expected the name of the column"),
        (dict(fractions=0.5, column="t"), "column='t': expected None, since by='client'"),
        (dict(fractions=0.5, by="time", column="t", at=3), "fractions=0.5, at=3: expected one of"),
        (dict(by="time", column="t"), "fractions=None, at=None: expected one of the two"),
        (dict(), "fractions=None, at=None: expected fractions, such as 0.2"),
        (dict(by="example", at=3), "at=3: expected None, since by='example'"),
        (dict(by="time", column="t", at=[3, 3]), r"at=\[3, 3\]: expected a time or a list"),
        (dict(by="time", column="t", at=[]), r"at=\[\]: expected a time or a list"),
        (dict(by="time", column="t", at=float("nan")), "at=nan: expected a time or a list"),
        (dict(fractions=0.5, by="example", seed=-1), "seed=-1: expected an integer of at least 0"),
        (dict(fractions=[0.2] * 5), "3 clients: expected at least 5 clients to split"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        numbered([2, 2, 2]).split(**arguments)


def test_wrong_times():
    def first(t, name="t", **arguments):
        clients = ClientData.from_dict({"a": {"x": [1, 2], "t": t}})
        return clients.split(by="time", column=name, **(arguments or {"fractions": 0.5}))[0]["a"]

    nan, nat = float("nan"), np.array(["2024-01-01", "NaT"], "M8[D]")
    with pytest.raises(ValueError, match="client 'a' has t=.*nan.* in example 1: expected a time"):
        first([1.0, nan])
    with pytest.raises(ValueError, match="client 'a' has t=.*NaT.* in example 1: expected a time"):
        first(nat)
    with pytest.raises(ValueError, match="client 'a' has t=None in example 1: expected a time"):
        first(np.array(["2024", None], object))
    with pytest.raises(ValueError, match=r"column='day': expected the name of one of .*'x', 't'"):
        first([1, 2], "day")
    with pytest.raises(ValueError, match="column='t': expected one time per example"):
        first([[1], [2]])
    days = np.array(["2024-01-01", "2024-01-02"], "M8[D]")
    for t, at in ((days, "soon"), (days, 3), ([1, 2], "2"), (["1", "2"], 2), (["1", "2"], b"2")):
        with pytest.raises(ValueError, match="at=.*: expected times of the type of column 't'"):
            first(t, at=at)
