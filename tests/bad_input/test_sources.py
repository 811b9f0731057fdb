"""Bad input to the readers of data: an error of one line that names the file and the row."""

import json
import sqlite3

import h5py
import numpy as np
import pytest

from fedlab import ClientData
from fedlab.cli._ending import MISTAKES
from tests.bad_input.telling import check_line, contents

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

NAN = float("nan")
CSV = "user,age,text,label\nann,1,a,0\nbob,2,b,1\nann,3,c,1\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Files of every wrong kind, and one that is right of each kind."""
    f = tmp_path_factory.mktemp("sources")
    texts = {
        "good.csv": CSV,
        "header.csv": "user,age\n",
        "blank.csv": "\n\n",
        "cut.csv": CSV + "bob,4\n",
        "long.csv": CSV + "bob,4,d,1,5\n",
        "missing.csv": CSV + "bob,,d,1\n",
        "nan.csv": CSV + "bob,nan,d,1\n",
        "no_user.csv": CSV + ",4,d,1\n",
        "mixed.csv": CSV + "bob,four,d,1\n",
        "twice.csv": "user,age,age\nann,1,2\n",
        "semicolons.csv": CSV.replace(",", ";"),
        "index.csv": ",user,age\n0,ann,1\n",
        "huge.csv": "user,age\nann,1e300\n",
        "nothing.csv": "user,age\nann,\nbob,\n",
        "good.jsonl": '{"user": "ann", "x": 1}\n',
        "cut.jsonl": '{"user": "ann", "x": 1}\n\n{"user": "ann", "x"\n',
        "lists.jsonl": '{"user": "ann", "x": 1}\n["ann", 2]\n',
        "missing.jsonl": '{"user": "ann", "x": 1}\n\n{"user": "bob"}\n',
        "mixed.jsonl": '{"user": 1, "x": 1}\n{"user": 2, "x": 2}\n{"user": 3, "x": "3"}\n',
        "ids.jsonl": '{"user": 1, "x": 1}\n{"user": 2, "x": 1}\n{"user": "2", "x": 1}\n',
        "ragged.jsonl": "".join(
            json.dumps({"user": "ann", "x": x}) + "\n" for x in ([1, 2], [3, 4], [5])
        ),
        "deep.jsonl": "[" * 100_000 + "]" * 100_000,
        "object.jsonl": '{"user": "ann", "x": {"a": 1}}\n',
        "twice.jsonl": '{"user": "ann", "x": 1, "x": 2}\n',
        "text.parquet": "no Parquet",
    }
    for name, text in texts.items():
        (f / name).write_text(text)
    leaf = {"users": ["ann"], "num_samples": [2], "user_data": {"ann": {"x": [1, 2], "y": [0, 1]}}}
    ann = leaf["user_data"]["ann"]
    jsons = {
        "good": leaf,
        "list": [leaf],
        "no_users": {**leaf, "users": None},
        "no_sizes": {"users": ["ann"], "user_data": {}},
        "sizes": {**leaf, "num_samples": [2, 3]},
        "half": {**leaf, "num_samples": [1.5]},
        "unknown": {**leaf, "users": ["bob"]},
        "more": {**leaf, "num_samples": [3]},
        "no_y": {**leaf, "user_data": {"ann": {"x": [1, 2]}}},
        "a_text": {**leaf, "user_data": {"ann": "x"}},
        "ragged": {**leaf, "user_data": {"ann": {**ann, "x": [[1], [2, 3]]}}},
        "nan": {**leaf, "user_data": {"ann": {**ann, "x": [1, NAN]}}},
        "mixed": {**leaf, "user_data": {"ann": {**ann, "x": [1, "two"]}}},
        "nobody": {"users": [], "num_samples": [], "user_data": {}},
        "nothing": {"users": ["ann"], "num_samples": [0], "user_data": {"ann": {"x": [], "y": []}}},
    }
    for name, content in jsons.items():
        (f / f"{name}.json").write_text(json.dumps(content))
    (f / "cut.json").write_text(json.dumps(leaf)[:40])
    (f / "deep.json").write_text("[" * 100_000)
    (f / "twice").mkdir()
    for name in ("a", "b"):
        (f / "twice" / f"{name}.json").write_text(json.dumps(leaf))
    with h5py.File(f / "good.h5", "w") as opened:
        opened["examples/ann/pixels"] = np.zeros([2, 4])
        opened["examples/ann/label"] = np.zeros([2])
        opened["examples/bob/pixels"] = np.zeros([2, 4])
        opened["examples/bob/label"] = np.zeros([3])
        opened["examples/cat/pixels"] = np.full([2, 4], NAN)
        opened["examples/cat/label"] = np.zeros([2])
        opened["examples/dan/pixels"] = np.zeros([0, 4])
        opened["examples/dan/label"] = np.zeros([0])
        opened["examples/eve"] = 5
    with h5py.File(f / "other.h5", "w") as opened:
        opened["weights"] = np.zeros(3)
    with h5py.File(f / "nobody.h5", "w") as opened:
        opened.create_group("examples")
    (f / "cut.h5").write_bytes((f / "good.h5").read_bytes()[:200])
    for name, rows in {
        "good": [("ann", "train", 1), ("ann", "test", 1)],
        "wrong_size": [("ann", "train", 2)],
        "client_twice": [("ann", "train", 1), ("ann", "train", 1)],
        "none": [],
    }.items():
        with sqlite3.connect(f / f"{name}.sqlite") as connection:
            connection.execute("CREATE TABLE client_metadata (client_id, split_name, num_examples)")
            connection.execute(
                "CREATE TABLE examples (split_name, client_id, serialized_example_proto)"
            )
            connection.executemany("INSERT INTO client_metadata VALUES (?, ?, ?)", rows)
            connection.execute("INSERT INTO examples VALUES ('train', 'ann', ?)", (b"\xff\xff",))
        connection.close()
    with sqlite3.connect(f / "other.sqlite") as connection:
        connection.execute("CREATE TABLE t (a)")
    connection.close()
    (f / "cut.sqlite").write_bytes((f / "good.sqlite").read_bytes()[:300])
    (f / "empty").touch()
    (f / "latin1.csv").write_bytes("user,t\nann,Où?\n".encode("latin-1"))
    (f / "binary.csv").write_bytes(bytes(range(256)) * 4)
    (f / "latin1.jsonl").write_bytes('{"user": "é", "x": 1}\n'.encode("latin-1"))
    (f / "folder").mkdir()
    for name in ("mixed", "numbers", "files", "both", "damaged", "latin", "hollow"):
        (f / "folders" / name / "ann").mkdir(parents=True)
    folders = f / "folders"
    (folders / "mixed" / "ann" / "a.txt").write_text("text")
    (folders / "mixed" / "ann" / "b.png").touch()
    (folders / "numbers" / "ann" / "a.npy").touch()
    (folders / "files" / "a.png").touch()
    (folders / "both" / "ann" / "a.txt").write_text("text")
    (folders / "both" / "bob" / "dog").mkdir(parents=True)
    (folders / "both" / "bob" / "dog" / "a.txt").write_text("text")
    (folders / "damaged" / "ann" / "a.png").write_bytes(b"\x89PNG")
    (folders / "latin" / "ann" / "a.txt").write_bytes(b"\xe9")
    (folders / "hollow" / "ann" / "a.txt").write_text("text")
    (folders / "hollow" / "bob").mkdir()
    table = pa.table({"user": ["ann", None], "x": [1.0, 2.0], "map": [{"a": 1}, {"a": 2}]})
    pq.write_table(table, f / "good.parquet")
    (f / "cut.parquet").write_bytes((f / "good.parquet").read_bytes()[:-50])
    return f


