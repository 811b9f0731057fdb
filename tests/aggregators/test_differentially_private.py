"""Differential privacy: the clipped sum by hand, the noise, the budget, and refused options."""

import math

import dp_accounting
import numpy as np
import pytest
import tensorflow as tf

import fedlab as fl
from fedlab.aggregators import adaptive, differentially_private, quantized
from fedlab.aggregators.privacy import Privacy, epsilon, metrics
from fedlab.algorithms import ClientResult
from tests.aggregators.rounds import run_round
from tests.aggregators.test_contract import small_run

UNIFORM = fl.algorithms.fed_avg(client_weighting="uniform")


def test_without_noise_by_hand():
    # Norms 5 and .5 at clip 1, over the four clients expected, though two came.
    delta, _, metrics = run_round(
        differentially_private(0.0, 4, 10, norm=1.0), [[3.0, 4.0], [0.0, 0.5]]
    )
    np.testing.assert_allclose(delta, [0.15, 0.325], rtol=1e-6)
    assert metrics == {
        "clip_norm": 1.0,
        "clipped_fraction": 0.5,
        "noise_stddev": 0.0,
        "epsilon": math.inf,
    }


def test_no_weight_makes_a_client_larger():
    aggregator = differentially_private(0.0, 4, 10, norm=1.0)
    updates = [[3.0, 4.0], [0.0, 0.5], [9.0, 9.0]]
    weighted = run_round(aggregator, updates, weights=[100.0, 0.01, 0.0])[0]
    np.testing.assert_allclose(weighted, [0.15, 0.325], rtol=1e-6)


def test_adaptive_norm_without_noise_by_hand():
    # Of eight expected, three came and two of them are below: b = 1/2 + (2 - 1) / 2 / 8.
    aggregator = differentially_private(0.0, 8, 10, norm=adaptive(2.0, 0.5, 0.3))
    _, state, _ = run_round(aggregator, [[1.0], [1.0], [3.0]])
    assert float(state.estimate) == pytest.approx(
        2 * math.exp(-0.3 * (0.5 + 0.5 / 8 - 0.5)), rel=1e-6
    )


def test_noise_is_gaussian_of_the_stddev_it_says():
    # z C / n in each value of the mean.
    size = 40_000
    delta, _, metrics = run_round(differentially_private(1.5, 10, 100, norm=2.0), [np.zeros(size)])
    assert metrics["noise_stddev"] == pytest.approx(1.5 * 2 / 10, rel=1e-6)
    z = delta / metrics["noise_stddev"]
    assert abs(z.mean()) < 4 / math.sqrt(size)
    assert abs(z.var() - 1) < 4 * math.sqrt(2 / size)
    for bound, share in [(1, 0.682689), (2, 0.954500), (3, 0.997300)]:
        assert abs((np.abs(z) < bound).mean() - share) < 4 * math.sqrt(share * (1 - share) / size)


def test_noise_of_the_adaptive_norm():
    # z = 1 is split: s = 0.05 n = 2 on the count, (1 - 1 / 16)^-1/2 on the sum. Together they
    # are worth z.
    aggregator, weights = (
        differentially_private(1.0, 40, 400, norm=adaptive(1.0, 0.5, 1.0)),
        [tf.zeros([1])],
    )
    first_state = aggregator.init(weights)
    accumulator = aggregator.zero(first_state, weights)
    for update in [0.0] * 20 + [9.0] * 20:
        accumulator = aggregator.accumulate(
            first_state, accumulator, [tf.constant([update])], tf.ones([]), None
        )
    estimates = []
    for round_num in range(500):
        _, state, metrics = aggregator.report(
            first_state, accumulator, tf.constant([0, round_num], tf.int64)
        )
        estimates.append(float(state.estimate))
    assert float(metrics["noise_stddev"]) == pytest.approx(1 / math.sqrt(1 - 1 / 16) / 40, rel=1e-6)
    # ln C = -(b - .5) is N(0, (2 / 40)^2).
    logs = np.log(estimates)
    assert abs(logs.mean()) < 4 * 0.05 / math.sqrt(500)
    assert logs.std() == pytest.approx(0.05, rel=4 / math.sqrt(1000))


