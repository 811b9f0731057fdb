"""One client that trains for three steps ends with the weights of `fit` on the same batches."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import fedlab as fl
from fedlab.clients import seeding
from tests.stacks import IS_KERAS_3, keras_3

pytestmark = keras_3
if IS_KERAS_3:
    from fedlab.learner.keras3 import seeds

layers = keras.layers
ROWS, STEPS = 12, 3


def floats(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=[ROWS, *shape]).astype(np.float32)


def classes(*shape, seed=1):
    return np.random.default_rng(seed).integers(3, size=[ROWS, *shape])


def padded_ids(length=6):
    rng = np.random.default_rng(2)
    ids = rng.integers(1, 9, size=[ROWS, length])
    return (ids * (np.arange(length) < rng.integers(1, length + 1, size=[ROWS, 1]))).astype("int32")


def compiled(model, optimizer=None, **options):
    options.setdefault("loss", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.compile(optimizer or keras.optimizers.SGD(0.1), **options)
    return model


def sequential(*parts, **options):
    keras.utils.set_random_seed(4)
    return compiled(keras.Sequential(parts), **options)


def functional(inputs, outputs, **options):
    return compiled(keras.Model(inputs, outputs), **options)


def fitted(model, columns, batch_size=ROWS // STEPS, client_seed=None):
    """The model after `fit`, and what `fit` logs."""
    if client_seed is not None:
        states = seeds.generators(model)
        for state, start in zip(states, seeds.starts(len(states), tf.constant(client_seed))):
            state.assign(start)
    x = columns.get("x")
    if x is None:
        named = {"y", "sample_weight"}
        x = {k: v for k, v in columns.items() if k not in named and not k.startswith("y/")}
    elif x.dtype == object:
        x = tf.constant(x)
    y = columns.get("y")
    if y is None:
        y = {k[2:]: v for k, v in columns.items() if k.startswith("y/")}
    options = {"sample_weight": columns.get("sample_weight"), "batch_size": batch_size}
    history = model.fit(x, y, shuffle=False, verbose=0, **options).history
    return model, {name: values[0] for name, values in history.items()}


def assert_equals_fit(make, columns, batch_size=ROWS // STEPS, from_function=False, tolerance=1e-6):
    """Trains a model by `simulate` and by `fit`, from the same weights; returns the run."""
    model = make()
    clients = fl.ClientData.from_dict({"only": columns})
    run = fl.simulate(
        make if from_function else model,
        clients,
        rounds=1,
        clients_per_round=1,
        batch_size=batch_size,
        shuffle=False,
        seed=7,
        progress=False,
    )
    reference = make()
    reference.set_weights(model.get_weights())
    client_seed = seeding.generator(7, "dropout", 1, "only").integers(2**63)
    reference, logs = fitted(reference, columns, batch_size, int(client_seed))
    changes = []
    for weight, ours, before in zip(
        reference.weights, run.model.get_weights(), model.get_weights()
    ):
        expected = weight.numpy().astype(np.float64)
        largest = max(np.abs(expected).max(initial=0), 1e-3)
        assert np.abs(ours - expected).max(initial=0) <= tolerance * max(largest, 1), weight.path
        changes.append(np.abs(expected - before).max(initial=0))
    assert max(changes) > 1e-4  # it has trained
    trained = {
        name.removeprefix("train_"): value
        for name, value in run.history[-1].items()
        if name.startswith("train_")
    }
    assert trained == pytest.approx(logs, rel=1e-5, abs=1e-6)
    return run


def dense(**options):
    return sequential(
        keras.Input([4]), layers.Dense(5, activation="tanh"), layers.Dense(3), **options
    )


def images():
    return sequential(
        keras.Input([8, 8, 2]),
        layers.Conv2D(4, 3, padding="same", activation="relu"),
        layers.SeparableConv2D(4, 3),
        layers.DepthwiseConv2D(2),
        layers.MaxPooling2D(),
        layers.Conv2DTranspose(3, 2, strides=2),
        layers.UpSampling2D(),
        layers.AveragePooling2D(2),
        layers.Flatten(),
        layers.Dense(3),
    )


def normalizations():
    adapted = layers.Normalization()
    adapted.adapt(np.random.default_rng(0).normal(2, 3, size=[20, 4]))
    return sequential(
        keras.Input([4]),
        adapted,
        layers.Dense(6, use_bias=False),
        layers.BatchNormalization(momentum=0.8),
        layers.LayerNormalization(),
        layers.GroupNormalization(2),
        layers.PReLU(),
        layers.Dense(3),
    )


def attention():
    keras.utils.set_random_seed(4)
    ids = keras.Input([None], dtype="int32")
    x = layers.Embedding(9, 4, mask_zero=True)(ids)
    x = layers.LayerNormalization()(x + layers.MultiHeadAttention(2, 3)(x, x))
    return functional(ids, layers.Dense(3)(layers.GlobalAveragePooling1D()(x)))


def recurrent():
    return sequential(
        keras.Input([None], dtype="int32"),
        layers.Embedding(9, 4, mask_zero=True),
        layers.LSTM(4, return_sequences=True),
        layers.Bidirectional(layers.GRU(3, return_sequences=True)),
        layers.SimpleRNN(4, return_sequences=True),
        layers.Dense(3),
    )


def stateful():
    return sequential(
        keras.Input(batch_shape=[4, 6, 4]),
        layers.GRU(3, stateful=True, return_sequences=True),
        layers.LSTM(3, stateful=True),
        layers.Dense(3),
    )


def nested():
    """A model in a model in a model, one of them used twice."""
    keras.utils.set_random_seed(4)
    parts = keras.Input([4]), layers.Dense(4, activation="tanh"), layers.LayerNormalization()
    inner = keras.Sequential(parts)
    x = keras.Input([4])
    middle = keras.Model(x, inner(inner(x)) + x)
    return compiled(keras.Sequential([keras.Input([4]), middle, layers.Dense(3)]))


def regularized():
    return sequential(
        keras.Input([4]),
        layers.Dense(5, kernel_regularizer="l1", bias_regularizer="l2", activity_regularizer="l2"),
        layers.ActivityRegularization(l2=0.1),
        layers.Dense(
            3,
            kernel_constraint=keras.constraints.MaxNorm(0.3),
            bias_constraint=keras.constraints.NonNeg(),
        ),
    )


def noisy():
    return sequential(
        keras.Input([6, 4]),
        layers.SpatialDropout1D(0.3),
        layers.GaussianNoise(0.1),
        layers.LSTM(4, dropout=0.3, recurrent_dropout=0.2, return_sequences=True),
        layers.GaussianDropout(0.2),
        layers.AlphaDropout(0.2),
        layers.Flatten(),
        layers.Dropout(0.3, seed=5),
        layers.Dense(3),
    )


def augmented():
    return sequential(
        keras.Input([8, 8, 2]),
        layers.RandomFlip(),
        layers.RandomTranslation(0.2, 0.2),
        layers.RandomRotation(0.1),
        layers.RandomContrast(0.2),
        layers.Flatten(),
        layers.Dense(3),
    )


def partly_frozen():
    model = sequential(
        keras.Input([4]), layers.Dense(6), layers.BatchNormalization(), layers.Dense(3)
    )
    model.layers[0].trainable = model.layers[1].trainable = False
    return compiled(model, keras.optimizers.AdamW(0.01, weight_decay=0.1))


def mixed():
    """With Keras's policy for mixed precision."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = sequential(
            keras.Input([4]),
            layers.Dense(5, activation="tanh"),
            layers.Dense(3, dtype="float32"),
        )
    finally:
        keras.config.set_dtype_policy(before)
    return model


