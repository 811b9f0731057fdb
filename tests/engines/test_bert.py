"""A small Transformer in the engines: the same weights in both, and as plain Keras trains it."""

import numpy as np
import pytest
import tensorflow as tf

import fedlab as fl
from fedlab.datasets import squad
from fedlab.engines import local
from fedlab.learner import weight_name
from tests.keras_loop import largest_difference
from tests.models import bert_reference

bert, freeze = fl.models.bert, fl.models.freeze
LENGTH = 10
# Weights that add the same value to everything that a softmax compares: their gradient is 0.
BLIND = ("key/bias:0", "output_norm/beta:0", "head/bias:0")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """Weights so large that every part of the model has gradients that show."""
    return bert_reference.write(tmp_path_factory.mktemp("bert"), bert_reference.tensors())


@pytest.fixture(scope="module")
def squad_checkpoint(tmp_path_factory):
    """The same for SQuAD's synthetic articles, 58 tokens in windows of 32."""
    config = bert_reference.CONFIG | {
        "vocab_size": len(squad.SYNTHETIC_VOCABULARY),
        "max_position_embeddings": 32,
    }
    return bert_reference.write(
        tmp_path_factory.mktemp("squad"), bert_reference.tensors(config), config
    )


def article_clients(sizes=(6, 4, 2)):
    """The first questions of an article each."""
    articles, _ = squad.synthetic(num_clients=3, num_paragraphs=1, max_length=32)
    first = zip(sizes, articles)
    return {
        f"c{k}": {name: column[:n] for name, column in articles[title].items()}
        for k, (n, title) in enumerate(first)
    }


