"""Clients in memory-mapped Arrow folders: the same data, in constant memory, or a named damage."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time
import tracemalloc

import hypothesis
import ml_dtypes
import numpy as np
import pytest
from hypothesis import strategies as st

from fedlab.clients import ClientData, arrow, uniform
from fedlab.clients import client_ids as ids_lib
from fedlab.clients.arrow import reading, rows, writing
from fedlab.clients.arrow.columns import Layout, View
from fedlab.clients.id_index import IdIndex, IndexedIds
from fedlab.clients.partitioners import natural

pytest.importorskip("pyarrow")

ANN = {
    "x": np.arange(12, dtype=np.float32).reshape(3, 2, 2),
    "y": np.array([1, 0, 2], np.int8),
    "text": ["one", "", "drei é\0"],
    "raw": np.array([b"\xff", b"", b"abc"], object),
}
BOB = {
    "x": np.zeros([1, 2, 2], np.float32),
    "y": np.array([7], np.int8),
    "text": ["uno"],
    "raw": np.array([b"\0"], object),
}
EVE = {name: np.asarray(column)[:0] for name, column in BOB.items()}  # no examples
EVE["text"] = EVE["raw"] = np.empty([0], object)


def same(one, other):
    """Whether two clients have the same columns, bit for bit."""
    assert list(one) == list(other)
    for name, column in one.items():
        assert (column.dtype, column.shape) == (other[name].dtype, other[name].shape), name
        if column.dtype == object:
            assert column.tolist() == other[name].tolist()
        else:
            assert column.tobytes() == other[name].tobytes()
    return True


@pytest.fixture
def saved(tmp_path):
    """(clients, the folder in which they are)."""
    clients = ClientData.from_dict({"ann": ANN, "bob": BOB, "eve": EVE})
    clients.save(tmp_path / "clients")
    return clients, tmp_path / "clients"


def test_what_is_saved_is_opened(saved):
    clients, folder = saved
    opened = ClientData.open(folder)
    assert opened.client_ids == ("ann", "bob", "eve") and len(opened) == 3
    assert opened.schema == clients.schema
    for client_id in clients:
        assert same(opened[client_id], clients.in_schema(client_id))
        assert opened.num_examples(client_id) == clients.num_examples(client_id)
        assert not any(column.flags.writeable for column in opened[client_id].values())
    assert opened.fingerprint() == ClientData(list(clients), clients.in_schema).fingerprint()
    assert type(opened["ann"]["raw"][0]) is bytes and type(opened["ann"]["text"][0]) is str
    assert same(opened.example(), clients.in_schema("ann"))
    assert sorted(os.listdir(folder.parent)) == ["clients"]


def test_numbers_are_views_of_the_file(saved):
    opened = ClientData.open(saved[1])
    one, again = opened["ann"]["x"], opened["ann"]["x"]
    assert np.shares_memory(one, again) and not one.flags.owndata


def test_other_programs_read_the_examples(saved):
    import pyarrow as pa

    table = pa.ipc.open_file(str(saved[1] / "examples.arrow")).read_all()
    assert table.num_rows == 4
    assert table["y"].to_pylist() == [1, 0, 2, 7]
    assert table["text"].to_pylist() == ["one", "", "drei é\0", "uno"]
    assert table["x"].to_pylist()[1] == [4.0, 5.0, 6.0, 7.0]
    assert json.loads(table.schema.field("x").metadata[b"shape"]) == [2, 2]
    index = pa.ipc.open_file(str(saved[1] / "clients.arrow")).read_all()
    assert index["client_id"].to_pylist() == ["ann", "bob", "eve"]
    assert index["num_examples"].to_pylist() == [3, 1, 0]


DTYPES = [
    "bool",
    "int8",
    "uint64",
    "float16",
    "float64",
    "complex64",
    "complex128",
    ">i4",
    "M8[us]",
]


@pytest.mark.parametrize("dtype", [*DTYPES, ml_dtypes.bfloat16])
@pytest.mark.parametrize("shape", [(), (3,), (2, 1), (0,), (2, 0)])
def test_every_dtype_and_shape(tmp_path, dtype, shape):
    rng = np.random.default_rng(0)
    values = rng.integers(0, 2, [4, *shape]).astype(np.int64).astype(dtype)
    clients = ClientData.from_dict({"a": {"x": values[:3]}, "b": {"x": values[3:]}})
    clients.save(tmp_path / "clients")
    opened = ClientData.open(tmp_path / "clients")
    for client_id in "ab":
        assert same(opened[client_id], clients.in_schema(client_id))


def test_rows_whose_length_differs_between_clients(tmp_path):
    data = {
        "a": {"x": np.arange(6).reshape(2, 3), "words": np.array([["a", "b"], ["c", ""]], object)},
        "b": {"x": np.arange(4).reshape(1, 4), "words": np.array([["d"]], object)},
        "c": {"x": np.zeros([0, 7], int), "words": np.empty([0, 0], object)},
        "d": {"x": np.arange(2).reshape(2, 1), "words": np.empty([2, 0], object)},
    }
    clients = ClientData.from_dict(data)
    clients.save(tmp_path / "clients")
    opened = ClientData.open(tmp_path / "clients")
    assert opened.schema["x"].shape == opened.schema["words"].shape == (None,)
    for client_id in clients:
        assert same(opened[client_id], clients.in_schema(client_id))
    assert opened.fingerprint() == ClientData(list(data), clients.in_schema).fingerprint()


def test_clients_are_saved_with_the_dtypes_of_the_schema(tmp_path):
    clients = ClientData.from_dict(
        {"a": {"x": np.array([1], np.int8)}, "b": {"x": np.array([300], np.int16)}}
    )
    clients.save(tmp_path / "clients")
    opened = ClientData.open(tmp_path / "clients")
    assert opened["a"]["x"].dtype == np.int16 and opened["b"]["x"].tolist() == [300]


names = st.text(st.characters(codec="utf-8"), max_size=4)
texts = st.lists(st.text(st.characters(codec="utf-8"), max_size=5), max_size=6)


@hypothesis.settings(derandomize=True, deadline=None, database=None, max_examples=30)
@hypothesis.given(st.dictionaries(names, texts, min_size=1, max_size=12), st.integers(1, 2000))
def test_any_ids_and_texts_in_batches_of_any_size(tmp_path_factory, data, batch_bytes):
    folder = tmp_path_factory.mktemp("any") / "clients"
    columns = {
        client_id: {
            "text": np.array(rows, object),
            "length": np.array([*map(len, rows)], np.int32),
        }
        for client_id, rows in data.items()
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writing, "BATCH_BYTES", batch_bytes)
        arrow.write(folder, columns.items())
    opened = ClientData.open(folder)
    assert opened.client_ids == tuple(data)
    assert all(same(opened[client_id], columns[client_id]) for client_id in data)
    assert all(client_id in opened for client_id in data) and "\ud800" not in opened
    for other in ("nobody", "", 3, None):
        assert (other in opened) == (other in data)


# --- ids


@hypothesis.settings(derandomize=True, deadline=None, database=None)
@hypothesis.given(st.lists(names, min_size=1, max_size=20, unique=True), st.data())
def test_indexed_ids_are_as_a_tuple(ids, data):
    indexed, plain = IndexedIds(IdIndex.of(ids)), tuple(ids)
    for _ in range(3):
        positions = data.draw(st.permutations(range(len(plain))))
        positions = positions[: data.draw(st.integers(0, len(positions)))]
        start, step = data.draw(st.integers(-9, 9)), data.draw(st.sampled_from([1, 2, -1]))
        assert indexed == plain and list(indexed) == list(plain) and len(indexed) == len(plain)
        assert indexed[start::step] == plain[start::step]
        assert [i in indexed for i in ids] == [i in plain for i in ids]
        assert [indexed[i] for i in range(-len(plain), len(plain))] == [*plain, *plain]
        with pytest.raises(IndexError):
            indexed[len(plain)]
        indexed, plain = indexed.take(np.array(positions, int)), tuple(plain[i] for i in positions)
        if not plain:
            break


def test_ids_with_the_same_hash_are_told_apart():
    first, second = "plumless", "buckeroo"  # both have CRC-32 0x4ddb0c25
    index = IdIndex.of([first, second, "ann"])
    assert [index.find(each) for each in (second, first, "ann", "bob")] == [1, 0, 2, None]


def test_ranks_and_digest_of_ids():
    ids = [f"c{i}" for i in range(1000)]
    assert [ids[i] for i in ids_lib.ranks(ids, "7/")] == ids_lib.ranked(ids, "7/")
    assert ids_lib.ranked(ids, "7/", most=10) == ids_lib.ranked(ids, "7/")[:10]
    assert ids_lib.digest(iter([*ids, ""] * 30)) == ids_lib.digest([*ids, ""] * 30)


def test_selections_and_maps_of_an_opened_folder(tmp_path):
    ids = [f"c{i}" for i in range(50)]
    plain = ClientData(ids, lambda client_id: {"x": np.full([2], int(client_id[1:]))})
    plain.save(tmp_path / "clients")
    opened = ClientData.open(tmp_path / "clients")
    for fraction, seed in ((0.2, 0), (0.5, -3)):
        for ours, theirs in zip(
            opened.split_clients(fraction, seed), plain.split_clients(fraction, seed)
        ):
            assert ours.client_ids == theirs.client_ids
            assert isinstance(ours.client_ids, IndexedIds)
            assert not set(ids) - set(theirs) & {i for i in ids if i in ours}
    some = opened.select(client_id for client_id in opened if int(client_id[1:]) % 2)
    assert isinstance(some.client_ids, IndexedIds) and some.client_ids == tuple(ids[1::2])
    assert some.select(["c3"])["c3"]["x"].tolist() == [3, 3]
    assert some.map(lambda columns: {"y": columns["x"] + 1})["c5"]["y"].tolist() == [6, 6]
    assert uniform(5)(opened.client_ids, 3, 0) == uniform(5)(tuple(ids), 3, 0)
    with pytest.raises(KeyError, match="'c2': expected one of the 25 clients"):
        some["c2"]
    with pytest.raises(KeyError, match="'c2'"):
        some.select(iter(["c1", "c2"]))
    with pytest.raises(KeyError, match="'c0'"):
        some.select(opened.client_ids[:5])
    with pytest.raises(ValueError, match="'c1' occurs twice"):
        some.select(iter(["c1", "c1"]))
    with pytest.raises(ValueError, match="empty"):
        some.select(iter([]))


# --- what cannot be written


def test_wrong_clients_leave_nothing_behind(tmp_path):
    def pairs(*columns):
        return ((f"c{i}", each) for i, each in enumerate(columns))

    x = {"x": np.zeros([2])}
    for clients, message in (
        (iter([]), "clients is empty"),
        ([("a", x), ("b", x), ("a", x)], "client id 'a' occurs twice"),
        (pairs({"x": ["a", None]}), "client 'c0' has a NoneType in column 'x': expected str"),
        (pairs({"x": ["a"]}, {"x": [b"a"]}), "client 'c1' has a bytes in column 'x'"),
        (pairs({"x": ["\ud800"]}), "client 'c0' has the text .* expected valid Unicode"),
        (pairs({"x": np.zeros([1], "f4,i4")}), "column 'x' has dtype"),
        (pairs(x, {"y": [1]}), "client 'c1' has the columns 'y', but client 'c0' has 'x'"),
        ([("\ud800", x)], "expected valid Unicode"),
    ):
        with pytest.raises(ValueError, match=message):
            arrow.write(tmp_path / "clients", clients)
        assert not os.listdir(tmp_path)
    with pytest.raises(TypeError, match="client id 3: expected a string"):
        arrow.write(tmp_path / "clients", [(3, x)])
    assert not os.listdir(tmp_path)


def test_a_later_client_of_another_form_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(writing, "BATCH_BYTES", 1)  # the first client decides
    clients = [("a", {"x": np.zeros([1], np.int8)}), ("b", {"x": np.zeros([1], np.int16)})]
    with pytest.raises(ValueError, match="client 'b' has column 'x' of int16"):
        arrow.write(tmp_path / "clients", clients)


def test_an_existing_folder_stays_as_it_is(saved):
    before = {file.name: file.read_bytes() for file in saved[1].iterdir()}
    with pytest.raises(FileExistsError, match="expected a path that does not exist"):
        saved[0].save(saved[1])
    assert {file.name: file.read_bytes() for file in saved[1].iterdir()} == before


# --- damage


def test_every_damaged_byte_is_noticed(saved):
    """Whichever byte of a file changes, the data are the same or an error names the folder."""
    clients, folder = saved
    expected = {client_id: clients.in_schema(client_id) for client_id in clients}
    noticed = dict.fromkeys(["examples.arrow", "clients.arrow", "clients.json"], 0)
    for name in noticed:
        file = folder / name
        good = file.read_bytes()
        for place in range(0, len(good), 1 if name == "clients.json" else 11):
            bad = bytearray(good)
            bad[place] ^= 0x15
            file.write_bytes(bad)
            try:
                opened = ClientData.open(folder)
                assert all(same(opened[client_id], expected[client_id]) for client_id in expected)
            except ValueError as error:
                assert str(folder) in str(error) and "\n" not in str(error)
                noticed[name] += 1
        file.write_bytes(good)
    assert noticed["clients.json"] > 300 and noticed["clients.arrow"] > 60
    assert noticed["examples.arrow"] > 20


def test_a_damaged_client_is_named_and_others_are_read(saved):
    clients, folder = saved
    file = folder / "examples.arrow"
    data = file.read_bytes()
    place = data.index(np.arange(12, dtype=np.float32).tobytes())
    file.write_bytes(data[:place] + b"\1" + data[place + 1 :])
    opened = ClientData.open(folder)
    assert same(opened["bob"], clients.in_schema("bob"))
    for _ in range(2):
        with pytest.raises(ValueError, match="is damaged at client 'ann' .*another checksum"):
            opened["ann"]


@pytest.mark.parametrize("name", ["examples.arrow", "clients.arrow", "clients.json"])
def test_a_file_that_is_cut_or_missing(saved, name):
    file = saved[1] / name
    data = file.read_bytes()
    for left in (0, 1, len(data) // 2, len(data) - 1):
        file.write_bytes(data[:left])
        with pytest.raises(ValueError, match="clients"):
            ClientData.open(saved[1])
    file.unlink()
    with pytest.raises(ValueError, match=name):
        ClientData.open(saved[1])


def test_offsets_outside_of_the_file_are_noticed(saved):
    """Offsets of texts that were changed together with their checksums are not followed."""
    layout = Layout("x", np.dtype(object), (), "str")
    import pyarrow as pa

    for offsets in ([0, 1 << 40, 2], [0, -8, 2], [0, 2, 1], [1, 0, 2]):
        buffers = [None, pa.py_buffer(np.array(offsets, np.int64)), pa.py_buffer(b"ab")]
        column = pa.Array.from_buffers(pa.large_string(), 2, buffers)
        with pytest.raises(ValueError, match="outside of the file"):
            View(layout, column).check(0, 2, ())
    with pytest.raises(ValueError, match="outside of the file"):
        View(layout, column).check(0, 3, ())


# --- atomic writes

_ENDLESS = """
import itertools, sys, time
import numpy as np
from fedlab.clients import arrow
arrow.writing.BATCH_BYTES = 1
def clients():
    for i in itertools.count():
        yield f"c{i}", {"x": np.zeros([4])}
        if i == 20:
            print("writing", flush=True)
            time.sleep(60)
