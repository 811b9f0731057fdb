"""The local engine against federated averaging written by hand with plain Keras."""

import contextlib

import numpy as np
import pytest
import tensorflow as tf

from fedlab import aggregators, algorithms
from fedlab.clients import Batching, ClientData
from fedlab.engines import local
from fedlab.engines.batches import client_batches
from fedlab.engines.engine import Setting
from fedlab.learner import clone
from fedlab.models import char_rnn
from tests.keras_loop import largest_difference, one_round

keras = tf.keras


def char_clients(seed=0, length=6):
    """Clients of 1 to 12 sequences of ids below 11, the last one padded."""
    rng = np.random.default_rng(seed)
    clients = {}
    for k, n in enumerate([5, 12, 1, 7]):
        columns = {"x": rng.integers(11, size=[n, length]), "y": rng.integers(11, size=[n, length])}
        columns = {name: column.astype(np.int32) for name, column in columns.items()}
        columns["sample_weight"] = np.ones([n, length], np.float32)
        columns["sample_weight"][-1, 4:] = 0
        columns["y"][-1, 4:] = -1
        clients[f"client_{k}"] = columns
    return ClientData.from_dict(clients)


def small_rnn(**options):
    keras.utils.set_random_seed(3)
    return char_rnn(vocabulary_size=11, embedding_dim=4, units=5, **options)


def make_setting(
    model, clients, algorithm=None, num_workers=1, non_trainable="average", **batching
):
    build = lambda: clone(model)  # noqa: E731
    return Setting(
        model=model,
        build=build,
        clients=clients,
        algorithm=algorithm or algorithms.fed_avg(),
        aggregator=aggregators.mean(),
        batching=Batching(**{"batch_size": 4, **batching}),
        seed=7,
        non_trainable=non_trainable,
        num_workers=num_workers,
    )


def run(setting, rounds=2, cohort=None, process=None):
    """Weights in the model's order after some rounds, and the last round's result."""
    model = setting.model
    with contextlib.closing(process or local.start(setting)) as process:
        state = process.init(
            [w.numpy() for w in model.trainable_weights],
            [w.numpy() for w in model.non_trainable_weights],
        )
        for round_num in range(1, rounds + 1):
            state, result = process.run_round(
                state, round_num, cohort or list(setting.clients.client_ids)
            )
        trainable, non_trainable = process.weights(state)
    by_id = {
        id(v): a
        for v, a in zip(
            model.trainable_weights + model.non_trainable_weights, trainable + non_trainable
        )
    }
    return [by_id[id(v)] for v in model.weights], result


def by_hand(setting, rounds=2, cohort=None, **options):
    weights = setting.model.get_weights()
    for round_num in range(1, rounds + 1):
        weights, losses = one_round(
            setting, weights, round_num, cohort or list(setting.clients.client_ids), **options
        )
    return weights, losses


