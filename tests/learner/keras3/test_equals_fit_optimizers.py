"""The optimizers of Keras 3 take the steps of `fit`, or are refused."""

import keras
import numpy as np
import pytest

import fedlab as fl
from tests import quick
from tests.learner.keras3.fitting import (
    ROWS,
    assert_equals_fit,
    classes,
    compiled,
    dense,
    floats,
    sequential,
)
from tests.stacks import IS_KERAS_3, keras_3

pytestmark = keras_3
layers = keras.layers


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


QUICK = ("clipnorm", "AdamW", "exclusions")


@pytest.mark.parametrize("name", quick.only(QUICK, optimizers()) if IS_KERAS_3 else ())
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


@pytest.mark.slow
@pytest.mark.parametrize("name", ["AdamW", "Ftrl", "SGD", "accumulation", "Lamb"])
def test_weights_that_the_loss_does_not_depend_on(name):
    """Keras leaves them as they are: without weight decay, and without their constraint."""

    class Unused(layers.Layer):
        def build(self, shape):
            options = {"initializer": "ones", "constraint": keras.constraints.MaxNorm(0.1)}
            self.unused = self.add_weight(shape=[2, 3], name="unused", **options)
            self.used = self.add_weight(shape=[4], initializer="ones", name="used")

        def call(self, x):
            return x * self.used

    def make():
        model = sequential(keras.Input([4]), Unused(), layers.Dense(3))
        return compiled(model, optimizers()[name])

    run = assert_equals_fit(make, {"x": floats(4), "y": classes()})
    np.testing.assert_array_equal(run.model.get_weights()[0], np.ones([2, 3]))


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