def question_clients(sizes=(6, 9, 3)):
    clients = {}
    for k, n in enumerate(sizes):
        spans = np.random.default_rng(k).integers(0, LENGTH // 2, [n, 2]).astype(np.int32)
        clients[f"c{k}"] = bert_reference.inputs(n, LENGTH, 50, seed=k) | {
            "y": np.sort(spans, axis=1)
        }
    return clients


def class_clients(sizes=(6, 9, 3)):
    clients = question_clients(sizes)
    return {
        client_id: columns | {"y": columns["y"].sum(axis=1) % 3}
        for client_id, columns in clients.items()
    }


def questions(checkpoint, **config):
    model = bert.question_answering(checkpoint, dropout=0, **config)
    model.compile(
        tf.keras.optimizers.SGD(0.05),
        model.loss,
        metrics=[tf.keras.metrics.SparseCategoricalAccuracy(name="accuracy")],
    )
    return model


def classes(checkpoint, **config):
    model = bert.classification(3, checkpoint, dropout=0, **config)
    model.compile(tf.keras.optimizers.Adam(0.01, epsilon=0.01), model.loss)
    return model


@pytest.mark.slow
@pytest.mark.parametrize(
    "make, clients",
    [
        pytest.param(lambda path: questions(path, num_layers=1), question_clients, id="one block"),
        pytest.param(
            lambda path: questions(path, num_layers=1), article_clients, id="one block, articles"
        ),
        pytest.param(questions, question_clients, id="two blocks"),
        pytest.param(
            lambda path: freeze(questions(path), *bert.up_to(1)),
            question_clients,
            id="half frozen",
        ),
        pytest.param(classes, class_clients, id="classification, adam"),
    ],
)
def test_local_equals_tff(request, make, clients):
    pytest.importorskip("tensorflow_federated")
    from fedlab.engines import tff
    from tests.engines.test_tff import make_setting, three_rounds, weights_of

    path = request.getfixturevalue(
        "squad_checkpoint" if clients is article_clients else "checkpoint"
    )
    setting = make_setting(make(path), clients())
    start, frozen = weights_of(setting.model)
    (expected, expected_frozen), expected_results = three_rounds(tff, setting)
    (trained, kept), results = three_rounds(local, setting)
    for variable, before, value, other in zip(
        setting.model.trainable_weights, start, trained, expected
    ):
        if not variable.name.endswith(BLIND):
            assert np.abs(value - before).max() > 1e-5
        np.testing.assert_allclose(value, other, rtol=0, atol=1e-5 * np.abs(other).max())
    for before, value, other in zip(frozen, kept, expected_frozen, strict=True):
        assert np.array_equal(value, before) and np.array_equal(other, before)
    for result, other in zip(results, expected_results):
        assert result.metrics == pytest.approx(other.metrics, rel=1e-5)


def central_step(model, columns):
    """The model after one step of plain Keras on all examples at once."""
    copy = fl.models.clone(model)
    copy.train_on_batch(
        {name: column for name, column in columns.items() if name != "y"}, columns["y"]
    )
    return copy.get_weights()


@pytest.mark.slow
@pytest.mark.parametrize("sizes", [(6,), (6, 4, 2)], ids=["one article", "all articles"])
def test_one_full_batch_step_is_central_sgd(squad_checkpoint, sizes):
    model = questions(squad_checkpoint, num_layers=1)
    clients = fl.clients.ClientData.from_dict(article_clients(sizes))
    run = fl.simulate(
        model,
        clients,
        rounds=1,
        cohort=list(clients.client_ids),
        batch_size=max(sizes),
        progress=False,
    )
    expected = central_step(model, clients.to_arrays())
    assert largest_difference(model.get_weights(), expected) > 0.01
    assert largest_difference(run.model.get_weights(), expected) < 2e-6


@pytest.mark.slow
def test_one_client_is_central_training(squad_checkpoint):
    model = questions(squad_checkpoint, num_layers=1)
    clients = fl.clients.ClientData.from_dict(article_clients((6,)))
    run = fl.simulate(
        model, clients, rounds=2, cohort=["c0"], batch_size=4, shuffle=False, progress=False
    )
    central = fl.models.clone(model)
    central.fit(clients.to_dataset(batch_size=4), epochs=2, verbose=0)
    assert largest_difference(run.model.get_weights(), central.get_weights()) < 5e-6


@pytest.mark.slow
@pytest.mark.parametrize("dropout", [0, 0.2])
def test_head_only_sends_the_head_and_leaves_the_encoder_alone(checkpoint, tmp_path, dropout):
    model = freeze(
        bert.question_answering(checkpoint, num_layers=1, dropout=dropout, learning_rate=0.1),
        keep="head",
    )
    before = model.get_weights()
    clients = fl.clients.ClientData.from_dict(question_clients())
    run = fl.simulate(
        model,
        clients,
        rounds=2,
        clients_per_round=2,
        seed=3,
        evaluate_on=clients,
        run_dir=tmp_path,
        progress=False,
    )
    changed = {
        weight_name(weight)
        for weight, value in zip(run.model.weights, before)
        if not np.array_equal(weight, value)
    }
    assert "head/kernel" in changed and changed <= {"head/kernel", "head/bias"}
    assert [(row["bytes_down"], row["bytes_up"]) for row in run.history[1:]] == [
        (2 * 4 * 26, 2 * 4 * 26)
    ] * 2
    assert run.history[-1]["test_loss"] < run.history[0]["test_loss"]
    exported = tf.keras.models.load_model(tmp_path / "model.keras")
    inputs = {name: column for name, column in clients.to_arrays().items() if name != "y"}
    loss, accuracy = exported.evaluate(inputs, clients.to_arrays()["y"], verbose=0)
    assert [loss, accuracy] == pytest.approx(
        [run.history[-1]["test_loss"], run.history[-1]["test_accuracy"]], rel=1e-6
    )


@pytest.mark.slow
def test_bits_do_not_depend_on_workers(checkpoint):
    model = bert.question_answering(checkpoint, num_layers=1, dropout=0.2, learning_rate=0.01)
    clients = fl.clients.ClientData.from_dict(question_clients())
    first, second = (
        fl.simulate(
            model, clients, rounds=2, clients_per_round=3, num_workers=n, progress=False
        ).model.get_weights()
        for n in (1, 2)
    )
    assert all(np.array_equal(a, b) for a, b in zip(first, second))
