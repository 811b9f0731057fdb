"""Options of Keras's optimizers that depend on the model: a federated step equals Keras's."""

import numpy as np
import pytest
import tensorflow as tf

import fedlab as fl
from fedlab import optimizers
from fedlab.learner import clone
from tests.stacks import IS_KERAS_3

keras = tf.keras
layers = keras.layers

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=[4, 3]).astype(np.float32), RNG.normal(size=[4, 1]).astype(np.float32)
CLIENTS = fl.ClientData.from_dict({"one": {"x": X, "y": Y}})


def new_model(**options):
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input([3]),
            layers.Dense(2, activation="tanh", bias_initializer="ones", name="body"),
            layers.Dense(1, bias_initializer="ones", name="head", **options),
        ]
    )


def excluding(optimizer, model, how):
    """A model compiled with an optimizer that excludes some variables from weight decay."""
    if how == "names":
        optimizer.exclude_from_weight_decay(var_names=["bias", "^head"])
    elif how == "variables":
        optimizer.exclude_from_weight_decay(var_list=model.trainable_variables[1:])
    model.compile(optimizer, "mse")
    return model


def after_fit(model, epochs=1):
    model.run_eagerly = True  # quicker than tracing a small model
    model.fit(X, Y, batch_size=4, epochs=epochs, shuffle=False, verbose=0)
    return model.get_weights()


def simulate(model, algorithm, batch_size=4, **options):
    options |= dict(rounds=1, clients_per_round=1, num_workers=1, progress=False)
    return fl.simulate(model, CLIENTS, algorithm, batch_size=batch_size, **options)


def after_round(model, algorithm=None, **options):
    run = simulate(model, algorithm, **options)
    return run.model.get_weights()


def assert_equal(ours, theirs):
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


DECAYING = {
    "AdamW": lambda: keras.optimizers.AdamW(0.01, weight_decay=10.0),
    "SGD": lambda: keras.optimizers.SGD(0.1, momentum=0.5, weight_decay=1.0),
    "Adam": lambda: keras.optimizers.Adam(0.01, weight_decay=10.0),
    "Lion": lambda: keras.optimizers.Lion(0.01, weight_decay=10.0),
    "Adafactor": lambda: keras.optimizers.Adafactor(0.1, weight_decay=1.0),
    "RMSprop": lambda: keras.optimizers.RMSprop(0.01, weight_decay=10.0),
}


EXCLUDING = [(name, how) for how in ("names", "variables") for name in DECAYING]


@pytest.mark.parametrize(
    "name, how",
    [
        pytest.param(
            name, how, marks=pytest.mark.slow if how == "variables" and name != "AdamW" else ()
        )
        for name, how in EXCLUDING
    ],
)
def test_weight_decay_leaves_out_what_the_optimizer_excludes(name, how):
    model = excluding(DECAYING[name](), new_model(), how)
    before = [tf.constant(w) for w in model.get_weights()]
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean((model(X) - Y) ** 2)
    gradients = tape.gradient(loss, model.trainable_variables)
    for each in (model, clone(model), clone(clone(model))):
        ours = optimizers.of_model(each)
        found, state = ours.apply(before, ours.init(before), gradients)
        found, _ = ours.apply(found, state, gradients)
        part = optimizers.part(ours, [1, 2])
        partly, _ = part.apply(before[1:3], part.init(before[1:3]), gradients[1:3])
    for _ in range(2):
        model.optimizer.apply_gradients(zip(gradients, model.trainable_variables))
    assert_equal(found, model.get_weights())
    everything = excluding(DECAYING[name](), new_model(), "nothing")
    for _ in range(2):
        everything.optimizer.apply_gradients(zip(gradients, everything.trainable_variables))
    assert max(np.max(np.abs(a - b)) for a, b in zip(found, everything.get_weights())) > 0.01
    # The part steps as the whole does at its positions.
    one_step, _ = ours.apply(before, ours.init(before), gradients)
    assert_equal(partly, one_step[1:3])


def build_excluding():
    """Names that Keras numbers differ from call to call."""
    keras.utils.set_random_seed(0)
    first = layers.Dense(2, activation="tanh", bias_initializer="ones")
    second = layers.Dense(1, bias_initializer="ones")
    model = keras.Sequential([keras.Input([3]), first, second])
    optimizer = keras.optimizers.AdamW(0.01, weight_decay=10.0)
    optimizer.exclude_from_weight_decay(var_names=[f"^{first.name}/"])
    model.compile(optimizer, "mse")
    return model


@pytest.mark.slow
@pytest.mark.parametrize(
    "algorithm, how",
    [
        ("fed_avg", "names"),
        ("fed_avg", "function"),
        ("fed_avg", "freeze"),
        ("fed_sgd", "names"),
        pytest.param("fed_sgd", "function", marks=pytest.mark.slow),
        pytest.param("fed_sgd", "freeze", marks=pytest.mark.slow),
    ],
)
def test_one_client_excludes_from_weight_decay_as_fit_does(how, algorithm):
    def make():
        if how == "function":
            return build_excluding()
        model = excluding(keras.optimizers.AdamW(0.01, weight_decay=10.0), new_model(), "names")
        return fl.models.freeze(model, keep="*") if how == "freeze" else model

    given = build_excluding if how == "function" else make()
    assert_equal(after_round(given, getattr(fl.algorithms, algorithm)()), after_fit(make()))


