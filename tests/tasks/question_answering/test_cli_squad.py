"""`fedlab squad`: which question is shown, what is said about it, and what a model answers."""

import json

import pytest

from fedlab import cli
from fedlab.datasets import squad
from fedlab.tasks.question_answering import spans

SYNTHETIC = ["squad", "show", "--source=synthetic"]


def show(capsys, *arguments):
    assert cli.main([*SYNTHETIC, *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_by_number(capsys):
    _, test = squad.synthetic_questions()
    found, question = show(capsys, "--index=7", "--max_length=32"), test[7]
    answer = question.answers[0]
    assert found == {
        "index": 7,
        "num_questions": 96,
        "id": question.question_id,
        "title": "ARTICLE_10",
        "client_id": "ARTICLE_10",
        "client_questions": 48,
        "question": question.question,
        "answers": [{"text": answer.text, "start": answer.start}],
        "question_tokens": len(question.question.split()) + 1,  # the question mark
        "context_tokens": 18,
        "windows": 1,
        "max_length": 32,
        "context": question.context,
    }
    assert found["context"][answer.start :].startswith(answer.text)


def test_as_text(capsys):
    assert cli.main([*SYNTHETIC, "--index=7", "--split=train"]) == 0
    out = capsys.readouterr().out
    question = squad.synthetic_questions()[0][7]
    answer = question.answers[0]
    assert f"question  {question.question}\n" in out and out.endswith(f"\n\n{question.context}\n")
    assert (
        f"{answer.text!r}, characters {answer.start} to {answer.start + len(answer.text)}\n" in out
    )
    assert "client    ARTICLE_1 (48 questions)\n".replace("ARTICLE_1", question.title) in out


def test_random_questions(capsys):
    first, second = (show(capsys, "--random", "--seed=5") for _ in range(2))
    assert first == second
    assert len({show(capsys, "--random")["index"] for _ in range(12)}) > 1


def test_search(capsys):
    _, test = squad.synthetic_questions()
    words = test[20].question.rstrip("?").upper()
    found = show(capsys, f"--search={words}")
    assert found["question"].upper().startswith(words)
    matches = [found["index"], *found["other_matches"]]
    assert matches[0] == next(
        i for i, question in enumerate(test) if words in question.question.upper()
    )
    assert 20 in matches and len(set(matches)) == len(matches)


def test_another_partition(capsys):
    found = show(capsys, "--index=0", "--split=train", "--partition=uniform")
    train, _ = squad.synthetic_questions()
    clients = squad.client_questions(train, "uniform")
    assert 0 in clients[found["client_id"]] and found["client_questions"] == len(
        clients[found["client_id"]]
    )


def test_a_file_with_questions_that_have_no_answer(capsys, tmp_path):
    file = tmp_path / "my.json"
    qas = [{"id": "1", "question": "Who?", "is_impossible": True, "answers": []}]
    file.write_text(
        json.dumps(
            {"data": [{"title": "T", "paragraphs": [{"context": "Ann.\r\n\r\nBob.", "qas": qas}]}]}
        )
    )
    assert cli.main(["squad", "show", f"--path={file}", "--index=0"]) == 0
    out = capsys.readouterr().out
    assert "expected  the context has no answer\n" in out and out.endswith("\nAnn.\n\nBob.\n")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Path of a model of another length than the default, with random weights."""
    import tensorflow as tf

    tf.keras.utils.set_random_seed(3)
    inputs = {
        name: tf.keras.Input([24], dtype="int32", name=name)
        for name in ("input_ids", "token_type_ids", "attention_mask")
    }
    x = tf.keras.layers.Embedding(len(squad.SYNTHETIC_VOCABULARY), 8)(inputs["input_ids"])
    types = tf.keras.layers.Embedding(2, 8)(inputs["token_type_ids"])
    mask = tf.keras.layers.Embedding(2, 8)(inputs["attention_mask"])
    x = tf.keras.layers.Dense(2)(tf.keras.layers.Concatenate()([x, types, mask]))
    path = tmp_path_factory.mktemp("model") / "model.keras"
    tf.keras.Model(inputs, tf.keras.layers.Permute([2, 1], name="start_end")(x)).save(path)
    return str(path)


def test_answers_of_a_model_are_shown(capsys, model):
    import fedlab as fl

    found = show(capsys, "--index=11", f"--model={model}")
    _, windows = squad.synthetic_windows(max_length=24)
    windows = windows.select([11])
    [[best]] = spans.answers(windows, spans.logits(fl.models.load(model), windows))
    assert found["max_length"] == 24 and found["windows"] == windows.num_windows == 2
    answer = found["model"]
    assert (answer["answer"], answer["start"], answer["end"]) == (best.text, best.start, best.end)
    assert answer["score"] == pytest.approx(best.score) and answer["probability"] == pytest.approx(
        best.probability
    )
    assert found["context"][answer["start"] : answer["end"]] == answer["answer"]
    assert cli.main([*SYNTHETIC, "--index=11", f"--model={model}"]) == 0
    assert (
        f"model     {best.text!r}, characters {best.start} to {best.end}; score "
        in capsys.readouterr().out
    )


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--index=96"], "--index=96: expected 0 to 95"),
        (["--search=xylophone"], "--search='xylophone': expected words of one of the 96 questions"),
        (["--index=0", "--seed=1"], "--seed without --random"),
        (["--index=0", "--partition=title"], "partition='title': expected one of article"),
        (["--index=0", "--path=/nowhere"], "source='synthetic', which reads no file"),
        (["--index=0", "--max_length=8"], "max_length=8: expected an integer between 16 and"),
        (["--index=0", "--vocabulary=/nowhere/vocab.txt"], "no vocabulary at '/nowhere/vocab.txt'"),
        (
            ["--index=0", "--source=json", "--path=/nowhere"],
            "path='/nowhere': expected a folder with train-v1.1.json",
        ),
        (["--index=0", "--source=json"], "path=None: expected the folder with SQuAD's files"),
        (
            ["--index=0", "--model=MODEL", "--vocabulary=SHORT"],
            "the vocabulary has 57 tokens: expected 58, the number of the model's embeddings",
        ),
        (
            ["--index=0", "--model=MODEL", "--max_length=32"],
            "max_length=32: expected 24, for which the model is built",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_arguments_print_one_line(capsys, model, tmp_path, arguments, message):
    short = tmp_path / "vocab.txt"
    short.write_text("\n".join(squad.SYNTHETIC_VOCABULARY[:-1]), encoding="utf-8")
    assert (
        cli.main(
            [
                *SYNTHETIC,
                *(
                    argument.replace("MODEL", model).replace("SHORT", str(short))
                    for argument in arguments
                ),
            ]
        )
        == 2
    )
    out, err = capsys.readouterr()
    assert out == "" and message in err and err.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["show"],
        ["show", "--index=-1"],
        ["show", "--index=1", "--random"],
        ["show", "--index=0", "--version=3"],
        ["draw"],
    ],
    ids=" ".join,
)
def test_bad_usage(capsys, arguments):
    with pytest.raises(SystemExit) as caught:
        cli.main(["squad", *arguments])
    out, err = capsys.readouterr()
    assert (
        caught.value.code == 2
        and out == ""
        and err.startswith("fedlab squad")
        and err.count("\n") == 1
    )
