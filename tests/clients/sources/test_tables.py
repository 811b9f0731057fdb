"""Clients from tables: data frames, CSV, JSON Lines, Parquet, and arrays with a partitioner."""

import csv
import datetime
import doctest
import gzip
import importlib
import json
import pathlib
import subprocess
import sys

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

import fedlab
from fedlab import ClientData
from fedlab.clients import partitioners

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")


def write_csv(path, rows, names):
    with open(path, "w", newline="", encoding="utf-8") as opened:
        writer = csv.writer(opened)
        writer.writerow(names)
        writer.writerows([["" if v is None else v for v in row] for row in rows])


def write_jsonl(path, rows, names):
    path.write_text("".join(json.dumps(dict(zip(names, row))) + "\n" for row in rows))


def arrow_table(rows, names):
    return pa.table({name: list(column) for name, column in zip(names, zip(*rows))})


def read(kind, folder, rows, names, *args, **options):
    """Writes a table in one form and reads it."""
    path = folder / f"table.{kind}"
    if kind == "csv":
        write_csv(path, rows, names)
        return ClientData.from_csv(path, *args, **options)
    if kind == "jsonl":
        write_jsonl(path, rows, names)
        return ClientData.from_jsonl(path, *args, **options)
    if kind == "parquet":
        pq.write_table(arrow_table(rows, names), path)
        return ClientData.from_parquet(path, *args, **options)
    if kind == "arrow":
        return ClientData.from_dataframe(arrow_table(rows, names), *args, **options)
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(rows, columns=names)
    return ClientData.from_dataframe(frame, *args, **options)


KINDS = ["csv", "jsonl", "parquet", "arrow", "pandas"]
ROWS = [(7, 20, 1.5, "oslo", 0), (3, 30, 2.5, "bonn", 1), (7, 40, 3.5, "rome", 1)]
NAMES = ["user", "age", "height", "city", "label"]


@pytest.mark.parametrize("kind", KINDS)
def test_numbers_are_stacked_in_the_given_order(kind, tmp_path):
    clients = read(kind, tmp_path, ROWS, NAMES, "user", ["height", "age"], "label")
    assert clients.client_ids == ("7", "3")  # in the order of their first rows, as str
    assert clients["7"]["x"].tolist() == [[1.5, 20.0], [3.5, 40.0]]
    assert clients["3"]["x"].tolist() == [[2.5, 30.0]]
    assert clients["7"]["x"].dtype == np.float32
    assert clients["7"]["y"].tolist() == [0, 1] and clients["7"]["y"].dtype == np.int64
    assert clients.source.num_rows == 3 and clients.source.skipped == {}
    assert clients.num_examples("7") == 2


@pytest.mark.parametrize("kind", KINDS)
def test_one_column_stays_as_it_is(kind, tmp_path):
    texts = read(kind, tmp_path, ROWS, NAMES, client="city", x="city", y="height")
    assert texts["oslo"]["x"].tolist() == ["oslo"] and texts["oslo"]["x"].dtype == object
    assert texts["oslo"]["y"].tolist() == [1.5] and texts["oslo"]["y"].dtype == np.float64
    ages = read(kind, tmp_path, ROWS, NAMES, client="user", x="age")
    assert ages["7"]["x"].tolist() == [20, 40] and ages["7"]["x"].dtype == np.int64
    assert list(ages["7"]) == ["x"]


@pytest.mark.parametrize("kind", KINDS)
def test_inputs_and_outputs_by_name(kind, tmp_path):
    x = {"who": "user", "size": ["age", "height"], "city": "city"}
    y = {"first": "label", "second": ["age"]}
    clients = read(kind, tmp_path, ROWS, NAMES, "user", x, y)
    assert {name: column.tolist() for name, column in clients["7"].items()} == {
        "who": [7, 7],
        "size": [[20.0, 1.5], [40.0, 3.5]],
        "city": ["oslo", "rome"],
        "y/first": [0, 1],
        "y/second": [[20.0], [40.0]],
    }


