"""Cohorts and client weights that depend on what a run knows of its clients."""

import re

import numpy as np
import pytest
import tensorflow as tf

import fedlab as fl
from fedlab.clients import ClientStats, adaptive, highest_loss
from fedlab.learner import stack
from tests.quadratics import linear_model, points

keras = tf.keras
CLIENTS = points([1, 2, 3, 4, 5], [2, 2, 2, 2, 2])  # client ci has the loss (w - (i + 1))^2


def run(rounds, learning_rate=0.05, clients=CLIENTS, **options):
    model = linear_model(1, keras.optimizers.SGD(learning_rate))
    return fl.simulate(model, clients, rounds=rounds, progress=False, **options)


def cohorts(result):
    return [
        [row["client_id"] for row in result.clients if row["round"] == round_num]
        for round_num in range(1, len(result.history))
    ]


def test_highest_loss_takes_the_unknown_then_the_worst():
    result = run(6, learning_rate=0.0, cohort=highest_loss(2, candidates=5))
    drawn = cohorts(result)
    assert (
        len({*drawn[0], *drawn[1]}) == 4
    )  # nobody's loss is known in the first round, and that of three in the second
    (last,) = {*CLIENTS} - {*drawn[0], *drawn[1]}
    worst = [client_id for client_id in ("c4", "c3") if client_id != last]
    assert drawn[2] == [last, worst[0]]
    assert drawn[3:] == [["c4", "c3"]] * 3  # their losses, 25 and 16, are the highest


def test_highest_loss_draws_candidates_by_size():
    known = {f"c{i}": ClientStats(f"c{i}", num_examples=i) for i in range(4)}  # c0 has no example
    first = [
        highest_loss(1, candidates=1).sample(known, round_num, 0)[0] for round_num in range(3000)
    ]
    share = np.array([first.count(client_id) for client_id in known]) / 3000
    assert share[0] == 0 and np.abs(share - np.arange(4) / 6).max() < 4 * np.sqrt(0.25 / 3000)
    with pytest.raises(
        ValueError,
        match="candidates=4: expected an integer between 1 and 3, the number of clients "
        "with examples",
    ):
        highest_loss(1, candidates=4).sample(known, 1, 0)
    with pytest.raises(ValueError, match="candidates=1: expected an integer of at least 2"):
        highest_loss(2, candidates=1)


def test_highest_loss_leaves_clients_without_a_result_to_the_end():
    known = [
        ClientStats("fine", 2, 0.1, 1, "", 1),
        ClientStats("nan", 2, 9.0, 2, "not finite", 2),
        ClientStats("padding", 2, None, 1, "", 1),
        ClientStats("lost", 2, None, 1, "dropout", 1),
        ClientStats("new", 2),
    ]
    order = highest_loss(5, candidates=5).sample({each.client_id: each for each in known}, 1, 0)
    assert (
        {*order[:2]} == {"lost", "new"}
        and order[2] == "fine"
        and {*order[3:]} == {"nan", "padding"}
    )


def worst_known(clients, round_num, seed):
    """The client of the highest known loss, and the one that has been in the fewest cohorts."""
    worst = max(clients, key=lambda client_id: clients[client_id].last_loss or 0)
    return [
        worst,
        min(
            (each for each in clients if each != worst),
            key=lambda client_id: clients[client_id].times_sampled,
        ),
    ]


@pytest.mark.slow
def test_adaptive_samplers_see_client_rows_and_resume_bit_identically(tmp_path):
    options = {"cohort": adaptive(worst_known), "conditions": fl.clients.dropouts(0.2)}
    whole = run(8, **options)
    drawn = cohorts(whole)
    losses, times = dict.fromkeys(CLIENTS, 0.0), dict.fromkeys(CLIENTS, 0)
    for round_num, cohort in enumerate(drawn, 1):
        worst = max(CLIENTS, key=losses.get)
        assert cohort == [worst, min((each for each in CLIENTS if each != worst), key=times.get)]
        for row in whole.clients:
            if row["round"] == round_num:
                times[row["client_id"]] += 1
                losses[row["client_id"]] = (
                    losses[row["client_id"]] if row["loss"] is None else row["loss"]
                )
    assert any(row["dropped"] for row in whole.clients) and len({cohort[0] for cohort in drawn}) > 1

    run(3, run_dir=tmp_path, **options)
    resumed = run(8, run_dir=tmp_path, **options)
    assert list(resumed.clients) == whole.clients
    np.testing.assert_array_equal(resumed.model.get_weights(), whole.model.get_weights())
    with pytest.raises(ValueError, match=r"cohort.*highest_loss"):
        run(8, run_dir=tmp_path, **{**options, "cohort": highest_loss(2, 5)})


