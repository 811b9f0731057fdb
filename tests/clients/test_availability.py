"""Drop-outs, stragglers and attackers in a run."""

import json

import numpy as np
import pytest
import tensorflow as tf

import fedlab as fl
from fedlab.algorithms import attacks
from fedlab.clients import Participation

CLIENTS = {f"c{k}": [float(k)] * 6 for k in range(5)}


def line_run(conditions=None, algorithm=None, clients=CLIENTS, rounds=1, **options):
    """y = w x at x = 1 from w = 0, loss (y - w)^2, rate 0.1: a step takes w to 0.8 w + 0.2 y."""
    model = tf.keras.Sequential(
        [tf.keras.Input([1]), tf.keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros")],
        name="line",
    )
    model.compile(tf.keras.optimizers.SGD(0.1), "mse")
    data = {
        name: {"x": np.ones([len(y), 1], np.float32), "y": np.array(y, np.float32)[:, None]}
        for name, y in clients.items()
    }
    options = {
        "batch_size": 1,
        "progress": False,
        "num_workers": 1,
        "cohort": list(clients),
        **options,
    }
    return fl.simulate(
        model,
        fl.ClientData.from_dict(data),
        algorithm,
        rounds=rounds,
        conditions=conditions,
        **options,
    )


def weight(run):
    return float(run.model.get_weights()[0][0, 0])


def after(steps, goal):
    return goal * (1 - 0.8**steps)


def own(**works):
    """Clients with work of their own."""
    return lambda client_id, round_num, seed: works.get(client_id, Participation())


def test_lost_clients_do_not_count_by_hand(tmp_path):
    run = line_run(
        own(c4=Participation(drop_reason="dropout"), c1=Participation(drop_reason="deadline")),
        run_dir=tmp_path / "run",
    )
    assert weight(run) == pytest.approx(np.mean([after(6, goal) for goal in (0, 2, 3)]), rel=1e-6)
    row = run.history[1]
    assert (
        row["clients_asked"],
        row["clients_finished"],
        row["clients_dropped"],
        row["examples"],
    ) == (5, 3, 2, 18)
    assert (row["bytes_down"], row["bytes_up"]) == (5 * 4, 3 * 4)
    assert [client["client_id"] for client in run.clients] == list(CLIENTS)
    assert [client["reason"] for client in run.clients] == ["", "deadline", "", "", "dropout"]
    assert [client["dropped"] for client in run.clients] == [False, True, False, False, True]
    assert run.clients[4] == dict(
        round=1,
        client_id="c4",
        num_examples=0,
        num_tokens=0,
        num_steps=0,
        weight=0.0,
        loss=None,
        dropped=True,
        reason="dropout",
        metrics={},
    )


def test_stragglers_do_their_share_by_hand():
    run = line_run(
        own(c3=Participation(share=0.5), c4=Participation(share=0.01)),
        fl.algorithms.fed_avg(client_weighting="uniform"),
    )
    assert [client["num_steps"] for client in run.clients] == [6, 6, 6, 3, 1]
    goals = [(6, 0), (6, 1), (6, 2), (3, 3), (1, 4)]
    assert weight(run) == pytest.approx(np.mean([after(*pair) for pair in goals]), rel=1e-6)


def test_a_client_that_is_not_finite_has_a_reason():
    run = line_run(clients={**CLIENTS, "c9": [float("nan")]})
    assert [client["reason"] for client in run.clients] == [""] * 5 + ["not finite"]


def test_engine_tff_gives_stragglers_their_share():
    pytest.importorskip("tensorflow_federated")
    conditions = own(c3=Participation(share=0.5), c4=Participation(drop_reason="dropout"))
    local, tff = line_run(conditions), line_run(conditions, engine="tff")
    assert weight(tff) == pytest.approx(weight(local), rel=1e-6)
    assert [client["num_steps"] for client in tff.clients] == [6, 6, 6, 3, 0]
    assert tff.history[1]["clients_dropped"] == 1


@pytest.mark.slow
def test_conditions_do_not_depend_on_workers_or_interruptions_and_are_recorded(tmp_path):
    def run(**options):
        conditions = [fl.clients.dropouts(0.2), fl.clients.stragglers(0.5)]
        algorithm = attacks.noise(
            attacks.sign_flipping(fl.algorithms.fed_avg(), 0.5), ["c3"], stddev=0.1
        )
        options = {"rounds": 3, "cohort": None, "clients_per_round": 4, **options}
        return line_run(conditions, algorithm, **options)

    whole = run()
    assert {client["reason"] for client in whole.clients} == {"", "dropout"}
    assert len({client["num_steps"] for client in whole.clients}) > 2
    assert weight(run(num_workers=3)) == weight(whole)
    run(rounds=1, run_dir=tmp_path / "run")
    resumed = run(run_dir=tmp_path / "run")
    assert weight(resumed) == weight(whole) and resumed.clients == whole.clients
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["conditions"]["conditions"] == [
        {"name": "dropouts", "rate": 0.2},
        {"name": "stragglers", "rate": 0.5, "drop": False},
    ]
    assert config["cohort"] == {"name": "uniform", "clients_per_round": 4}
    assert config["algorithm_settings"]["sign_flipping"] == {"attackers": 0.5, "scale": 1.0}


def test_nobody_is_an_error_that_says_so():
    with pytest.raises(ValueError, match="the cohort of round 1 is empty: expected at least one"):
        line_run(cohort=lambda client_ids, round_num, seed: [])


@pytest.mark.slow
def test_a_round_without_a_client_changes_nothing_but_adds_the_noise_of_privacy(tmp_path):
    def run(rounds, noise=None, **options):
        private = fl.aggregators.differentially_private
        aggregator = private(noise, 1, 5, norm=1.0) if noise else None
        options = {"cohort": fl.clients.poisson(1), "seed": 5, "max_dropped_rounds": 1, **options}
        return line_run(None, UNIFORM, rounds=rounds, aggregator=aggregator, **options)

    sizes = [row["clients_asked"] for row in run(6).history[1:]]
    empty = sizes.index(0, 1) + 1  # the first empty round after round 1
    assert sizes[0] and any(sizes[empty:])
    before, after = run(empty - 1), run(empty, run_dir=tmp_path / "run")
    assert weight(after) == weight(before) != 0.0
    assert after.history[empty]["clients_finished"] == after.history[empty]["bytes_up"] == 0
    assert after.history[empty].get("train_loss") is None
    resumed = run(6, run_dir=tmp_path / "run")
    assert weight(resumed) == weight(run(6)) != weight(after)
    with_noise = run(empty, noise=1.0)
    assert weight(with_noise) != weight(run(empty - 1, noise=1.0))
    assert with_noise.history[empty]["epsilon"] > with_noise.history[empty - 1]["epsilon"]


# Attackers.

UNIFORM = fl.algorithms.fed_avg(client_weighting="uniform")


def attacked_weight(algorithm, **options):
    return weight(line_run(algorithm=algorithm, **options))


def test_sign_flipping_by_hand():
    honest = [after(6, goal) for goal in range(5)]
    flipped = attacked_weight(attacks.sign_flipping(UNIFORM, ["c4", "c2"], scale=2.0))
    assert flipped == pytest.approx(
        np.mean([honest[0], honest[1], -2 * honest[2], honest[3], -2 * honest[4]]), rel=1e-6
    )
    assert (
        attacked_weight(attacks.sign_flipping(UNIFORM, []))
        == attacked_weight(UNIFORM)
        == attacked_weight(attacks.noise(UNIFORM, 0.0))
    )


@pytest.mark.slow
def test_noise_differs_by_client_and_round():
    def noisy(attackers, **options):
        return attacked_weight(attacks.noise(UNIFORM, attackers, stddev=1.0), **options)

    draws = [
        noisy(["c0"], cohort=["c0"]),
        noisy(["c0"], cohort=["c0"]),
        noisy(["c0"], cohort=["c0"], seed=1),
        noisy(["c1"], cohort=["c1"]),
    ]
    assert draws[0] == draws[1] and abs(draws[0]) > 1e-3
    assert len({round(draw, 3) for draw in (draws[0], draws[2], draws[3] - after(6, 1))}) == 3
    # c0 stays at its goal 0 but for the noise: the second round's differs from the first's.
    second = noisy(["c0"], cohort=["c0"], rounds=2) - 0.8**6 * draws[0]
    assert abs(second - draws[0]) > 1e-3


def test_noise_is_gaussian():
    columns = {"a": {"x": np.zeros([1, 100], np.float32), "y": np.zeros([1, 100], np.float32)}}
    model = tf.keras.Sequential([tf.keras.Input([100]), tf.keras.layers.Dense(100, use_bias=False)])
    model.compile(tf.keras.optimizers.SGD(0.1), "mse")
    run = fl.simulate(
        model,
        fl.ClientData.from_dict(columns),
        attacks.noise(UNIFORM, 1.0, stddev=3.0),
        rounds=1,
        cohort=["a"],
        progress=False,
        num_workers=1,
    )
    noise = (run.model.get_weights()[0] - model.get_weights()[0]) / 3
    assert abs(noise.mean()) < 4 / 100 and abs(noise.var() - 1) < 4 * np.sqrt(2) / 100


def test_label_flipping_trains_on_the_other_labels():
    rng = np.random.default_rng(0)
    clients = {
        f"c{k}": {"x": rng.normal(size=[8, 4]).astype(np.float32), "y": rng.integers(3, size=8)}
        for k in range(3)
    }
    flipped = {**clients, "c1": {**clients["c1"], "y": 2 - clients["c1"]["y"]}}
    tf.keras.utils.set_random_seed(0)
    model = tf.keras.Sequential([tf.keras.Input([4]), tf.keras.layers.Dense(3)])
    model.compile(
        tf.keras.optimizers.SGD(0.5),
        tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )

    def run(clients, algorithm):
        options = {
            "rounds": 2,
            "cohort": list(clients),
            "batch_size": 4,
            "progress": False,
            "num_workers": 1,
        }
        return fl.simulate(
            model, fl.ClientData.from_dict(clients), algorithm, **options
        ).model.get_weights()

    attacked = run(clients, attacks.label_flipping(fl.algorithms.fed_avg(), ["c1"], num_classes=3))
    assert all(
        np.array_equal(a, b) for a, b in zip(attacked, run(flipped, fl.algorithms.fed_avg()))
    )
    assert not np.array_equal(attacked[0], run(clients, fl.algorithms.fed_avg())[0])


@pytest.mark.slow
def test_masked_labels_are_not_flipped():
    columns = {
        name: {"x": np.full([4, 5], 3, np.int32), "y": np.array([[0, 1, 2, 3, -1]] * 4, np.int32)}
        for name in ("a", "b")
    }
    columns["b"]["y"] = np.array([[3, 2, 1, 0, -1]] * 4, np.int32)
    clients = {
        name: {**c, "sample_weight": np.ones([4, 5], np.float32) * (c["y"] >= 0)}
        for name, c in columns.items()
    }
    tf.keras.utils.set_random_seed(0)
    model = fl.models.char_rnn(vocabulary_size=4, embedding_dim=3, units=4)
    options = {"rounds": 1, "progress": False, "num_workers": 1, "shuffle": False}
    data = fl.ClientData.from_dict(clients)
    turned = fl.simulate(
        model, data, attacks.label_flipping(UNIFORM, ["a"], 4), cohort=["a"], **options
    ).model.get_weights()
    honest = fl.simulate(model, data, UNIFORM, cohort=["b"], **options).model.get_weights()
    assert all(np.array_equal(a, b) for a, b in zip(turned, honest))


@pytest.mark.slow
def test_a_share_attacks_in_every_round_and_by_seed():
    clients = {f"c{k}": [1.0] for k in range(200)}
    algorithm = attacks.sign_flipping(UNIFORM, 0.3)
    # From 0, each honest client goes to .2 and each attacker to -.2.
    shares = {}
    for seed in (0, 1):
        run = line_run(algorithm=algorithm, clients=clients, seed=seed)
        shares[seed] = (1 - weight(run) / 0.2) / 2
        assert abs(shares[seed] - 0.3) < 4 * np.sqrt(0.3 * 0.7 / 200)
    # In a second round from w the honest go up by .2 (1 - w), the same share down.
    w = 0.2 * (1 - 2 * shares[0])
    assert attacked_weight(algorithm, clients=clients, rounds=2) == pytest.approx(
        w + 0.2 * (1 - w) * (1 - 2 * shares[0]), rel=1e-5
    )
    assert shares[0] != shares[1]


@pytest.mark.parametrize(
    "make, message",
    [
        (
            lambda: attacks.sign_flipping(UNIFORM, 1.5),
            "attackers=1.5: expected a number between 0 and 1, or a list of client ids",
        ),
        (lambda: attacks.sign_flipping(UNIFORM, [3]), r"attackers=\[3\]"),
        (
            lambda: attacks.sign_flipping(UNIFORM, 0.5, scale=0.0),
            "scale=0.0: expected a number above 0",
        ),
        (lambda: attacks.noise(UNIFORM, 0.5, stddev=-1), "stddev=-1"),
        (
            lambda: attacks.label_flipping(UNIFORM, 0.5, num_classes=1),
            "num_classes=1: expected an integer of at least 2",
        ),
        (
            lambda: line_run(algorithm=attacks.label_flipping(UNIFORM, 0.5, num_classes=2)),
            r"^y: expected one column of class numbers[^\n]*$",
        ),
    ],
)
def test_bad_arguments_raise_one_line_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_engine_tff_has_no_attackers():
    pytest.importorskip("tensorflow_federated")
    with pytest.raises(
        ValueError, match="algorithm 'fed_avg under sign_flipping': expected .*fed_avg"
    ):
        line_run(algorithm=attacks.sign_flipping(UNIFORM, 0.5), engine="tff")