@pytest.mark.parametrize("kind", KINDS)
def test_by_default_x_is_what_has_no_other_role(kind, tmp_path):
    rows, names = [row[:3] + row[4:] for row in ROWS], NAMES[:3] + NAMES[4:]
    clients = read(kind, tmp_path, rows, names, "user", y="label", sample_weight="height")
    assert clients["7"]["x"].tolist() == [[20.0], [40.0]]
    assert clients["7"]["sample_weight"].tolist() == [1.5, 3.5]
    one_text = [(row[0], row[3]) for row in ROWS]
    clients = read(kind, tmp_path, one_text, ["user", "city"], "user")
    assert clients["7"]["x"].tolist() == ["oslo", "rome"]
    with pytest.raises(ValueError, match="column 'city' has values of the kind 'text'"):
        read(kind, tmp_path, ROWS, NAMES, "user", y="label")


@pytest.mark.parametrize("kind", KINDS)
def test_class_names_give_the_numbers_of_classes(kind, tmp_path):
    cities = ["rome", "oslo", "bonn"]
    clients = read(kind, tmp_path, ROWS, NAMES, "user", ["age"], "city", class_names=cities)
    assert clients["7"]["y"].tolist() == [1, 0] and clients["3"]["y"].tolist() == [2]
    assert clients.source.class_names == ("rome", "oslo", "bonn")
    with pytest.raises(ValueError, match=r"(line 3|line 2|row 1).*the class 'bonn'"):
        read(kind, tmp_path, ROWS, NAMES, "user", ["age"], "city", class_names=cities[:2])
    clients = read(
        *(kind, tmp_path, ROWS, NAMES, "user", ["age"], "city"),
        class_names=cities[:2],
        skip_invalid=True,
    )
    assert clients.client_ids == ("7",)
    assert clients.source.skipped == {
        "rows of an unknown class": 1,
        "clients without a valid row": 1,
    }


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("column", ["user", "age", "city", "label"])
def test_a_missing_value_is_an_error_with_its_row_or_is_counted(kind, column, tmp_path):
    rows = [list(row) for row in ROWS]
    rows[1][NAMES.index(column)] = None
    arguments = (kind, tmp_path, rows, NAMES, "user", {"a": "age", "c": "city"}, "label")
    where = {"csv": "line 3", "jsonl": "line 2"}.get(kind, r"row 1 \(counted from 0\)")
    with pytest.raises(ValueError, match=f"{where}: column '{column}' has no value"):
        read(*arguments)
    clients = read(*arguments, skip_invalid=True)
    assert clients.client_ids == ("7",)
    assert clients["7"]["a"].tolist() == [20, 40]
    expected = {"rows with a missing value": 1}
    if column != "user":
        expected["clients without a valid row"] = 1
    assert dict(clients.source.skipped) == expected
    assert clients.source.num_rows == 3
    # Columns without a role are not looked at.
    other = "age" if column != "age" else "label"
    assert sum(read(kind, tmp_path, rows, NAMES, other, ["height"]).to_arrays()["x"]) == 7.5


@pytest.mark.parametrize("kind", ["csv", "jsonl", "pandas"])  # Arrow's columns have one type
def test_a_value_of_another_type_is_an_error_with_its_row_or_is_counted(kind, tmp_path):
    rows = [*ROWS[:2], (7, "forty", 3.5, "rome", 1)]
    where = {"csv": "line 4", "jsonl": "line 3"}.get(kind, r"row 2 \(counted from 0\)")
    with pytest.raises(ValueError, match=f"{where}: column 'age' has the value 'forty'"):
        read(kind, tmp_path, rows, NAMES, "user", ["age"])
    clients = read(kind, tmp_path, rows, NAMES, "user", ["age"], skip_invalid=True)
    assert {name: clients[name]["x"].tolist() for name in clients} == {"7": [[20.0]], "3": [[30.0]]}
    assert clients.source.skipped == {"rows with a value of another type": 1}