def test_noise_differs_by_round_and_tensor_and_not_by_anything_else():
    aggregator, weights = (
        differentially_private(1.0, 10, 100, norm=1.0),
        [tf.zeros([5]), tf.zeros([5])],
    )
    state = aggregator.init(weights)
    accumulator = aggregator.zero(state, weights)
    draws = [
        aggregator.report(state, accumulator, tf.constant(seed, tf.int64))[0]
        for seed in ([1, 2], [1, 2], [1, 3])
    ]
    first, again, other = ([d.numpy() for d in draw] for draw in draws)
    assert all((a == b).all() for a, b in zip(first, again))
    assert (first[0] != first[1]).all() and (first[0] != other[0]).all()


# The budget.


def test_accounting_of_dp_fedavg():
    """3,383 clients, 100 rounds, z = 0.01 of the clients in a round, delta 1e-5."""
    dp_fedavg = Privacy(1.2, 120, 3383, 1e-5, "poisson")
    spent = epsilon(dp_fedavg, 100)
    assert spent == pytest.approx(1.7075, abs=1e-3)
    event = dp_accounting.PoissonSampledDpEvent(120 / 3383, dp_accounting.GaussianDpEvent(1.2))
    tight = (
        dp_accounting.pld.PLDAccountant().compose(event, 100).get_epsilon(1e-5)
    )  # of steps of 1e-4
    renyi = dp_accounting.rdp.RdpAccountant().compose(event, 100).get_epsilon(1e-5)
    assert tight == pytest.approx(spent, rel=1e-3) and renyi == pytest.approx(1.986, abs=1e-3)

    fixed_size = metrics(dp_fedavg._replace(sampling="uniform"), 100)
    assert fixed_size == {"epsilon": pytest.approx(14.09, abs=5e-3), "epsilon_poisson": spent}
    assert metrics(dp_fedavg, 100) == {"epsilon": spent}


def test_epsilon_grows_with_rounds_and_clients_and_shrinks_with_noise():
    def spent(z=1.0, clients=20, delta=1e-5, rounds=10):
        return epsilon(Privacy(z, clients, 1000, delta, "poisson"), rounds)

    for values in (
        [spent(rounds=rounds) for rounds in (0, 1, 2, 5, 200)],
        [spent(clients=clients) for clients in (1, 20, 300, 1000)],
        [spent(z=z) for z in (50.0, 2.0, 1.0, 0.5, 0.1)],
        [spent(delta=delta) for delta in (1e-2, 1e-5, 1e-9)],
    ):
        assert values == sorted(values) and len(set(values)) == len(values)
    assert spent(z=0.0) == math.inf


def test_accounting_prints_no_warnings(caplog):
    """The accountant warns of each Renyi order that it leaves out."""
    assert epsilon(Privacy(0.51, 100, 1000, 1e-5, "poisson"), 1) > 0
    assert not caplog.records


def test_epsilon_without_sampling_in_closed_form():
    """T Gaussians are one of noise z / sqrt(T): Balle and Wang 2018, Theorem 8."""
    z, rounds, delta = 2.0, 10, 1e-5
    found, mu = epsilon(Privacy(z, 50, 50, delta, "poisson"), rounds), math.sqrt(rounds) / z

    def cdf(x):
        return 0.5 * math.erfc(-x / math.sqrt(2))

    assert cdf(mu / 2 - found / mu) - math.exp(found) * cdf(-mu / 2 - found / mu) == pytest.approx(
        delta, rel=1e-2
    )
    # Replacing a client moves the sum by 2 C, which is half the noise. By Rényi divergences
    # it is more.
    replaced = epsilon(Privacy(2 * z, 50, 50, delta, "uniform"), rounds)
    assert found < replaced < rounds / (2 * z**2) + math.sqrt(2 * rounds * math.log(1 / delta)) / z


