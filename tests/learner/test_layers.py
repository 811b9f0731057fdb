"""Every kind of Keras layer in the local engine, against federated averaging in plain Keras."""

import contextlib
import threading
import time

import numpy as np
import pytest
import tensorflow as tf

from fedlab.clients import ClientData, seeding
from fedlab.clients.columns import keras_batch
from fedlab.engines import local
from fedlab.engines.batches import client_batches
from fedlab.engines.rounds import Rounds
from fedlab.engines.workers import Workers
from fedlab.learner import clone
from tests import quick
from tests.engines.test_local import by_hand, compiled, feature_clients, make_setting, run
from tests.keras_loop import largest_difference, one_round
from tests.stacks import IS_KERAS_3

keras = tf.keras
layers = keras.layers
Input = keras.Input


@pytest.fixture(autouse=True)
def seeded():
    """Layers that are built before their model have the same weights in any order of tests."""
    keras.utils.set_random_seed(0)


def make_clients(sizes=(7, 4, 5), **columns):
    """Clients of so many rows; columns: name -> function of (generator, rows)."""
    rng = np.random.default_rng(5)
    return ClientData.from_dict(
        {f"k{n}": {name: column(rng, n) for name, column in columns.items()} for n in sizes}
    )


def floats(*shape):
    return lambda rng, n: rng.normal(size=[n, *shape]).astype(np.float32)


def classes(*shape):
    return lambda rng, n: rng.integers(3, size=[n, *shape])


def padded_ids(rng, n):
    """Ids of 1 to 8; rows of 1 to 6 of them, then zeros."""
    return (
        rng.integers(1, 9, size=[n, 6]) * (np.arange(6) < rng.integers(1, 7, size=[n, 1]))
    ).astype(np.int32)


def sequential(*parts):
    keras.utils.set_random_seed(4)
    return compiled(keras.Sequential(parts))


def functional(inputs, output):
    return compiled(keras.Model(inputs, output))


def set_generators(setting):
    """Draws as the engine documents.

    Each random layer has a generator, set from (seed, round, client) when a client starts.
    """

    def prepare(model, round_num, client_id):
        seed = seeding.generator(setting.seed, "dropout", round_num, client_id).integers(2**63)
        if IS_KERAS_3:
            from fedlab.learner.keras3 import seeds

            states = seeds.generators(model)
            for state, start in zip(states, seeds.starts(len(states), tf.constant(seed))):
                state.assign(start)
            return
        random_layers = [
            layer
            for layer in model._flatten_layers(include_self=False)
            if hasattr(layer, "_random_generator")
        ]
        for i, layer in enumerate(random_layers):
            layer._random_generator = type(layer._random_generator)(seed=0, rng_type="stateful")
            layer._random_generator._maybe_init()
            layer._random_generator._generator.state.assign(np.array([0, i, seed], np.int64))

    return prepare


def assert_equals_keras(model, clients, make=None, **options):
    """Two rounds of the engine and of plain Keras change the weights and end in the same ones."""
    setting = make_setting(model, clients, **options)
    if make is not None:
        build = lambda: clone(model, make)  # noqa: E731
        setting = setting._replace(build=build)
    ours, _ = run(setting)
    expected, _ = by_hand(setting, prepare=set_generators(setting))
    # Rounding in another order reached 6e-6 with some first weights.
    assert largest_difference(ours, expected) < 1e-5
    assert largest_difference(ours, model.get_weights()) > 1e-3


# Layers.


def images(channels=2):
    return make_clients(x=floats(8, 8, channels), y=classes())


def sequences():
    return make_clients(x=floats(6, 4), y=classes())


def convolutions():
    return sequential(
        Input([8, 8, 2]),
        layers.Conv2D(4, 3, padding="same", activation="relu"),
        layers.SeparableConv2D(4, 3),
        layers.DepthwiseConv2D(2),
        layers.MaxPooling2D(),
        layers.Conv2DTranspose(3, 2, strides=2),
        layers.UpSampling2D(),
        layers.AveragePooling2D(2),
        layers.Conv2D(3, 2, dilation_rate=2),
        layers.Flatten(),
        layers.Dense(3),
    )