def test_reconstruction_keeps_constraints_and_exclusions_of_the_shared_layers():
    # Only "head" is shared. The first constraint is that of "body", which has none.
    model = new_model(kernel_constraint=keras.constraints.MaxNorm(0.1))
    model = excluding(keras.optimizers.SGD(0.1, weight_decay=1.0), model, "names")
    body, _, head, _ = model.get_weights()
    run = simulate(model, fl.algorithms.fed_recon(["body"]), batch_size=2)
    assert np.linalg.norm(head) > 0.2
    assert np.linalg.norm(run.model.get_layer("head").kernel) == pytest.approx(0.1, rel=1e-5)
    assert np.array_equal(run.model.get_layer("body").kernel, body)


def test_exclusions_need_the_variables():
    model = excluding(keras.optimizers.AdamW(), new_model(), "names")
    with pytest.raises(
        ValueError, match="AdamW excludes variables from weight decay: pass variables="
    ):
        optimizers.from_keras(model.optimizer)
    ours = optimizers.of_model(model)
    with pytest.raises(
        ValueError,
        match="expected 4 weights, to which the model's exclusions from weight decay apply, got 1",
    ):
        ours.init([tf.zeros([3, 2])])


# State that starts from the weights.


@pytest.mark.parametrize(
    "algorithm", [fl.algorithms.fed_avg, fl.algorithms.fed_sgd, fl.algorithms.local_adam]
)
def test_moving_averages_of_weights_are_refused(algorithm):
    model = new_model()
    model.compile(keras.optimizers.SGD(0.1, use_ema=True, ema_overwrite_frequency=2), "mse")
    with pytest.raises(
        ValueError,
        match="leaves the weights unchanged after the last step, got SGD with use_ema=True",
    ):
        after_round(model, algorithm())


def add_state(optimizer, variable, name, value):
    """Adds a state variable of an optimizer for one of the model's variables."""
    if IS_KERAS_3:
        value = tf.convert_to_tensor(value)
        return optimizer.add_variable(value.shape, lambda shape, dtype: value, name=name)
    return optimizer.add_variable_from_reference(variable, name, value.shape, value)


class Lookahead(keras.optimizers.SGD):
    """Every second step goes half the way from the last slow weights (Zhang et al. 2019)."""

    def build(self, var_list):
        super().build(var_list)
        if not hasattr(self, "slow"):
            self.slow = [add_state(self, v, "slow", v) for v in var_list]

    def update_step(self, gradient, variable, *learning_rate):  # which Keras 3 passes
        super().update_step(gradient, variable, *learning_rate)
        if IS_KERAS_3:
            index = self._get_variable_index(variable)
        else:
            index = self._index_dict[self._var_key(variable)]
        slow = self.slow[index]
        half_way = slow + 0.5 * (variable - slow)
        back = tf.equal(self.iterations % 2, 1)
        variable.assign(tf.where(back, half_way, variable))
        slow.assign(tf.where(back, half_way, slow))


class Normalized(keras.optimizers.SGD):
    """Keeps the norms that the weights start with."""

    def build(self, var_list):
        super().build(var_list)
        if not hasattr(self, "norms"):
            self.norms = [add_state(self, v, "norm", tf.norm(v)) for v in var_list]


def test_state_that_starts_as_a_copy_of_the_weights():
    def make():
        model = new_model()
        model.compile(Lookahead(0.2), "mse")
        return model

    assert_equal(after_round(make(), local_epochs=5, shuffle=False), after_fit(make(), epochs=5))


def test_state_computed_from_the_weights_is_refused():
    model = new_model()
    model.compile(Normalized(0.1), "mse")
    with pytest.raises(
        ValueError,
        match="constants or copies of weights, got Normalized, whose '.*norm.*' is neither",
    ):
        after_round(model)


def test_nadam_is_reset_at_each_client_and_counts_each_step_once():
    # In a graph Keras multiplies its product once for each weight, but for the first step.
    model = new_model()
    model.compile(keras.optimizers.Nadam(0.1), "mse", run_eagerly=True)
    before = model.get_weights()
    two = fl.ClientData.from_dict({name: {"x": X, "y": Y} for name in ("a", "b")})
    run = fl.simulate(
        model,
        two,
        rounds=1,
        cohort=["a", "b"],
        batch_size=2,
        local_epochs=2,
        shuffle=False,
        num_workers=1,
        progress=False,
    )
    assert [client["dropped"] for client in run.clients] == [False, False]
    model.set_weights(before)
    model.fit(X, Y, batch_size=2, epochs=2, shuffle=False, verbose=0)
    assert_equal(run.model.get_weights(), model.get_weights())
