"""Files of every wrong kind, made once."""

import json
import os
import pickle
import shutil
import sqlite3
import zipfile

import h5py
import numpy as np
import pytest

from tests.stacks import IS_KERAS_3

QA_LENGTH = 32


@pytest.fixture(scope="session")
def files(tmp_path_factory, cache_of_the_tests):
    """The folder of all of them."""
    import fedlab as fl

    folder = tmp_path_factory.mktemp("files")
    (folder / "empty").touch()
    (folder / "folder").mkdir()
    (folder / "text.txt").write_text("no model\r\n")
    (folder / "latin1.txt").write_bytes("Où est-elle?".encode("latin-1"))
    (folder / "binary").write_bytes(bytes(range(256)) * 4)
    (folder / "pickle").write_bytes(pickle.dumps({"weights": [1.0]}))
    (folder / "nested.json").write_text("[" * 10_000 + "]" * 10_000)
    _write_models(fl, folder)
    _write_data(folder)
    _write_runs(fl, folder)
    return folder


def _write_models(fl, folder):
    import tensorflow as tf

    layers, words = tf.keras.layers, len(fl.datasets.squad.SYNTHETIC_VOCABULARY)
    chars = fl.models.char_rnn(units=2, embedding_dim=2)
    chars.save(folder / "chars.keras")
    chars.set_weights([np.full(w.shape, np.nan) for w in chars.get_weights()])
    chars.save(folder / "nan.keras")
    sizes = dict(vocab_size=words, hidden_size=8, intermediate_size=8, num_layers=1)
    fl.models.bert.question_answering(length=QA_LENGTH, **sizes).save(folder / "answers.keras")
    fl.models.bert.classification(3, length=QA_LENGTH, **sizes).save(folder / "classes.keras")
    (folder / "vocabulary.txt").write_text("\n".join(fl.datasets.squad.SYNTHETIC_VOCABULARY) + "\n")
    (folder / "twice.txt").write_text(
        "\n".join([*fl.datasets.squad.SYNTHETIC_VOCABULARY, "map"]) + "\n"
    )
    tf.keras.Sequential([layers.Input([4]), layers.Dense(1)]).save(folder / "uncompiled.keras")
    tf.keras.Sequential([layers.Input([4]), layers.Lambda(lambda x: x)]).save(
        folder / "lambda.keras"
    )
    chars.save_weights(folder / "chars.weights.h5")
    if IS_KERAS_3:
        shutil.copy(folder / "chars.weights.h5", folder / "weights.h5")
    else:
        chars.save_weights(folder / "weights.h5")  # in the older format
    (folder / "cut.keras").write_bytes((folder / "chars.keras").read_bytes()[:900])
    (folder / "newer").mkdir()
    with zipfile.ZipFile(folder / "keras3.keras", "w") as archive:
        archive.writestr("config.json", '{"class_name": "Sequential"}')
        archive.writestr("metadata.json", '{"keras_version": "3.3.3"}')
    with zipfile.ZipFile(folder / "list.keras", "w") as archive:
        archive.writestr("config.json", "[]")
        archive.writestr("metadata.json", "[]")
    with zipfile.ZipFile(folder / "nested.keras", "w") as archive:
        archive.writestr("config.json", (folder / "nested.json").read_text())
        archive.writestr("metadata.json", '{"keras_version": "2.14.0"}')


def squad(*paragraphs):
    return {"version": "1.1", "data": [{"title": "Ann", "paragraphs": list(paragraphs)}]}