def test_the_first_row_that_is_not_valid_is_named(tmp_path):
    rows = [(1, 5, 0), (1, None, 0), (None, 5, 0), (1, 5, None)]
    with pytest.raises(ValueError, match=r"line 3.*'x' has no value.*\(3 of 4 rows are not valid"):
        read("csv", tmp_path, rows, ["user", "x", "y"], "user", "x", "y")


@pytest.mark.parametrize("kind", KINDS)
@hypothesis.given(
    rows=st.lists(
        st.tuples(st.integers(-3, 3), st.integers(0, 2**20), st.text("abé,\" '", min_size=1)),
        min_size=1,
        max_size=30,
    )
)
@hypothesis.settings(max_examples=20, deadline=None)
def test_every_row_gets_to_its_client_in_order(kind, tmp_path_factory, rows):
    rows = [(user, number, f"t{text}") for user, number, text in rows]
    folder = tmp_path_factory.mktemp("rows")
    clients = read(kind, folder, rows, ["user", "x", "text"], "user", ["x"], "text")
    assert list(clients) == list(dict.fromkeys(str(user) for user, _, _ in rows))
    for client_id in clients:
        mine = [row for row in rows if str(row[0]) == client_id]
        assert clients[client_id]["x"].tolist() == [[number] for _, number, _ in mine]
        assert clients[client_id]["y"].tolist() == [text for _, _, text in mine]


@pytest.mark.parametrize("kind", KINDS)
@hypothesis.given(
    rows=st.lists(
        st.tuples(
            st.none() | st.integers(0, 2),
            st.none() | st.integers(0, 9),
            st.none() | st.sampled_from(["a", "b", "c d"]),
        ),
        min_size=1,
        max_size=12,
    )
)
@hypothesis.settings(max_examples=20, deadline=None)
def test_skipping_is_reading_the_valid_rows(kind, tmp_path_factory, rows):
    folder, names = tmp_path_factory.mktemp("rows"), ["user", "x", "text"]
    valid = [row for row in rows if None not in row]
    arguments = ("user", ["x"], "text")
    if not valid:
        with pytest.raises(ValueError, match="none of|no column|has no rows|kind"):
            read(kind, folder, rows, names, *arguments, skip_invalid=True)
        return
    clients = read(kind, folder, rows, names, *arguments, skip_invalid=True)
    assert clients.source.num_rows == len(rows)
    assert clients.source.skipped.get("rows with a missing value", 0) == len(rows) - len(valid)
    assert list(clients) == [*dict.fromkeys(str(row[0]) for row in valid)]
    for client_id in clients:
        mine = [row for row in valid if str(row[0]) == client_id]
        assert clients[client_id]["x"].ravel().tolist() == [row[1] for row in mine]
        assert clients[client_id]["y"].tolist() == [row[2] for row in mine]


def test_the_same_table_has_the_same_fingerprint_in_every_form(tmp_path):
    prints = {
        read(kind, tmp_path, ROWS, NAMES, "user", ["age"], "city").fingerprint()
        for kind in KINDS[:4]
    }
    assert len(prints) == 1


def test_a_partitioner_in_place_of_client_ids(tmp_path):
    clients = read(
        *("csv", tmp_path, ROWS, NAMES),
        x=["age"],
        y="label",
        keep=["city"],
        partitioner=partitioners.natural("y"),
    )
    assert {name: clients[name]["x"].tolist() for name in clients} == {
        "0": [[20.0]],
        "1": [[30.0], [40.0]],
    }
    assert clients["1"]["city"].tolist() == ["bonn", "rome"]
    for wrong in ({}, {"client": "user", "partitioner": partitioners.natural("y")}):
        with pytest.raises(ValueError, match="expected either the column with the client ids or"):
            read("csv", tmp_path, ROWS, NAMES, x=["age"], y="label", **wrong)


def test_selected_clients_know_their_source_and_are_not_read_for_the_schema(tmp_path):
    clients = read("csv", tmp_path, ROWS, NAMES, "user", ["age"], "label")
    chosen = clients.select(["3"])
    assert chosen.source is clients.source
    assert chosen.map(lambda columns: columns).source is clients.source
    assert chosen.schema == clients.schema
    assert clients.schema["x"] == (np.dtype("float32"), (1,))
    assert not clients._store._forms
    assert ClientData.from_dict({"ann": {"x": [1]}}).source is None