def csv(name, *args, **options):
    return lambda f: ClientData.from_csv(f / name, *args, **options)


def jsonl(name, *args, **options):
    return lambda f: ClientData.from_jsonl(f / name, *args, **options)


def parquet(name, *args, **options):
    return lambda f: ClientData.from_parquet(f / name, *args, **options)


def frame(columns, *args, **options):
    return lambda f: ClientData.from_dataframe(pa.table(columns), *args, **options)


def leaf(name):
    return lambda f: ClientData.from_leaf(f / name)


def tff(name, client_id=None, **options):
    def call(f):
        clients = ClientData.from_tff_file(f / name, **options)
        return client_id and clients[client_id]

    return call


def images(name, client_id=None, **options):
    def call(f):
        clients = ClientData.from_folder(f / "folders" / name, **options)
        return client_id and clients[client_id]

    return call


def arrays(*args, **options):
    return lambda f: ClientData.from_arrays(*args, **options)


# What is called with the folder, and what the line has to name.
CASES = {
    "csv: nothing there": (csv("none.csv", "user"), "none.csv"),
    "csv: a folder": (csv("folder", "user"), "folder"),
    "csv: a number": (lambda f: ClientData.from_csv(5, "user"), "int 5"),
    "csv: a name too long": (lambda f: ClientData.from_csv("x/" * 5000, "user"), "x/x"),
    "csv: empty": (csv("empty", "user"), "empty is empty"),
    "csv: blank lines": (csv("blank.csv", "user"), "blank.csv is empty"),
    "csv: only a header": (csv("header.csv", "user"), "header.csv has no rows"),
    "csv: a cut row": (csv("cut.csv", "user", "age"), "cut.csv, line 5"),
    "csv: a long row": (csv("long.csv", "user", "age"), "long.csv, line 5: a row of 5 cells"),
    "csv: missing": (csv("missing.csv", "user", ["age"]), "missing.csv, line 5: column 'age'"),
    "csv: nan": (csv("nan.csv", "user", ["age"]), "nan.csv, line 5: column 'age'"),
    "csv: no id": (csv("no_user.csv", "user", "age"), "no_user.csv, line 5: column 'user'"),
    "csv: mixed": (csv("mixed.csv", "user", "age"), "line 5: column 'age' has the value 'four'"),
    "csv: a name twice": (csv("twice.csv", "user"), "two columns 'age'"),
    "csv: semicolons": (csv("semicolons.csv", "user"), "'user;age;text;label'"),
    "csv: an index": (csv("index.csv", "user"), "column ''"),
    "csv: huge": (csv("huge.csv", "user", ["age"]), "1e+300"),
    "csv: no row left": (csv("nothing.csv", "user", "age", skip_invalid=True), "2 rows"),
    "csv: latin-1": (csv("latin1.csv", "user"), "latin1.csv"),
    "csv: binary": (csv("binary.csv", "user"), "binary.csv"),
    "csv: no client": (csv("good.csv"), "client=None"),
    "csv: client and partitioner": (csv("good.csv", "user", partitioner={}), "client='user'"),
    "csv: client misspelt": (csv("good.csv", "usr"), "such as 'user'"),
    "csv: client a number": (csv("good.csv", 5), "int 5"),
    "csv: x misspelt": (csv("good.csv", "user", ["agee"]), "such as 'age'"),
    "csv: x empty": (csv("good.csv", "user", []), "x=[]"),
    "csv: x twice": (csv("good.csv", "user", ["age", "age"]), "['age', 'age']"),
    "csv: x a number": (csv("good.csv", "user", 5), "int 5"),
    "csv: x of numbers": (csv("good.csv", "user", [5]), "int 5"),
    "csv: x no mapping": (csv("good.csv", "user", {}), "x={}"),
    "csv: x reserved": (csv("good.csv", "user", {"y": "age"}), "'y'"),
    "csv: x a mapping of numbers": (csv("good.csv", "user", {"a": 5}), "int 5"),
    "csv: x of texts": (csv("good.csv", "user", ["age", "text"]), "'text'"),
    "csv: nothing left for x": (csv("header.csv", "user", y="age"), "'user', 'age'"),
    "csv: y misspelt": (csv("good.csv", "user", "age", "lable"), "such as 'label'"),
    "csv: y a list of texts": (csv("good.csv", "user", "age", ["text", "label"]), "'text'"),
    "csv: y an output by number": (csv("good.csv", "user", "age", {5: "label"}), "5"),
    "csv: weight a text": (csv("good.csv", "user", "age", sample_weight="text"), "'text'"),
    "csv: weight missing": (csv("good.csv", "user", "age", sample_weight="w"), "'w'"),
    "csv: keep a text": (csv("good.csv", "user", "age", keep="text"), "'text'"),
    "csv: keep twice": (csv("good.csv", "user", {"age": "age"}, keep=["age"]), "'age'"),
    "csv: keep misspelt": (csv("good.csv", "user", "age", keep=["tex"]), "such as 'text'"),
    "csv: text misspelt": (csv("good.csv", "user", "age", text=["tex"]), "such as 'text'"),
    "csv: text a text": (csv("good.csv", "user", "age", text="text"), "'text'"),
    "csv: delimiter": (csv("good.csv", "user", delimiter=", "), "', '"),
    "csv: encoding": (csv("good.csv", "user", encoding="utf-9"), "'utf-9'"),
    "csv: classes of numbers": (
        csv("good.csv", "user", "age", "label", class_names=["a"]),
        "['a']",
    ),
    "csv: classes without y": (csv("good.csv", "user", "age", class_names=["a"]), "['a']"),
    "csv: classes a text": (csv("good.csv", "user", "age", "text", class_names="abc"), "'abc'"),
    "csv: classes twice": (
        csv("good.csv", "user", "age", "text", class_names=["a", "a"]),
        "['a', 'a']",
    ),
    "csv: unknown class": (
        csv("good.csv", "user", "age", "text", class_names=["a", "b"]),
        "line 4: column 'text' has the class 'c'",
    ),
    "csv: partitioner a name": (csv("good.csv", x="age", partitioner="iid"), "'iid'"),
    "csv: partition of other rows": (csv("good.csv", x="age", partitioner={"a": [9]}), "[9]"),
    "csv: partition of a cut file": (
        csv("cut.csv", x="age", partitioner={"a": [0]}, skip_invalid=True),
        "1 rows cannot be read",
    ),
    "jsonl: nothing there": (jsonl("none.jsonl", "user"), "none.jsonl"),
    "jsonl: empty": (jsonl("empty", "user"), "empty has no rows"),
    "jsonl: a cut line": (jsonl("cut.jsonl", "user"), "cut.jsonl, line 3"),
    "jsonl: lists": (jsonl("lists.jsonl", "user"), "lists.jsonl, line 2"),
    "jsonl: missing": (jsonl("missing.jsonl", "user"), "missing.jsonl, line 3: column 'x'"),
    "jsonl: mixed": (jsonl("mixed.jsonl", "user"), "mixed.jsonl, line 3: column 'x' has"),
    "jsonl: mixed ids": (jsonl("ids.jsonl", "user"), "ids.jsonl, line 3: column 'user' has"),
    "jsonl: ragged": (jsonl("ragged.jsonl", "user"), "ragged.jsonl, line 3: column 'x'"),
    "jsonl: deep": (jsonl("deep.jsonl", "user"), "deep.jsonl, line 1"),
    "jsonl: an object": (jsonl("object.jsonl", "user"), "column 'x'"),
    "jsonl: a name twice": (jsonl("twice.jsonl", "user"), "'x' occurs twice"),
    "jsonl: latin-1": (jsonl("latin1.jsonl", "user"), "latin1.jsonl, line 1"),
    "jsonl: binary": (jsonl("binary.csv", "user"), "binary.csv, line 1"),
    "jsonl: misspelt": (jsonl("good.jsonl", "usr"), "such as 'user'"),
    "parquet: nothing there": (parquet("none.parquet", "user"), "none.parquet"),
    "parquet: empty": (parquet("empty", "user"), "'empty'"),
    "parquet: a text": (parquet("text.parquet", "user"), "text.parquet"),
    "parquet: cut": (parquet("cut.parquet", "user"), "cut.parquet"),
    "parquet: an empty folder": (parquet("folder", "user"), "folder"),
    "parquet: missing": (parquet("good.parquet", "user", "x"), "row 1 (counted from 0)"),
    "parquet: misspelt": (parquet("good.parquet", "user", "y"), "y"),
    "parquet: a map": (parquet("good.parquet", "x", "map"), "column 'map'"),
    "parquet: image_size": (parquet("good.parquet", "x", "x", image_size=28), "28"),
    "frame: a dict": (lambda f: ClientData.from_dataframe({"user": [1]}, "user"), "dict"),
    "frame: None": (lambda f: ClientData.from_dataframe(None, "user"), "NoneType"),
    "frame: no rows": (frame({"user": [], "x": []}, "user"), "no rows"),
    "frame: half ids": (frame({"user": [1.5], "x": [1]}, "user"), "1.5"),
    "frame: ids of lists": (frame({"user": [[1]], "x": [1]}, "user"), "'user'"),
    "frame: half a character": (
        lambda f: ClientData.from_dataframe(pa.table({"user": ["a"], "x": [1]}), "user\ud800"),
        "\\ud800",
    ),
    "arrays: no partitioner": (arrays([1.0], [0]), "NoneType"),
    "arrays: partitioner a name": (arrays([1.0], [0], "iid"), "'iid'"),
    "arrays: lengths": (arrays([1.0, 2.0], [0], {"a": [0]}), "'y': 1"),
    "arrays: nan": (arrays([[1.0], [NAN]], [0, 1], {"a": [0]}), "row 1 (counted from 0)"),
    "arrays: None": (arrays(["a", None], [0, 1], {"a": [0]}), "row 1 (counted from 0)"),
    "arrays: all nan": (arrays([NAN], [0], {"a": [0]}, skip_invalid=True), "1 rows"),
    "arrays: x reserved": (arrays({"y": [1]}, None, {"a": [0]}), "'y'"),
    "arrays: ragged": (arrays([[1], [2, 3]], None, {"a": [0]}), "'x'"),
    "arrays: a scalar": (arrays(np.float32(1), None, {"a": [0]}), "'x'"),
    "arrays: no clients": (arrays([1.0], [0], {}), "client"),
    "arrays: keep a list": (arrays([1.0], [0], {"a": [0]}, keep=["t"]), "list"),
    "arrays: keep twice": (arrays([1.0], [0], {"a": [0]}, keep={"x": [1]}), "'x'"),
    "folder: nothing there": (images("none"), "none"),
    "folder: a file": (lambda f: ClientData.from_folder(f / "good.csv"), "good.csv"),
    "folder: empty": (lambda f: ClientData.from_folder(f / "folder"), "folder"),
    "folder: no files": (images("files"), "files has no files in its folders"),
    "folder: images and texts": (images("mixed"), "'ann/b.png'"),
    "folder: other files": (images("numbers"), "'ann/a.npy'"),
    "folder: files beside classes": (images("both"), "client 'ann'"),
    "folder: damaged": (images("damaged", "ann"), "ann/a.png"),
    "folder: all damaged": (images("damaged", skip_invalid=True), "files that cannot be read"),
    "folder: latin-1": (images("latin", "ann"), "ann/a.txt"),
    "folder: an empty client": (images("hollow"), "client 'bob'"),
    "folder: size": (images("hollow", image_size=32), "image_size=32"),
    "folder: a size of 0": (images("hollow", image_size=(0, 32)), "image_size=0"),
    "folder: color": (images("hollow", color="gray"), "'gray'"),
    "folder: partitioner": (images("latin", partitioner="iid"), "'iid'"),
    "folder: a class missing": (images("latin", class_names=["bob"], partitioner={}), "'ann'"),
    "folder: classes twice": (images("both", class_names=["a", "a"]), "['a', 'a']"),
    "leaf: nothing there": (leaf("none.json"), "none.json"),
    "leaf: no files": (leaf("folder"), "folder"),
    "leaf: empty": (leaf("empty"), "empty is not valid JSON"),
    "leaf: cut": (leaf("cut.json"), "cut.json is not valid JSON"),
    "leaf: deep": (leaf("deep.json"), "deep.json is not valid JSON"),
    "leaf: latin-1": (leaf("latin1.csv"), "latin1.csv is not valid JSON"),
    "leaf: a list": (leaf("list.json"), "list.json has a JSON list"),
    "leaf: no users": (leaf("no_users.json"), "'users'"),
    "leaf: no num_samples": (leaf("no_sizes.json"), "'num_samples'"),
    "leaf: more sizes": (leaf("sizes.json"), "2 num_samples"),
    "leaf: half a sample": (leaf("half.json"), "num_samples=1.5"),
    "leaf: no data": (leaf("unknown.json"), "user 'bob'"),
    "leaf: fewer samples": (leaf("more.json"), "user 'ann' has 2 values of 'x'"),
    "leaf: no y": (leaf("no_y.json"), "user 'ann'"),
    "leaf: data a text": (leaf("a_text.json"), "user 'ann'"),
    "leaf: ragged": (leaf("ragged.json"), "user 'ann': 'x'"),
    "leaf: nan": (leaf("nan.json"), "user 'ann', example 1 (counted from 0)"),
    "leaf: mixed": (leaf("mixed.json"), "(int, str)"),
    "leaf: no one": (leaf("nobody.json"), "nobody.json has no users"),
    "leaf: no examples": (leaf("nothing.json"), "user 'ann' has no examples"),
    "leaf: a user twice": (leaf("twice"), "b.json, user 'ann' occurs twice, also in a.json"),
    "tff: nothing there": (tff("none.h5"), "none.h5"),
    "tff: a folder": (tff("folder"), "folder"),
    "tff: a text": (tff("good.csv"), "good.csv"),
    "tff: cut": (tff("cut.h5"), "cut.h5"),
    "tff: another HDF5": (tff("other.h5"), "other.h5"),
    "tff: no clients": (tff("nobody.h5"), "nobody.h5 has no clients"),
    "tff: split of HDF5": (tff("good.h5", split="train"), "split='train'"),
    "tff: unknown client": (tff("good.h5", "an"), "'an'"),
    "tff: lengths": (tff("good.h5", "bob"), "client 'bob' has columns of different lengths"),
    "tff: nan": (tff("good.h5", "cat"), "client 'cat', row 0 (counted from 0): column 'pixels'"),
    "tff: no examples": (tff("good.h5", "dan"), "client 'dan' has no examples"),
    "tff: no group": (tff("good.h5", "eve"), "client 'eve' is damaged"),
    "tff: x misspelt": (tff("good.h5", x="pixel"), "such as 'pixels'"),
    "tff: x stacked": (tff("good.h5", "ann", x=["pixels", "label"]), "column 'pixels'"),
    "tff: shapes": (tff("good.h5", "ann", shapes={"pixels": (3, 3)}), "(3, 3)"),
    "tff: shapes misspelt": (tff("good.h5", "ann", shapes={"pixel": (2, 2)}), "'pixels'"),
    "tff: shapes a tuple": (tff("good.h5", shapes=(2, 2)), "tuple"),
    "tff: shapes a number": (tff("good.h5", shapes={"pixels": 4}), "4"),
    "tff: cut SQLite": (tff("cut.sqlite"), "cut.sqlite"),
    "tff: another SQLite": (tff("other.sqlite"), "other.sqlite"),
    "tff: no split": (tff("good.sqlite"), "split=None"),
    "tff: unknown split": (tff("good.sqlite", split="dev"), "split='dev'"),
    "tff: no clients in SQLite": (tff("none.sqlite"), "none.sqlite has no clients"),
    "tff: a client twice": (tff("client_twice.sqlite"), "client 'ann' twice"),
    "tff: size in SQLite": (tff("wrong_size.sqlite", "ann"), "client 'ann' has 1 examples"),
    "tff: no Example": (tff("good.sqlite", "ann", split="train"), "client 'ann' is damaged"),
}


@pytest.mark.parametrize("name", CASES)
def test_sources(folder, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    call, received = CASES[name]
    before = contents(folder, tmp_path)
    with pytest.raises(MISTAKES) as raised:
        call(folder)
    error = raised.value
    check_line(error.args[0] if isinstance(error, KeyError) else str(error), received)
    assert contents(folder, tmp_path) == before
