"""A probe: what it keeps, that an interruption changes nothing, and its pictures."""

import logging

import numpy as np
import pytest
import tensorflow as tf

import fedlab as fl
from fedlab.datasets import squad
from fedlab.runs.write.run_folder import RunFolder
from fedlab.tasks.question_answering import probe as probe_lib
from fedlab.tasks.question_answering import probe_plot as plots


@pytest.fixture(scope="module")
def windows():
    return squad.synthetic_windows(num_clients=4)


def answering_model():
    tf.keras.utils.set_random_seed(1)
    return fl.models.bert.question_answering(
        vocab_size=58,
        hidden_size=8,
        intermediate_size=16,
        num_layers=1,
        length=48,
        dropout=0.0,
        learning_rate=0.01,
    )


def simulate(windows, folder, rounds=3, **options):
    probe = probe_lib.of_windows(windows[1], folder / "probe.npz", num_examples=3)
    evaluate_on = {"probe": probe}
    clients = squad.clients(windows[0])
    return fl.simulate(
        answering_model(),
        clients,
        rounds=rounds,
        clients_per_round=2,
        run_dir=folder,
        evaluate_on=evaluate_on,
        progress=False,
        **options,
    )


@pytest.fixture(scope="module")
def run(windows, tmp_path_factory):
    return simulate(windows, tmp_path_factory.mktemp("runs") / "run")


# ---- What is kept ----


@pytest.mark.slow
def test_the_probe_records_outputs_losses_and_weights(run):
    record = probe_lib.read(run.path)
    assert record.rounds.tolist() == [0, 1, 2, 3]
    assert record.outputs.shape == (4, 3, 2, 48) and record.losses.shape == (4, 3)
    assert {name: array.shape for name, array in record.weights.items()} == {
        "head/kernel": (4, 8, 2),
        "head/bias": (4, 2),
    }
    inputs = {
        name: record.columns[name] for name in ("input_ids", "token_type_ids", "attention_mask")
    }
    for model, row in ((answering_model(), 0), (run.model, 3)):
        np.testing.assert_allclose(
            record.outputs[row], model.predict(inputs, verbose=0), rtol=1e-5, atol=1e-5
        )
        np.testing.assert_array_equal(
            record.weights["head/kernel"][row], model.get_layer("head").kernel.numpy()
        )
        for i in range(3):
            alone = {name: column[i : i + 1] for name, column in inputs.items()}
            loss = model.evaluate(
                alone, record.columns["y"][i : i + 1], verbose=0, return_dict=True
            )["loss"]
            assert record.losses[row, i] == pytest.approx(loss, rel=1e-5)
    assert [row["probe_loss"] for row in run.history] == pytest.approx(
        record.losses.mean(axis=1).tolist(), rel=1e-6
    )
    assert len(set(record.losses[:, 0].tolist())) == 4


@pytest.mark.slow
@pytest.mark.parametrize("every_round, looked_at", [(True, [0, 1, 2, 3]), (False, [0, 2, 3])])
def test_a_probe_can_run_in_rounds_without_evaluation(windows, tmp_path, every_round, looked_at):
    probe = probe_lib.of_windows(windows[1], tmp_path / "probe.npz", every_round=every_round)
    run = fl.simulate(
        answering_model(),
        squad.clients(windows[0]),
        rounds=3,
        clients_per_round=2,
        max_batches=1,
        evaluate_on={"probe": probe, "held_out": squad.clients(windows[1])},
        evaluate_every=2,
        progress=False,
    )
    assert probe_lib.read(tmp_path).rounds.tolist() == looked_at
    assert [row["round"] for row in run.history if "probe_loss" in row] == looked_at
    assert [row["round"] for row in run.history if "held_out_loss" in row] == [0, 2, 3]


def test_the_examples_hold_their_answers(windows, tmp_path):
    probe_lib.of_windows(windows[1], tmp_path / "probe.npz", num_examples=5, seed=2)(
        answering_model(), 0
    )
    record = probe_lib.read(tmp_path)
    assert len(record.titles) == 5
    for title, labels, y in zip(record.titles, record.labels, record.columns["y"]):
        asked = [question for question in windows[1].questions if question.question == title]
        expected = [answer.text.lower() for question in asked for answer in question.answers]
        assert " ".join(labels[y[0] : y[1] + 1]) in expected and labels[0] == "[CLS]"


