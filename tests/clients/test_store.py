"""How much of the clients' data is kept in memory, and how often they are loaded."""

import collections
import concurrent.futures
import tracemalloc

import numpy as np
import pytest

from fedlab.clients import ClientData

IDS = [f"c{i}" for i in range(10)]
KB = 1024


class Loads:
    """Clients of 1 kB each, that count how often they are loaded."""

    def __init__(self):
        self.counts = collections.Counter()

    def __call__(self, client_id):
        self.counts[client_id] += 1
        return {"x": np.full([KB], int(client_id[1:]), np.uint8)}


def test_the_clients_used_last_are_kept():
    load = Loads()
    clients = ClientData(IDS, load, cache_bytes=3 * KB)
    for client_id in (
        "c0",
        "c1",
        "c2",
        "c0",
        "c3",
    ):  # c3 takes the place of c1, which was used longest ago
        assert clients[client_id]["x"][0] == int(client_id[1:])
    assert set(load.counts.values()) == {1}
    clients["c0"], clients["c2"], clients["c3"]
    assert set(load.counts.values()) == {1}
    assert clients["c1"]["x"][0] == 1 and load.counts["c1"] == 2
    before = load.counts.copy()
    assert [clients.num_examples(client_id) for client_id in ("c0", "c1", "c2", "c3")] == [KB] * 4
    assert load.counts == before  # sizes are remembered


def test_selections_share_a_cache_and_map_has_its_own():
    load = Loads()
    clients = ClientData(IDS, load)
    some = clients.select(IDS[:5]).select(IDS[:2])
    assert some["c1"]["x"] is clients["c1"]["x"]
    mapped = some.map(lambda columns: {"x": columns["x"] + 1})
    mapped["c1"], mapped["c1"]
    assert load.counts == {"c1": 1}


def test_memory_is_bounded_for_any_number_of_clients():
    size, bound = 2**18, 2**21
    clients = ClientData(
        [f"c{i}" for i in range(100)],
        lambda client_id: {"x": np.zeros(size, np.uint8)},
        cache_bytes=bound,
    )
    tracemalloc.start()
    for client_id in clients.map(dict):
        clients[client_id]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert bound < peak < bound + 4 * size


def test_what_is_not_kept():
    load = Loads()
    clients = ClientData(IDS, load, cache_bytes=KB - 1)
    clients["c0"], clients["c0"]
    assert load.counts["c0"] == 2
    with pytest.raises(
        ValueError, match="cache_bytes=-1: expected an integer of at least 0, or None"
    ):
        ClientData(IDS, load, cache_bytes=-1)


def test_clients_in_memory_are_not_copied():
    x = np.zeros([4, 2])
    clients = ClientData.from_dict({"a": {"x": x}})
    assert np.shares_memory(clients["a"]["x"], x)


def test_a_client_that_loads_differently_is_named():
    sizes = iter([2, 3])
    clients = ClientData(
        ["a"], lambda client_id: {"x": np.zeros(next(sizes), np.int8)}, cache_bytes=0
    )
    clients["a"]
    with pytest.raises(
        ValueError,
        match=r"client 'a' had 2 examples of x: int8 \[\] .* "
        r"and now has 3 examples of x: int8 \[\]",
    ):
        clients["a"]


def test_threads_read_the_right_clients():
    clients = ClientData(IDS, Loads(), cache_bytes=2 * KB)
    with concurrent.futures.ThreadPoolExecutor(4) as threads:
        chosen = np.random.default_rng(0).choice(IDS, 2000).tolist()
        for client_id, columns in zip(chosen, threads.map(clients.__getitem__, chosen)):
            assert columns["x"].tolist() == [int(client_id[1:])] * KB
    assert len(clients._store._cache) == 2 and clients._store._cache.num_bytes == 2 * KB
