"""Weights without a gradient, such as BatchNormalization's, are averaged or only broadcast."""

import numpy as np
import pytest
import tensorflow as tf

import fedlab as fl
from fedlab.aggregators import differentially_private
from fedlab.learner import weight_name
from tests.stacks import keras_2

keras, layers = tf.keras, tf.keras.layers


def compiled(*parts, rate=0.1):
    keras.utils.set_random_seed(1)
    model = keras.Sequential([layers.Input([3]), *parts])
    model.compile(keras.optimizers.SGD(rate), "mse", metrics=["mae"])
    return model


def normalized(rate=0.1, name=None):
    keras.utils.set_random_seed(0)  # Keras 3 draws seeds when it makes a layer
    # Without a bias, whose gradient before a normalization is only rounding error.
    adapted = layers.Normalization()
    adapted.adapt(np.random.default_rng(0).normal(2, 3, [20, 3]))
    frozen, mine = (
        layers.BatchNormalization(trainable=False),
        layers.BatchNormalization(momentum=0.8, name=name),
    )
    return compiled(
        adapted, frozen, layers.Dense(4, use_bias=False), mine, layers.Dense(1), rate=rate
    )


def clients_of(**sizes):
    rng, clients = np.random.default_rng(0), {}
    for name, n in sizes.items():
        x = rng.normal(5, 3, [n, 3]).astype(np.float32)
        clients[name] = {"x": x, "y": x[:, :1] + rng.normal(0, 0.5, [n, 1]).astype(np.float32)}
    return fl.ClientData.from_dict(clients)


def simulate(model, clients, *algorithm, rounds=1, **options):
    everyone = {} if "cohort" in options else {"clients_per_round": len(clients)}
    return fl.simulate(
        model,
        clients,
        *algorithm,
        rounds=rounds,
        progress=False,
        num_workers=1,
        **{**everyone, **options},
    )


def test_one_client_gets_the_statistics_of_fit():
    model, clients = normalized(), clients_of(a=8)
    # Mean, variance and, in Keras 2, count of `adapted`, and those of the frozen layer.
    num_constants = len(model.layers[0].weights) + 2
    constants = [w.numpy() for w in model.non_trainable_weights[:num_constants]]
    run = simulate(
        model, clients, rounds=2, batch_size=4, local_epochs=2, shuffle=False, evaluate_on=clients
    )
    model.fit(
        clients["a"]["x"], clients["a"]["y"], batch_size=4, epochs=4, shuffle=False, verbose=0
    )
    for ours, theirs in zip(run.model.get_weights(), model.get_weights()):
        np.testing.assert_allclose(ours, theirs, rtol=2e-5, atol=1e-6)
    for before, after in zip(constants, run.model.non_trainable_weights):
        np.testing.assert_array_equal(after, before)
    names = [weight_name(w) for w in run.model.non_trainable_weights[-2:]]
    assert "moving_mean" in names[0] and "moving_variance" in names[1]
    assert np.abs(run.model.non_trainable_weights[-2]).max() > 0.1
    expected = run.model.evaluate(clients["a"]["x"], clients["a"]["y"], batch_size=8, verbose=0)
    assert [run.history[-1]["test_loss"], run.history[-1]["test_mae"]] == pytest.approx(
        expected, rel=1e-5
    )
    assert run.history[-1]["bytes_up"] == 4 * (
        12 + 8 + 5 + 8
    )  # kernels, gamma and beta; the statistics of the layer that trains


class Counts(layers.Layer):
    """Counts in several dtypes, and keeps a constant."""

    def build(self, shape):
        def add(name, dtype, value):
            initializer = keras.initializers.Constant(value)
            return self.add_weight(
                name=name, shape=[], dtype=dtype, initializer=initializer, trainable=False
            )

        self.steps, self.left = add("steps", "int32", 5), add("left", "uint8", 250)
        self.rows, self.constant = add("rows", "float32", 0.0), add("constant", "float32", 0.1)
        self.sum_of_large = self.add_weight(
            name="large", shape=[2], dtype="bool", initializer="zeros", trainable=False
        )

    def call(self, x, training=None):
        if training:
            self.steps.assign_add(1)
            self.left.assign_sub(10)
            self.rows.assign_add(tf.cast(tf.shape(x)[0], tf.float32))
            self.sum_of_large.assign([tf.shape(x)[0] == 3, tf.shape(x)[0] < 3])
        return x


def test_counters_of_every_dtype_by_hand():
    # a takes 1 step of 3 rows, b 6 steps of 2 rows: their changes are averaged with weights 3
    # and 12, and rounded.
    clients = clients_of(a=3, b=12)
    run = simulate(compiled(Counts(), layers.Dense(1)), clients, batch_size=3)
    steps, left, rows, constant, large = (w.numpy() for w in run.model.non_trainable_weights)
    assert [steps, left] == [5 + 3, 250 - 34]
    assert rows == pytest.approx((3 * 3 + 12 * 12) / 15)
    assert constant == np.float32(0.1)
    assert large.tolist() == [True, False]