@pytest.mark.slow
def test_epsilon_so_far_in_every_round(tmp_path):
    aggregator = differentially_private(1.0, 3, 6, norm=0.5)
    options = {"cohort": fl.clients.poisson(3), "algorithm": UNIFORM, "seed": 4}
    run = small_run(aggregator, rounds=3, **options)
    expected = [epsilon(aggregator.privacy, rounds) for rounds in (1, 2, 3)]
    assert [row["epsilon"] for row in run.history[1:]] == expected and expected[0] < expected[
        1
    ] < expected[2]
    small_run(aggregator, rounds=1, run_dir=tmp_path / "run", **options)
    resumed = small_run(aggregator, rounds=3, run_dir=tmp_path / "run", **options)
    assert [row["epsilon"] for row in resumed.history[1:]] == expected
    assert all(
        np.array_equal(a, b) for a, b in zip(run.model.get_weights(), resumed.model.get_weights())
    )


# What is refused.


def extra_sender():
    return UNIFORM._replace(
        name="extra_sender", client_final=_with_extras, extras=lambda weights: [tf.zeros([3])]
    )


def _with_extras(*arguments):
    result = UNIFORM.client_final(*arguments)
    return ClientResult(result.delta, result.weight, extras=[tf.zeros([3])])


@pytest.mark.parametrize(
    "options, message",
    [
        (
            {"algorithm": fl.algorithms.fed_avg()},
            "client_weighting='num_examples': expected 'uniform' with a private aggregator",
        ),
        (
            {"algorithm": extra_sender()},
            "expected one without extras with a private aggregator, .* got extra_sender",
        ),
        (
            {"cohort": fl.clients.uniform(3)},
            r"cohort: expected fedlab.clients.poisson\(3\), .* got uniform cohorts",
        ),
        ({"cohort": fl.clients.poisson(2)}, "got poisson cohorts of 2 clients"),
        ({"cohort": ["c0", "c1", "c2"]}, "got fixed cohorts"),
        (
            {"cohort": lambda client_ids, round_num, seed: client_ids[:3]},
            "got user-defined cohorts",
        ),
        (
            {"aggregator": differentially_private(1.0, 3, 7, norm=1.0)},
            "num_clients=7: expected 6, the number of clients",
        ),
    ],
)
def test_options_that_break_the_privacy_guarantee_are_refused(options, message):
    options = {"algorithm": UNIFORM, "cohort": fl.clients.poisson(3), **options}
    aggregator = options.pop("aggregator", quantized(differentially_private(1.0, 3, 6, norm=1.0)))
    with pytest.raises(ValueError, match=message):
        small_run(aggregator, rounds=1, **options)


def test_uniform_cohorts_where_the_accounting_is_for_them():
    aggregator = differentially_private(1.0, 3, 6, norm=1.0, sampling="uniform")
    run = small_run(aggregator, rounds=1, clients_per_round=3, algorithm=UNIFORM)
    assert run.history[1]["epsilon"] == epsilon(Privacy(1.0, 3, 6, 1e-5, "uniform"), 1)


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(noise_multiplier=-1), "noise_multiplier=-1: expected a number of at least 0"),
        (
            dict(clients_per_round=0),
            "clients_per_round=0: expected a number above 0 and at most 100",
        ),
        (
            dict(clients_per_round=101),
            "clients_per_round=101: expected a number above 0 and at most 100",
        ),
        (dict(delta=0), "delta=0: expected a number above 0 and below 1"),
        (dict(sampling="fixed"), "sampling='fixed': expected 'poisson' or 'uniform'"),
        (
            dict(norm=adaptive(1.0, multiplier=2.0)),
            "norm=.*: expected a multiplier of 1 and an increment of 0",
        ),
        (
            dict(noise_multiplier=1.0, norm=adaptive(1.0), clients_per_round=10),
            "clipped_count_stddev=0.5: expected a number above 0.5",
        ),
    ],
)
def test_bad_arguments_raise_one_line_errors(options, message):
    with pytest.raises(ValueError, match=message):
        differentially_private(
            **{"noise_multiplier": 1.0, "clients_per_round": 50, "num_clients": 100, **options}
        )