MODELS = {
    "gru": lambda: small_rnn(),
    "gru reset_before": lambda: small_rnn(reset_after=False),
    "lstm, 2 layers": lambda: small_rnn(cell="lstm", num_layers=2),
    "stateful gru": lambda: small_rnn(stateful=True, batch_size=4),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_equals_a_keras_loop(name):
    setting = make_setting(MODELS[name](), char_clients(), epochs=2)
    ours, result = run(setting)
    expected, losses = by_hand(setting)
    assert largest_difference(ours, expected) < 2e-6
    assert [client["num_tokens"] for client in result.clients] == [
        2 * (6 * n - 2) for n in (5, 12, 1, 7)
    ]
    if "stateful" not in name:  # there Keras counts the rows that fill up the batch
        rows = [[4, 1] * 2, [4, 4, 4] * 2, [1] * 2, [4, 3] * 2]
        assert result.metrics["loss"] == pytest.approx(
            np.average(np.concatenate(losses), weights=np.concatenate(rows)), rel=1e-5
        )


def test_uniform_weights_and_capped_batches():
    model = compiled(keras.Sequential([keras.Input([4]), keras.layers.Dense(3)]))
    algorithm = algorithms.fed_avg(client_weighting="uniform")
    setting = make_setting(model, feature_clients(), algorithm, max_batches=2)
    ours, result = run(setting)
    assert largest_difference(ours, by_hand(setting, weight_of=lambda batches: 1.0)[0]) < 2e-6
    assert [client["num_steps"] for client in result.clients] == [2, 1, 2]


@pytest.mark.slow
def test_weights_by_a_function():
    algorithm = algorithms.fed_avg(client_weighting=lambda counts: tf.sqrt(counts.num_tokens))
    setting = make_setting(small_rnn(), char_clients(), algorithm)
    assert (
        largest_difference(
            run(setting)[0],
            by_hand(setting, weight_of=lambda batches: np.sqrt(batches.tokens.sum()))[0],
        )
        < 2e-6
    )


@pytest.mark.parametrize(
    "optimizer",
    [
        lambda: keras.optimizers.SGD(0.1, momentum=0.9, nesterov=True),
        lambda: keras.optimizers.SGD(0.1, global_clipnorm=0.01),
        lambda: keras.optimizers.Adam(0.01),
        lambda: keras.optimizers.Adagrad(0.1),
    ],
    ids=["nesterov", "clipped", "adam", "adagrad"],
)
def test_every_keras_optimizer_is_reset_at_each_client(optimizer):
    model = compiled(keras.Sequential([keras.Input([4]), keras.layers.Dense(3)]), optimizer())
    setting = make_setting(model, feature_clients())
    # Adam divides by the root of its second moment, which amplifies rounding errors of small
    # gradients.
    assert largest_difference(run(setting)[0], by_hand(setting)[0]) < 1e-5


def feature_clients(classes=3, inputs=("x",)):
    rng = np.random.default_rng(5)

    def make(n):
        columns = {name: rng.normal(size=[n, 4]).astype(np.float32) for name in inputs}
        return columns | {"y": rng.integers(classes, size=n)}

    return ClientData.from_dict({f"c{n}": make(n) for n in (9, 4, 6)})


def compiled(model, optimizer=None):
    optimizer = optimizer or keras.optimizers.SGD(0.1)
    model.compile(
        optimizer,
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return model


def with_batch_normalization():
    # Without a bias, whose gradient before a normalization is only rounding error.
    layers = [
        keras.Input([4]),
        keras.layers.Dense(6, use_bias=False),
        keras.layers.BatchNormalization(),
        keras.layers.Dense(3),
    ]
    return compiled(keras.Sequential(layers))


@pytest.mark.slow
def test_batch_normalization_is_broadcast_or_averaged():
    clients = feature_clients()
    setting = make_setting(with_batch_normalization(), clients, non_trainable="broadcast")
    ours, _ = run(setting)
    assert largest_difference(ours, by_hand(setting)[0]) < 5e-6
    names = [w.name for w in setting.model.weights]
    moving = [i for i, name in enumerate(names) if "moving" in name]
    assert all(np.array_equal(ours[i], setting.model.get_weights()[i]) for i in moving)

    averaged, _ = run(make_setting(setting.model, clients), rounds=1, cohort=["c9"])
    alone = clone(setting.model)
    with contextlib.closing(
        local.start(make_setting(alone, clients))
    ) as process:  # the batches that client c9 sees
        batches = client_batches(process.setting, 1, "c9")
    for i, size in enumerate(batches.sizes):
        alone.train_on_batch(batches.columns["x"][i][:size], batches.columns["y"][i][:size])
    assert largest_difference(averaged, alone.get_weights()) < 5e-6


def test_frozen_regularized_and_multi_input_models():
    a, b = keras.Input([4], name="a"), keras.Input([4], name="b")
    shared = keras.layers.Dense(5, activation="tanh", kernel_regularizer="l2")
    frozen = keras.layers.Dense(5, trainable=False)
    model = compiled(
        keras.Model({"a": a, "b": b}, keras.layers.Dense(3)(shared(a) * shared(b) + frozen(a)))
    )
    setting = make_setting(model, feature_clients(inputs=("a", "b")))
    ours, _ = run(setting)
    assert largest_difference(ours, by_hand(setting)[0]) < 5e-6
    position = [i for i, w in enumerate(model.weights) if any(w is f for f in frozen.weights)]
    assert len(position) == 2 and all(
        np.array_equal(ours[i], model.get_weights()[i]) for i in position
    )


@pytest.mark.slow
def test_masked_sequences_use_keras_masks():
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [
            keras.layers.Embedding(11, 4, mask_zero=True),
            keras.layers.GRU(5, return_sequences=True),
            keras.layers.Dense(11),
        ]
    )
    model.build([None, 6])
    rng = np.random.default_rng(0)
    clients = ClientData.from_dict(
        {
            c: {"x": rng.integers(0, 3, size=[5, 6]), "y": rng.integers(1, 11, size=[5, 6])}
            for c in ("c0", "c1")
        }
    )
    setting = make_setting(compiled(model), clients)
    assert largest_difference(run(setting)[0], by_hand(setting)[0]) < 5e-6


def with_dropout():
    keras.utils.set_random_seed(2)
    layers = [
        keras.Input([4]),
        keras.layers.Dense(16),
        keras.layers.Dropout(0.5),
        keras.layers.GaussianNoise(0.1),
        keras.layers.Dense(3),
    ]
    return compiled(keras.Sequential(layers))


@pytest.mark.parametrize("num_workers", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_bits_do_not_depend_on_workers(num_workers):
    clients = ClientData.from_dict({f"k{i}": feature_clients()["c9"] for i in range(40)})
    first, _ = run(make_setting(with_dropout(), clients, num_workers=2))
    second, _ = run(make_setting(with_dropout(), clients, num_workers=num_workers))
    assert all(np.array_equal(a, b) for a, b in zip(first, second))


@pytest.mark.slow
def test_dropout_draws_differ_by_client_and_round():
    columns = {name: column[:4] for name, column in feature_clients()["c9"].items()}
    clients = ClientData.from_dict({"k0": columns, "k1": columns})

    def one(rounds, cohort):
        return run(make_setting(with_dropout(), clients, shuffle=False), rounds, cohort)[0]

    first, again, other = one(1, ["k0"]), one(1, ["k0"]), one(1, ["k1"])
    assert all(np.array_equal(a, b) for a, b in zip(first, again))
    assert largest_difference(first, other) > 1e-4


def test_client_with_a_non_finite_update_is_dropped_and_counted():
    clients = {client_id: dict(feature_clients()[client_id]) for client_id in ("c9", "c4", "c6")}
    clients["c4"]["x"] = np.full_like(clients["c4"]["x"], np.nan)
    clients = ClientData.from_dict(clients)
    ours, result = run(
        make_setting(
            compiled(keras.Sequential([keras.Input([4]), keras.layers.Dense(3)])), clients
        ),
        1,
    )
    assert [client["dropped"] for client in result.clients] == [False, True, False]
    assert np.isfinite(result.metrics["loss"]) and all(np.isfinite(w).all() for w in ours)


@pytest.mark.slow
def test_one_client_is_centralized_training():
    model = small_rnn()
    clients = char_clients()
    setting = make_setting(model, clients, shuffle=False)
    ours, _ = run(setting, rounds=2, cohort=["client_1"])
    central = clone(model)
    central.fit(clients.select(["client_1"]).to_dataset(batch_size=4), epochs=2, verbose=0)
    assert largest_difference(ours, central.get_weights()) < 2e-6


def test_no_retracing_after_the_first_round():
    setting = make_setting(small_rnn(), char_clients())
    with contextlib.closing(local.start(setting)) as process:
        state = process.init([w.numpy() for w in setting.model.weights], [])
        state, _ = process.run_round(state, 1, ["client_0", "client_1"])
        functions = [dict(replica._functions) for replica in process._workers._idle.queue]
        state, _ = process.run_round(state, 2, ["client_3", "client_2"])
        assert functions == [dict(replica._functions) for replica in process._workers._idle.queue]


@pytest.mark.parametrize(
    "change, message",
    [
        (
            lambda: make_setting(small_rnn(stateful=True, batch_size=3), char_clients()),
            "batch_size=4: expected 3",
        ),
        (
            lambda: make_setting(
                small_rnn(), ClientData.from_dict({"a": {"x": np.zeros([2, 6], np.int32)}})
            ),
            "expected a column 'y'",
        ),
        (lambda: make_setting(compiled(small_rnn()), char_clients()), "ignore_class=-1"),
        (
            lambda: make_setting(small_rnn(), char_clients(), non_trainable="keep"),
            "non_trainable='keep': expected 'average' or 'broadcast'",
        ),
    ],
)
def test_mistakes_are_named_before_the_first_round(change, message):
    with pytest.raises(ValueError, match=message):
        local.start(change())


def test_cohort_without_a_batch():
    with pytest.raises(
        ValueError, match="no client of the cohort of round 1 has a batch of 20 examples"
    ):
        model = compiled(keras.Sequential([keras.Input([4]), keras.layers.Dense(3)]))
        run(make_setting(model, feature_clients(), batch_size=20, drop_remainder=True), 1)