def jitted():
    return dense(jit_compile=True)


def masked_loss():
    """The loss ignores the label -1."""
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=-1)
    return sequential(keras.Input([6, 4]), layers.Dense(3), loss=loss)


def words():
    """A vocabulary inside of the model."""
    keras.utils.set_random_seed(4)
    lookup = layers.StringLookup()
    lookup.adapt(np.array(["a", "b", "c", "d"]))
    parts = layers.Embedding(6, 4), layers.Flatten(), layers.Dense(3)
    return compiled(keras.Sequential([keras.Input([2], dtype="string"), lookup, *parts]))


CASES = {
    "dense": (dense, {"x": floats(4), "y": classes()}),
    "sample weights": (
        dense,
        {
            "x": floats(4),
            "y": classes(),
            "sample_weight": np.linspace(0.1, 2, ROWS, dtype="float32"),
        },
    ),
    "images": (images, {"x": floats(8, 8, 2), "y": classes()}),
    "normalizations": (normalizations, {"x": floats(4), "y": classes()}),
    "attention": (attention, {"x": padded_ids(), "y": classes()}),
    "masked recurrent": (recurrent, {"x": padded_ids(), "y": classes(6)}),
    "stateful": (stateful, {"x": floats(6, 4), "y": classes()}),
    "nested": (nested, {"x": floats(4), "y": classes()}),
    "regularized": (regularized, {"x": floats(4), "y": classes()}),
    "noise": (noisy, {"x": floats(6, 4), "y": classes()}),
    "augmentation": (augmented, {"x": floats(8, 8, 2), "y": classes()}),
    "partly frozen": (partly_frozen, {"x": floats(4), "y": classes()}),
    "mixed precision": (mixed, {"x": floats(4), "y": classes()}),
    "compiled by XLA": (jitted, {"x": floats(4), "y": classes()}),
    "ignored labels": (masked_loss, {"x": floats(6, 4), "y": classes(6) - 1}),
    "vocabulary": (
        words,
        {"x": np.array([list("ab")] * 6 + [list("cz")] * 6, object), "y": classes()},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_layers(name):
    make, columns = CASES[name]
    # XLA fuses, and bfloat16 rounds, in another order.
    tolerance = {"mixed precision": 1e-5}.get(name, 1e-6)
    assert_equals_fit(make, columns, tolerance=tolerance)


def optimizers():
    all_of, schedules = keras.optimizers, keras.optimizers.schedules
    decay = schedules.ExponentialDecay(0.1, 2, 0.5)
    made = {
        "SGD": all_of.SGD(0.1),
        "momentum": all_of.SGD(0.1, momentum=0.9),
        "nesterov": all_of.SGD(0.1, momentum=0.9, nesterov=True),
        "schedule": all_of.SGD(decay),
        "clipnorm": all_of.SGD(0.1, clipnorm=0.1),
        "global_clipnorm": all_of.Adam(0.01, global_clipnorm=0.1),
        "clipvalue": all_of.SGD(0.1, clipvalue=0.01),
        "weight_decay": all_of.SGD(0.1, weight_decay=0.1),
        "accumulation": all_of.SGD(0.1, gradient_accumulation_steps=2),
        "Adam": all_of.Adam(0.01),
        "amsgrad": all_of.Adam(0.01, amsgrad=True),
        "AdamW": all_of.AdamW(0.01, weight_decay=0.1),
        "Adagrad": all_of.Adagrad(0.1),
        "Adadelta": all_of.Adadelta(1.0),
        "Adamax": all_of.Adamax(0.01),
        "Nadam": all_of.Nadam(0.01),
        "RMSprop": all_of.RMSprop(0.01, momentum=0.5, centered=True),
        "Ftrl": all_of.Ftrl(0.1),
        "Lion": all_of.Lion(0.01),
        "Lamb": all_of.Lamb(0.01),
        "Adafactor": all_of.Adafactor(0.01),
        "Muon": all_of.Muon(0.01),
        "Yogi": fl.optimizers.Yogi(0.01),
    }
    excluding = all_of.AdamW(0.01, weight_decay=0.1)
    excluding.exclude_from_weight_decay(var_names=["bias"])
    return {**made, "exclusions": excluding}


@pytest.mark.parametrize("name", optimizers() if IS_KERAS_3 else ())
def test_optimizers(name):
    def make():
        model = sequential(
            keras.Input([2], dtype="int32"),
            layers.Embedding(9, 4),
            layers.Flatten(),
            layers.Dense(3, bias_initializer="ones"),
        )
        return compiled(model, optimizers()[name])

    # No id twice in a batch: Keras squares, and clips, the rows of a gradient before it
    # adds up those of the same id. fedlab adds first, as Keras 2 and other backends do.
    ids = np.arange(ROWS * 2, dtype=np.int32).reshape([ROWS, 2]) % 8
    assert_equals_fit(make, {"x": ids, "y": classes()})


def two_outputs():
    keras.utils.set_random_seed(4)
    a, b = keras.Input([4], name="a"), keras.Input([6], dtype="int32", name="b")
    shared, embedding = layers.Dense(4, activation="tanh"), layers.Embedding(9, 4)
    pooled = layers.GlobalAveragePooling1D()(embedding(b)) + embedding(b)[:, 0]
    hidden = layers.Concatenate()([shared(a), shared(pooled)])
    outputs = {
        "kind": layers.Dense(3, name="kind")(hidden),
        "size": layers.Dense(1, name="size")(hidden),
    }
    return functional(
        {"a": a, "b": b},
        outputs,
        loss={"kind": keras.losses.SparseCategoricalCrossentropy(from_logits=True), "size": "mse"},
        loss_weights={"kind": 1.0, "size": 0.3},
        metrics={"kind": ["accuracy"], "size": ["mae"]},
        weighted_metrics={"size": ["mse"]},
    )


@pytest.mark.parametrize("weighted", [False, True])
def test_several_inputs_and_outputs(weighted):
    columns = {"a": floats(4), "b": padded_ids(), "y/kind": classes(), "y/size": floats(1)}
    if weighted:
        columns["sample_weight"] = np.linspace(0.1, 2, ROWS, dtype="float32")
    run = assert_equals_fit(two_outputs, columns)
    names = [name.removeprefix("train_") for name in run.history[-1] if name.startswith("train_")]
    assert names == ["loss", "kind_loss", "size_loss", "kind_accuracy", "size_mae", "size_mse"]


class Tied(keras.Model):
    """The embedding is also the output layer's kernel, and the model adds a loss."""

    def __init__(self):
        super().__init__()
        self.embedding = layers.Embedding(9, 4)
        self.hidden = layers.GRU(4, return_sequences=True)

    def call(self, ids):
        hidden = self.hidden(self.embedding(ids))
        self.add_loss(0.1 * keras.ops.mean(hidden**2))
        return keras.ops.matmul(hidden, keras.ops.transpose(self.embedding.embeddings))


class OwnLoss(Tied):
    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        return keras.ops.mean((y_pred - keras.ops.one_hot(y, 9)) ** 2) + sum(self.losses)


@pytest.mark.parametrize("cls", [Tied, OwnLoss])
def test_subclassed_models(cls):
    def make():
        keras.utils.set_random_seed(4)
        model = cls()
        model(np.zeros([1, 6], "int32"))
        return compiled(model, metrics=["accuracy"])

    assert_equals_fit(make, {"x": padded_ids(), "y": classes(6)}, from_function=True)


@pytest.mark.parametrize("method", ["train_step", "test_step"])
def test_own_steps_are_refused(method):
    own = type("Own", (Tied,), {method: lambda self, data: None})

    def make():
        model = own()
        model(np.zeros([1, 6], "int32"))
        return compiled(model)

    clients = fl.ClientData.from_dict({"only": {"x": padded_ids(), "y": classes(6)}})
    with pytest.raises(ValueError, match=f"Own overrides {method}.*compute_loss"):
        fl.simulate(make, clients, rounds=1, clients_per_round=1, progress=False)


@pytest.mark.parametrize(
    "make, said",
    [
        (lambda: keras.optimizers.SGD(0.1, use_ema=True), "use_ema=True"),
        (lambda: keras.optimizers.SGD(0.1, loss_scale_factor=8.0), "loss_scale_factor=8.0"),
        (
            lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1)),
            "loss scaling.*mixed_bfloat16",
        ),
        (lambda: keras.optimizers.SGD(lambda: 0.1), "learning rate that is a number or a schedule"),
    ],
)
def test_optimizers_that_are_refused(make, said):
    model = compiled(dense(), make())
    clients = fl.ClientData.from_dict({"only": {"x": floats(4), "y": classes()}})
    with pytest.raises(ValueError, match=said):
        fl.simulate(model, clients, rounds=1, clients_per_round=1, progress=False)