@pytest.mark.slow
def test_an_interrupted_run_ends_in_the_same_bytes(windows, run, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    simulate(windows, folder, rounds=1)
    with monkeypatch.context() as patched:
        # The worst moment: the probe has seen the round, the checkpoint has not.
        def killed(*arguments):
            raise KeyboardInterrupt

        patched.setattr(RunFolder, "save", killed)
        with pytest.raises(KeyboardInterrupt):
            simulate(windows, folder, rounds=3)
    assert probe_lib.read(folder).rounds.tolist() == [0, 1, 2]
    simulate(windows, folder, rounds=3)
    assert (folder / "probe.npz").read_bytes() == (run.path / "probe.npz").read_bytes()


def test_a_new_run_overwrites_the_probe_file(windows, tmp_path):
    probe = probe_lib.of_windows(windows[1], tmp_path / "probe.npz")
    model = answering_model()
    for round_num in (0, 1, 2):
        probe(model, round_num)
    probe(model, 0)
    assert probe_lib.read(tmp_path).rounds.tolist() == [0]


def test_missing_earlier_rounds_are_logged(windows, tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        probe_lib.of_windows(windows[1], tmp_path / "probe.npz")(answering_model(), 4)
    assert "does not exist, so that it begins with round 4" in caplog.text
    assert probe_lib.read(tmp_path).rounds.tolist() == [4]


def test_any_model_of_one_output(tmp_path):
    """A classifier of vectors, its loss by hand: log 2 at zero weights."""
    model = tf.keras.Sequential(
        [tf.keras.layers.Dense(2, kernel_initializer="zeros", input_shape=[3], name="only")]
    )
    model.compile("sgd", tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    columns = {
        "x": np.eye(3, dtype=np.float32),
        "y": np.array([0, 1, 1]),
        "sample_weight": np.array([1.0, 1.0, 0.0], np.float32),
    }
    metrics = probe_lib.Probe(columns, tmp_path / "probe.npz", labels=[["a", "b"]] * 3)(model, 0)
    record = probe_lib.read(tmp_path)
    np.testing.assert_allclose(record.losses, [[np.log(2), np.log(2), 0]], rtol=1e-6)
    assert metrics == {"loss": pytest.approx(2 / 3 * np.log(2))}
    assert list(record.weights) == ["only/kernel", "only/bias"]
    assert len(plots.draw(record, tmp_path)) == 5


def test_other_layers(windows, tmp_path):
    probe = probe_lib.of_windows(windows[1], tmp_path / "probe.npz", layers=["layer_0_q*", "head"])
    probe(answering_model(), 0)
    assert list(probe_lib.read(tmp_path).weights) == [
        "layer_0_query/kernel",
        "layer_0_query/bias",
        "head/kernel",
        "head/bias",
    ]


# ---- Mistakes ----


@pytest.mark.parametrize(
    "columns, options, message",
    [
        ({"x": np.zeros([2, 3])}, {}, "expected y and the model's inputs, with the same number"),
        ({"x": np.zeros([2, 3]), "y": np.zeros([3])}, {}, "'x': 2, 'y': 3"),
        ({"x": np.zeros([0, 3]), "y": np.zeros([0])}, {}, "'x': 0, 'y': 0"),
        (
            {"x": np.zeros([2, 3]), "y": np.zeros([2])},
            {"titles": ["one"]},
            "titles of 1 examples: expected 2",
        ),
    ],
)
def test_examples_that_do_not_fit(columns, options, message):
    with pytest.raises(ValueError, match=message):
        probe_lib.Probe(columns, "probe.npz", **options)


def test_windows_without_answers(windows):
    unanswered = squad.synthetic_windows(num_clients=1, unanswerable=1.0)[1]
    with pytest.raises(ValueError, match="48 windows: expected one that contains its answer"):
        probe_lib.of_windows(unanswered, "probe.npz")
    with pytest.raises(ValueError, match="num_examples=0"):
        probe_lib.of_windows(windows[1], "probe.npz", num_examples=0)


def test_files_of_another_probe(windows, tmp_path):
    model, file = answering_model(), tmp_path / "probe.npz"
    probe_lib.of_windows(windows[1], file)(model, 0)
    before = file.read_bytes()
    with pytest.raises(ValueError, match="expected the examples that the run began with"):
        probe_lib.of_windows(windows[1], file, seed=1)(model, 1)
    with pytest.raises(ValueError, match="expected the same model and layers"):
        probe_lib.of_windows(windows[1], file, layers="embeddings_type")(model, 1)
    with pytest.raises(ValueError, match="layer 'tail': expected one of .*embeddings_word"):
        probe_lib.of_windows(windows[1], file, layers="tail")(model, 1)
    assert file.read_bytes() == before


def changed(file):
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


@pytest.mark.parametrize(
    "damage",
    [
        lambda file: file.write_bytes(file.read_bytes()[: file.stat().st_size // 2]),
        lambda file: file.write_bytes(b""),
        changed,
        lambda file: np.savez(file, rounds=np.arange(3)),
        lambda file: np.savez(file, format=np.array("fedlab probe 2")),
        lambda file: np.savez(file, format=np.array({"pickled": 1}, dtype=object)),
    ],
    ids=["half", "empty", "changed", "another", "version", "pickled"],
)
def test_damaged_files(windows, tmp_path, damage):
    file = tmp_path / "probe.npz"
    probe_lib.of_windows(windows[1], file)(answering_model(), 0)
    damage(file)
    with pytest.raises(ValueError, match="expected a probe's file") as caught:
        probe_lib.read(file)
    assert "\n" not in str(caught.value)


def test_no_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="no probe at .*probe.npz"):
        probe_lib.read(tmp_path)


# ---- Pictures ----


@pytest.mark.slow
def test_pictures(run, tmp_path):
    record = probe_lib.read(run.path)
    files = plots.draw(record, tmp_path / "new" / "pictures")
    assert [file.name for file in files] == [
        "probe_loss.png",
        *(f"probe_output_{i}.png" for i in range(3)),
        "probe_weights.png",
    ]
    assert all(file.read_bytes().startswith(b"\x89PNG") for file in files)


def test_the_loss_picture_shows_the_losses(run):
    record = probe_lib.read(run.path)
    [axis] = plots.loss_figure(record).axes
    lines = {line.get_label(): line.get_ydata() for line in axis.lines}
    np.testing.assert_array_equal(lines.pop("mean"), record.losses.mean(axis=1))
    assert list(lines) == record.titles.tolist()
    np.testing.assert_array_equal(np.stack(list(lines.values()), axis=1), record.losses)


def test_the_output_picture_marks_what_is_expected(run):
    record = probe_lib.read(run.path)
    for example in range(3):
        length = int(record.columns["attention_mask"][example].sum())
        panels = [axis for axis in plots.output_figure(record, example).axes if axis.get_title()]
        assert len(panels) == 2
        for panel, axis in enumerate(panels):
            place = record.columns["y"][example, panel]
            assert [line.get_xdata()[0] for line in axis.lines] == [place - 0.5, place + 0.5]
            assert f"position {place} {str(record.labels[example][place])!r}" in axis.get_title()
            [mesh] = axis.collections
            np.testing.assert_allclose(
                mesh.get_array().reshape(4, length), record.outputs[:, example, panel, :length]
            )
        assert [label.get_text() for label in panels[1].get_xticklabels()] == record.labels[
            example
        ][:length].tolist()


def test_the_weights_picture_counts_all_weights(run):
    record = probe_lib.read(run.path)
    panels = [axis for axis in plots.weights_figure(record).axes if axis.get_title()]
    assert [axis.get_title() for axis in panels] == [
        "head/kernel: 16 weights",
        "head/bias: 2 weights",
    ]
    shares = panels[0].collections[0].get_array().filled(0).reshape(4, -1)
    np.testing.assert_allclose(shares.sum(axis=1), 1)
    for i, line in enumerate(panels[1].lines):
        np.testing.assert_array_equal(line.get_xdata(), record.weights["head/bias"][:, i])
        np.testing.assert_array_equal(line.get_ydata(), record.rounds)
    assert len(panels[1].lines) == 2
    assert [text.get_text() for text in panels[1].get_legend().get_texts()] == [
        "number 0",
        "number 1",
    ]


@pytest.mark.parametrize(
    "rounds, edges",
    [([0], [-0.5, 0.5]), ([0, 1, 2], [-0.5, 0.5, 1.5, 2.5]), ([0, 4, 6], [-2, 2, 5, 7])],
    ids=str,
)
def test_rounds_need_not_be_evenly_apart(rounds, edges):
    assert plots._edges(np.array(rounds)).tolist() == edges


def test_titles_are_no_formulas(run, tmp_path):
    record = probe_lib.read(run.path)
    titles = np.array(["What does $5 buy? $\\frac{", "日本 <b> " + "long " * 60, "\n"])
    files = plots.draw(record._replace(titles=titles), tmp_path)
    assert len(files) == 5
