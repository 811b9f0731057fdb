"""A single client's update, and its personalized model."""

import logging

import numpy as np
import pytest
import tensorflow as tf

import fedlab as fl
from fedlab.inspection import ClientUpdate

keras = tf.keras


def model(*layers, optimizer=None):
    made = keras.Sequential([keras.Input([3]), *layers, keras.layers.Dense(1)])
    made.compile(optimizer or keras.optimizers.SGD(0.1, momentum=0.5), "mse", metrics=["mae"])
    rng = np.random.default_rng(1)
    made.set_weights(
        [w if w.shape == () else np.abs(rng.normal(size=w.shape)) for w in made.get_weights()]
    )
    return made


def clients(seed=0):
    rng = np.random.default_rng(seed)
    return fl.ClientData.from_dict(
        {
            f"c{i}": {"x": rng.normal(size=[n, 3]), "y": rng.normal(size=[n, 1])}
            for i, n in enumerate([3, 7, 5])
        }
    )


READING = dict(batch_size=2, local_epochs=2, seed=4)


def test_the_update_is_what_keras_trains_and_what_simulate_applies():
    initial, data = model(), clients()
    update = fl.client_update(initial, data, "c1", shuffle=False, **READING)
    assert isinstance(update, ClientUpdate)
    alone = model()
    for start in (0, 2, 4, 6) * 2:
        alone.train_on_batch(*(data["c1"][name][start : start + 2] for name in ("x", "y")))
    for before, trained, delta in zip(initial.get_weights(), alone.get_weights(), update.delta):
        np.testing.assert_allclose(before - delta, trained, rtol=1e-5, atol=1e-6)
    assert (update.weight, update.num_examples, update.num_steps, update.finite) == (
        14.0,
        14,
        8,
        True,
    )

    run = fl.simulate(
        initial, data, rounds=1, cohort=["c1"], shuffle=False, progress=False, **READING
    )
    applied = [before - delta for before, delta in zip(initial.get_weights(), update.delta)]
    np.testing.assert_allclose(
        np.concatenate([w.ravel() for w in run.model.get_weights()]),
        np.concatenate([w.ravel() for w in applied]),
        rtol=1e-6,
    )
    assert update.metrics == {name: run.history[1][f"train_{name}"] for name in ("loss", "mae")}
    assert update.metrics["loss"] == pytest.approx(run.clients[0]["loss"], rel=1e-6)


def kept(into):
    """An aggregator that writes down what each client sends. It means nothing else."""
    mean = fl.aggregators.mean()

    def accumulate(state, total, delta, weight, seed):
        tf.py_function(
            lambda weight, *delta: into.append((weight.numpy(), [d.numpy() for d in delta])),
            [weight, *delta],
            [],
        )
        return mean.accumulate(state, total, delta, weight, seed)

    return mean._replace(name="kept", accumulate=accumulate)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["scaffold", pytest.param("mime", marks=pytest.mark.slow)])
def test_the_update_has_the_bits_of_the_round(name):
    layers = [
        keras.layers.Dense(2, "relu"),
        keras.layers.Dropout(0.3),
        keras.layers.BatchNormalization(),
    ]
    initial, data, cohort = (
        model(*layers, optimizer=keras.optimizers.SGD(0.1)),
        clients(),
        ["c2", "c0", "c1"],
    )
    algorithm = getattr(fl.algorithms, name)()
    sent = []
    options = dict(conditions=fl.clients.stragglers(0.5), **READING)
    run = fl.simulate(
        initial,
        data,
        algorithm,
        rounds=1,
        cohort=cohort,
        aggregator=kept(sent),
        num_workers=1,
        progress=False,
        **options,
    )
    updates = {
        each: fl.client_update(initial, data, each, algorithm, cohort=cohort, **options)
        for each in cohort
    }
    by_size = sorted(cohort, key=data.num_examples, reverse=True)
    for client_id, (weight, delta) in zip(by_size, sent, strict=True):
        assert updates[client_id].weight == weight and len(delta) == len(updates[client_id].delta)
        for mine, theirs in zip(updates[client_id].delta, delta):
            np.testing.assert_array_equal(mine, theirs)
    for row in run.clients:
        update = updates[row["client_id"]]
        assert (update.num_examples, update.num_steps, update.weight) == (
            row["num_examples"],
            row["num_steps"],
            row["weight"],
        )
    average = sum(
        update.weight * update.non_trainable_delta[0] for update in updates.values()
    ) / sum(weight for weight, _ in sent)
    start, end = (each.layers[2].moving_mean.numpy() for each in (initial, run.model))
    np.testing.assert_allclose(start - average, end, rtol=1e-5, atol=1e-6)


def test_an_update_that_is_not_finite_is_shown_as_it_is(caplog):
    rows = {name: dict(clients()[name]) for name in clients()}
    rows["c0"]["x"] = np.full_like(rows["c0"]["x"], np.nan)
    with caplog.at_level(logging.ERROR):
        update = fl.client_update(model(), fl.ClientData.from_dict(rows), "c0")
    assert not update.finite and all(np.isnan(delta).all() for delta in update.delta)


def test_bad_arguments_raise_one_line_errors():
    data = clients()
    for options, message in (
        ({"client_id": "zoë"}, "client_id='zoë': expected one of"),
        ({"round_num": 0}, "round_num=0"),
        ({"cohort": ["c0"]}, "expected different client ids, among them 'c1'"),
        ({"cohort": ["c1", "x"]}, r"unknown clients \['x'\]"),
        (
            {"algorithm": fl.algorithms.mime()},
            "algorithm 'mime' surveys the cohort: expected cohort=",
        ),
        (
            {"algorithm": fl.algorithms.scaffold(), "round_num": 2},
            "round_num=2: expected 1, since 'scaffold'",
        ),
        (
            {"conditions": fl.clients.dropouts(1)},
            r"client 'c1' is dropped in round 1 \(dropout\)",
        ),
        ({"batch_size": 0}, "batch_size=0"),
    ):
        with pytest.raises(ValueError, match=message):
            fl.client_update(**{"model": model(), "clients": data, "client_id": "c1", **options})
    with pytest.raises(ValueError, match="client_id='zoë': expected one of"):
        fl.personalize(model(), data, "zoë")
    with pytest.raises(ValueError, match="'fed_avg' has no personalization: wrap it"):
        fl.personalize(model(), data, "c1", fl.algorithms.fed_avg())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fine_tuning", "fed_recon"])
def test_a_personalized_model_evaluates_as_its_client_does(name):
    layers = [keras.layers.Dense(2, "relu", name="own"), keras.layers.BatchNormalization()]
    start, own, test = model(*layers), clients(), clients(seed=1)
    algorithm = (
        fl.algorithms.fed_recon(["own"]) if name == "fed_recon" else fl.algorithms.fine_tuning()
    )
    before = start.get_weights()
    for client_id in ("c0", "c1"):
        personal = fl.personalize(start, own, client_id, algorithm, **READING)
        alone = test.select([client_id])
        expected = fl.evaluate_personalized(start, own, alone, algorithm, **READING)
        found = personal.evaluate(
            alone[client_id]["x"], alone[client_id]["y"], verbose=0, return_dict=True
        )
        assert found == pytest.approx(expected, rel=1e-5) and found["loss"] != pytest.approx(
            fl.evaluate(start, alone)["loss"], rel=1e-3
        )
    for weight, kept_weight in zip(before, start.get_weights()):
        np.testing.assert_array_equal(weight, kept_weight)
