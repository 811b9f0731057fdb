"""`fedlab squad efficacy`, `fedlab squad probe` and `fedlab explain`."""

import json
import sqlite3
import sys

import numpy as np
import pytest

from fedlab import cli
from fedlab.datasets import squad
from fedlab.tasks.question_answering import efficacy, probe

EFFICACY = ["squad", "efficacy", "--source=synthetic"]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Name -> path of two answering models, a larger one, a classifier and a vocabulary."""
    from fedlab.models import bert
    from tests.preferring import PLACES, YEARS, preferring

    sizes = dict(hidden_size=8, intermediate_size=16, num_layers=1, length=48)
    folder = tmp_path_factory.mktemp("models")
    vocabulary = folder / "vocab.txt"
    vocabulary.write_text("\n".join(squad.SYNTHETIC_VOCABULARY) + "\n")
    models = {
        "MODEL": preferring(YEARS),
        "OTHER": preferring(PLACES),
        "LARGER": bert.question_answering(vocab_size=60, **sizes),
        "CLASSIFIER": bert.classification(3, vocab_size=58, **sizes),
    }
    for name, model in models.items():
        model.save(folder / f"{name.lower()}.keras")
    paths = {name: str(folder / f"{name.lower()}.keras") for name in (*models, "NOWHERE")}
    return {**paths, "VOCABULARY": str(vocabulary)}


def filled(arguments, files, tmp_path):
    for name, path in (*files.items(), ("TMP", str(tmp_path))):
        arguments = [argument.replace(name, path) for argument in arguments]
    return arguments


def run_json(capsys, *arguments):
    assert cli.main([*arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


# ---- Efficacy ----


def test_efficacy_and_its_replay(capsys, files, tmp_path):
    import fedlab as fl

    file = tmp_path / "efficacy.sqlite"
    common = [*EFFICACY, f"--database={file}"]
    first = run_json(
        capsys,
        *common,
        f"--model={files['MODEL']}",
        "--name=before",
        "--num_correct=4",
        "--max_draws=500",
        "--seed=3",
    )
    model = fl.models.load(files["MODEL"])
    _, windows = squad.synthetic_windows(max_length=48)
    expected = efficacy.measure(model, windows, num_correct=4, max_draws=500, seed=3)
    assert (first["drawn"], first["correct"], first["accuracy"]) == (
        len(expected.draws),
        expected.reached,
        expected.accuracy,
    )
    assert (
        first["correct"] == 4
        and first["run_id"] == 1
        and first["weights_sha256"] == efficacy.weights_sha256(model)
    )
    assert first["drawn"] - first["distinct_questions"] == sum(
        times - 1 for times in first["repeated"].values()
    )

    again = run_json(capsys, *common, f"--model={files['MODEL']}", "--replay=1")
    assert again["drawn"] == first["drawn"] and again["replay"] == {
        "of": 1,
        "correct_before": 4,
        "gained": 0,
        "lost": 0,
    }
    other = run_json(capsys, *common, f"--model={files['OTHER']}", "--name=after", "--replay=1")
    replay = other["replay"]
    assert replay["correct_before"] + replay["gained"] - replay["lost"] == other["correct"]
    with sqlite3.connect(file) as connection:
        drawn = [
            connection.execute(
                "SELECT question_index FROM draws WHERE run_id = ? ORDER BY draw", (i,)
            ).fetchall()
            for i in (1, 2, 3)
        ]
        outcomes = connection.execute(
            "SELECT exact_match, answer FROM draws WHERE run_id = 1 ORDER BY draw"
        ).fetchall()
        states = connection.execute(
            "SELECT name, path FROM model_states ORDER BY state_id"
        ).fetchall()
    assert drawn[0] == drawn[1] == drawn[2] == [(draw.question,) for draw in expected.draws]
    assert outcomes == [(draw.exact_match, draw.answer) for draw in expected.draws]
    assert states == [
        ("before", files["MODEL"]),
        (files["MODEL"], files["MODEL"]),
        ("after", files["OTHER"]),
    ]


def test_efficacy_as_text(capsys, files, tmp_path):
    arguments = [
        *EFFICACY,
        f"--model={files['MODEL']}",
        f"--database={tmp_path}/e.sqlite",
        "--num_correct=300",
        "--max_draws=200",
    ]
    assert cli.main(arguments) == 0
    out = capsys.readouterr().out
    assert "draws     200 from the 96 questions of test, seed 0\n" in out
    assert "stopped   at 200 draws, before 300 correct answers\n" in out
    assert f"recorded  as run 1 in {tmp_path}/e.sqlite\n" in out
    with sqlite3.connect(tmp_path / "e.sqlite") as connection:
        [(drawn, distinct)] = connection.execute(
            "SELECT drawn, distinct_questions FROM runs"
        ).fetchall()
    assert f"repeats   {drawn - distinct} draws of a question drawn before: " in out


def test_the_numbers_are_those_of_the_file(capsys, files, tmp_path):
    """A question without tokens is never drawn, and the ones after it keep their numbers."""
    file, qas = tmp_path / "my.json", []
    for i, question in enumerate(["Who?", "\u200b", "Where?"]):
        qas.append(
            {"id": str(i), "question": question, "answers": [{"text": "Anna", "answer_start": 0}]}
        )
    file.write_text(
        json.dumps(
            {"data": [{"title": "T", "paragraphs": [{"context": "Anna in Oslo.", "qas": qas}]}]}
        )
    )
    arguments = [
        "squad",
        "efficacy",
        f"--path={file}",
        f"--vocabulary={files['VOCABULARY']}",
        f"--model={files['MODEL']}",
    ]
    arguments += [f"--database={tmp_path}/e.sqlite", "--num_correct=50", "--max_draws=50"]
    found = run_json(capsys, *arguments)
    with sqlite3.connect(tmp_path / "e.sqlite") as connection:
        drawn = set(connection.execute("SELECT question_index, question_id FROM draws"))
    assert drawn == {(0, "0"), (2, "2")} and found["num_questions"] == 3
    replayed = [
        argument
        for argument in arguments
        if "num_correct" not in argument and "max_draws" not in argument
    ]
    assert run_json(capsys, *replayed, "--replay=1")["replay"]["lost"] == 0


# ---- Probe ----


@pytest.mark.slow
def test_the_probe_command_redraws_the_pictures(capsys, files, tmp_path):
    import fedlab as fl

    _, windows = squad.synthetic_windows()
    seen = probe.of_windows(windows, tmp_path / "run" / "probe.npz", num_examples=2)
    for round_num in (0, 1):
        seen(fl.models.load(files["MODEL"]), round_num)
    names = ["probe_loss.png", "probe_output_0.png", "probe_output_1.png", "probe_weights.png"]
    assert cli.main(["squad", "probe", f"--run_dir={tmp_path}/run"]) == 0
    assert capsys.readouterr().out.splitlines() == [f"{tmp_path}/run/{name}" for name in names]
    assert (
        cli.main(["squad", "probe", f"--run_dir={tmp_path}/run", f"--output={tmp_path}/elsewhere"])
        == 0
    )
    for name in names:
        assert (tmp_path / "run" / name).read_bytes() == (
            tmp_path / "elsewhere" / name
        ).read_bytes()


# ---- Explain ----


def test_explain_an_answer(capsys, files, tmp_path):
    page, picture = tmp_path / "why.html", tmp_path / "why.png"
    common = [
        "explain",
        f"--model={files['MODEL']}",
        f"--vocabulary={files['VOCABULARY']}",
        "--num_samples=60",
        "--num_words=3",
    ]
    common += [
        "--question=Who sold the map?",
        "--context=Anna sold the map in Oslo. Boris found the ring.",
    ]
    found = run_json(capsys, *common, f"--output={page}")
    assert cli.main([*common, f"--output={picture}"]) == 0
    out = capsys.readouterr().out
    assert out.startswith(
        f"answer    {found['label']!r}, characters {found['start']} to {found['end']}; score "
    )
    assert f"picture   {picture}\n" in out and picture.read_bytes().startswith(b"\x89PNG")
    rows = [line.split() for line in out.splitlines()[-3:]]
    assert [(float(row[0]), row[1]) for row in rows] == [
        (pytest.approx(w["weight"], abs=6e-6), w["text"]) for w in found["words"]
    ]
    first = page.read_bytes()
    assert run_json(capsys, *common, f"--output={page}") == found and page.read_bytes() == first


@pytest.mark.slow
def test_explain_a_class(capsys, files, tmp_path):
    (tmp_path / "text.txt").write_text("Anna sold the map.")
    common = [
        "explain",
        f"--model={files['CLASSIFIER']}",
        f"--vocabulary={files['VOCABULARY']}",
        "--num_samples=30",
    ]
    one = run_json(capsys, *common, "--text=Anna sold the map.", "--class_names=who, where,when")
    other = run_json(capsys, *common, f"--text=@{tmp_path}/text.txt")
    assert one["label"] in ("who", "where", "when") and other["label"].startswith("class ")
    assert one["words"] == other["words"] and len(one["words"]) == 4 and "start" not in one
    assert cli.main([*common, "--text=Anna sold the map."]) == 0
    assert capsys.readouterr().out.startswith(f"class     {other['label']}; probability ")


# ---- Mistakes ----

DATABASE = "--database=TMP/e.sqlite"
EXPLAIN = ["explain", "--model=MODEL", "--vocabulary=VOCABULARY"]


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([*EFFICACY, "--model=NOWHERE", DATABASE], "there is no model at"),
        (
            [*EFFICACY, "--model=MODEL", "--database=TMP/none/e.sqlite"],
            "/none': expected an existing folder",
        ),
        ([*EFFICACY, "--model=MODEL", "--database=TMP"], "got a folder"),
        (
            [*EFFICACY, "--model=MODEL", "--database=MODEL"],
            "cannot be used as the database (file is not a database)",
        ),
        (
            [*EFFICACY, "--model=MODEL", DATABASE, "--replay=1"],
            "expected a database with a run to replay",
        ),
        (
            [*EFFICACY, "--model=MODEL", DATABASE, "--replay=1", "--seed=0"],
            "--seed: expected none with --replay",
        ),
        ([*EFFICACY, "--model=MODEL", DATABASE, f"--seed={2**63}"], "which SQLite can hold"),
        (
            [*EFFICACY, "--model=LARGER", DATABASE],
            "the vocabulary has 58 tokens: expected 60",
        ),
        ([*EFFICACY, "--model=CLASSIFIER", DATABASE], "logits of shape"),
        (
            [*EFFICACY, "--model=dickens_char_rnn", DATABASE],
            "expected the inputs input_ids, token_type_ids, attention_mask",
        ),
        (
            [*EFFICACY, "--model=MODEL", DATABASE, "--max_length=32"],
            "max_length=32: expected 48, for which the model is built",
        ),
        (["squad", "efficacy", "--model=MODEL", DATABASE], "path=None: expected"),
        (["squad", "probe", "--run_dir=TMP/none"], "expected a run folder"),
        (["squad", "probe", "--run_dir=TMP"], "no probe at"),
        (
            ["squad", "probe", "--run_dir=TMP", "--output=MODEL"],
            "expected a folder, got a file",
        ),
        (["explain", "--model=MODEL"], "expected --question and --context"),
        ([*EXPLAIN, "--text=Anna", "--context=Anna"], "expected --question and --context"),
        ([*EXPLAIN, "--context=Anna"], "--question is missing"),
        (
            [*EXPLAIN, "--question=Who?", "--context=@TMP/none.txt"],
            "expected a file with the context",
        ),
        (
            [*EXPLAIN, "--question=Who?", "--context=Anna", "--class_names=a,b"],
            "--class_names without --text",
        ),
        (
            [*EXPLAIN, "--question=Who?", "--context=Anna", "--output=TMP/a.pdf"],
            "expected a name that ends in .png or .html",
        ),
        ([*EXPLAIN, "--question=Who?", "--context=Anna", "--output=TMP/none/a.png"], "create it"),
        (
            [*EXPLAIN, "--question=Who?", "--context=Anna", "--num_samples=3"],
            "num_samples=3: expected an integer of at least 10",
        ),
        (
            ["explain", "--model=MODEL", "--vocabulary=TMP/v.txt", "--text=a"],
            "no vocabulary at",
        ),
        ([*EXPLAIN, "--text=Anna"], "if it answers questions, pass"),
        (
            ["explain", "--model=LARGER", "--vocabulary=VOCABULARY", "--text=Anna"],
            "the vocabulary has 58 tokens: expected 60",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_arguments_print_one_line(capsys, files, tmp_path, arguments, message):
    assert cli.main(filled(arguments, files, tmp_path)) == 2
    out, err = capsys.readouterr()
    assert out == "" and message in err and err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_replay_of_other_questions(capsys, files, tmp_path):
    common = [*EFFICACY, f"--model={files['MODEL']}", f"--database={tmp_path}/e.sqlite"]
    run_json(capsys, *common, "--num_correct=1", "--max_draws=3")
    before = (tmp_path / "e.sqlite").read_bytes()
    for arguments, message in (
        (["--replay=1", "--split=train"], "expected the questions of run 1"),
        (["--replay=2"], "run 2 of "),
    ):
        assert cli.main([*common, *arguments]) == 2
        assert message in capsys.readouterr().err
    assert (tmp_path / "e.sqlite").read_bytes() == before


def test_a_damaged_probe(capsys, tmp_path):
    np.savez(tmp_path / "probe.npz", rounds=np.arange(3))
    assert cli.main(["squad", "probe", f"--run_dir={tmp_path}"]) == 2
    assert "expected a probe's file" in capsys.readouterr().err


@pytest.mark.parametrize(
    "library, arguments",
    [("matplotlib", ["--output=TMP/a.png"]), ("lime", [])],
    ids=["matplotlib", "lime"],
)
def test_a_library_that_is_missing(capsys, monkeypatch, files, tmp_path, library, arguments):
    for name in [name for name in sys.modules if name.partition(".")[0] == library]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, library, None)
    common = [
        *EXPLAIN,
        "--question=Who?",
        "--context=Anna in Oslo.",
        "--num_samples=10",
        *arguments,
    ]
    assert cli.main(filled(common, files, tmp_path)) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1
    assert f"{library}, which is not installed: pip install 'fedlab-keras[" in err
    assert list(tmp_path.iterdir()) == []