def convolutions_in_time():
    return sequential(
        Input([6, 4]),
        layers.ZeroPadding1D(1),
        layers.Conv1D(4, 3, padding="causal", strides=2),
        layers.SeparableConv1D(4, 2),
        layers.Conv1DTranspose(3, 2),
        layers.TimeDistributed(layers.Dense(4, activation="relu")),
        # Keras 3 has no such layer.
        *([] if IS_KERAS_3 else [layers.LocallyConnected1D(2, 1)]),
        layers.GlobalMaxPooling1D(),
        layers.Dense(3),
    )


def normalizations():
    adapted = layers.Normalization()
    adapted.adapt(np.random.default_rng(0).normal(2, 3, size=[20, 4]))
    return sequential(
        Input([4]),
        adapted,
        layers.Dense(6),
        layers.LayerNormalization(),
        layers.GroupNormalization(2),
        layers.PReLU(),
        layers.UnitNormalization(),
        layers.Dense(3),
    )


def attention():
    """Masked by the embedding."""
    ids = Input([None], dtype="int32")
    x = layers.Embedding(9, 4, mask_zero=True)(ids)
    x = layers.LayerNormalization()(x + layers.MultiHeadAttention(2, 3)(x, x))
    x = layers.Attention(use_scale=True)([x, x])
    x = layers.AdditiveAttention()([x, x])
    return functional(ids, layers.Dense(3)(layers.GlobalAveragePooling1D()(x)))


def masked_recurrent():
    return sequential(
        Input([None], dtype="int32"),
        layers.Embedding(9, 4, mask_zero=True),
        layers.LSTM(4, return_sequences=True),
        layers.Bidirectional(layers.GRU(3, return_sequences=True)),
        layers.TimeDistributed(layers.Dense(3)),
    )


def other_recurrent():
    return sequential(
        Input([6, 4]),
        layers.RNN([layers.LSTMCell(3), layers.GRUCell(4)], return_sequences=True),
        layers.LSTM(4, recurrent_activation="hard_sigmoid", return_sequences=True),
        layers.SimpleRNN(4, return_sequences=True),
        layers.Reshape([6, 2, 2, 1]),
        layers.ConvLSTM2D(2, 2),
        layers.Flatten(),
        layers.Dense(3),
    )


def nested():
    """A model in a model in a model, one of them used twice."""
    inner = keras.Sequential(
        [Input([4]), layers.Dense(4, activation="tanh"), layers.LayerNormalization()]
    )
    x = Input([4])
    middle = keras.Model(x, inner(inner(x)) + x)
    return sequential(Input([4]), middle, layers.Dense(3))


def regularized():
    return sequential(
        Input([4]),
        layers.Dense(5, kernel_regularizer="l1", bias_regularizer="l2", activity_regularizer="l2"),
        layers.ActivityRegularization(l2=0.1),
        layers.Dense(
            3,
            kernel_constraint=keras.constraints.MaxNorm(0.3),
            bias_constraint=keras.constraints.NonNeg(),
        ),
    )


LAYERS = {
    "convolutions": (convolutions, images),
    "convolutions in time": (convolutions_in_time, sequences),
    "normalizations": (normalizations, feature_clients),
    "attention": (attention, lambda: make_clients(x=padded_ids, y=classes())),
    "masked recurrent": (masked_recurrent, lambda: make_clients(x=padded_ids, y=classes(6))),
    "other recurrent": (other_recurrent, sequences),
    "nested": (nested, feature_clients),
    "regularized and constrained": (regularized, feature_clients),
}


SLOW = {
    "convolutions in time",
    "masked recurrent",
    "other recurrent",
    "attention",
    "normalizations",
}


@pytest.mark.parametrize("name", quick.all_but(SLOW, LAYERS))
def test_layers_equal_a_keras_loop(name):
    make, clients = LAYERS[name]
    assert_equals_keras(make(), clients())


def test_constraints_hold():
    model = regularized()
    ours, _ = run(make_setting(model, feature_clients()))
    kernel, bias = ours[2:]
    assert np.all(np.linalg.norm(kernel, axis=0) <= 0.3 + 1e-6) and np.all(bias >= 0)


def batch_normalized():
    # Without a bias, whose gradient before a normalization is only rounding error.
    adapted = layers.Normalization()  # counts in integers
    adapted.adapt(np.random.default_rng(0).normal(2, 3, size=[20, 4]))
    return sequential(
        Input([4]),
        adapted,
        layers.Dense(6, use_bias=False),
        layers.BatchNormalization(momentum=0.8),
        layers.Dense(3),
    )


