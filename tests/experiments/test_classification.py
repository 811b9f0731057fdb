"""The study of text classification: its texts, and its command line on synthetic messages."""

import csv
import gzip
import json
import pathlib
import subprocess
import sys

import pytest

from experiments.classification import texts

ROOT = pathlib.Path(__file__).resolve().parents[2]
NATURAL = texts.Division("natural", num_clients=6, alpha=0.5, hold_out=0.25, seed=0)
DIRICHLET = NATURAL._replace(method="dirichlet")


def squad(folder, paragraphs=(8, 6, 4, 2)):
    """Writes train-v1.1.json.gz: article "D" has the fewest paragraphs, three questions each."""
    articles = []
    for title, count in zip("ABCD", paragraphs):
        qas = [
            [
                {
                    "id": f"{title}{i}{j}",
                    "question": f"What is {title} in {i}, {j}?",
                    "answers": [{"text": title, "answer_start": 0}],
                }
                for j in range(3)
            ]
            for i in range(count)
        ]
        each = [{"context": f"{title} number {i}", "qas": own} for i, own in enumerate(qas)]
        articles.append({"title": title, "paragraphs": each})
    data = json.dumps({"data": articles}).encode()
    for part in ("train", "dev"):
        (folder / f"{part}-v1.1.json.gz").write_bytes(gzip.compress(data))
    return folder


def pairs(clients):
    columns = clients.to_arrays()
    return list(zip(columns["text"].tolist(), columns["y"].tolist()))


def test_squads_topics_are_its_largest_articles_and_paragraphs_are_held_out_whole(tmp_path):
    found = texts.squad_topics(squad(tmp_path), 3, NATURAL)
    assert found.class_names == found.clients.client_ids == ("A", "B", "C")
    assert {len(set(found.clients[name]["y"])) for name in found.clients} == {1}
    everything = pairs(found.clients) + pairs(found.held_out)
    expected = [
        (f"What is {title} in {i}, {j}?", label)
        for label, (title, count) in enumerate(zip("ABC", (8, 6, 4)))
        for i in range(count)
        for j in range(3)
    ]
    assert sorted(everything) == sorted(expected)
    # A quarter of 8, of 6 (1.5 is rounded to 2) and of 4 paragraphs.
    held_out = {text.split(",")[0] for text, _ in pairs(found.held_out)}
    assert len(held_out) == 2 + 2 + 1 and len(pairs(found.held_out)) == 3 * 5
    assert not held_out & {text.split(",")[0] for text, _ in pairs(found.clients)}


def test_the_division_does_not_change_what_is_held_out(tmp_path):
    squad(tmp_path)
    natural = texts.squad_topics(tmp_path, 4, NATURAL)
    divided = texts.squad_topics(tmp_path, 4, DIRICHLET)
    assert pairs(natural.held_out) == pairs(divided.held_out)
    assert sorted(pairs(natural.clients)) == sorted(pairs(divided.clients))
    assert len(divided.clients) == 6 and list(divided.clients[divided.clients.client_ids[0]]) == [
        "text",
        "y",
    ]


def test_more_topics_than_articles(tmp_path):
    with pytest.raises(ValueError, match="--num_topics=5: expected an integer between 2 and 4"):
        texts.squad_topics(squad(tmp_path), 5, NATURAL)


LABELS = ("good", "bad", "fair")


def reviews(file, num_rows=40):
    """Writes a CSV file: a label, a text with its name, and one of 8 users in turn."""
    with open(file, "w", newline="") as out:
        table = csv.writer(out, delimiter="\t" if file.suffix == ".tsv" else ",")
        table.writerow(["user", "review", "stars"])
        for i in range(num_rows):
            label = LABELS[i % 3]
            table.writerow([f"u{i % 8}", f"{label} text {i}", label])
    return str(file)


def test_a_table_with_natural_clients_holds_out_clients(tmp_path):
    found = texts.table(reviews(tmp_path / "r.csv"), "user", "review", "stars", NATURAL)
    assert found.class_names == ("bad", "fair", "good")
    assert len(found.held_out) == 2 and len(found.clients) == 6
    assert not {*found.held_out} & {*found.clients}
    labels = {f"{LABELS[i % 3]} text {i}": (2, 0, 1)[i % 3] for i in range(40)}
    assert dict(pairs(found.clients) + pairs(found.held_out)) == labels


@pytest.mark.parametrize(("client", "name"), [(None, "r.csv"), ("user", "r.tsv")])
def test_a_table_divided_by_label_holds_out_texts(tmp_path, client, name):
    found = texts.table(reviews(tmp_path / name), client, "review", "stars", DIRICHLET)
    assert len(pairs(found.held_out)) == 10 and len(found.clients) == 6
    together = [text for text, _ in pairs(found.clients) + pairs(found.held_out)]
    assert sorted(together) == sorted(f"{LABELS[i % 3]} text {i}" for i in range(40))


@pytest.mark.parametrize(
    ("text", "label", "message"),
    [
        ("number", "stars", "--text=number: expected a column of texts, got int64"),
        ("review", "share", "--label=share: expected a column of texts or integers, got float"),
        ("review", "same", r"--label=same: expected 2 or more labels, got only \['x'\]"),
        ("revew", "stars", "revew"),
    ],
)
def test_wrong_columns(tmp_path, text, label, message):
    file = tmp_path / "r.jsonl"
    rows = [
        {"number": i, "review": "so so", "stars": i % 2, "share": i / 2, "same": "x"}
        for i in range(4)
    ]
    file.write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(ValueError, match=message):
        texts.table(str(file), None, text, label, DIRICHLET)