def test_weights_of_rows_apply_to_all_positions():
    """As in Keras 2. Keras 3 needs weights [rows, 1], and mixes up rows and positions of [rows]."""

    def make():
        metrics = [keras.metrics.SparseCategoricalAccuracy(name="accuracy")]
        return sequential(keras.Input([4, 2]), layers.Dense(3), weighted_metrics=metrics)

    weights = np.linspace(0.1, 2, ROWS, dtype="float32")
    columns = {"x": floats(4, 2), "y": classes(4)}
    expected = assert_equals_fit(make, {**columns, "sample_weight": weights[:, None]})
    clients = fl.ClientData.from_dict({"only": {**columns, "sample_weight": weights}})
    options = {"clients_per_round": 1, "batch_size": 4, "shuffle": False, "progress": False}
    run = fl.simulate(make(), clients, rounds=1, seed=7, **options)
    for ours, theirs in zip(run.model.get_weights(), expected.model.get_weights()):
        np.testing.assert_array_equal(ours, theirs)
    assert run.history[-1]["train_accuracy"] == expected.history[-1]["train_accuracy"]


def test_untracked_variables_are_refused():
    class Scaled(layers.Layer):
        def __init__(self, **options):
            super().__init__(**options)
            self.scale = tf.Variable(1.0)

        def call(self, x):
            return x * self.scale

    model = sequential(keras.Input([4]), Scaled(), layers.Dense(3))
    clients = fl.ClientData.from_dict({"only": {"x": floats(4), "y": classes()}})
    with pytest.raises(ValueError, match="keeps a tf.Variable in 'scale'.*add_weight"):
        fl.simulate(model, clients, rounds=1, clients_per_round=1, progress=False)