@pytest.mark.parametrize("policy", ["broadcast", "average"])
def test_batch_normalization(policy):
    assert_equals_keras(batch_normalized(), feature_clients(), non_trainable=policy)


# Random layers.


def noisy():
    return sequential(
        Input([6, 4]),
        layers.SpatialDropout1D(0.3),
        layers.LSTM(4, dropout=0.3, return_sequences=True),
        layers.Bidirectional(layers.GRU(2, dropout=0.2, return_sequences=True)),
        layers.GaussianNoise(0.1),
        layers.GaussianDropout(0.2),
        layers.AlphaDropout(0.2),
        layers.Dropout(0.3, noise_shape=[None, 1, 4]),
        layers.Flatten(),
        layers.Dense(3),
    )


def augmented():
    return sequential(
        Input([8, 8, 2]),
        layers.RandomFlip(),
        layers.RandomTranslation(0.2, 0.2),
        layers.RandomRotation(0.1),
        layers.RandomContrast(0.2),
        # Keras 3 evaluates images of the wrong size after RandomCrop, so plain Keras fails as well.
        *([] if IS_KERAS_3 else [layers.RandomCrop(6, 6)]),
        layers.Flatten(),
        layers.Dense(3),
    )


def quickly_noisy():
    """Of random layers only, whose graph is quick to make."""
    return sequential(
        Input([6, 4]),
        layers.SpatialDropout1D(0.3),
        layers.GaussianNoise(0.1),
        layers.Flatten(),
        layers.Dropout(0.3),
        layers.Dense(3),
    )


@pytest.mark.parametrize(
    "make, clients",
    [
        pytest.param(quickly_noisy, sequences, id="noise"),
        pytest.param(noisy, sequences, id="noise and recurrent layers", marks=pytest.mark.slow),
        pytest.param(augmented, images, id="augmentation", marks=pytest.mark.slow),
    ],
)
def test_random_layers_equal_a_keras_loop_with_the_same_draws(make, clients):
    assert_equals_keras(make(), clients())


def losses(setting, cohort):
    with contextlib.closing(local.start(setting)) as process:
        arrays = [
            [w.numpy() for w in weights]
            for weights in (setting.model.trainable_weights, setting.model.non_trainable_weights)
        ]
        _, result = process.run_round(process.init(*arrays), 1, cohort)
    return {client["client_id"]: client["loss"] for client in result.clients}


@pytest.mark.slow
def test_draws_belong_to_the_client_whatever_its_place_and_worker():
    model, clients = quickly_noisy(), make_clients(range(1, 34), x=floats(6, 4), y=classes())
    cohort = list(clients.client_ids)  # 33 clients: blocks of two
    expected = losses(make_setting(model, clients), cohort)
    assert losses(make_setting(model, clients, num_workers=3), cohort[::-1]) == expected
    assert losses(make_setting(model, clients), ["k7"]) == {"k7": expected["k7"]}


def test_dropout_keeps_the_expected_value():
    """The mean of 4,000 clients' steps through dropout is a step on the expected gradient."""
    rate, x, y, w, step = 0.25, 2.0, 1.0, 0.5, 0.1
    model = keras.Sequential(
        [
            Input([1]),
            layers.Dropout(rate),
            layers.Dense(1, use_bias=False, kernel_initializer=keras.initializers.Constant(w)),
        ]
    )
    model.compile(keras.optimizers.SGD(step), "mse")
    one = {"x": np.full([1, 1], x, np.float32), "y": np.full([1, 1], y, np.float32)}
    clients = ClientData.from_dict({f"k{i}": one for i in range(4000)})
    (ours,), result = run(make_setting(model, clients, num_workers=2), rounds=1)
    # The gradient is 2 (w d x - y) d x with d = 0 or 1 / (1 - rate): E[d] = 1,
    # E[d^2] = 1 / (1 - rate).
    kept = x / (1 - rate)
    gradients = np.array([0, 2 * (w * kept - y) * kept])
    mean, deviation = (1 - rate) * gradients[1], gradients[1] * np.sqrt(rate * (1 - rate))
    assert abs(ours.item() - (w - step * mean)) < 4 * step * deviation / np.sqrt(4000)
    assert {round(client["loss"], 4) for client in result.clients} == {
        round(y**2, 4),
        round((w * kept - y) ** 2, 4),
    }


