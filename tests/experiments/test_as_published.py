"""The published tutorial loses the recurrent weights; its repair and fedlab's TFF engine do not."""

import csv
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
CLIENTS = "ROLE_0,ROLE_1"
# At this rate nothing is learned: the train loss of round 1 is the loss of the weights that the
# clients received.
FLAGS = ["--source=synthetic", f"--cohort={CLIENTS}", "--rounds=1", "--client_learning_rate=1e-9"]

pytest.importorskip("tensorflow_federated")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    """A small trained model's path, its loss, and the losses with random recurrent weights."""
    import tensorflow as tf

    import fedlab as fl

    tf.keras.utils.set_random_seed(0)
    train, _ = fl.datasets.shakespeare.load("synthetic", drop_remainder=True)
    data = train.to_dataset(batch_size=8, client_ids=CLIENTS.split(","))
    model = fl.models.char_rnn(units=8, embedding_dim=8)
    model.optimizer = tf.keras.optimizers.Adam(0.02)
    model.fit(data, epochs=50, verbose=0)
    path = tmp_path_factory.mktemp("model") / "trained.keras"
    model.save(path)
    loss = model.evaluate(data, verbose=0)[0]
    random_losses, trained = [], [layer.get_weights() for layer in model.layers]
    for _ in range(10):
        fresh = [
            layer.get_weights() for layer in fl.models.char_rnn(units=8, embedding_dim=8).layers
        ]
        for layer, *weights in zip(model.layers, trained, fresh):
            layer.set_weights(weights[isinstance(layer, tf.keras.layers.GRU)])
        random_losses.append(model.evaluate(data, verbose=0)[0])
    return path, loss, random_losses


def table(module, path, folder, *arguments):
    """Rows of the curve that a module writes.

    The output goes to a file, because TFF's worker would keep a pipe open.
    """
    with open(folder / "log.txt", "w") as log:
        command = [sys.executable, "-m", module, f"--model={path}", *FLAGS, *arguments]
        code = subprocess.run(
            command, cwd=ROOT, stdout=log, stderr=log, env=dict(os.environ), timeout=600
        ).returncode
    assert code == 0, (folder / "log.txt").read_text()[-3000:]
    with open(
        next(
            folder.rglob("*.csv")
            if module.endswith("as_published")
            else folder.rglob("metrics.csv")
        )
    ) as file:
        return [
            {name: float(value) for name, value in row.items() if value}
            for row in csv.DictReader(file)
        ]


def test_as_published_trains_from_random_recurrent_weights(pretrained, tmp_path):
    path, loss, random_losses = pretrained
    margin = np.std(random_losses)
    assert min(random_losses) - margin > loss + 0.5, "the trained recurrent weights matter"
    before, after = table(
        "experiments.shakespeare.as_published", path, tmp_path, f"--out={tmp_path / 'curve.csv'}"
    )
    assert min(random_losses) - margin < after["train_loss"] < max(random_losses) + margin
    assert (
        after["test_loss"] > before["test_loss"] + 0.5
    ), "the server takes the random weights over"


def test_repaired_keeps_them(pretrained, tmp_path):
    path, loss, _ = pretrained
    before, after = table(
        "experiments.shakespeare.as_published",
        path,
        tmp_path,
        "--repaired",
        f"--out={tmp_path / 'curve.csv'}",
    )
    assert after["train_loss"] == pytest.approx(
        loss, abs=0.2
    )  # other sequences of the same clients
    assert after["test_loss"] == pytest.approx(before["test_loss"], abs=1e-5)


def test_fedlab_on_tff_keeps_them(pretrained, tmp_path):
    path, loss, _ = pretrained
    flags = ["--engine=tff", "--drop_remainder", "--num_chars=0", f"--run_dir={tmp_path / 'run'}"]
    before, after = table("experiments.shakespeare.run", path, tmp_path, *flags)
    assert after["train_loss"] == pytest.approx(loss, abs=0.2)
    assert after["held_out_text_loss"] == pytest.approx(before["held_out_text_loss"], abs=1e-5)
