"""The study niid_bench: the partitions of NIID-Bench, its model, and what its table shows."""

import numpy as np
import pytest

from experiments.papers import results
from experiments.papers.niid_bench import partitions, study

LABELS = np.repeat(np.arange(10), 600)[np.random.default_rng(0).permutation(6000)]


def parts(name, num_clients=10, seed=0):
    found = partitions.partitioner(name, num_clients, seed)({"y": LABELS})
    assert list(found) == [f"client_{i}" for i in range(num_clients)]
    np.testing.assert_array_equal(np.sort(np.concatenate([*found.values()])), np.arange(6000))
    return [*found.values()]


def test_iid_clients_have_equal_shares():
    assert [len(rows) for rows in parts("iid")] == [600] * 10
    assert {tuple(rows) for rows in parts("iid")}.isdisjoint(map(tuple, parts("iid", seed=1)))


@pytest.mark.parametrize("seed", range(3))
def test_dirichlet_clients_with_an_equal_share_get_no_more_labels(seed):
    counts = np.array(
        [np.bincount(LABELS[rows], minlength=10) for rows in parts("dirichlet", seed=seed)]
    )
    before = np.cumsum(counts, axis=1) - counts
    assert (counts[before >= 600] == 0).all() and (before >= 600).any()
    assert counts.sum(axis=1).min() >= partitions.MIN_EXAMPLES
    assert counts.max() > 300, "labels are skewed: an even share is 60"


@pytest.mark.parametrize("seed", range(3))
def test_two_labels_are_the_number_of_the_client_and_a_random_one(seed):
    divided = parts("two_labels", seed=seed)
    labels = [set(LABELS[rows].tolist()) for rows in divided]
    assert all(len(own) == 2 and i in own for i, own in enumerate(labels))
    for label in range(10):
        sizes = [np.sum(LABELS[rows] == label) for rows in divided]
        shares = [size for size, own in zip(sizes, labels) if label in own]
        assert max(shares) - min(shares) <= 1 and sum(shares) == 600


def test_two_labels_need_a_client_for_each_label():
    with pytest.raises(ValueError, match="num_clients=9: expected at least 10"):
        parts("two_labels", num_clients=9)


def record(name, seed, accuracies, **settings):
    return {
        "case": name,
        "seed": seed,
        "settings": {**study.SCALES["paper"], **settings},
        "columns": ["round", "test_accuracy"],
        "rows": [[i, value] for i, value in enumerate(accuracies)],
        "figures": {"num_train": 8000},
    }


def records(accuracy):
    """Returns records of all MNIST cases, with accuracy(partition, algorithm, mu)."""
    return results.by_case(
        [
            record(case.name, 0, [0.1, accuracy(*[*case.options.values()][1:]), 0.2])
            for case in study.cases(study.SCALES["paper"])
            if case.options["dataset"] == "mnist"
        ]
    )


def test_the_table_has_the_best_round_and_the_best_mu():
    found = records(lambda partition, algorithm, mu: 0.9 if mu is None else 0.8 + mu / 100)
    rows = {row.name: row for row in study.rows(found)}
    assert len(rows) == 12, "Fashion-MNIST has not run"
    assert rows["MNIST, IID, FedAvg"].values == [90.0]
    assert rows["MNIST, IID, FedProx"].values == pytest.approx([81.0])
    assert rows["MNIST, IID, FedProx"].note == "mu 1; 8,000 training images, published 60,000"
    assert rows["MNIST, two labels per client, SCAFFOLD"].published == 96.92


@pytest.mark.parametrize(
    "winner, two_labels, holds",
    [("scaffold", 0.7, True), ("fed_avg", 0.7, False), ("scaffold", 0.95, False)],
)
def test_the_claim_needs_a_loss_with_two_labels_and_different_winners(winner, two_labels, holds):
    def accuracy(partition, algorithm, mu):
        best = "fed_avg" if partition == "iid" else winner
        return (two_labels if partition == "two_labels" else 0.9) + 0.01 * (algorithm == best)

    assert study.verdict(records(accuracy)).holds is holds


def test_a_part_of_the_runs_decides_nothing():
    found = dict(list(records(lambda *_: 0.5).items())[:5])
    verdict = study.verdict(found)
    assert verdict.holds is None and "of 12 rows have run" in verdict.text


@pytest.mark.slow
def test_the_model_is_that_of_pytorch():
    from experiments.papers.niid_bench import task

    model = task.make_model(0, 0.01)
    assert model.count_params() == 44_426
    for layer, num_inputs in zip((x for x in model.layers if x.weights), (25, 150, 256, 120, 84)):
        for values in layer.get_weights():
            assert 0.6 * num_inputs**-0.5 < abs(values).max() <= num_inputs**-0.5


@pytest.mark.slow
def test_scaffold_weights_clients_by_their_examples():
    """F_k(w) = (w - e_k)^2, one step at rate eta / 2: client k moves by eta e_k."""
    import tensorflow as tf

    from experiments.papers.niid_bench import task
    from tests.quadratics import linear_model, points, simulate

    found = simulate(
        linear_model(1, tf.keras.optimizers.SGD(0.0625)),
        points([1.0, 5.0], [1, 3]),
        task.algorithm("scaffold", None),
        rounds=1,
        batch_size=3,
    )
    np.testing.assert_allclose(found, 0.125 * (1 * 1.0 + 3 * 5.0) / 4, rtol=1e-9)