class Sampling(layers.Layer):
    def call(self, x):
        return x + tf.random.normal(tf.shape(x))


def test_random_draws_without_a_seed_warn():
    setting = make_setting(sequential(Input([4]), Sampling(), layers.Dense(3)), feature_clients())
    with pytest.warns(UserWarning, match="draws from RandomStandardNormal.*GaussianNoise"):
        run(setting, rounds=1)


# Bits do not depend on which worker ends first.


class Delayed(Workers):
    """Work on item i ends `delays[i]` seconds later."""

    def run(self, function, items, prepare):
        self.ended, lock = [], threading.Lock()

        def delayed(replica, numbered):
            i, item = numbered
            result = function(replica, item)
            time.sleep(self.delays[i])
            with lock:
                self.ended.append(i)
            return result

        return super().run(
            delayed, enumerate(items), lambda numbered: (numbered[0], prepare(numbered[1]))
        )


@pytest.mark.slow
@pytest.mark.parametrize(
    "delays, ended",
    [
        pytest.param([0.0, 0.6, 1.2], [0, 1, 2], marks=pytest.mark.slow),
        ([1.2, 0.6, 0.0], [2, 1, 0]),
    ],
)
def test_bits_do_not_depend_on_which_worker_ends_first(delays, ended):
    model, clients = quickly_noisy(), sequences()
    expected, _ = run(make_setting(model, clients), rounds=1)
    setting = make_setting(model, clients)
    workers = Delayed(setting.build, clients["k7"], 3)
    workers.delays = [9.0, 9.0, 9.0]
    with contextlib.closing(Rounds(setting, workers)) as process:
        state = process.init([w.numpy() for w in model.trainable_weights], [])
        workers.delays = [0.0, 0.0, 0.0]
        process.run_round(state, 1, list(clients.client_ids))  # all graphs are made
        workers.delays = delays
        state, _ = process.run_round(state, 1, list(clients.client_ids))
        assert workers.ended == ended
        ours, _ = process.weights(state)
    assert all(np.array_equal(a, b) for a, b in zip(ours, expected))


# Frozen weights.


class TwoDense(layers.Layer):
    def __init__(self, **options):
        super().__init__(**options)
        self.first, self.second = layers.Dense(5), layers.Dense(5)

    def build(self, shape):
        self.first.build(shape)
        self.second.build(shape)
        super().build(shape)

    def call(self, x):
        return self.first(x) + self.second(x)


def partly_frozen():
    """Returns the model and its frozen layers."""
    inside = TwoDense()
    body = keras.Sequential(
        [Input([5]), layers.Dense(6), layers.BatchNormalization(), layers.Dense(4)]
    )
    middle, normalization = layers.Dense(5), layers.BatchNormalization()
    model = keras.Sequential([Input([4]), inside, body, middle, normalization, layers.Dense(3)])
    frozen = [inside.first, body, normalization]
    for layer in frozen:
        layer.trainable = False
    return model, frozen


@pytest.mark.slow
@pytest.mark.parametrize(
    "policy, optimizer",
    [
        pytest.param("broadcast", "SGD", marks=pytest.mark.slow),
        ("average", "SGD"),
        ("broadcast", "AdamW"),
        pytest.param("average", "AdamW", marks=pytest.mark.slow),
    ],
)
def test_frozen_layers_keep_their_bits(policy, optimizer):
    model, frozen = partly_frozen()
    optimizers = {
        "SGD": keras.optimizers.SGD(0.1),
        "AdamW": keras.optimizers.AdamW(0.01, weight_decay=0.1),
    }
    model = compiled(model, optimizers[optimizer])
    setting = make_setting(model, feature_clients(), non_trainable=policy)
    ours, _ = run(setting, rounds=3)
    still = {id(w) for layer in frozen for w in layer.weights}
    assert len(still) == 14
    for weight, before, after in zip(model.weights, model.get_weights(), ours):
        assert np.array_equal(before, after) == (id(weight) in still), weight.name
    expected, _ = by_hand(setting, rounds=3)
    assert largest_difference(ours, expected) < 1e-5