def _write_data(folder):
    good = {
        "context": "Ann sang.",
        "qas": [{"id": "1", "question": "Who?", "answers": [{"text": "Ann", "answer_start": 0}]}],
    }
    documents = {
        "squad_good": squad(good),
        "squad_no_data": {"version": "1.1"},
        "squad_number": squad({**good, "context": 7}),
        "squad_start": squad(
            {**good, "qas": [{**good["qas"][0], "answers": [{"text": "Ann", "answer_start": "0"}]}]}
        ),
        "squad_empty": squad({**good, "qas": []}),
        "squad_surrogate": {"data": [{**squad(good)["data"][0], "title": "\ud800"}]},
    }
    for name, document in documents.items():
        (folder / name).mkdir()
        for split in ("train", "dev"):
            (folder / name / f"{split}-v1.1.json").write_text(json.dumps(document))
    for name, data in {
        "squad_nested": (folder / "nested.json").read_bytes(),
        "squad_cut": json.dumps(squad(good)).encode()[:60],
    }.items():
        (folder / name).mkdir()
        for split in ("train", "dev"):
            (folder / name / f"{split}-v1.1.json").write_bytes(data)
    for name, make in {
        "h5_text": None,
        "h5_group": "group",
        "h5_flat": "flat",
        "h5_numbers": "numbers",
        "h5_none": "none",
    }.items():
        (folder / name).mkdir()
        for split in ("train", "test"):
            file = folder / name / f"shakespeare_{split}.h5"
            if make is None:
                file.write_text("no HDF5")
                continue
            with h5py.File(file, "w") as opened:
                if make == "flat":
                    opened["examples"] = [1, 2]
                elif make == "none":
                    opened.create_group("examples")
                elif make == "group":
                    opened.create_group("examples/ann/snippets")
                else:
                    opened["examples/ann/snippets"] = [1.5, 2.5]
    (folder / "plays" / "tragedies").mkdir(parents=True)
    (folder / "plays" / "tragedies" / "hamlet.md").write_bytes(b"**HAMLET**  \n\xff\xfe")
    (folder / "no_plays").mkdir()
    (folder / "other.sqlite").unlink(missing_ok=True)
    with sqlite3.connect(folder / "other.sqlite") as connection:
        connection.execute("CREATE TABLE something (x)")
    connection.close()


def _write_runs(fl, folder):
    import tensorflow as tf

    from tests.quadratics import linear_model, points
    from tests.runs.tables import sign

    clients = points([2, 4], [3, 1])
    runs = folder / "runs"
    fl.simulate(
        linear_model(1, tf.keras.optimizers.SGD(0.125), 1.0),
        clients,
        rounds=1,
        clients_per_round=2,
        evaluate_on={"test": clients, "each": fl.per_client(clients)},
        run_dir=runs / "good",
        progress=False,
    )

    def copy(name):
        return shutil.copytree(runs / "good", runs / name)

    def rewrite_config(name, **changes):
        file = copy(name) / "config.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))

    rewrite_config("version9", format_version=9, versions={"fedlab": "9.0"})
    rewrite_config("rounds", rounds="many")
    rewrite_config("sets", evaluation_examples=["test"])
    (copy("no_config") / "config.json").unlink()
    (copy("binary_config") / "config.json").write_bytes(b"\xff\xfe\x00")
    (copy("nested_config") / "config.json").write_text((folder / "nested.json").read_text())
    (copy("no_tables") / "clients.sqlite").unlink()
    (copy("cut_tables") / "clients.sqlite").write_bytes(
        (runs / "good" / "clients.sqlite").read_bytes()[:1500]
    )
    (copy("samples") / "samples.json").write_text('[{"title": "Before"}]')
    (copy("nested_samples") / "samples.json").write_text((folder / "nested.json").read_text())
    for name, change in {
        "no_json": "UPDATE rounds SET row = '{'",
        "no_round": "UPDATE rounds SET row = '{}'",
        "texts": """UPDATE rounds SET row = '{"round": 1, "seconds": "long", "bytes_up": "many",
            "clients_asked": []}' WHERE round = 1""",
        "times": "UPDATE rounds SET time = 'noon'",
        "lost_table": "DROP TABLE clients",
        "lost_column": "ALTER TABLE evaluations DROP COLUMN metric",
    }.items():
        connection = sqlite3.connect(copy(name) / "clients.sqlite")
        if name == "lost_column":
            connection.execute("CREATE TABLE other (round, part, client_id, num_examples, value)")
            connection.execute("DROP TABLE evaluations")
            connection.execute("ALTER TABLE other RENAME TO evaluations")
        else:
            connection.execute(change)
            if change.startswith("UPDATE"):
                sign(connection)
        connection.commit()
        connection.close()
    for name in ("no_probe", "pickled_probe", "cut_probe", "thin_probe"):
        copy(name)
    evil = np.array([object()], object)
    np.savez(runs / "pickled_probe" / "probe.npz", format=evil)
    np.savez(
        runs / "thin_probe" / "probe.npz", format=np.array("fedlab probe 1"), rounds=np.arange(2)
    )
    (runs / "cut_probe" / "probe.npz").write_bytes(
        (runs / "thin_probe" / "probe.npz").read_bytes()[:200]
    )
    os.mkdir(folder / "no_runs")
