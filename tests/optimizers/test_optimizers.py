"""Optimizers as pure functions: the steps of Keras's and of TFF's."""

import numpy as np
import pytest
import tensorflow as tf

import fedlab as fl
from fedlab import optimizers
from fedlab.optimizers import schedules

keras = tf.keras

CASES = {
    "sgd": (optimizers.sgd(0.1), keras.optimizers.SGD(0.1), lambda b: b.build_sgdm(0.1)),
    "momentum": (
        optimizers.sgd(0.1, 0.9),
        keras.optimizers.SGD(0.1, momentum=0.9),
        lambda b: b.build_sgdm(0.1, 0.9),
    ),
    "nesterov": (
        optimizers.sgd(0.1, 0.9, True),
        keras.optimizers.SGD(0.1, momentum=0.9, nesterov=True),
        None,
    ),
    "adam": (
        optimizers.adam(0.05, 0.8, 0.99, 1e-4),
        keras.optimizers.Adam(0.05, beta_1=0.8, beta_2=0.99, epsilon=1e-4),
        lambda b: b.build_adam(0.05, 0.8, 0.99, 1e-4),
    ),
    "adamw": (
        optimizers.adamw(0.05, 0.8, 0.99, 1e-4, 0.3),
        keras.optimizers.AdamW(0.05, beta_1=0.8, beta_2=0.99, epsilon=1e-4, weight_decay=0.3),
        lambda b: b.build_adamw(0.05, 0.8, 0.99, 1e-4, 0.3),
    ),
    "adagrad": (
        optimizers.adagrad(0.3, 0.2, 0.01),
        keras.optimizers.Adagrad(0.3, initial_accumulator_value=0.2, epsilon=0.01),
        lambda b: b.build_adagrad(0.3, 0.2, 0.01),
    ),
    "rmsprop": (
        optimizers.rmsprop(0.05, 0.8, 0.01),
        keras.optimizers.RMSprop(0.05, rho=0.8, epsilon=0.01),
        None,
    ),
    "rmsprop of TFF": (
        optimizers.rmsprop(0.05, 0.8, 0.01, epsilon_in_root=False),
        None,
        lambda b: b.build_rmsprop(0.05, 0.8, 0.01),
    ),
    "yogi": (
        optimizers.yogi(0.05, 0.8, 0.9, 1e-3, 0.2),
        fl.optimizers.Yogi(0.05, 0.8, 0.9, 1e-3, 0.2),
        lambda b: b.build_yogi(0.05, 0.8, 0.9, 1e-3, 0.2),
    ),
}


def problem(dtype):
    """Two weights, and the gradients of eight steps."""
    rng = np.random.default_rng(0)
    shapes = [3, 2], [4]
    return [rng.normal(size=shape).astype(dtype) for shape in shapes], [
        [rng.normal(size=shape).astype(dtype) for shape in shapes] for _ in range(8)
    ]


def run(optimizer, dtype, **options):
    weights, steps = problem(dtype)
    weights = [tf.constant(w) for w in weights]
    state, found = optimizer.init(weights), []
    for gradients in steps:
        weights, state = optimizer.apply(
            weights, state, [tf.constant(g) for g in gradients], **options
        )
        assert [w.dtype for w in weights] == [dtype, dtype]
        found.append([w.numpy() for w in weights])
    return found


def compare(ours, theirs, rtol):
    for weights, others in zip(ours, theirs):
        for weight, other in zip(weights, others):
            np.testing.assert_allclose(weight, other, rtol=rtol, atol=rtol)


@pytest.mark.parametrize("name", [name for name in CASES if CASES[name][1] is not None])
def test_steps_of_keras(name):
    ours, theirs, _ = CASES[name]
    weights, steps = problem("float32")
    variables = [tf.Variable(w) for w in weights]
    theirs, expected = type(theirs).from_config(theirs.get_config()), []
    for gradients in steps:
        theirs.apply_gradients(zip(map(tf.constant, gradients), variables))
        expected.append([v.numpy() for v in variables])
    compare(run(ours, "float32"), expected, 1e-6)
    compare(run(optimizers.from_keras(theirs), "float32"), expected, 1e-6)


@pytest.mark.parametrize("name", [name for name in CASES if CASES[name][2] is not None])
def test_steps_of_tff(name):
    builders = pytest.importorskip("tensorflow_federated").learning.optimizers
    ours, _, build = CASES[name]
    theirs = build(builders)
    weights, steps = problem("float32")
    state, expected = theirs.initialize([tf.TensorSpec(w.shape, w.dtype) for w in weights]), []
    weights = [tf.constant(w) for w in weights]
    for gradients in steps:
        state, weights = theirs.next(state, weights, [tf.constant(g) for g in gradients])
        expected.append([w.numpy() for w in weights])
    compare(run(ours, "float32"), expected, 1e-6)


