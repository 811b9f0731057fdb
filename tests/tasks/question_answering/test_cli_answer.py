"""`fedlab answer`: the answer, its place in the text, and mistakes."""

import json

import numpy as np
import pytest
import tensorflow as tf

from fedlab import cli

WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "where", "?", "alpha", "beta", ".")
CONTEXT = "Alpha. " * 30 + "B\u00e9ta.\r\n" + "Alpha. " * 30  # several windows of 24 tokens


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Holds a model whose best token is "beta", its vocabulary, and a text."""
    path = tmp_path_factory.mktemp("answer")
    inputs = {
        name: tf.keras.Input([24], dtype="int32", name=name)
        for name in ("input_ids", "token_type_ids", "attention_mask")
    }
    table = np.zeros([len(WORDS), 2], np.float32)
    table[WORDS.index("beta")] = 2.5
    x = tf.keras.layers.Embedding(len(WORDS), 2, weights=[table])(inputs["input_ids"])
    tf.keras.Model(inputs, tf.keras.layers.Permute([2, 1])(x)).save(path / "model.keras")
    (path / "vocab.txt").write_text("\n".join(WORDS), encoding="utf-8")
    (path / "short.txt").write_text("\n".join(WORDS[:-1]), encoding="utf-8")
    (path / "text.txt").write_bytes(CONTEXT.encode())
    (path / "latin.txt").write_bytes("B\u00e9ta".encode("latin-1"))
    (path / "empty.txt").write_bytes(b"\r\n")
    return path


def answer(folder, *arguments):
    """The command's exit code."""
    options = {
        "--model": folder / "model.keras",
        "--vocabulary": folder / "vocab.txt",
        "--question": "Where?",
    }
    given = dict(argument.replace("FOLDER", str(folder)).split("=", 1) for argument in arguments)
    return cli.main(["answer", *(f"{name}={value}" for name, value in (options | given).items())])


@pytest.mark.parametrize(
    "where",
    [f"--context={CONTEXT}", "--context=@FOLDER/text.txt", "--context_file=FOLDER/text.txt"],
)
def test_the_answer_and_its_characters(folder, capsys, where):
    assert answer(folder, where) == 0
    out = capsys.readouterr().out
    start = CONTEXT.index("B\u00e9ta")
    assert json.loads(out) == {
        "answer": "B\u00e9ta",
        "start": start,
        "end": start + 4,
        "score": 5.0,
    }
    assert out.count("\n") == 1 and "B\u00e9ta" in out


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--context=@FOLDER/no.txt"], "no.txt': expected a file with the context; check the path"),
        (["--context=@"], "no file '': expected a file with the context"),
        (["--context_file=FOLDER"], "Is a directory"),
        (["--context_file=FOLDER/latin.txt"], "latin.txt': expected UTF-8 text, but byte 1"),
        (
            ["--context_file=FOLDER/empty.txt"],
            "context='\\r\\n': expected a text that is not empty",
        ),
        (["--context="], "context='': expected"),
        (["--context=Alpha", "--question= "], "question=' ': expected"),
        (["--context=Alpha", "--model=FOLDER/no.keras"], "there is no model at"),
        (["--context=Alpha", "--vocabulary=FOLDER/no.txt"], "no vocabulary at"),
        (["--context=Alpha", "--vocabulary=FOLDER/text.txt"], "expected a BERT vocabulary"),
        (
            ["--context=Alpha", "--vocabulary=FOLDER/short.txt"],
            "the vocabulary has 8 tokens: expected 9",
        ),
        (
            ["--context=Alpha", "--max_length=32"],
            "max_length=32: expected 24, for which the model is built",
        ),
        (["--context=Alpha", "--stride=23"], "stride=23: expected less than 13"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_arguments_print_one_line(folder, capsys, arguments, message):
    assert answer(folder, *arguments) == 2
    out, err = capsys.readouterr()
    assert (
        out == "" and message in err and err.startswith("fedlab: error: ") and err.count("\n") == 1
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ["--question=Where?"],
        ["--context=a"],
        ["--question=a", "--context=a", "--context_file=b"],
        ["--question=a", "--context=a", "--stride=-1"],
    ],
    ids=" ".join,
)
def test_bad_usage(capsys, arguments):
    with pytest.raises(SystemExit) as caught:
        cli.main(["answer", "--model=m", *arguments])
    out, err = capsys.readouterr()
    assert (
        caught.value.code == 2
        and out == ""
        and err.startswith("fedlab answer: error: ")
        and err.count("\n") == 1
    )