# Several inputs and outputs, shared layers.


def two_outputs():
    keras.utils.set_random_seed(4)
    a, b = Input([4], name="a"), Input([6], dtype="int32", name="b")
    shared, embedding = layers.Dense(5, activation="tanh"), layers.Embedding(9, 4)
    words = layers.GlobalAveragePooling1D()(embedding(b)) + embedding(b)[:, 0]
    hidden = layers.Concatenate()([shared(a), shared(words)])
    model = keras.Model(
        {"a": a, "b": b},
        {
            "kind": layers.Dense(3, name="kind")(hidden),
            "size": layers.Dense(1, name="size")(hidden),
        },
    )
    model.compile(
        keras.optimizers.SGD(0.1),
        loss={"kind": keras.losses.SparseCategoricalCrossentropy(from_logits=True), "size": "mse"},
        loss_weights={"kind": 1.0, "size": 0.3},
        metrics={"kind": "accuracy"},
        weighted_metrics={"size": "mae"},
    )
    return model


@pytest.mark.slow
@pytest.mark.parametrize("weighted", [pytest.param(False, marks=pytest.mark.slow), True])
def test_several_inputs_and_outputs(weighted):
    columns = {"a": floats(4), "b": padded_ids, "y/kind": classes(), "y/size": floats(1)}
    if weighted:
        columns["sample_weight"] = lambda rng, n: rng.uniform(0.1, 2, size=n).astype(np.float32)
    clients, model = make_clients(**columns), two_outputs()
    assert_equals_keras(model, clients)
    names = ["loss", "kind_loss", "size_loss", "kind_accuracy", "size_mae"]
    assert metrics_equal_keras(model, clients) == names


def metrics_equal_keras(model, clients):
    """Asserts that a client's metrics are those that Keras shows, whose names it returns."""
    setting, client_id = make_setting(model, clients), clients.client_ids[0]
    _, result = run(setting, rounds=1, cohort=[client_id])
    batches, alone = client_batches(setting, 1, client_id), setting.build()
    parts = [
        {name: column[i][:size] for name, column in batches.columns.items()}
        for i, size in enumerate(batches.sizes)
    ]
    measured = dict(result.metrics)
    if IS_KERAS_3:  # its train_on_batch measures the last batch only
        rows = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        x, y, *weights = keras_batch(rows)
        options = {"batch_size": int(batches.sizes[0]), "shuffle": False, "verbose": 0}
        history = alone.fit(x, y, sample_weight=weights[0] if weights else None, **options).history
        # For several outputs, it does not weight the losses of batches by their sizes.
        expected = {name: each[0] for name, each in history.items() if not name.endswith("_loss")}
        measured = {name: each for name, each in measured.items() if not name.endswith("_loss")}
    else:
        for part in parts:
            expected = alone.train_on_batch(
                *keras_batch(part), reset_metrics=False, return_dict=True
            )
        assert list(result.metrics) == list(expected)
    assert measured == pytest.approx(expected, rel=1e-5)
    return list(result.metrics)


class Confidence(keras.metrics.Metric):
    """How much probability goes to the right class."""

    def __init__(self, name="confidence", **options):
        super().__init__(name=name, **options)
        self.total, self.count = (
            self.add_weight(name="total", initializer="zeros"),
            self.add_weight(name="count", initializer="zeros"),
        )

    def update_state(self, y_true, y_pred, sample_weight=None):
        p = tf.gather(
            tf.nn.softmax(y_pred), tf.cast(tf.reshape(y_true, [-1]), tf.int32), batch_dims=1
        )
        weights = tf.ones_like(p) if sample_weight is None else tf.cast(sample_weight, tf.float32)
        self.total.assign_add(tf.reduce_sum(p * weights))
        self.count.assign_add(tf.reduce_sum(weights))

    def result(self):
        return self.total / self.count


class Measured(layers.Layer):
    def __init__(self, **options):
        super().__init__(**options)
        if IS_KERAS_3:
            self.mean_hidden = keras.metrics.Mean(name="mean_hidden")

    def call(self, x):
        self.add_loss(0.01 * tf.reduce_sum(x**2))
        if IS_KERAS_3:
            self.mean_hidden.update_state(x)
        else:
            self.add_metric(x, name="mean_hidden", aggregation="mean")
        return x