# Numbers and other types


def test_integers_that_float32_cannot_hold_are_not_stacked():
    table = pa.table({"user": [1, 2], "x": [2**24, 2**24 + 1], "y": [1e30, 1e39]})
    with pytest.raises(ValueError, match=r"row 1 .*'x' has the value 16777217, which float32"):
        ClientData.from_dataframe(table, "user", ["x"])
    with pytest.raises(ValueError, match=r"row 1 .*'y' has the value 1e\+39, which float32"):
        ClientData.from_dataframe(table, "user", ["y"])
    assert ClientData.from_dataframe(table, "user", "x")["2"]["x"].tolist() == [16777217]


def test_types_of_arrow():
    day = datetime.datetime(2026, 1, 2, 3, 4, 5, 6)
    table = pa.table(
        {
            "user": pa.array(["a", "a"]).dictionary_encode(),
            "small": pa.array([1, 2], pa.uint8()),
            "bool": [True, False],
            "decimal": pa.array([1, 2], pa.decimal128(5, 2)),
            "bytes": [b"\xff", b""],
            "list": pa.array([[1, 2], [3, 4]], pa.list_(pa.int16())),
            "image": pa.array([[[1, 2], [3, 4]]] * 2, pa.list_(pa.list_(pa.uint8()))),
            "words": [["a", "b"], ["c", "d"]],
            "time": pa.array([day, day]),
            "day": pa.array([day.date()] * 2),
        }
    )
    x = {name: name for name in table.column_names[1:-2]}
    ann = ClientData.from_dataframe(table, "user", x, keep=["time", "day"])["a"]
    dtypes = {name: (column.dtype.name, column.shape) for name, column in ann.items()}
    assert dtypes == {
        "small": ("uint8", (2,)),
        "bool": ("bool", (2,)),
        "decimal": ("float64", (2,)),
        "bytes": ("object", (2,)),
        "list": ("int16", (2, 2)),
        "image": ("uint8", (2, 2, 2)),
        "words": ("object", (2, 2)),
        "time": ("int64", (2,)),
        "day": ("int64", (2,)),
    }
    assert ann["image"].tolist() == [[[1, 2], [3, 4]]] * 2
    assert ann["words"].tolist() == [["a", "b"], ["c", "d"]]
    since = datetime.datetime(1970, 1, 1)
    assert ann["time"][0] == (day - since) // datetime.timedelta(microseconds=1)
    assert ann["day"][0] == (datetime.datetime(2026, 1, 2) - since).days * 86_400 * 10**6


def test_lists_of_another_length():
    lists = [[1, 2], [3], [4, 5], None, [6, None]]
    table = pa.table({"user": [1, 1, 2, 2, 2], "x": lists})
    with pytest.raises(ValueError, match=r"row 1 .*a list of another length: expected the shape"):
        ClientData.from_dataframe(table, "user", "x")
    clients = ClientData.from_dataframe(table, "user", "x", skip_invalid=True)
    assert {name: clients[name]["x"].tolist() for name in clients} == {"1": [[1, 2]], "2": [[4, 5]]}
    assert clients.source.skipped == {
        "rows with a missing value": 2,
        "rows with a list of another length": 1,
    }


def test_client_ids_of_other_types():
    def ids(values):
        table = pa.table({"user": values, "x": list(range(len(values)))})
        return ClientData.from_dataframe(table, "user", "x").client_ids

    assert ids([10, 9, 10]) == ("10", "9")
    assert ids([10.0, 9.0]) == ("10", "9")  # as pandas gives integers beside missing ones
    assert ids([True, False]) == ("true", "false")
    assert ids([datetime.date(2026, 1, 31)]) == ("2026-01-31",)
    assert ids([b"ann"]) == ("ann",)
    for wrong, message in [([1.5], "has 1.5 in row 0"), ([[1]], "Arrow type list"), ([""], "no v")]:
        with pytest.raises(ValueError, match=message):
            ids(wrong)


