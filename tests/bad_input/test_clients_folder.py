"""Bad input to `ClientData.save`, `ClientData.open` and `ClientData.split`: one line, no files."""

import json
import os
import shutil
import sys

import numpy as np
import pytest

from fedlab.clients import ClientData
from tests.bad_input.telling import check_line, contents

pytest.importorskip("pyarrow")

GOOD = {"x": np.zeros([2, 3]), "t": np.array([1.0, 2.0])}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with good and bad folders of clients."""
    folder = tmp_path_factory.mktemp("folders")
    ClientData.from_dict({"ann": GOOD, "bob": GOOD}).save(folder / "good")
    (folder / "text.txt").write_text("no clients\n")
    (folder / "empty").mkdir()
    about = json.loads((folder / "good" / "clients.json").read_text())
    for name, value in {
        "list": [],
        "other": {"format": "something"},
        "newer": {**about, "version": 2},
        "edited": {**about, "num_clients": 3},
    }.items():
        shutil.copytree(folder / "good", folder / name)
        (folder / name / "clients.json").write_text(json.dumps(value))
    for name, data in {
        "binary": b"\xff\xfe",
        "nested": b"[" * 100_000,
        "cut": b'{"format"',
    }.items():
        shutil.copytree(folder / "good", folder / name)
        (folder / name / "clients.json").write_bytes(data)
    for name, file in {"no_index": "clients.arrow", "no_examples": "examples.arrow"}.items():
        shutil.copytree(folder / "good", folder / name)
        (folder / name / file).unlink()
    for name, file in {"bad_index": "clients.arrow", "bad_examples": "examples.arrow"}.items():
        shutil.copytree(folder / "good", folder / name)
        data = (folder / name / file).read_bytes()
        (folder / name / file).write_bytes(bytes(byte ^ 255 for byte in data))
    return folder


OPENED = [
    "missing", "text.txt", "empty", "list", "other", "newer", "edited", "binary", "nested", "cut",
    "no_index", "no_examples", "bad_index", "bad_examples", "n" * 300,
]  # fmt: skip


@pytest.mark.parametrize("name", OPENED)
def test_opening(folder, name):
    before = contents(folder)
    with pytest.raises((ValueError, OSError)) as raised:
        ClientData.open(folder / name)
    check_line(str(raised.value), str(folder / name)[:200])
    assert contents(folder) == before


SAVED = {
    "text.txt": (GOOD, "text.txt"),
    "good": (GOOD, "good"),
    "text.txt/below": (GOOD, "text.txt"),
    "n" * 300: (GOOD, "nnn"),
    "objects": ({"x": [{}]}, "dict"),
    "none": ({"x": ["a", None]}, "NoneType"),
    "mixed": ({"x": np.array(["a", b"a"], object)}, "bytes"),
    "pairs": ({"x": np.zeros([1], "f4,i4")}, "dtype"),
    "surrogate": ({"x": ["\ud800"]}, "ud800"),
}


@pytest.mark.parametrize("name", SAVED)
def test_saving(folder, name):
    columns, received = SAVED[name]
    before = contents(folder)
    with pytest.raises((ValueError, OSError)) as raised:
        ClientData.from_dict({"ann": columns}).save(folder / name)
    check_line(str(raised.value), received)
    assert contents(folder) == before


def test_a_folder_that_cannot_be_written(tmp_path):
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    (tmp_path / "closed").mkdir(mode=0o500)
    with pytest.raises(PermissionError) as raised:
        ClientData.from_dict({"ann": GOOD}).save(tmp_path / "closed" / "clients")
    check_line(str(raised.value), "closed")


def test_without_pyarrow(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.ipc", None)
    for call in (ClientData.from_dict({"ann": GOOD}).save, ClientData.open):
        with pytest.raises(ModuleNotFoundError) as raised:
            call(folder / "new")
        check_line(str(raised.value), "pyarrow")


SPLITS = {
    "fractions=2": dict(fractions=2),
    "fractions=nan": dict(fractions=float("nan")),
    "fractions={}": dict(fractions={}),
    "fractions=[0.5, '0.5']": dict(fractions=[0.5, "0.5"]),
    "fractions=None": {},
    "by=None": dict(fractions=0.5, by=None),
    "by=['client']": dict(fractions=0.5, by=["client"]),
    "seed='0'": dict(fractions=0.5, seed="0"),
    "column=None": dict(fractions=0.5, by="time"),
    "column='when'": dict(fractions=0.5, by="time", column="when"),
    "column='x'": dict(fractions=0.5, by="time", column="x"),
    "at=[2, 1]": dict(by="time", column="t", at=[2, 1]),
    "at=[{}]": dict(by="time", column="t", at=[{}]),
    "at=['1']": dict(by="time", column="t", at="1"),
}


@pytest.mark.parametrize("received", SPLITS)
def test_splitting(received):
    clients = ClientData.from_dict({"ann": GOOD, "bob": GOOD})
    with pytest.raises(ValueError) as raised:
        parts = clients.split(**SPLITS[received])
        parts[0]["ann"]
    check_line(str(raised.value), received)
