"""Copies of models compute what the models compute, or are refused."""

import numpy as np
import pytest
import tensorflow as tf

import fedlab as fl
from fedlab.learner import clone
from tests.stacks import keras_2

keras = tf.keras
layers = keras.layers
RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=[4, 3]).astype(np.float32), RNG.normal(size=[4, 1]).astype(np.float32)
CLIENTS = fl.ClientData.from_dict({"one": {"x": X, "y": Y}})


def simulate(model, **options):
    options |= dict(rounds=1, clients_per_round=1, batch_size=4, num_workers=1, progress=False)
    return fl.simulate(model, CLIENTS, **options)


def parts():
    keras.utils.set_random_seed(0)
    return [keras.Input([3]), layers.Dense(2, name="body"), layers.Dense(1, name="head")]


def compiled(model, loss="mse", optimizer=None, **options):
    model.compile(optimizer or keras.optimizers.SGD(0.1), loss, **options)
    return model


def with_layer(layer):
    *body, head = parts()
    return compiled(keras.Sequential([*body, layer, head]))


def functional(kind=keras.Model, **options):
    inputs, body, head = parts()
    return kind(inputs, head(body(inputs)), **options)


# ---- What a copy keeps ----


class AutoScale(layers.Layer):
    """Its only argument is recorded by Keras, which makes get_config of it."""

    def __init__(self, scale=1.0):
        super().__init__()
        self.hidden = scale

    def call(self, x, training=None):
        return x * self.hidden if training else x


class Table(layers.Layer):
    """Adds a number that it looks up."""

    def build(self, shape):
        self.table = tf.lookup.experimental.MutableHashTable(tf.int64, tf.float32, 0.0)
        self.table.insert([1], [5.0])

    def call(self, x):
        return x + tf.reduce_sum(self.table.lookup(tf.constant([1], tf.int64)))


class Decay(keras.regularizers.Regularizer):
    """Not registered with Keras."""

    def __init__(self, strength=0.0):
        self.strength = strength

    def __call__(self, weight):
        return self.strength * tf.reduce_sum(weight**2)

    def get_config(self):
        return {"strength": self.strength}


class Halving(keras.optimizers.schedules.LearningRateSchedule):
    """Not registered with Keras."""

    def __init__(self, rate=1.0):
        self.rate = rate

    def __call__(self, step):
        return self.rate * 0.5 ** tf.cast(step, tf.float32)

    def get_config(self):
        return {"rate": self.rate}


class AbsoluteLoss(keras.Model):
    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None):
        return tf.reduce_mean(tf.abs(y - y_pred))


def with_tensor_loss():
    inputs, body, head = parts()
    hidden = body(inputs)
    model = keras.Model(inputs, head(hidden))
    model.add_loss(tf.reduce_sum(hidden**2))
    return compiled(model)


def with_function_loss():
    model = keras.Sequential(parts())
    model.add_loss(lambda: tf.reduce_sum(model.layers[0].kernel ** 2))
    return compiled(model)


def with_closure_loss():
    model = keras.Sequential(parts())

    def loss(y, predicted):
        return tf.reduce_mean((y - predicted) ** 2) + tf.reduce_sum(model.layers[0].kernel ** 2)

    return compiled(model, loss)


def tied():
    inputs, body, head = parts()
    return compiled(
        keras.Model(inputs, head(tf.matmul(body(inputs), body.kernel, transpose_b=True)))
    )


KEPT = {
    "a tensor as a loss": with_tensor_loss,
    "a regularizer": lambda: with_layer(
        layers.Dense(
            2,
            kernel_initializer="ones",
            kernel_regularizer=Decay(0.3),
            activity_regularizer="l2",
        )
    ),
    "an argument that Keras records": lambda: with_layer(AutoScale(3.0)),
    "a table": lambda: with_layer(Table()),
    "a schedule": lambda: compiled(functional(), optimizer=keras.optimizers.SGD(Halving(0.5), 0.9)),
    "a class with its own loss": lambda: compiled(functional(AbsoluteLoss)),
    "a function, with a loss of the model": lambda: with_function_loss,
    "a function, with a loss that reads the model": lambda: with_closure_loss,
    "a function, with a tied weight": lambda: tied,
}


# Keras 3 has no such models, or cannot copy such a layer.
ONLY_KERAS_2 = {
    "a tensor as a loss",
    "an argument that Keras records",
    "a function, with a loss of the model",
    "a function, with a tied weight",
}


@pytest.mark.parametrize(
    "what", [pytest.param(what, marks=keras_2 if what in ONLY_KERAS_2 else ()) for what in KEPT]
)
def test_a_round_of_one_client_is_a_fit(what):
    run = simulate(KEPT[what](), local_epochs=2, shuffle=False)
    plain = KEPT[what]()
    plain = plain if isinstance(plain, keras.Model) else plain()
    plain.fit(X, Y, batch_size=4, epochs=2, shuffle=False, verbose=0)
    for ours, theirs in zip(run.model.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


# ---- What a copy would lose ----


class LostRate(layers.Layer):
    """Only training tells what its get_config lacks."""

    def __init__(self, rate=0.0, **options):
        super().__init__(**options)
        self._rate = rate

    def call(self, x, training=None):
        return x * self._rate if training else x

    def get_config(self):
        return super().get_config()


class Required(layers.Dropout):
    def __init__(self, rate, scale, **options):
        super().__init__(rate, **options)
        self.scale = scale


class Function(layers.Layer):
    def __init__(self, function, **options):
        super().__init__(**options)
        self.function = function

    def call(self, x):
        return self.function(x)


class LostDecay(Decay):
    def get_config(self):
        return {}


class LostSchedule(Halving):
    def get_config(self):
        raise NotImplementedError


class Scaled(keras.Model):
    """A Functional model with a constructor of its own."""

    def __init__(self, inputs, outputs, scale=1.0, **options):
        super().__init__(inputs, outputs, **options)
        self.scale = scale

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None):
        return self.scale * tf.reduce_mean(tf.abs(y - y_pred))