# Data frames


def test_pandas_frames():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(
        {
            "user": pandas.Categorical(["bob", "ann", "bob"], categories=["ann", "bob", "eve"]),
            "image": [np.full([2, 2], i, np.uint8) for i in range(3)],
            "age": pandas.array([1, 2, 3], "Int64"),
            5: [1.0, 2.0, 3.0],
        },
        index=[9, 9, 9],
    )
    clients = ClientData.from_dataframe(frame, "user", {"image": "image", "n": ["age", "5"]})
    assert clients.client_ids == ("bob", "ann")
    assert clients["bob"]["image"].dtype == np.uint8
    assert clients["bob"]["image"][1].tolist() == [[2, 2], [2, 2]]
    assert clients["bob"]["n"].tolist() == [[1.0, 1.0], [3.0, 3.0]]
    frame.loc[:, "age"] = pandas.array([1, None, 3], "Int64")
    with pytest.raises(ValueError, match="row 1 .*'age' has no value"):
        ClientData.from_dataframe(frame, "user", "age")
    mixed = pandas.DataFrame({"user": ["1", 1, "ann"], "x": [1, 2, 3]})
    with pytest.raises(ValueError, match="row 1 .*'user' has the value 1: expected texts"):
        ClientData.from_dataframe(mixed, "user", "x")


def test_other_frames_and_unknown_columns():
    class Frame:  # Polars and others export the same interface
        def __arrow_c_stream__(self, requested_schema=None):
            return pa.table({"user": [1], "x": [2]}).__arrow_c_stream__(requested_schema)

    assert ClientData.from_dataframe(Frame(), "user")["1"]["x"].tolist() == [[2.0]]
    batch = pa.record_batch({"user": [1], "x": [2]})
    assert ClientData.from_dataframe(batch, "user")["1"]["x"].tolist() == [[2.0]]
    table = pa.table({"user_id": [1], "x1": [2]})
    with pytest.raises(ValueError, match="client='userid': expected a column .* as 'user_id'; it"):
        ClientData.from_dataframe(table, "userid")
    with pytest.raises(TypeError, match="df: expected a data frame"):
        ClientData.from_dataframe({"user": [1]}, "user")


# CSV


