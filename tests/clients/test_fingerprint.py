"""The fingerprint of clients' data: equal for equal data, and another for any other."""

import subprocess
import sys

import numpy as np
import pytest

from fedlab.clients import ClientData, client_data, fingerprint

X = np.arange(6, dtype=np.float32).reshape(3, 2)
Y = np.array([0, 1, 2])


def of(mapping):
    return ClientData.from_dict(mapping).fingerprint()


def clients(**changed):
    return {"a": {"x": X, "y": Y}, "b": {"x": X + 1, "y": Y} | changed}


def test_equal_data():
    expected = of(clients())
    assert of(clients(x=np.asfortranarray(X + 1))) == expected
    assert of(clients(x=(X + 1).astype(">f4"))) == expected
    assert of({"a": {"y": Y, "x": X}, "b": clients()["b"]}) == expected
    assert of({"a": {"x": ["é"]}}) == of({"a": {"x": np.array(["é".encode()], object)}})
    mapping = clients()
    loaded = ClientData(mapping, mapping.__getitem__)
    assert (
        loaded.fingerprint()
        == loaded.map(dict).fingerprint()
        == loaded.select(["a", "b"]).fingerprint()
        != loaded.select(["a"]).fingerprint()
    )


@pytest.mark.parametrize(
    "other",
    [
        {"b": clients()["b"], "a": clients()["a"]},  # the order in which clients are drawn
        {"a": clients()["a"], "c": clients()["b"]},
        {"a": clients()["a"]},
        clients(y=np.array([0, 1, 1])),
        clients(y=Y.astype(np.int32)),
        clients(x=(X + 1).reshape(3, 2, 1)),
        clients(z=Y),
        {"a": {"x": X, "z": Y}, "b": clients()["b"]},
    ],
)
def test_other_data(other):
    assert of(other) != of(clients())


def test_texts_are_told_apart():
    assert (
        len(
            {
                of({"a": {"x": texts}})
                for texts in (["ab", "c"], ["a", "bc"], ["abc", ""], ["", "abc"])
            }
        )
        == 4
    )


def test_a_change_in_place_is_seen():
    y = Y.copy()
    data = ClientData.from_dict(clients(y=y))
    before = data.fingerprint()
    y[2] = 7
    assert data.fingerprint() != before


def test_every_process_gives_the_same():
    program = (
        "from fedlab.clients import ClientData; "
        "print(ClientData.from_dict({'é': {'x': [1, 2], 'w': ['a', 'b']}}).fingerprint())"
    )
    runs = [
        subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
        )
        for seed in "12"
    ]
    assert runs[0].stdout == runs[1].stdout and len(runs[0].stdout) == 65


def test_large_data_in_memory_are_sampled(monkeypatch):
    monkeypatch.setattr(fingerprint, "HASHED_BYTES", 1000)
    x = np.zeros([1000], np.int8)

    def changed(client_id, row):
        return of(
            {name: {"x": x + (np.arange(1000) == row) * (name == client_id)} for name in ("a", "b")}
        )

    assert (
        len(
            {
                of({"a": {"x": x}, "b": {"x": x}}),
                changed("a", 500),
                changed("b", 0),
                changed("b", 999),
            }
        )
        == 4
    )
    assert of({"a": {"x": x}, "b": {"x": x[:-1]}}) != of(
        {"a": {"x": x}, "b": {"x": x}}
    )  # each client's shape counts


def test_of_many_clients_that_have_to_be_loaded_some_are_read(monkeypatch):
    monkeypatch.setattr(client_data, "SAMPLED_CLIENTS", 5)
    loaded = []

    def load(client_id):
        loaded.append(client_id)
        return {"x": [int(client_id)]}

    many = ClientData(map(str, range(50)), load)
    first = many.fingerprint()
    assert len(loaded) == 5 and loaded[0] == "0"
    assert many.fingerprint() == first and len(loaded) == 5
    monkeypatch.setattr(client_data, "SAMPLED_BYTES", 16)
    few = ClientData(map(str, range(50)), load, cache_bytes=0)
    few.fingerprint()
    assert len(set(loaded[5:])) == 2