def test_draws_depend_on_the_client_and_round_only():
    """A client trains alike after any other clients and on any worker."""
    data = {f"c{i}": {"x": floats(6, 4, seed=i), "y": classes(seed=i)} for i in range(5)}
    clients, model = fl.ClientData.from_dict(data), noisy()

    def losses(cohort, num_workers):
        options = {"rounds": 1, "seed": 3, "batch_size": 4, "progress": False}
        run = fl.simulate(model, clients, cohort=cohort, num_workers=num_workers, **options)
        return {row["client_id"]: row["loss"] for row in run.clients}

    expected = losses(list(data), 1)
    assert len(set(expected.values())) == 5
    assert losses(list(data)[::-1], 2) == expected
    assert losses(["c3"], 1) == {"c3": expected["c3"]}


def test_draws_without_a_seed_warn():
    class Noise(layers.Layer):
        def call(self, x):
            return x + keras.random.normal(keras.ops.shape(x))

    model = sequential(keras.Input([4]), Noise(), layers.Dense(3))
    clients = fl.ClientData.from_dict({"only": {"x": floats(4), "y": classes()}})
    with pytest.warns(UserWarning, match="draws from keras.random without a seed.*SeedGenerator"):
        fl.simulate(model, clients, rounds=1, clients_per_round=1, progress=False)


def test_a_repeated_id_counts_as_the_sum_of_its_rows():
    """The gradient of an embedding is dense, as on other backends of Keras."""

    def make():
        keras.utils.set_random_seed(4)
        embedding = layers.Embedding(3, 1)
        model = keras.Sequential([keras.Input([1], dtype="int32"), embedding, layers.Flatten()])
        return compiled(
            model, keras.optimizers.Adagrad(0.1, initial_accumulator_value=0.0), loss="mse"
        )

    model = make()
    start = model.get_weights()[0][0, 0]
    # Two rows of id 0 with equal gradients: Adagrad's first step has the size of the rate.
    columns = {"x": np.zeros([2, 1], "int32"), "y": np.full([2, 1], start + 5, "float32")}
    clients = fl.ClientData.from_dict({"only": columns})
    run = fl.simulate(model, clients, rounds=1, clients_per_round=1, batch_size=2, progress=False)
    assert run.model.get_weights()[0][0, 0] == pytest.approx(start + 0.1, abs=1e-5)