def test_a_file_of_another_kind(tmp_path):
    with pytest.raises(ValueError, match="ends with one of .csv, .tsv, .jsonl, .parquet; rename"):
        texts.table(reviews(tmp_path / "r.xlsx"), None, "review", "stars", DIRICHLET)


def test_synthetic_messages():
    natural, divided = (texts.synthetic(division) for division in (NATURAL, DIRICHLET))
    assert len(natural.clients) == 4 and len(natural.held_out) == 2
    assert len(pairs(natural.clients)) == 200 and len(pairs(natural.held_out)) == 100
    assert len(divided.clients) == 6 and divided.held_out.client_ids == ("test",)
    assert len(pairs(divided.clients)) == 300
    text, label = pairs(divided.held_out)[0]
    assert natural.class_names[label].split(".")[0] in text.split()


# ---- The command line ----

SMALL = [
    *("--text=review", "--label=stars", "--max_length=6", "--dropout=0"),
    *("--hidden_size=16", "--num_heads=2", "--num_layers=1", "--intermediate_size=32"),
    *("--rounds=24", "--evaluate_every=8", "--client_learning_rate=0.01"),
]


def run(*arguments):
    command = [sys.executable, "-m", "experiments.classification.run", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)


def rows_of(file):
    with open(file, encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--text=review"], "--text: expected only with --data=FILE"),
        (["--data=r.csv", "--text=review"], "expected --text=COLUMN and --label=COLUMN as well"),
        ([], "--dataset=squad_topics: expected --path=FOLDER of SQuAD's files"),
        (["--dataset=synthetic", "--path=x"], "--path=x: expected no path with --dataset=synth"),
        (
            ["--dataset=twenty_newsgroups", "--partition=natural"],
            "--partition=natural: expected dirichlet or uniform",
        ),
    ],
)
def test_wrong_flags_are_named_before_tensorflow_is_imported(arguments, message):
    result = run(*arguments)
    assert result.returncode == 2 and message in result.stderr, result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """The flags of a small model and a small table."""
    folder = tmp_path_factory.mktemp("data")
    words = [*texts.fl.question_answering.wordpiece.SPECIAL, "text", *LABELS]
    (folder / "vocab.txt").write_text("\n".join(words))
    file = reviews(folder / "reviews.csv", num_rows=320)
    return [*SMALL, f"--data={file}", f"--vocabulary={folder / 'vocab.txt'}"]


@pytest.fixture(scope="module")
def finished(small, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    result = run(*small, "--client=user", f"--run_dir={folder}")
    assert result.returncode == 0, result.stderr
    return result.stdout, folder


@pytest.mark.slow
def test_the_model_learns_to_classify_held_out_clients(finished):
    output, folder = finished
    curve = [row for row in rows_of(folder / "metrics.csv") if row["held_out_accuracy"]]
    assert [row["round"] for row in curve] == ["0", "8", "16", "24"]
    first, last = (float(curve[i]["held_out_accuracy"]) for i in (0, -1))
    assert first < 0.6 and last > 0.95
    # All 80 texts of two clients are both the curve's and those that are compared.
    line = next(line for line in output.splitlines() if line.startswith("Accuracy on 80 "))
    before, after = (float(word) for word in line.split() if word.startswith(("0.", "1.")))
    assert (before, after) == (pytest.approx(first, abs=1e-4), pytest.approx(last, abs=1e-4))
    labels = rows_of(folder / "labels.csv")
    assert [row["label"] for row in labels] == sorted(LABELS)
    counts = [int(row["examples"]) for row in labels]
    correct = [n * float(row["accuracy_before"]) for n, row in zip(counts, labels)]
    assert sum(counts) == 80 and sum(correct) / 80 == pytest.approx(before, abs=1e-3)
    assert (folder / "clients.png").read_bytes().startswith(b"\x89PNG")
    assert (folder / "report.html").is_file()


@pytest.mark.slow
def test_a_frozen_encoder_sends_only_the_head_of_a_saved_model(small, finished, tmp_path):
    folder = tmp_path / "frozen"
    model = finished[1] / "model.keras"
    options = ["--client=user", "--freeze", f"--pretrained={model}", "--rounds=1"]
    result = run(*small, *options, f"--run_dir={folder}")
    assert result.returncode == 0, result.stderr
    # The pooler and the head, in float32.
    numbers = 16 * 16 + 16 + 16 * 3 + 3
    assert f"A client sends {4 * numbers:,} bytes per round." in result.stdout
    before = rows_of(folder / "metrics.csv")[0]["held_out_accuracy"]
    assert before == rows_of(finished[1] / "metrics.csv")[-1]["held_out_accuracy"]


@pytest.mark.slow
def test_centralized_takes_the_steps_of_a_cohort(small, tmp_path):
    folder = tmp_path / "run"
    options = ["--partition=dirichlet", "--centralized", "--rounds=1"]
    result = run(*small, *options, "--batch_size=2", "--max_batches=3", f"--run_dir={folder}")
    assert result.returncode == 0, result.stderr
    # 4 clients per round with 3 batches of 2 texts each.
    (row,) = rows_of(folder / "metrics.csv")[1:]
    assert row["clients_finished"] == "1" and row["examples"] == "24"
    # A fifth of the texts is held out.
    assert sum(int(row["examples"]) for row in rows_of(folder / "labels.csv")) == 64
