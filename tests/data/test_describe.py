"""`fl.data.describe`: counts and distances worked out by hand, its table, picture and JSON."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fedlab as fl
from fedlab.clients import partitioners
from fedlab.data import description as lib
from fedlab.data import description_json


def clients(**columns_of):
    return fl.ClientData.from_dict(columns_of)


def described(*labels, **more):
    """The description of clients c0, c1, ... with these labels."""
    return fl.data.describe(
        clients(**{f"c{i}": {"x": np.zeros(len(y)), "y": y} for i, y in enumerate(labels)}), **more
    )


def test_counts_and_distances_by_hand():
    found = described([0, 0, 1, 2], [2, 2], [1, 1])
    # All together: 1/4, 3/8, 3/8. c0: |1/2 - 1/4| + |1/4 - 3/8| + |1/4 - 3/8| = 1/2.
    # c1: 1/4 + 3/8 + 5/8 = 5/4, and c2 as well.
    assert found.distances == pytest.approx([0.5, 1.25, 1.25])
    assert found.mean_distance == pytest.approx(1.0)
    assert found.labels == ("0", "1", "2") and found.num_labels == 3 and found.kind == "classes"
    assert found.counts.tolist() == [[2, 1, 1], [0, 0, 2], [0, 2, 0]]
    assert found.shares[0].tolist() == [0.5, 0.25, 0.25]
    assert found.num_examples.tolist() == [4, 2, 2]
    assert found.quantiles["median"] == 2 and found.quantiles["max"] == 4
    assert found.columns["x"] == lib.Column("float64", (), 0)


def test_one_class_per_client_of_ten_has_the_distance_of_zhao_et_al():
    labels = np.repeat(np.arange(10), 50)
    data = partitioners.clients({"x": np.zeros(500), "y": labels}, partitioners.natural(labels))
    assert fl.data.describe(data).distances == pytest.approx([1.8] * 10)
    even = partitioners.clients(
        {"x": np.zeros(500), "y": labels}, {"a": np.arange(0, 500, 2), "b": np.arange(1, 500, 2)}
    )
    assert fl.data.describe(even).distances == pytest.approx([0, 0])


@settings(max_examples=60, deadline=None)
@given(
    labels=st.lists(st.lists(st.integers(-3, 150), max_size=30), min_size=1, max_size=8).filter(any)
)
def test_distances_are_those_of_the_formula(labels):
    labels = [np.array(each, np.int64) for each in labels]
    everything = np.concatenate(labels)
    found = described(*labels)
    for mine, distance, counts in zip(labels, found.distances, found.counts):
        assert counts.sum() == len(mine)
        if not len(mine):
            assert np.isnan(distance)
            continue
        expected = sum(
            abs((mine == label).mean() - (everything == label).mean()) for label in set(everything)
        )
        assert distance == pytest.approx(expected, abs=1e-9)
    assert found.num_labels == len(set(everything.tolist()))
    assert len(found.labels) == min(100, found.num_labels)
    if found.num_labels > 100:
        assert found.labels[-1] == lib.OTHERS
        totals = sorted(np.unique(everything, return_counts=True)[1], reverse=True)
        assert found.counts[:, -1].sum() == sum(totals[99:])


def test_numbers_have_the_wasserstein_distance():
    # Uniform on [0, 1] and [1, 2]; together on [0, 2], of quantile function 2 u and standard
    # deviation 2 / sqrt(12). The area between u and 2 u is 1/2.
    low, high = np.linspace(0, 1, 3001), np.linspace(1, 2, 3001)
    found = described(low, high)
    assert found.kind == "numbers" and len(found.labels) == 10
    assert found.distances == pytest.approx([0.5 / (2 / np.sqrt(12))] * 2, rel=1e-3)
    assert found.counts.sum(axis=1).tolist() == [3001, 3001]
    assert found.counts[0, 6:].sum() == 0 and found.counts[1, :4].sum() == 0
    assert found.labels[0] == "0 to 0.2000"
    scaled = described(100 * low, 100 * high)
    assert scaled.distances == pytest.approx(found.distances)


def test_numbers_agree_with_scipy():
    stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(0)
    parts = [rng.normal(i, 1 + i, 400) for i in range(4)]
    everything = np.concatenate(parts)
    expected = [stats.wasserstein_distance(each, everything) / everything.std() for each in parts]
    assert described(*parts).distances == pytest.approx(expected, rel=0.02)


def test_floats_with_few_values_are_classes():
    found = described([0.0, 1.0, 1.0], [0.0])
    assert found.kind == "classes" and found.labels == ("0", "1")


@pytest.mark.parametrize(
    "y, weight, labels, counts",
    [
        (["b", "a", "b"], None, ("a", "b"), [1, 2]),
        ([b"b", b"a", b"b"], None, ("a", "b"), [1, 2]),
        ([True, False, True], None, ("False", "True"), [1, 2]),
        ([[1], [0], [1]], None, ("0", "1"), [1, 2]),
        (np.eye(3)[[2, 0, 2]], None, ("0", "2"), [1, 2]),  # one-hot
        ([[1, 1, 0], [0, 1, 0]], None, ("0", "1"), [1, 2]),  # multi-hot
        ([[5, 7, 7], [7, 5, -1]], [[1, 1, 1], [1, 0, 1]], ("5", "7"), [1, 3]),
        ([[5, 7], [7, 9]], [1, 0], ("5", "7"), [1, 1]),
        ([1.5, np.nan, 2.5, 2.5], None, ("1.5", "2.5"), [1, 2]),
        (np.array(["a", None, "a", np.nan], object), None, ("a",), [2]),
    ],
)
def test_what_counts_as_a_label(y, weight, labels, counts):
    columns = {"x": np.zeros(len(y)), "y": y}
    if weight is not None:
        columns["sample_weight"] = weight
    found = fl.data.describe(clients(ann=columns))
    assert found.labels == labels and found.counts.tolist() == [counts]
    assert found.distances == pytest.approx([0.0])


def test_zeros_and_ones_are_positions_only_if_all_clients_have_them():
    hot = described([[0, 1], [0, 1]], np.zeros([0, 2], np.int64), [[1, 0]])
    assert hot.labels == ("0", "1") and hot.counts.tolist() == [[0, 2], [0, 0], [1, 0]]
    tokens = described([[0, 1], [0, 1]], np.zeros([0, 2], np.int64), [[3, 0]])
    assert tokens.labels == ("0", "1", "3")
    assert tokens.counts.tolist() == [[2, 2, 0], [0, 0, 0], [1, 0, 1]]


@pytest.mark.parametrize(
    "columns",
    [
        {"x": np.zeros([3, 2])},
        {"x": np.zeros(3), "y": np.random.default_rng(0).random([3, 4, 4])},
        {"x": np.zeros([0, 2]), "y": np.zeros(0, np.int64)},
    ],
    ids=["no target", "images", "no examples"],
)
def test_without_labels(columns, tmp_path):
    found = fl.data.describe(clients(ann=columns))
    assert found.kind is None and found.label is None and found.counts.shape == (1, 0)
    assert found.mean_distance is None and found.distance_quantiles == {}
    assert "label" not in str(found)
    found.save(tmp_path / "x.png")
    assert description_json.loads(description_json.dumps(found)).kind is None


def test_another_column_and_outputs():
    columns = {"x": np.zeros(2), "topic": ["a", "b"], "y/left": [1, 2], "y/right": [3, 3]}
    data = clients(ann=columns)
    assert fl.data.describe(data).label == "y/left"
    assert fl.data.describe(data, "topic").labels == ("a", "b")
    assert fl.data.describe(data, "y/right").labels == ("3",)


def test_names_of_classes():
    assert described([0, 2], [1], names=["cat", "dog", "owl"]).labels == ("cat", "dog", "owl")
    assert described([0, 7], names=["cat"]).labels == ("cat", "7")


def test_missing_values_are_counted_by_example():
    x = np.zeros([4, 2], np.float32)
    x[1] = np.nan
    x[3, 0] = np.nan
    day = np.array(["2024-01-01", "NaT", "NaT", "NaT"], "datetime64[D]")
    name = np.array(["a", None, "b", np.nan], object)
    ann = {"x": x, "day": day, "name": name, "y": [0, 1, 0, 1]}
    bob = {"x": x[:2], "day": day[:1].repeat(2), "name": ["c", "d"], "y": [0, 1]}
    found = fl.data.describe(clients(ann=ann, bob=bob)).columns
    assert {name: column.missing for name, column in found.items()} == {
        "x": 3,
        "day": 3,
        "name": 2,
        "y": 0,
    }
    assert found["x"].shape == (2,) and found["name"].dtype == "str"


def test_columns_that_differ():
    ann = {"x": np.zeros([1, 3], np.int8), "y": [0]}
    bob = {"x": np.zeros([2, 5], np.int16), "y": [0, 1]}
    assert fl.data.describe(clients(ann=ann, bob=bob)).columns["x"] == lib.Column(
        "int8 or int16", (None,), 0
    )


def test_a_sample_of_clients_is_the_same_each_time():
    data = clients(**{f"c{i}": {"x": [0.0] * (i % 3), "y": [0] * (i % 3)} for i in range(50)})
    found = fl.data.describe(data, max_clients=7)
    assert len(found.client_ids) == 7 and found.num_clients == 50
    assert list(found.client_ids) == sorted(found.client_ids, key=lambda each: int(each[1:]))
    assert found.client_ids == fl.data.describe(data, max_clients=7).client_ids
    assert found.num_examples.tolist() == [int(each[1:]) % 3 for each in found.client_ids]
    assert "described clients" in str(found)


def test_a_run_describes_at_most_a_thousand_clients_and_a_gigabyte(monkeypatch):
    data = clients(**{f"c{i}": {"x": np.zeros(2), "y": [0, 1]} for i in range(1200)})
    assert len(lib.sample(data).client_ids) == 1000
    monkeypatch.setattr(lib, "_MOST_BYTES", 320)  # ten clients of 32 bytes
    assert len(lib.sample(data).client_ids) == 10


def test_the_table():
    lines = str(described([0, 0, 1], [1], [])).splitlines()
    assert [line.split() for line in lines if line][:4] == [
        ["clients", "3"],
        ["examples", "4"],
        ["clients", "without", "examples", "1"],
        ["different", "labels", "(y)", "2"],
    ]
    rows = {line.split("  ")[0]: line.split() for line in lines}
    assert rows["examples"][1:] == "0 0.1000 0.5000 1 2 2.800 3 1.333".split()
    # c0: |2/3 - 1/2| * 2 = 1/3, c1: |0 - 1/2| * 2 = 1.
    assert rows["earth mover's distance (0 to 2)"][-1] == "0.6667"
    assert rows["0"] == ["0", "2", "50.0", "%", "1"]
    assert rows["c1"] == ["c1", "0", "1"]


def test_many_labels_are_listed_by_frequency():
    y = np.concatenate([np.arange(150), np.arange(40, 50), np.arange(45, 60)])
    table = str(described(y))
    assert "the 20 most frequent labels" in table
    listed = [line.split()[0] for line in table.splitlines()[-20:]]
    assert {str(i) for i in range(40, 60)} == set(listed)


def size_of_png(file):
    data = file.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")


@pytest.mark.parametrize("num_clients, num_labels", [(1, 1), (5, 10), (40, 3), (1300, 120)])
def test_pictures_of_few_and_many_clients(tmp_path, num_clients, num_labels):
    pytest.importorskip("matplotlib")
    labels = np.random.default_rng(0).integers(0, num_labels, 20 * num_clients)
    data = partitioners.clients(
        {"x": np.zeros(len(labels)), "y": labels},
        partitioners.dirichlet(num_clients=num_clients, alpha=0.5, seed=0, min_examples=0),
    )
    fl.data.describe(data).save(tmp_path / "data.png")
    width, height = size_of_png(tmp_path / "data.png")
    assert 1200 < width < 1500 and 800 < height < 2000


def test_the_heat_map_shows_the_shares():
    pytest.importorskip("matplotlib")
    from fedlab.data import plots as data_plots

    few = data_plots.pictures(described([0, 0, 1], [1]))
    assert few[-1].wide and few[-1].title == "Labels by client: 2 clients"
    axis = few[-1].figure.axes[0]
    shares = np.array(axis.images[0].get_array())
    assert shares == pytest.approx(np.array([[2 / 3, 0], [1 / 3, 1]]))
    assert [text.get_text() for text in axis.texts] == ["67%", "33%", "100%"]
    assert [tick.get_text() for tick in axis.get_xticklabels()] == ["c0", "c1"]
    # Many clients are sorted by their most frequent label, and by its share.
    many = described(*[[i % 2] * 9 + [0, 1] * (i % 3) for i in range(40)])
    axis = data_plots.pictures(many)[-1].figure.axes[0]
    shares = np.array(axis.images[0].get_array())
    assert shares.shape == (2, 40)
    first = shares.argmax(axis=0)
    assert (np.diff(first) >= 0).all()
    for label in (0, 1):
        assert (np.diff(shares[label, first == label]) <= 1e-12).all()


def test_client_ids_are_drawn_as_they_are(tmp_path):
    pytest.importorskip("matplotlib")
    strange = {"$\\frac$": {"y": ["$x_1$"]}, "a\x1b[2J\n": {"y": ["\x07"]}, "Ψ" * 50: {"y": ["ü"]}}
    found = fl.data.describe(
        fl.ClientData.from_dict({name: {"x": [0.0], **each} for name, each in strange.items()})
    )
    found.save(tmp_path / "data.png")
    assert "\x1b" not in str(found) and "\x07" not in str(found)


@settings(max_examples=30, deadline=None)
@given(
    labels=st.lists(
        st.lists(st.one_of(st.integers(0, 5), st.floats(-1, 1)), max_size=30), min_size=1
    )
)
def test_json_keeps_a_description(labels):
    found = described(*[np.array(each, np.float64) for each in labels])
    again = description_json.loads(description_json.dumps(found))
    assert again.distances == pytest.approx(found.distances, abs=1e-6, nan_ok=True)
    assert (again.counts == found.counts).all() and again.counts.shape == found.counts.shape
    assert (again.num_examples == found.num_examples).all()
    same = ("num_clients", "client_ids", "columns", "label", "kind", "labels", "num_labels")
    assert all(getattr(again, name) == getattr(found, name) for name in same)
    assert str(again).splitlines()[0] == str(found).splitlines()[0]


@pytest.mark.parametrize(
    "change",
    [
        lambda value: value.pop("labels"),
        lambda value: value.update(num_clients=-1),
        lambda value: value.update(num_clients=1),
        lambda value: value.update(num_clients="2"),
        lambda value: value.update(client_ids=["a"]),
        lambda value: value.update(client_ids="ab"),
        lambda value: value.update(client_ids=["a", "\ud800"]),
        lambda value: value.update(counts=[[1, 2], [3]]),
        lambda value: value.update(counts=[[1, 1.5], [0, 2]]),
        lambda value: value.update(counts=[[1, 10**30], [0, 2]]),
        lambda value: value.update(distances=[0.5, -1]),
        lambda value: value.update(distances=[0.5, 1e999]),
        lambda value: value.update(distances=[0.5, "x"]),
        lambda value: value.update(kind="colors"),
        lambda value: value.update(kind=None),
        lambda value: value.update(columns=[1]),
        lambda value: value["columns"]["x"].update(shape=5),
        lambda value: value["columns"]["x"].update(missing=None),
    ],
)
def test_damaged_json_is_refused(change):
    value = json.loads(description_json.dumps(described([0, 1], [1])))
    description_json.loads(json.dumps(value).encode())
    change(value)
    with pytest.raises(ValueError, match="it is not"):
        description_json.loads(json.dumps(value).encode())


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"5", b"\xff", b"[" * 100_000])
def test_something_else_than_a_description_is_refused(data):
    with pytest.raises(ValueError):
        description_json.loads(data)