def test_bad_adaptive_samplers_raise_one_line_errors():
    private = fl.aggregators.differentially_private(1.0, 2, 5, norm=1.0)
    for options, message in (
        (
            {"cohort": highest_loss(2, 5), "aggregator": private},
            "got highest_loss, which depends on the clients' data",
        ),
        ({"cohort": highest_loss(2, 6)}, "candidates=6: expected an integer between 2 and 5"),
        (
            {"cohort": highest_loss(2, 5), "engine": "tff"},
            "cohort=highest_loss: expected a sampler that does not use the clients' losses"
            if stack.name() == "tff"
            else "engine='tff': expected the tff stack",
        ),
        ({"cohort": adaptive(lambda *_: ["zoë"])}, "zoë"),
    ):
        with pytest.raises((ValueError, ModuleNotFoundError), match=message) as caught:
            run(1, **options)
        assert "\n" not in str(caught.value)
    with pytest.raises(TypeError, match="sample: expected a function .*, got int"):
        adaptive(3)


# Client weights.


def by_loss(client):
    return (1.0 if client.last_loss is None else client.last_loss) * (
        2 if client.client_id == "c0" else 1
    )


@pytest.mark.slow
def test_weights_by_last_loss_equal_the_formula_and_resume_bit_identically(
    tmp_path,
):
    options = {
        "algorithm": fl.algorithms.fed_avg(client_weighting=fl.algorithms.by_client(by_loss)),
        "cohort": [*CLIENTS],
    }
    goals, w, weights = np.arange(1.0, 6), 0.0, np.array([2.0, 1, 1, 1, 1])
    whole = run(5, num_workers=1, **options)
    for round_num in range(1, 6):
        rows = [row for row in whole.clients if row["round"] == round_num]
        np.testing.assert_allclose([row["weight"] for row in rows], weights, rtol=1e-6, atol=1e-6)
        losses = (w - goals) ** 2
        w -= np.average(0.05 * 2 * (w - goals), weights=weights)
        weights = losses * [2, 1, 1, 1, 1]
    np.testing.assert_allclose(whole.model.get_weights()[0], [[w]], rtol=1e-6)

    run(2, run_dir=tmp_path, num_workers=2, **options)
    resumed = run(5, run_dir=tmp_path, num_workers=2, **options)
    assert list(resumed.clients) == whole.clients
    np.testing.assert_array_equal(resumed.model.get_weights(), whole.model.get_weights())
    other = fl.algorithms.fed_avg(client_weighting=fl.algorithms.by_client(lambda client: 2.0))
    with pytest.raises(ValueError, match="algorithm_settings.client_weighting.function"):
        run(5, run_dir=tmp_path, **{**options, "algorithm": other})


@pytest.mark.parametrize(
    "name",
    [
        "fed_nova",
        pytest.param("fed_sgd", marks=pytest.mark.slow),
        pytest.param("mime", marks=pytest.mark.slow),
    ],
)
def test_weights_by_number_of_examples_are_those_of_that_name(name):
    clients = points([1, 2, 3], [1, 2, 3])
    make = getattr(fl.algorithms, name)
    by_size = make(client_weighting=fl.algorithms.by_client(lambda client: client.num_examples))
    results = [
        run(2, clients=clients, algorithm=algorithm, cohort=[*clients])
        for algorithm in (by_size, make())
    ]
    np.testing.assert_array_equal(*(result.model.get_weights() for result in results))
    assert results[0].clients == results[1].clients


def test_bad_client_weights_raise_one_line_errors():
    def weighted_by(weight, **options):
        algorithm = fl.algorithms.fed_avg(
            client_weighting=fl.algorithms.by_client(lambda client: weight)
        )
        return run(1, **{"algorithm": algorithm, "cohort": ["c1"], **options})

    for weight in (-1, np.nan, 1e300, None, "2", True):
        message = re.escape(f"of client 'c1'={weight!r}: expected a finite number of at least 0")
        with pytest.raises(ValueError, match=message):
            weighted_by(weight)
    private = fl.aggregators.differentially_private(1.0, 2, 5, norm=1.0, sampling="uniform")
    for options, message in (
        (
            {"aggregator": private, "cohort": fl.clients.uniform(2)},
            "client_weighting=by_client.*: expected 'uniform' with a private aggregator",
        ),
        (
            {"engine": "tff"},
            "client_weighting=by_client.*: expected .* with engine='tff'"
            if stack.name() == "tff"
            else "engine='tff': expected the tff stack",
        ),
    ):
        with pytest.raises((ValueError, ModuleNotFoundError), match=message):
            weighted_by(1.0, **options)
    with pytest.raises(
        TypeError, match="function: expected a function of ClientStats, got str 'loss'"
    ):
        fl.algorithms.by_client("loss")
