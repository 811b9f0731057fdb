"""Which layers train after `freeze`, and that a simulation leaves the others alone."""

import numpy as np
import pytest
import tensorflow as tf

import fedlab as fl
from fedlab.learner import freeze, statistics, weight_name

layers = tf.keras.layers


def model(compiled=True):
    tf.keras.utils.set_random_seed(0)
    parts = [
        layers.Input([3]),
        layers.Dense(4, name="body_0"),
        layers.BatchNormalization(name="norm"),
        layers.Dense(5, name="body_1"),
    ]
    made = tf.keras.Sequential([*parts, layers.Dense(2, name="head")])
    if compiled:
        made.compile(
            tf.keras.optimizers.SGD(0.5),
            tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        )
    return made


def trained(model):
    return [layer.name for layer in model.layers if layer.trainable_weights]


def test_names_patterns_and_keep():
    assert trained(freeze(model(), "body_0")) == ["norm", "body_1", "head"]
    assert trained(freeze(model(), "body_*", "norm")) == ["head"]
    assert trained(freeze(model(), keep="head")) == ["head"]
    assert trained(freeze(model(), keep=["head", "norm"])) == ["norm", "head"]
    assert trained(freeze(model(), "body_*", keep="body_1")) == ["norm", "body_1", "head"]


def test_every_call_replaces_earlier_freezing():
    made = freeze(model(), keep="head")
    assert trained(freeze(made, "body_0")) == ["norm", "body_1", "head"]
    assert trained(freeze(made, keep="*")) == ["body_0", "norm", "body_1", "head"]
    made.trainable = False
    assert trained(freeze(made, "head")) == ["body_0", "norm", "body_1"]


def name_of(weight):
    """The names of a weight and its layer."""
    return "/".join(weight_name(weight).removesuffix(":0").split("/")[-2:])


def test_keras_trains_what_is_left():
    made = model()
    x, y = np.ones([4, 3], np.float32), np.array([0, 1, 1, 1])
    made.fit(x, y, verbose=0)
    before = freeze(made, "body_*", "norm").get_weights()
    made.fit(x, y, verbose=0)
    changed = [name_of(w) for w, old in zip(made.weights, before) if not np.array_equal(w, old)]
    assert changed == ["head/kernel", "head/bias"]


def test_mistakes_leave_the_model_as_it_was():
    made = freeze(model(), "body_0")
    for names, keep, message in [
        (
            ["bodies"],
            (),
            "no layer is called 'bodies': expected body_0, norm, body_1, head, or patterns",
        ),
        ([], ["tail"], "no layer is called 'tail'"),
        ([], (), "freezing all layers leaves nothing to train: pass keep="),
        (["*"], (), "leaves nothing to train"),
    ]:
        with pytest.raises(ValueError, match=message):
            freeze(made, *names, keep=keep)
    assert trained(made) == ["norm", "body_1", "head"]


def test_statistics_are_what_training_changes():
    moving = ["norm/moving_mean", "norm/moving_variance"]
    assert [name_of(w) for w in statistics(model())] == moving
    assert [name_of(w) for w in statistics(freeze(model(), "body_*"))] == moving
    assert statistics(freeze(model(), "norm")) == []
    adapted = layers.Normalization()
    adapted.adapt(np.ones([5, 3]))
    nested = tf.keras.Sequential([adapted, model(), layers.Dense(1)])
    assert len(nested.non_trainable_weights) == len(adapted.weights) + 2
    assert [name_of(w) for w in statistics(nested)] == moving
    nested.layers[1].trainable = False
    assert statistics(nested) == []
    nested.layers[1].get_layer(
        "norm"
    ).trainable = True  # inside of a frozen model: Keras updates it
    assert [name_of(w) for w in statistics(nested)] == moving


# ---- In a simulation ----


def clients():
    rng = np.random.default_rng(0)
    make = lambda n: {"x": rng.normal(size=[n, 3]).astype(np.float32), "y": rng.integers(2, size=n)}  # noqa: E731
    return fl.clients.ClientData.from_dict({f"c{n}": make(n) for n in (5, 8, 3)})


def simulate(model, **options):
    return fl.simulate(
        model, clients(), rounds=2, clients_per_round=2, batch_size=4, progress=False, **options
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "names, non_trainable, down, up",
    [
        # body_0 16 weights, norm 8 trained and 8 statistics, body_1 25, head 12; four bytes each,
        # two clients
        ((), "broadcast", 69, 61),
        pytest.param((), "average", 69, 69, marks=pytest.mark.slow),
        (("body_0",), "broadcast", 53, 45),
        pytest.param(("body_0", "norm"), "average", 37, 37, marks=pytest.mark.slow),
        (("body_*", "norm"), "broadcast", 12, 12),
    ],
)
def test_bytes_are_those_of_what_is_trained(tmp_path, names, non_trainable, down, up):
    made = freeze(model(), *names, keep=() if names else "*")
    run = simulate(made, non_trainable=non_trainable, run_dir=tmp_path)
    assert [(row["bytes_down"], row["bytes_up"]) for row in run.history[1:]] == [
        (8 * down, 8 * up)
    ] * 2
    assert f"{8 * up}" in (tmp_path / "metrics.csv").read_text().splitlines()[-1].split(",")


SGD, ADAMW = tf.keras.optimizers.SGD(0.5), tf.keras.optimizers.AdamW(0.1, weight_decay=0.1)


@pytest.mark.slow
@pytest.mark.parametrize(
    "non_trainable, optimizer",
    [
        pytest.param("broadcast", SGD, id="broadcast, SGD", marks=pytest.mark.slow),
        pytest.param("average", SGD, id="average, SGD"),
        pytest.param("broadcast", ADAMW, id="broadcast, AdamW"),
        pytest.param("average", ADAMW, id="average, AdamW", marks=pytest.mark.slow),
    ],
)
def test_frozen_weights_stay_bit_for_bit(non_trainable, optimizer):
    made = model()
    made.compile(optimizer, made.loss)
    freeze(made, "body_*", "norm")
    before = {name_of(w): w.numpy() for w in made.weights}
    run = simulate(made, non_trainable=non_trainable)
    same = [name_of(w) for w in run.model.weights if np.array_equal(w, before[name_of(w)])]
    assert sorted(same) == sorted(name for name in before if not name.startswith("head"))
    assert trained(run.model) == ["head"]


def test_nothing_to_train():
    made = model()
    made.trainable = False
    message = "has no trainable weights: expected at least one layer that is not frozen"
    with pytest.raises(ValueError, match=message):
        simulate(made)