def test_yogi_comes_back_with_a_saved_model(tmp_path):
    model = keras.Sequential([keras.Input([2]), keras.layers.Dense(1)])
    model.compile(fl.optimizers.Yogi(0.25, beta_1=0.5, clipnorm=1.0), "mse")
    model.save(tmp_path / "model.keras")
    assert (
        fl.models.load(tmp_path / "model.keras").optimizer.get_config()
        == model.optimizer.get_config()
    )


def test_adam_without_bias_correction_by_hand():
    # m = 0.1 * 2 = 0.2, v = 0.01 * 4 = 0.04: w = 1 - 0.5 * 0.2 / (0.2 + 0.3);
    # then m = 0.18 - 0.1 = 0.08, v = 0.0396 + 0.01 = 0.0496.
    optimizer = optimizers.adam(0.5, 0.9, 0.99, 0.3, bias_correction=False)
    weights = [tf.constant([1.0], tf.float64)]
    weights, state = optimizer.apply(
        weights, optimizer.init(weights), [tf.constant([2.0], tf.float64)]
    )
    np.testing.assert_allclose(weights[0], [0.8], rtol=1e-12)
    weights, _ = optimizer.apply(weights, state, [tf.constant([-1.0], tf.float64)])
    np.testing.assert_allclose(weights[0], [0.8 - 0.5 * 0.08 / (np.sqrt(0.0496) + 0.3)], rtol=1e-12)


@pytest.mark.parametrize(
    "make",
    [
        optimizers.sgd,
        optimizers.adam,
        optimizers.adamw,
        optimizers.adagrad,
        optimizers.yogi,
        optimizers.rmsprop,
    ],
)
def test_a_schedule_is_the_rate_of_its_round(make):
    schedule = schedules.exponential(0.5, factor=0.5)
    compare(run(make(schedule), "float64", round_num=3), run(make(0.125), "float64"), 1e-12)
    with pytest.raises(
        ValueError,
        match="round_num=None: expected the number of the round, on which the schedule "
        "'exponential'",
    ):
        run(make(schedule), "float64")
    with pytest.raises(ValueError, match="learning_rate=-0.1"):
        make(-0.1)


@pytest.mark.parametrize(
    "optimizer",
    [
        keras.optimizers.SGD(7.0, momentum=0.5),
        keras.optimizers.Adam(7.0),
        keras.optimizers.RMSprop(7.0),
    ],
)
def test_a_schedule_takes_the_place_of_a_keras_optimizers_rate(optimizer):
    schedule = schedules.exponential(0.5, factor=0.5)
    plain = type(optimizer).from_config({**optimizer.get_config(), "learning_rate": 0.125})
    found = run(optimizers.from_keras(optimizer, schedule), "float32", round_num=tf.constant(3))
    compare(found, run(optimizers.from_keras(plain), "float32"), 1e-6)


# Schedules.


@pytest.mark.parametrize(
    "schedule, theirs",
    [
        (
            schedules.exponential(0.5, factor=0.9),
            keras.optimizers.schedules.ExponentialDecay(0.5, 1, 0.9),
        ),
        (
            schedules.step(0.5, every=3, factor=0.5),
            keras.optimizers.schedules.ExponentialDecay(0.5, 3, 0.5, staircase=True),
        ),
        (
            schedules.cosine(0.5, rounds=6, final=0.05),
            keras.optimizers.schedules.CosineDecay(0.5, 6, alpha=0.1),
        ),
        (schedules.constant(0.5), lambda step: 0.5),
    ],
    ids=lambda value: getattr(value, "name", None) if isinstance(value, schedules.Schedule) else "",
)
def test_schedules_are_those_of_keras(schedule, theirs):
    for round_num in range(1, 12):
        assert float(schedule(round_num)) == pytest.approx(
            float(theirs(round_num - 1)), rel=1e-6, abs=1e-8
        )


def test_warm_up_then_another_schedule():
    schedule = schedules.warm_up(schedules.step(0.8, every=5, factor=0.5), rounds=4)
    assert [float(schedule(r)) for r in range(1, 8)] == pytest.approx(
        [0.2, 0.4, 0.6, 0.8, 0.8, 0.4, 0.4], rel=1e-12
    )


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: schedules.constant(-1.0), "learning_rate=-1.0: expected a number of at least 0"),
        (lambda: schedules.step(0.1, every=0), "every=0: expected an integer of at least 1"),
        (
            lambda: schedules.exponential(0.1, factor=1.5),
            "factor=1.5: expected a number above 0 and at most 1",
        ),
        (lambda: schedules.cosine(0.1, rounds=2.5), "rounds=2.5"),
        (lambda: schedules.warm_up(0.1, rounds=0), "rounds=0"),
        (
            lambda: optimizers.adam(0.1, beta_1=1.0),
            "beta_1=1.0: expected a number of at least 0 and below 1",
        ),
        (
            lambda: optimizers.adagrad(0.1, epsilon=-1.0),
            "epsilon=-1.0: expected a number of at least 0",
        ),
    ],
)
def test_settings_out_of_range(make, message):
    with pytest.raises(ValueError, match=message):
        make()