arrow.write(sys.argv[1], clients())
"""


def test_after_sigkill_the_folder_is_not_there_and_can_be_written(tmp_path):
    folder = tmp_path / "clients"
    process = subprocess.Popen(
        [sys.executable, "-c", _ENDLESS, str(folder)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": ":".join(sys.path)},
    )
    assert process.stdout.readline() == b"writing\n"
    clients = ClientData.from_dict({"a": {"x": [1]}})
    with pytest.raises(ValueError, match="another process writes"):
        clients.save(folder)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert os.listdir(tmp_path) == ["clients.unfinished"]
    for path in (folder, tmp_path / "clients.unfinished"):
        with pytest.raises((FileNotFoundError, ValueError), match="ClientData.save"):
            ClientData.open(path)
    clients.save(folder)
    assert os.listdir(tmp_path) == ["clients"]
    assert ClientData.open(folder)["a"]["x"].tolist() == [1]


# --- memory


def columns_of(number):
    return {"x": np.full([5, 20], number, np.float32), "y": np.array([number % 10] * 5)}


def test_memory_of_writing_and_reading_does_not_grow_with_the_examples(tmp_path, monkeypatch):
    monkeypatch.setattr(writing, "BATCH_BYTES", 2**20)
    peaks = []
    for number in (100, 800):  # of 100 kB each: 10 MB and 80 MB
        x = np.zeros([250, 100], np.float32)
        tracemalloc.start()
        arrow.write(tmp_path / f"{number}", ((f"c{i}", {"x": x + i}) for i in range(number)))
        opened = ClientData.open(tmp_path / f"{number}")
        assert all(opened[client_id]["x"][0, 0] == i for i, client_id in enumerate(opened))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 2**20 < 2**23


@pytest.mark.slow
def test_a_hundred_thousand_clients_in_constant_memory(tmp_path):
    """Opening and reading cohorts takes as much memory with 100,000 clients as with 5,000."""
    peaks = {}
    for number in (5_000, 100_000):
        folder = tmp_path / f"{number}"
        arrow.write(folder, ((f"client_{i:06}", columns_of(i)) for i in range(number)))
        ClientData.open(folder)["client_000000"]  # imports
        tracemalloc.start()
        started = time.perf_counter()
        opened = ClientData.open(folder)
        seconds = time.perf_counter() - started
        for round_num in range(1, 6):
            for client_id in uniform(1000)(opened.client_ids, round_num, 0):
                assert client_id in opened
                assert opened.in_schema(client_id)["x"][4, 19] == int(client_id[7:])
        train, test = opened.split(0.1, by="example")
        for client_id in uniform(100)(train.client_ids, 1, 0):
            assert train.num_examples(client_id) + test.num_examples(client_id) == 5
        peaks[number] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert seconds < 2
    # A byte per client says whether its checksum was compared. Ids that were looked up
    # are kept: up to 32,768, of which the 5,000 clients have fewer.
    assert peaks[100_000] < peaks[5_000] + 4e6 < 10e6


def test_pages_that_were_read_are_given_back(tmp_path, monkeypatch):
    x = np.zeros([2**18], np.float32)  # 1 MB per client
    monkeypatch.setattr(reading, "MAPPED_BYTES", 2**24)
    arrow.write(tmp_path / "clients", ((f"c{i}", {"x": x + i}) for i in range(96)))
    opened = ClientData.open(tmp_path / "clients")
    opened["c0"]
    before, most, views = _resident_mb(), 0, []
    for i, client_id in enumerate(opened):
        views.append(opened[client_id]["x"])
        assert views[i].sum() == i * 2**18
        most = max(most, _resident_mb())
    assert most - before < 48 < 96
    assert [view[0] for view in views] == list(range(96))


def _resident_mb():
    status = pathlib.Path("/proc/self/status").read_text()
    return int(status.split("RssFile:")[1].split()[0]) / 1024


# --- rows in any order


@hypothesis.settings(derandomize=True, deadline=None, database=None, max_examples=30)
@hypothesis.given(
    st.lists(st.lists(st.integers(-3, 9), max_size=12), min_size=1, max_size=5),
    st.sampled_from([1, 3, 64]),
    st.integers(1, 3000),
)
def test_rows_in_any_order(tmp_path_factory, pieces, num_buckets, buffered_bytes):
    hypothesis.assume(any(pieces))
    folder = tmp_path_factory.mktemp("rows") / "clients"
    ids = np.concatenate([np.array(piece, int) for piece in pieces])
    x, text = np.arange(len(ids)), np.array([f"row {i}" for i in range(len(ids))], object)
    ends = np.cumsum([len(piece) for piece in pieces])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rows, "BUFFERED_BYTES", buffered_bytes)
        arrow.write_rows(
            folder,
            (
                (ids[end - len(piece) : end], {"x": x[end - len(piece) : end], "text": part})
                for piece, end, part in zip(pieces, ends, np.split(text, ends[:-1]))
            ),
            num_buckets=num_buckets,
        )
    assert sorted(os.listdir(folder.parent)) == ["clients"] and len(os.listdir(folder)) == 3
    opened, expected = ClientData.open(folder), natural(ids)
    assert sorted(opened) == sorted(expected)
    for client_id, members in expected.items():
        assert same(opened[client_id], {"x": x[members], "text": text[members]})


@pytest.mark.slow
def test_memory_of_rows_does_not_grow_with_their_number(tmp_path, monkeypatch):
    monkeypatch.setattr(rows, "BUFFERED_BYTES", 2**20)
    monkeypatch.setattr(writing, "BATCH_BYTES", 2**20)
    rng, peaks = np.random.default_rng(0), []
    for number in (20, 160):  # pieces of 200 kB: 4 MB and 32 MB
        pieces = (
            (rng.integers(50, size=500), {"x": np.full([500, 100], i, np.float32)})
            for i in range(number)
        )
        tracemalloc.start()
        arrow.write_rows(tmp_path / f"{number}", pieces, num_buckets=32)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        opened = ClientData.open(tmp_path / f"{number}")
        assert sum(opened[client_id]["x"][:, 0].sum() for client_id in opened) == sum(
            500 * i for i in range(number)
        )
    # The largest of 32 buckets of 50 clients has 5 of them, 3.2 MB of the 32 MB, which are
    # read and then divided.
    assert peaks[1] < peaks[0] + 12e6 < 20e6


@pytest.mark.parametrize(
    "pieces, message",
    [
        ([], "pieces have no rows"),
        ([([], {"x": []})], "pieces have no rows"),
        ([(["a"], {"x": [1, 2]})], "piece 0 has 1 client ids and 2 rows"),
        ([(["a"], {"x": [1]}), (["a"], {"x": [0.5]})], "piece 1 has the columns x: float64"),
        ([(["a"], {"x": [1]}), (["a"], {"y": [1]})], r"y: int64 \[\]: expected x: int64 \[\]"),
        ([(["a"], {"x": [1]}), (["b", None], {"x": [1, 2]})], "None"),
        ([(["a"], {"x": [None]})], "NoneType"),
    ],
)
def test_wrong_rows_leave_nothing_behind(tmp_path, pieces, message):
    with pytest.raises(ValueError, match=message):
        arrow.write_rows(tmp_path / "clients", pieces)
    assert not os.listdir(tmp_path)


# --- simulation


@pytest.mark.slow
def test_a_simulation_from_a_folder_gives_the_same_bits(tmp_path):
    import tensorflow as tf

    import fedlab as fl

    rng = np.random.default_rng(0)
    clients = ClientData(
        [f"c{i}" for i in range(40)],
        {
            f"c{i}": {
                "x": rng.normal(size=[i % 7, 3]).astype(np.float32),
                "y": rng.integers(2, size=i % 7),
            }
            for i in range(40)
        }.__getitem__,
    )
    clients.save(tmp_path / "clients")
    results = []
    for data in (clients, fl.ClientData.open(tmp_path / "clients")):
        tf.keras.utils.set_random_seed(0)
        layers = [tf.keras.Input([3]), tf.keras.layers.Dense(2, name="logits")]
        model = tf.keras.Sequential(layers, name="linear")
        model.compile("sgd", tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        train, test = data.split(0.2, by="example")
        run = fl.simulate(
            model,
            train.map(lambda columns: {**columns, "x": columns["x"] * 2}),
            rounds=2,
            clients_per_round=10,
            batch_size=2,
            evaluate_on={"all": test, "each": fl.per_client(test)},
            run_dir=tmp_path / f"run{len(results)}",
            progress=False,
        )
        history = [{k: v for k, v in row.items() if k != "seconds"} for row in run.history]
        results.append(([w.tobytes() for w in run.model.get_weights()], history))
    assert results[0] == results[1]
    config, again = ((tmp_path / f"run{i}" / "config.json").read_text() for i in range(2))
    assert json.loads(config) == json.loads(again)  # the same hashes of ids and of data
