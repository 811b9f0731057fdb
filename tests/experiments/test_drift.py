"""The study drift: clients with few steps, the tuned rate, and rounds to FedAvg's accuracy."""

import math

import numpy as np
import pytest

from experiments.papers import results
from experiments.papers.drift import study, task


def test_a_client_takes_the_same_share_of_its_steps_in_every_round():
    shares = [task.share_of_steps(f"client_{i}", 1, 0).share for i in range(100)]
    assert (
        min(shares) >= 0.1 and max(shares) <= 1 and np.mean(shares) == pytest.approx(0.55, abs=0.1)
    )
    assert task.share_of_steps("client_7", 9, 0).share == shares[7]
    assert task.share_of_steps("client_7", 9, 1).share != shares[7]


def record(case, accuracies):
    return {
        "case": case.name,
        "seed": case.seed,
        "settings": {key: value for key, value in study.SCALES["small"].items() if key != "seeds"},
        "columns": ["round", "test_accuracy"],
        "rows": [[i, value] for i, value in enumerate(accuracies)],
    }


def records(curve):
    """Returns records of all cases of `small`, with the curves curve(algorithm, rate, seed)."""
    return results.by_case(
        [
            record(case, curve(case.options["algorithm"], case.options["rate"], case.seed))
            for case in study.cases(study.SCALES["small"])
        ]
    )


def curves(algorithm, rate, seed):
    if algorithm == "scaffold":  # is best at 0.03, and twice as fast
        return [0.0, 0.4, 0.8] if rate == 0.03 else [0.0, 0.7, 0.3]
    if algorithm == "mime":
        return [0.0, 0.1, 0.1]
    if (rate, seed) == (0.3, 1):  # is not what the rate is chosen with
        return [0.0, 0.9, 0.9]
    return [0.0, 0.2, 0.4 + 0.1 * (rate == 0.1) + 0.1 * seed]


def test_each_algorithm_has_the_rate_with_the_best_final_accuracy_of_the_first_seed():
    found = records(curves)
    rows = {(row.name, row.measure[:6]): row for row in study.rows(found)}
    fed_avg, scaffold = (rows[f"two labels, {name}", "accura"] for name in ("FedAvg", "SCAFFOLD"))
    assert (fed_avg.note, scaffold.note) == ("rate 0.1", "rate 0.03")
    assert fed_avg.values == pytest.approx([50.0, 60.0])
    # The target is that of the same seed: 0.5 and 0.6, on the way from 0.4 to 0.8.
    assert rows["two labels, SCAFFOLD", "rounds"].values == pytest.approx([1.25, 1.5])
    assert rows["two labels, FedAvg", "rounds"].values == pytest.approx([2.0, 2.0])
    assert rows["two labels, Mime", "rounds"].values == [math.inf, math.inf]


def test_the_claim_is_about_rounds():
    assert study.verdict(records(curves)).holds is True
    assert "Mime not reached" in study.verdict(records(curves)).text
    slower = records(lambda algorithm, *_: [0.0, 0.1 if algorithm == "scaffold" else 0.2, 0.5])
    assert study.verdict(slower).holds is False
    some = {name: found for name, found in slower.items() if "mime" not in name}
    assert study.verdict(some).holds is None


@pytest.mark.slow
def test_fed_nova_corrects_for_uneven_steps_with_the_weights_of_the_study():
    """F_i(w) = 1/2 (w - e_i)^2, and clients that take a share of ten epochs of 6 examples.

    For a rate that goes to 0, FedNova goes to the mean of e_i, weighted by the examples, and
    FedAvg to that weighted by examples times steps.
    """
    import tensorflow as tf

    from tests.quadratics import linear_model, points, simulate

    goals, sizes, rate = [1.0, 5.0, -3.0], [6, 6, 6], 2**-24
    clients = points(goals, sizes)
    shares = [task.share_of_steps(each, 1, 0).share for each in clients.client_ids]
    steps = np.array([math.ceil(share * 60 - 1e-9) for share in shares])

    def fixed_point(name):
        weights = {"fed_nova": np.ones(3), "fed_avg": steps / steps.mean()}[name]
        algorithm = task.algorithm(name, {}, clients)
        model = linear_model(1, tf.keras.optimizers.SGD(rate / 2))
        moved = simulate(
            model,
            clients,
            algorithm,
            rounds=1,
            batch_size=1,
            local_epochs=10,
            conditions=task.share_of_steps,
        )
        # From w = 0, one round moves by rate * mean(steps) * (weighted mean of the goals).
        return moved / (rate * steps.mean()), np.dot(weights, goals) / 3

    for name in ("fed_nova", "fed_avg"):
        found, expected = fixed_point(name)
        np.testing.assert_allclose(found, expected, rtol=1e-4)
