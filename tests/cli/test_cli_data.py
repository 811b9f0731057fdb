"""--data, --client, --x and --label: files of the user's own in the commands."""

import json

import h5py
import numpy as np
import pytest

import fedlab as fl
from fedlab import cli
from tests.bad_input.telling import check_line

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")
keras = pytest.importorskip("tensorflow").keras

USERS = [7, 8, 7, 9]
AGES, HEIGHTS = [1.0, 2.0, 3.0, 5.0], [2.0, 0.0, 1.0, 1.0]
LABELS = [0.0, 1.0, 5.0, 2.0]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    f = tmp_path_factory.mktemp("data")
    table = pa.table({"user": USERS, "age": AGES, "height": HEIGHTS, "label": LABELS})
    pq.write_table(table, f / "my.parquet")
    rows = ["user,age,height,label"]
    rows += [",".join(map(str, row)) for row in zip(USERS, AGES, HEIGHTS, LABELS)]
    (f / "my.csv").write_text("\n".join(rows) + "\n")
    (f / "my.tsv").write_text("\n".join(rows).replace(",", "\t") + "\n")
    (f / "bad.csv").write_text("\n".join([*rows, "7,,1,1"]) + "\n")
    objects = [
        json.dumps(dict(zip(rows[0].split(","), row))) for row in zip(USERS, AGES, HEIGHTS, LABELS)
    ]
    (f / "my.jsonl").write_text("\n".join(objects))
    clients = fl.ClientData.from_parquet(f / "my.parquet", "user", ["age", "height"], "label")
    clients.save(f / "saved")
    users = {
        name: {"x": clients[name]["x"].tolist(), "y": clients[name]["y"].tolist()}
        for name in clients
    }
    leaf = {"users": list(users), "num_samples": [2, 1, 1], "user_data": users}
    (f / "leaf.json").write_text(json.dumps(leaf))
    with h5py.File(f / "tff.h5", "w") as opened:
        for name in clients:
            opened[f"examples/{name}/x"] = clients[name]["x"]
            opened[f"examples/{name}/label"] = clients[name]["y"]
    (f / "text.txt").write_text("text")

    # Predicts age + 2 height: 5, 2, 5, 7. The errors are 5, 1, 0, 5.
    one = keras.Sequential([keras.Input([2]), keras.layers.Dense(1)])
    one.compile("sgd", "mse")
    one.set_weights([np.array([[1.0], [2.0]]), np.zeros(1)])
    one.save(f / "one.keras")
    inputs = [keras.Input([1], name=name) for name in ("age", "height")]
    two = keras.Model(inputs, keras.layers.Dense(1)(keras.layers.Concatenate()(inputs)))
    two.compile("sgd", "mse")
    two.set_weights(one.get_weights())
    two.save(f / "two.keras")
    return f