@pytest.mark.parametrize("weighted", [pytest.param(False, marks=pytest.mark.slow), True])
def test_metrics_of_every_kind(weighted):
    model = keras.Sequential([Input([4]), layers.Dense(5), Measured(), layers.Dense(3)])
    model.compile(
        keras.optimizers.SGD(0.1),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=[
            "accuracy",
            keras.metrics.SparseTopKCategoricalAccuracy(2, name="top"),
            Confidence(),
        ],
        weighted_metrics=["sparse_categorical_crossentropy", Confidence("weighted_confidence")],
    )
    columns = {"x": floats(4), "y": classes()}
    if weighted:
        columns["sample_weight"] = lambda rng, n: rng.uniform(0.1, 2, size=n).astype(np.float32)
    names = metrics_equal_keras(model, make_clients(**columns))
    assert {"loss", "accuracy", "top", "confidence", "weighted_confidence", "mean_hidden"} < set(
        names
    )


def test_area_under_the_curve():
    model = keras.Sequential([Input([4]), layers.Dense(1, activation="sigmoid")])
    model.compile(
        keras.optimizers.SGD(0.1),
        "binary_crossentropy",
        metrics=[keras.metrics.AUC(name="auc"), keras.metrics.Precision(name="p")],
    )
    clients = make_clients(x=floats(4), y=lambda rng, n: rng.integers(2, size=[n, 1]))
    assert metrics_equal_keras(model, clients) == ["loss", "auc", "p"]


# Subclassed models, from a function that makes them.


class Tied(keras.Model):
    """The embedding is also the output layer's kernel."""

    def __init__(self):
        super().__init__()
        self.embedding, self.hidden = layers.Embedding(9, 4), layers.GRU(4, return_sequences=True)

    def call(self, ids):
        hidden = self.hidden(self.embedding(ids))
        self.add_loss(0.1 * tf.reduce_mean(hidden**2))
        return tf.matmul(hidden, self.embedding.embeddings, transpose_b=True)


class OwnLoss(Tied):
    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None):
        return tf.reduce_mean(tf.square(y_pred - tf.one_hot(y, 9))) + tf.add_n(self.losses)


def built(kind):
    keras.utils.set_random_seed(4)
    model = kind()
    model(tf.zeros([1, 6], tf.int32))
    return compiled(model)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [pytest.param(Tied, marks=pytest.mark.slow), OwnLoss])
def test_subclassed_models(kind):
    clients = make_clients(x=padded_ids, y=classes(6))
    assert_equals_keras(built(kind), clients, make=lambda: built(kind))


@pytest.mark.slow
def test_own_loss_keeps_all_metrics():
    clients = make_clients(x=padded_ids, y=classes(6))
    setting = make_setting(built(OwnLoss), clients)._replace(build=lambda: built(OwnLoss))
    _, result = run(setting, rounds=1)
    assert list(result.metrics) == ["loss", "accuracy"]


class OwnStep(Tied):
    def train_step(self, data):
        return super().train_step(data)


def test_own_training_step_is_refused():
    setting = make_setting(built(OwnStep), make_clients(x=padded_ids, y=classes(6)))
    with pytest.raises(ValueError, match="OwnStep overrides train_step.*compute_loss"):
        local.start(setting)


# Short batches of a model built for one size.


@pytest.mark.slow
def test_blocks_of_clients_with_and_without_short_batches():
    """64 clients run in blocks of four; in some all clients' batches are full, in some none."""
    keras.utils.set_random_seed(4)
    model = compiled(keras.Sequential([Input([4], batch_size=2), layers.Dense(3)]))
    rng = np.random.default_rng(0)
    sizes = [2 + i % 3 for i in range(64)]
    clients = {
        f"k{i}": {"x": rng.normal(size=[n, 4]).astype(np.float32), "y": rng.integers(3, size=n)}
        for i, n in enumerate(sizes)
    }
    setting = make_setting(model, ClientData.from_dict(clients), batch_size=2)
    ours, result = run(setting, rounds=1)
    assert {client["client_id"]: client["num_examples"] for client in result.clients} == {
        f"k{i}": n for i, n in enumerate(sizes)
    }
    expected, _ = one_round(setting, model.get_weights(), 1, list(clients))
    assert largest_difference(ours, expected) < 1e-5