@pytest.mark.slow
def test_statistics_of_distant_features_track_the_data():
    # Features of mean 5 and standard deviation 3: statistics of 0 and 1 are far from these.
    clients, test = clients_of(a=24, b=40), clients_of(t=60)
    runs = {
        policy: simulate(
            normalized_alone(),
            clients,
            rounds=6,
            local_epochs=4,
            non_trainable=policy,
            evaluate_on=test,
        )
        for policy in ("average", "broadcast")
    }
    curves = [[row["train_loss"] for row in run.history[1:]] for run in runs.values()]
    assert curves[0] == curves[1]
    losses = {policy: run.history[-1]["test_loss"] for policy, run in runs.items()}
    assert losses["average"] < 2 * curves[0][-1] < losses["broadcast"] / 3
    x = np.concatenate([clients[name]["x"] for name in clients])
    mean, variance = runs["average"].model.non_trainable_weights
    np.testing.assert_allclose(mean, x.mean(axis=0), rtol=0.05)
    np.testing.assert_allclose(variance, x.var(axis=0), rtol=0.2)
    assert [w.numpy().tolist() for w in runs["broadcast"].model.non_trainable_weights] == [
        [0.0] * 3,
        [1.0] * 3,
    ]


def normalized_alone():
    keras.utils.set_random_seed(0)
    return compiled(layers.BatchNormalization(momentum=0.8), layers.Dense(1), rate=0.05)


@pytest.mark.slow
def test_an_algorithm_that_looks_twice_at_a_batch_counts_it_once():
    # At rate 0 every pass sees the same weights: Mime's second one must not move the statistics
    # again.
    clients = clients_of(a=8, b=4)
    once, twice = (
        simulate(normalized(rate=0.0), clients, algorithm(), batch_size=4)
        for algorithm in (fl.algorithms.fed_avg, fl.algorithms.mime)
    )
    for expected, ours in zip(once.model.non_trainable_weights, twice.model.non_trainable_weights):
        np.testing.assert_array_equal(ours, expected)


@pytest.mark.slow
def test_a_client_with_statistics_that_are_not_finite_is_dropped():
    clients = {name: dict(clients_of(a=8, b=4)[name]) for name in ("a", "b")}
    clients["b"]["x"] = clients["b"]["x"] * np.float32(
        1e30
    )  # its square is infinite, the normalized value is 0
    run = simulate(normalized_alone(), fl.ClientData.from_dict(clients))
    assert [client["reason"] for client in run.clients] == [
        {"a": "", "b": "not finite"}[client["client_id"]] for client in run.clients
    ]
    alone = simulate(normalized_alone(), fl.ClientData.from_dict(clients), cohort=["a"])
    for ours, expected in zip(run.model.get_weights(), alone.model.get_weights()):
        np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_fine_tuning_follows_the_clients_statistics():
    model, own, test = normalized_alone(), clients_of(a=16), clients_of(a=8)
    ours = fl.evaluate_personalized(model, own, test, batch_size=16, local_epochs=3, num_workers=1)
    model.fit(own["a"]["x"], own["a"]["y"], batch_size=16, epochs=3, verbose=0)
    theirs = model.evaluate(test["a"]["x"], test["a"]["y"], verbose=0, return_dict=True)
    assert ours == pytest.approx(theirs, rel=1e-4)


def private(**options):
    aggregator = differentially_private(1.0, 2, 2, norm=1.0, sampling="uniform")
    return dict(aggregator=aggregator, **options)


@pytest.mark.slow
def test_private_aggregators_take_no_statistics_but_constants():
    clients, algorithm = clients_of(a=8, b=4), fl.algorithms.fed_avg(client_weighting="uniform")
    with pytest.raises(
        ValueError,
        match="non_trainable='average': expected 'broadcast' .*'.*mine/moving_mean(:0)?' "
        ".*without noise",
    ):
        simulate(normalized(name="mine"), clients, algorithm, **private())
    model = normalized()
    model.layers[3].trainable = False
    model.compile("sgd", "mse")
    for options in (private(), private(non_trainable="broadcast")):
        run = simulate(model, clients, algorithm, **options)
        for before, after in zip(model.layers[3].weights, run.model.layers[3].weights):
            np.testing.assert_array_equal(after, before)


class Named(layers.Layer):
    def build(self, shape):
        self.label = tf.Variable("text", trainable=False, name="label")

    def call(self, x):
        return x


def test_an_unknown_policy_is_refused():
    with pytest.raises(ValueError, match="non_trainable='keep': expected 'average' or 'broadcast'"):
        simulate(normalized(), clients_of(a=4), non_trainable="keep")


@keras_2  # Keras 3 has no weights of text
def test_what_has_no_average_is_refused():
    clients = clients_of(a=4)
    with pytest.raises(
        ValueError,
        match="has text in its weight 'named.*label:0': expected numbers or bools",
    ):
        simulate(compiled(Named(), layers.Dense(1)), clients)
