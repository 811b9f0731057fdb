"""Clients from data sets of the libraries `datasets` (Hugging Face) and `tensorflow_datasets`."""

import numpy as np
import pytest

from fedlab import ClientData
from fedlab.cli._ending import MISTAKES
from fedlab.clients import partitioners
from tests.bad_input.telling import check_line


@pytest.fixture(scope="module")
def reviews():
    datasets = pytest.importorskip("datasets")
    pytest.importorskip("PIL")
    features = datasets.Features(
        {
            "user": datasets.Value("int64"),
            "text": datasets.Value("string"),
            "label": datasets.ClassLabel(names=["bad", "good"]),
            "image": datasets.Image(),
            "vector": datasets.Array2D([2, 2], "float32"),
            "pair": datasets.Sequence(datasets.Value("int32"), length=2),
        }
    )
    rows = {
        "user": [7, 3, 7],
        "text": ["a", "b", "c"],
        "label": [0, 1, 1],
        "image": [np.full([4, 6, 3], value, np.uint8) for value in (1, 2, 3)],
        "vector": [np.full([2, 2], value, np.float32) for value in (1, 2, 3)],
        "pair": [[1, 2], [3, 4], [5, 6]],
    }
    return datasets.Dataset.from_dict(rows, features=features)


def test_huggingface(reviews):
    x = {name: name for name in ("text", "image", "vector", "pair")}
    clients = ClientData.from_huggingface(reviews, "user", x, "label")
    assert clients.client_ids == ("7", "3")
    seven = clients["7"]
    assert seven["text"].tolist() == ["a", "c"] and seven["y"].tolist() == [0, 1]
    assert seven["image"].shape == (2, 4, 6, 3) and seven["image"].dtype == np.uint8
    assert seven["image"][:, 0, 0, 0].tolist() == [1, 3]
    assert seven["vector"].tolist() == [[[1.0, 1.0]] * 2, [[3.0, 3.0]] * 2]
    assert seven["vector"].dtype == np.float32
    assert seven["pair"].tolist() == [[1, 2], [5, 6]] and seven["pair"].dtype == np.int32
    assert clients.source.class_names == ("bad", "good")
    small = ClientData.from_huggingface(reviews, "user", "image", image_size=(2, 3))
    assert small["3"]["x"].shape == (1, 2, 3, 3)


def test_rows_that_huggingface_has_selected_and_shuffled(reviews):
    chosen = reviews.select([2, 1]).filter(lambda row: row["user"] > 0)
    clients = ClientData.from_huggingface(chosen, "user", "text")
    assert clients.client_ids == ("7", "3") and clients["7"]["x"].tolist() == ["c"]
    clients = ClientData.from_huggingface(
        reviews, x="text", y="label", partitioner=partitioners.natural("y")
    )
    assert clients["1"]["x"].tolist() == ["b", "c"]


def test_bad_input_of_huggingface(reviews):
    datasets = pytest.importorskip("datasets")
    missing = datasets.Dataset.from_dict({"user": [1, 2], "x": [1.0, None]})
    for call, received in [
        (lambda: ClientData.from_huggingface(datasets.DatasetDict(a=reviews), "user"), "['a']"),
        (lambda: ClientData.from_huggingface(reviews.to_iterable_dataset(), "user"), "streaming"),
        (lambda: ClientData.from_huggingface(reviews, "users"), "such as 'user'"),
        (lambda: ClientData.from_huggingface(missing, "user"), "row 1 (counted from 0)"),
    ]:
        with pytest.raises(MISTAKES) as raised:
            call()
        check_line(str(raised.value), received)


def test_what_is_no_data_set():
    for call, received in [
        (lambda: ClientData.from_huggingface([1], "user"), "list"),
        (lambda: ClientData.from_huggingface("mnist", "user"), "'mnist'"),
        (lambda: ClientData.from_huggingface("mnist"), "client=None"),
        (lambda: ClientData.from_tfds([1], "user"), "list"),
        (lambda: ClientData.from_tfds("mnist"), "client=None"),
    ]:
        with pytest.raises(MISTAKES) as raised:
            call()
        check_line(str(raised.value), received)


@pytest.fixture(scope="module")
def builder(tmp_path_factory):
    tfds = pytest.importorskip("tensorflow_datasets")

    class Visits(tfds.core.GeneratorBasedBuilder):
        """A data set of two splits."""

        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            return tfds.core.DatasetInfo(
                builder=self,
                features=tfds.features.FeaturesDict(
                    {
                        "image": tfds.features.Image(shape=(None, None, 3)),
                        "label": tfds.features.ClassLabel(names=["cat", "dog"]),
                        "user": {"id": tfds.features.Text(), "age": np.int64},
                        "words": tfds.features.Sequence(np.int32),
                    }
                ),
            )

        def _split_generators(self, dl_manager):
            return {"train": self._generate_examples(3), "test": self._generate_examples(1)}

        def _generate_examples(self, number):
            for i in range(number):
                yield (
                    i,
                    {
                        "image": np.full([4 if number == 3 else 2, 6, 3], 10 * i, np.uint8),
                        "label": i % 2,
                        "user": {"id": "ann" if i % 2 else "bob", "age": 20 + i},
                        "words": [1] * i,
                    },
                )

    made = Visits(data_dir=str(tmp_path_factory.mktemp("tfds")))
    made.download_and_prepare()
    return made


def test_tfds(builder):
    clients = ClientData.from_tfds(builder, "user/id", x="image", y="label", keep=["user/age"])
    assert sorted(clients) == ["ann", "bob"]
    assert clients["ann"]["x"].shape == (1, 4, 6, 3) and clients["ann"]["x"].dtype == np.uint8
    assert clients["ann"]["x"][0, 0, 0, 0] == 10 and clients["ann"]["y"].tolist() == [1]
    assert sorted(clients["bob"]["user/age"].tolist()) == [20, 22]
    assert clients.source.class_names == ("cat", "dog") and clients.source.num_rows == 3
    test = ClientData.from_tfds(builder, "user/id", "image", split="test", image_size=(3, 3))
    assert test["bob"]["x"].shape == (1, 3, 3, 3) and (test["bob"]["x"] == 0).all()
    parts = ClientData.from_tfds(
        builder, x="user/age", y="label", partitioner=partitioners.natural("y")
    )
    assert parts["1"]["x"].tolist() == [21] and sorted(parts["0"]["x"].tolist()) == [20, 22]


def test_bad_input_of_tfds(builder, tmp_path):
    for call, received in [
        (lambda: ClientData.from_tfds(builder, "user/i", "image"), "such as 'user/id'"),
        (lambda: ClientData.from_tfds(builder, "user/id", "image", split="dev"), "split='dev'"),
        (lambda: ClientData.from_tfds(builder, "user/id", "words"), "'words'"),
        (lambda: ClientData.from_tfds("none_such", "user", data_dir=tmp_path), "'none_such'"),
        (lambda: ClientData.from_tfds(type(builder)(data_dir=str(tmp_path)), "user"), "visits"),
    ]:
        with pytest.raises(MISTAKES) as raised:
            call()
        check_line(str(raised.value), received)