def test_csv_dialects(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes('\ufeffuser;text\r\n007;"a;""b""\nc"\r\n\r\n8;d\r\n'.encode())
    clients = ClientData.from_csv(path, "user", "text", delimiter=";")
    assert clients.client_ids == ("007", "8")  # as written
    assert clients["007"]["x"].tolist() == ['a;"b"\nc']
    path.write_bytes("user,text\n1,né\n".encode("latin-1"))
    with pytest.raises(ValueError, match="a.csv is not text of the encoding utf-8"):
        ClientData.from_csv(path, "user", "text")
    assert ClientData.from_csv(path, "user", "text", encoding="latin-1")["1"]["x"][0] == "né"
    zipped = tmp_path / "a.csv.gz"
    zipped.write_bytes(gzip.compress(b"user,x\n1,2\n1,\n"))
    with pytest.raises(ValueError, match="a.csv.gz, line 3: column 'x' has no value"):
        ClientData.from_csv(zipped, "user", "x")


def test_lines_are_those_of_the_file(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('user,text,n\n1,"two\nlines",1\n\n2,x,\n3,y\n')
    with pytest.raises(ValueError, match="a.csv, line 6: a row of 2 cells: expected 3"):
        ClientData.from_csv(path, "user", "text")
    path.write_text('user,text,n\n1,"two\nlines",1\n\n2,x,\n')
    with pytest.raises(ValueError, match="a.csv, line 5: column 'n' has no value"):
        ClientData.from_csv(path, "user", "text", "n")
    path.write_text('user,text,n\n1,"two\nlines",1\n\n2,x,4\n3,y\n4,z,\n')
    clients = ClientData.from_csv(path, "user", "text", "n", skip_invalid=True)
    assert clients.client_ids == ("1", "2")
    assert clients.source.num_rows == 4
    assert clients.source.skipped == {
        "rows that cannot be read": 1,
        "rows with a missing value": 1,
        "clients without a valid row": 1,
    }


def test_texts_that_look_like_numbers(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("user,zip,title,day\n1,00501,1984,2026-01-31\n2,10115,Emma,2026-02-01\n")
    clients = ClientData.from_csv(path, "user", "zip", "title")
    assert clients["1"]["x"].tolist() == [501]
    assert clients["1"]["y"].tolist() == ["1984"]  # not most of the column are numbers
    clients = ClientData.from_csv(path, "user", "zip", "day", text=["zip", "day"])
    assert clients["1"]["x"].tolist() == ["00501"]
    assert clients["1"]["y"].tolist() == ["2026-01-31"]
    with pytest.raises(ValueError, match="column 'day' has dates: expected numbers or texts for x"):
        ClientData.from_csv(path, "user", "day")


def test_na_is_missing_among_numbers_and_a_text_among_texts(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("user,n,t\n1,1,NA\n2,NA,b\n3,x,c\n4,5,d\n5,6,\n")
    clients = ClientData.from_csv(path, "user", "n", skip_invalid=True)
    assert clients.client_ids == ("1", "4", "5")
    assert clients.source.skipped == {
        "rows with a missing value": 1,
        "rows with a value of another type": 1,
        "clients without a valid row": 2,
    }
    texts = ClientData.from_csv(path, "user", "t", skip_invalid=True)
    assert texts["1"]["x"].tolist() == ["NA"] and texts.client_ids == ("1", "2", "3", "4")


def test_an_index_of_pandas_is_no_input(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text(",user,a\n0,1,2\n")
    with pytest.raises(ValueError, match="has the column '', such as pandas writes its index"):
        ClientData.from_csv(path, "user")
    assert ClientData.from_csv(path, "user", ["a"])["1"]["x"].tolist() == [[2.0]]


# JSON Lines and Parquet


def test_jsonl_reads_the_same_fast_and_slow(tmp_path):
    path = tmp_path / "a.jsonl"
    lines = ['{"user": 1, "x": [1, 2.5], "t": "a"}', "", '{"user": 2, "x": [3, 4], "t": "b"}']
    path.write_text("\n".join(lines))
    fast = ClientData.from_jsonl(path, "user", "x", "t")
    # A line that is not JSON makes Python read the file.
    path.write_text("\n".join([*lines, "{"]))
    with pytest.raises(ValueError, match="a.jsonl, line 4 is not valid"):
        ClientData.from_jsonl(path, "user", "x", "t")
    slow = ClientData.from_jsonl(path, "user", "x", "t", skip_invalid=True)
    assert slow.source.skipped == {"rows that cannot be read": 1} and slow.source.num_rows == 3
    for client_id in ("1", "2"):
        for name in ("x", "y"):
            assert fast[client_id][name].tolist() == slow[client_id][name].tolist()
            assert fast[client_id][name].dtype == slow[client_id][name].dtype


def test_texts_in_jsonl_stay_texts(tmp_path):
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"user": "2026-01-01", "x": "2026-01-31"}\n'))
    clients = ClientData.from_jsonl(path, "user", "x")
    assert clients.client_ids == ("2026-01-01",)
    assert clients["2026-01-01"]["x"].tolist() == ["2026-01-31"]


def test_a_folder_of_parquet_files(tmp_path):
    for user, part in (("ann", 1), ("ann", 0), ("bob", 0)):
        folder = tmp_path / "data" / f"user={user}"
        folder.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table({"x": [float(part)] * 2}), folder / f"{part}.parquet")
    clients = ClientData.from_parquet(tmp_path / "data", "user", "x")
    assert {name: clients[name]["x"].tolist() for name in clients} == {
        "ann": [0.0, 0.0, 1.0, 1.0],
        "bob": [0.0, 0.0],
    }


def test_encoded_images_in_parquet(tmp_path):
    Image = pytest.importorskip("PIL.Image")
    cells = []
    for value in (10, 200):
        Image.fromarray(np.full([4, 6, 3], value, np.uint8)).save(tmp_path / "a.png")
        cells.append({"bytes": (tmp_path / "a.png").read_bytes(), "path": "a.png"})
    pq.write_table(pa.table({"user": [1, 2], "image": cells}), tmp_path / "a.parquet")
    clients = ClientData.from_parquet(tmp_path / "a.parquet", "user", "image")
    assert clients["2"]["x"].shape == (1, 4, 6, 3) and (clients["2"]["x"] == 200).all()
    clients = ClientData.from_parquet(tmp_path / "a.parquet", "user", "image", image_size=(2, 3))
    assert clients["1"]["x"].shape == (1, 2, 3, 3) and (clients["1"]["x"] == 10).all()


# Arrays


def test_arrays_are_divided():
    x, y = np.arange(12.0).reshape(4, 3), np.array([1, 0, 1, 1])
    rows_of = {"ann": [3, 0], "bob": [1]}
    clients = ClientData.from_arrays(x, y, rows_of, sample_weight=[1, 2, 3, 4], keep={"t": y * 2})
    assert {name: column.tolist() for name, column in clients["ann"].items()} == {
        "x": [[9.0, 10.0, 11.0], [0.0, 1.0, 2.0]],
        "y": [1, 1],
        "sample_weight": [4, 1],
        "t": [2, 2],
    }
    assert clients["bob"]["y"].tolist() == [0]
    named = ClientData.from_arrays({"a": x, "b": y}, {"out": y}, partitioners.natural(y))
    assert named.client_ids == ("1", "0")
    assert list(named["0"]) == ["a", "b", "y/out"] and named["0"]["a"].tolist() == [[3.0, 4.0, 5.0]]
    drawn = ClientData.from_arrays(x, y, partitioners.uniform(num_clients=2, seed=0))
    assert sorted(drawn.to_arrays()["x"][:, 0].tolist()) == [0.0, 3.0, 6.0, 9.0]


def test_rows_of_a_partition_are_those_of_the_arrays_when_some_are_skipped():
    x = np.array([[np.nan], [1.0], [2.0], [3.0]])
    rows_of = {"ann": [0, 1], "bob": [0], "cat": [3, 2], "dan": []}
    with pytest.raises(ValueError, match="the arrays, row 0 .*: column 'x' has no value"):
        ClientData.from_arrays(x, None, rows_of)
    clients = ClientData.from_arrays(x, None, rows_of, skip_invalid=True)
    assert {name: clients[name]["x"].ravel().tolist() for name in clients} == {
        "ann": [1.0],
        "cat": [3.0, 2.0],
        "dan": [],
    }
    assert clients.source.skipped == {
        "rows with a missing value": 1,
        "clients without a valid row": 1,
    }
    texts = ClientData.from_arrays(["a", None, "b"], None, {"ann": [2, 1, 0]}, skip_invalid=True)
    assert texts["ann"]["x"].tolist() == ["b", "a"]


# The package


def test_a_million_clients_are_made_in_seconds():
    num_clients = 100_000  # a tenth, so that the test is quick
    ids = np.arange(3 * num_clients) % num_clients
    clients = ClientData.from_dataframe(pa.table({"user": ids, "x": ids}), "user", "x")
    assert len(clients) == num_clients
    assert clients.schema["x"].dtype == np.int64
    assert clients["99999"]["x"].tolist() == [99_999] * 3


def test_importing_fedlab_does_not_import_pyarrow_or_pandas():
    code = (
        "import sys, fedlab; fedlab.ClientData.from_csv; "
        "print([m for m in ('pyarrow', 'pandas', 'PIL', 'tensorflow') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.strip() == "[]", result.stderr


SOURCES = pathlib.Path(fedlab.__file__).parent / "clients" / "sources"


@pytest.mark.parametrize("name", sorted(path.stem for path in SOURCES.glob("[!_]*.py")))
def test_examples_run(name):
    assert not doctest.testmod(importlib.import_module(f"fedlab.clients.sources.{name}")).failed
