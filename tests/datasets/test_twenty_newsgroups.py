"""20 Newsgroups: the archive, headers, word pieces, and synthetic messages."""

import io
import tarfile

import numpy as np
import pytest

from fedlab.clients import partitioners
from fedlab.datasets import twenty_newsgroups
from fedlab.tasks.question_answering.wordpiece import SPECIAL, WordPiece

pytest.importorskip("tokenizers")

VOCABULARY = [*SPECIAL, "news", "##group", ":", "we", "play", "x", "0", "1", "2"]


@pytest.fixture
def few(monkeypatch):
    monkeypatch.setattr(twenty_newsgroups, "NUM_EXAMPLES", {"train": 60, "test": 20})


def messages():
    made = {}
    for label, name in enumerate(twenty_newsgroups.CLASSES):
        for part, numbers in (("train", (0, 1, 2)), ("test", (3,))):
            for i in numbers:
                text = f"Newsgroups: {name}\nLines: 1\n\nWe play {i}\n\nx \xe9"
                made[f"20news-bydate-{part}/{name}/{label}{i}"] = text.encode("latin-1")
    return made


@pytest.mark.parametrize("packed", [True, False])
def test_messages_of_an_archive_or_its_folders(few, tmp_path, packed):
    if packed:
        with tarfile.open(tmp_path / "20news-bydate.tar.gz", "w:gz") as tar:
            for name, data in messages().items():
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    else:
        for name, data in messages().items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_bytes(data)
    text = twenty_newsgroups.load_text(path=tmp_path)
    assert text["train"]["text"].tolist()[:3] == [f"We play {i}\n\nx \xe9" for i in range(3)]
    assert text["train"]["y"].tolist() == [label for label in range(20) for _ in range(3)]
    whole = twenty_newsgroups.load_text(path=tmp_path, remove_headers=False)
    assert whole["test"]["text"][0].startswith("Newsgroups: alt.atheism\n")
    train, test = twenty_newsgroups.load(
        path=tmp_path, vocabulary=VOCABULARY, max_length=6, partitioner=partitioners.natural("y")
    )
    assert len(train) == 20 and test.client_ids == ("test",)
    # [CLS] we play 2 x [SEP]; the seventh and later tokens are left out.
    assert train["7"]["input_ids"].tolist()[2] == [2, 7, 8, 12, 9, 3]
    assert train["7"]["y"].tolist() == [7, 7, 7]


def test_padding():
    columns = {"text": np.array(["we", "", "newsgroup we"], object), "y": np.array([1, 2, 3])}
    made = twenty_newsgroups.preprocess(columns, WordPiece(VOCABULARY), 5)
    assert made["input_ids"].tolist() == [[2, 7, 3, 0, 0], [2, 3, 0, 0, 0], [2, 4, 5, 7, 3]]
    assert made["attention_mask"].sum(axis=1).tolist() == [3, 2, 5]
    assert not made["token_type_ids"].any()
    assert {name: column.dtype.name for name, column in made.items()} == dict.fromkeys(
        made, "int32"
    )


def test_mistakes(tmp_path):
    with pytest.raises(FileNotFoundError, match="20news-bydate.tar.gz"):
        twenty_newsgroups.load(path=tmp_path, vocabulary=VOCABULARY)
    for name, data in messages().items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(data)
    with pytest.raises(ValueError, match="60 messages of train: expected 11314; get the complete"):
        twenty_newsgroups.load(path=tmp_path, vocabulary=VOCABULARY)
    with pytest.raises(ValueError, match="max_length=2: expected an integer of at least 3"):
        twenty_newsgroups.load(max_length=2)


def test_synthetic_messages_can_be_learned():
    train, test = twenty_newsgroups.synthetic(num_clients=30)
    size = len(twenty_newsgroups.SYNTHETIC_VOCABULARY)

    def bags(clients):
        columns = clients.to_arrays()
        return np.stack([np.bincount(row, minlength=size) for row in columns["input_ids"]]), columns

    x, columns = bags(train)
    assert not (columns["input_ids"] == 1).any()  # no unknown word
    w = np.linalg.lstsq(x, np.eye(20)[columns["y"]], rcond=None)[0]
    x, columns = bags(test)
    assert ((x @ w).argmax(axis=1) == columns["y"]).mean() > 0.9