def evaluate(capsys, *arguments):
    assert cli.main(["evaluate", *map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


TABLE = ("--client=user", "--label=label")


@pytest.mark.parametrize(
    "name, options",
    [
        ("my.parquet", TABLE),
        ("my.csv", TABLE),
        ("my.tsv", (*TABLE, "--x=age,height")),
        ("my.jsonl", TABLE),
        ("saved", ()),
        ("leaf.json", ()),
        ("tff.h5", ("--label=label",)),
    ],
)
def test_evaluate(folder, capsys, name, options):
    found = evaluate(capsys, f"--model={folder}/one.keras", f"--data={folder}/{name}", *options)
    assert found["metrics"]["loss"] == pytest.approx((25 + 1 + 0 + 25) / 4)
    assert (found["clients"], found["examples"]) == (3, 4)
    assert found["data"] == f"{folder}/{name}" and "dataset" not in found


def test_evaluate_chosen_clients_and_a_model_of_two_inputs(folder, capsys):
    data = (f"--data={folder}/my.csv", *TABLE, "--clients=8,7")
    found = evaluate(capsys, f"--model={folder}/two.keras", *data)
    assert found["metrics"]["loss"] == pytest.approx((1 + 25 + 0) / 3) and found["clients"] == 2
    named = evaluate(capsys, f"--model={folder}/two.keras", *data, "--x=age=height,height=age")
    assert named["metrics"]["loss"] == pytest.approx((4**2 + 3**2 + 2**2) / 3)


def test_what_is_skipped_is_shown(folder, capsys):
    data = (f"--data={folder}/bad.csv", *TABLE, "--skip_invalid")
    assert cli.main(["evaluate", f"--model={folder}/one.keras", *data]) == 0
    out = capsys.readouterr().out
    assert "skipped   1 rows with a missing value" in out and "examples  4" in out
    assert cli.main(["datasets", "show", *data]) == 0
    assert "skipped: 1 rows with a missing value" in capsys.readouterr().out


def test_datasets_of_a_file(folder, capsys):
    assert cli.main(["datasets", f"{folder}/my.parquet", *TABLE]) == 0
    out = capsys.readouterr().out
    assert "examples               4         1         1         2\n" in out
    assert "x: [2, 2] float32" in out and out.startswith(f"{folder}/my.parquet\n")


@pytest.mark.parametrize("by", ["--data={f}/my.csv", "{f}/my.csv"])
def test_datasets_show_of_a_file(folder, capsys, by):
    assert cli.main(["datasets", "show", by.format(f=folder), *TABLE]) == 0
    assert cli.main(["datasets", "show", f"{folder}/saved"]) == 0
    first, second = capsys.readouterr().out.split(f"{folder}/saved\n")
    assert first.removeprefix(f"{folder}/my.csv\n") == second


def test_datasets_show_divides_a_table_without_client_ids(folder, capsys):
    arguments = ["datasets", "show", f"{folder}/my.csv", "--x=age,height", "--label=label"]
    assert cli.main([*arguments, "--partitioner=uniform(num_clients=2)"]) == 0
    out = capsys.readouterr().out
    assert "divided by" in out
    divided = ["datasets", "show", f"{folder}/my.csv", *TABLE, "--partitioner=natural('client')"]
    assert cli.main(divided) == 0


MISTAKES = [
    ("evaluate --model={f}/one.keras --client=user", "--client"),
    ("evaluate --model={f}/one.keras --data={f}/none.csv --client=user", "none.csv"),
    ("evaluate --model={f}/one.keras --data={f}/my.csv", "--client=COLUMN"),
    ("evaluate --model={f}/one.keras --data={f}/my.csv --client=usr", "such as 'user'"),
    ("evaluate --model={f}/one.keras --data={f}/my.csv --client=user --label=lable", "'label'"),
    ("evaluate --model={f}/one.keras --data={f}/bad.csv --client=user --label=label", "line 6"),
    ("evaluate --model={f}/one.keras --data={f}/text.txt --client=user", "text.txt"),
    ("evaluate --model={f}/one.keras --data={f}/my.csv --dataset=squad", "--dataset=squad"),
    ("evaluate --model={f}/one.keras --data={f}/my.csv --path=x", "--path=x"),
    ("evaluate --model={f}/one.keras --data={f}/saved --client=user", "--client=user"),
    ("evaluate --model={f}/one.keras --data={f}/leaf.json --label=y", "--label=y"),
    ("evaluate --model={f}/one.keras --data={f}/tff.h5 --client=user", "--client=user"),
    ("evaluate --model={f}/two.keras --data={f}/my.csv --client=user --x=age=", "--x=age="),
    ("datasets show shakespeare --data={f}/my.csv --client=user", "--dataset=shakespeare"),
    ("datasets show {f}/none.csv --client=user", "none.csv"),
    ("datasets show {f}/my.csv", "--client=COLUMN"),
    ("datasets --label=y", "--label"),
    ("datasets show shakespeare --x=age", "--x"),
]


@pytest.mark.parametrize("arguments, received", MISTAKES)
def test_bad_input(folder, capsys, arguments, received):
    assert cli.main(arguments.format(f=folder).split()) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("fedlab: error: ")
    check_line(err, received)