class Counted(keras.metrics.Metric):
    def __init__(self, factor=1.0, **options):
        super().__init__(**options)
        self.factor, self.total = factor, self.add_weight(name="total", initializer="zeros")

    def update_state(self, y, predicted, sample_weight=None):
        self.total.assign_add(self.factor)

    def result(self):
        return self.total


class LostFactor(keras.optimizers.SGD):
    def __init__(self, learning_rate=0.1, factor=1.0, **options):
        super().__init__(learning_rate, **options)
        self.factor = factor


def with_layer_loss():
    model = compiled(keras.Sequential(parts()))
    model.layers[0].add_loss(lambda: tf.reduce_sum(model.layers[0].kernel ** 2))
    return model


def with_closure_metric():
    model = keras.Sequential(parts())

    def norm(y, predicted):
        return tf.norm(model.layers[0].kernel)

    return compiled(model, metrics=[norm])


def with_closure_layer():
    inputs, body, head = parts()
    tied = layers.Lambda(lambda x: tf.matmul(x, body.kernel, transpose_b=True))
    return compiled(keras.Model(inputs, head(tied(body(inputs)))))


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(1)

    def call(self, x):
        return self.dense(x)


def half_precision():
    policy = keras.mixed_precision.Policy("mixed_float16")
    optimizer = keras.mixed_precision.LossScaleOptimizer(keras.optimizers.SGD(0.1))
    model = keras.Sequential([keras.Input([3]), layers.Dense(1, dtype=policy)])
    return compiled(model, optimizer=optimizer)


ONCE = []


def always_the_same():
    return ONCE[0]


REFUSED = [
    pytest.param(
        with_function_loss,
        "model 'sequential.*' has a loss from add_loss.function., which a copy loses: pass a "
        "function",
        marks=keras_2,
    ),
    pytest.param(
        with_layer_loss,
        "layer 'body' has a loss from add_loss.function., which a copy loses: pass a function",
        marks=keras_2,
    ),
    (
        with_closure_loss,
        "loss, metric or layer of .* reads the weight '.*body/kernel(:0)?' of the original",
    ),
    (
        with_closure_metric,
        "loss, metric or layer of model .* reads the weight '.*body/kernel(:0)?'",
    ),
    (with_closure_layer, "metric or layer of model .* reads the weight '.*body/kernel(:0)?'"),
    pytest.param(
        tied,
        "model 'model.*' cannot be copied .*: pass a function that builds the model",
        marks=keras_2,
    ),
    (
        lambda: with_layer(LostRate(0.5)),
        "a copy of layer 'lost_rate.*' of class LostRate has another 'rate': add it to get_config, "
        "or",
    ),
    (
        lambda: with_layer(Required(0.0, 2)),
        "layer 'required.*' of class Required cannot be made from its get_config .*missing "
        ".*'scale'",
    ),
    (
        lambda: with_layer(Function(tf.nn.relu)),
        "layer 'function.*' of class Function has no get_config: define it, or",
    ),
    (
        lambda: with_layer(layers.Dense(2, kernel_regularizer=LostDecay(0.3))),
        "a copy of layer 'dense.*' of class Dense has another 'strength'",
    ),
    (
        lambda: compiled(functional(), optimizer=keras.optimizers.SGD(LostSchedule())),
        "LostSchedule, which the model is compiled with, has no get_config",
    ),
    (
        lambda: compiled(functional(), optimizer=LostFactor(0.1, factor=3.0)),
        "optimizer '.*' of class LostFactor has another 'factor'",
    ),
    (
        lambda: compiled(functional(), metrics=[Counted(3.0, name="counted")]),
        "a copy of metric 'counted' of class Counted has another 'factor': add it to get_config",
    ),
    (
        lambda: compiled(functional(Scaled, scale=3.0, name="scaled")),
        "(a copy of|cannot copy) model 'scaled'.*(: |, or )pass a function",
    ),
    (
        lambda: lambda: compiled(Subclassed()),
        "model 'subclassed.*' has no weights yet: call it on a batch, or model.build",
    ),
    (
        lambda: compiled(keras.Sequential([layers.Dense(1)])),
        "model 'sequential.*' has no weights yet",
    ),
    (
        lambda: ONCE.append(compiled(functional())) or always_the_same,
        "shares the weight '.*body/kernel(:0)?' with the model: pass a function that makes",
    ),
    (half_precision, "expected one without loss scaling, got .* 'mixed_bfloat16'"),
]


@pytest.mark.parametrize(
    "make, message", REFUSED, ids=lambda value: value if isinstance(value, str) else None
)
def test_what_a_copy_would_lose_is_refused(make, message):
    model = make()
    with pytest.raises(ValueError, match=message) as raised:
        simulate(model)
    assert "\n" not in str(raised.value)


def test_copies_of_copies_read_their_own_weights():
    model = clone(clone(compiled(functional())))
    assert simulate(model).model.get_weights()[0].shape == (3, 2)
    closing = with_closure_loss()
    with pytest.raises(ValueError, match="reads the weight '.*body/kernel(:0)?' of the original"):
        simulate(clone(closing))
