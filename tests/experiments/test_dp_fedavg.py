"""DP-FedAvg: the published accounting, the division of the images, and what the verdict counts."""

import math

import pytest

from experiments.papers import pages, results, study
from experiments.papers.dp_fedavg import accounting
from experiments.papers.dp_fedavg import study as dp_fedavg
from fedlab import partitioners

STUDY = dp_fedavg.STUDY
SMALL = STUDY.scales["small"]


# The accounting.


def test_published_accounting():
    """TFF's tutorial: 120 clients, noise 1.2 for (2, 1e-5) with 3,383 clients and 100 rounds."""
    setting = dp_fedavg.ACCOUNTING
    given = setting["num_clients"], setting["rounds"], setting["delta"]
    assert given == (3383, 100, 1e-5)
    assert setting["noise"] == setting["clients"] * setting["noise_per_client"] == 1.2
    assert accounting.by_divergences(1.19, 119, *given) > setting["target"] == 2.0
    assert accounting.by_divergences(1.2, 120, *given) == pytest.approx(1.986, abs=1e-3)
    assert accounting.by_losses(1.2, 120, *given) == pytest.approx(1.7075, abs=1e-3)


@pytest.mark.slow
def test_the_search_finds_the_published_cohort():
    found = accounting.figures(**dp_fedavg.ACCOUNTING)
    assert found["clients_by_divergences"] == 120
    assert found["noise_by_divergences"] == pytest.approx(1.2)
    assert found["clients_by_losses"] == 104
    records = results.by_case([record("accounting", figures=found)])
    lines = "\n".join(pages.table(STUDY, records))
    assert "| clients per round for (2, 1e-05) | 120 | 120 |" in lines
    assert "| noise multiplier | 1.2 | 1.2 |" in lines


def test_epsilon_falls_with_noise_and_grows_with_rounds_and_clients():
    def spent(noise=1.0, clients=20, rounds=10, delta=1e-5):
        return accounting.by_divergences(noise, clients, 1000, rounds, delta)

    for values in (
        [spent(noise=noise) for noise in (8.0, 2.0, 1.0, 0.5)],
        [spent(rounds=rounds) for rounds in (1, 10, 100, 1000)],
        [spent(clients=clients) for clients in (10, 100, 1000)],
        [spent(delta=delta) for delta in (1e-2, 1e-5, 1e-9)],
    ):
        assert values == sorted(values) and len(set(values)) == len(values)


def test_the_bound_by_divergences_is_above_the_tight_one():
    for noise, clients, rounds in ((1.2, 20, 10), (4.0, 50, 100), (1.0, 1000, 1)):
        setting = noise, clients, 1000, rounds, 1e-5
        assert accounting.by_losses(*setting) < accounting.by_divergences(*setting)


def test_the_search_returns_the_first_cohort_that_is_enough():
    asked = []

    def epsilon(noise, clients, num_clients, rounds, delta):
        assert noise == pytest.approx(0.5 * clients)
        asked.append(clients)
        return 100 / clients

    def fewest(target, num_clients=60):
        return accounting.fewest_clients(epsilon, target, 0.5, num_clients, 10, 1e-5)

    assert [fewest(target) for target in (100.0, 10.0, 9.9, 2.0)] == [1, 10, 11, 50]
    assert len(asked) < 40
    assert fewest(1.0) is None


def test_shakespeare_has_too_few_clients():
    # Not even all clients are enough, and the cohorts below need more.
    spent = [
        accounting.by_losses(0.01 * clients, clients, 715, 100, 1e-5) for clients in (715, 300)
    ]
    assert spent == sorted(spent) and spent[0] > 6


# The clients.


def test_small_has_as_many_clients_and_steps_as_the_tutorial():
    divided = partitioners.uniform(60_000, SMALL["num_clients"], seed=0)
    sizes = [len(rows) for rows in divided.values()]
    assert len(sizes) == 3383 and set(sizes) == {17, 18}
    writers = 341_873 / 3383  # EMNIST's training images per writer
    assert {math.ceil(size / SMALL["batch_size"]) for size in sizes} == {4}
    assert math.ceil(writers / STUDY.scales["paper"]["batch_size"]) == 4


def test_emnist_with_other_writers_is_refused(monkeypatch):
    from experiments.papers.dp_fedavg import task
    from fedlab.datasets import emnist

    made = emnist.synthetic(num_clients=3, task="digits")
    monkeypatch.setattr(emnist, "load", lambda **options: made)
    with pytest.raises(ValueError, match="3 writers: expected 3383, the number that epsilon"):
        task.clients(STUDY.scales["paper"], None, 0)
    assert len(task.clients({"data": "emnist", "num_clients": 3}, None, 0)[0]) == 3


def test_aggregators_of_the_runs():
    from experiments.papers.dp_fedavg import task

    for clients, noise, norm in SMALL["runs"]:
        made = task.aggregator(SMALL, {"clients": clients, "noise": noise, "norm": norm})
        if norm == "none":
            assert made.name == "mean" and noise == 0
            continue
        assert made.privacy == (noise, clients, 3383, 1e-5, "poisson")
        assert made.settings["norm"] == ((0.1, 0.5, 0.2, 1.0, 0.0) if norm == "adaptive" else norm)


def test_histories_keep_the_evaluations_and_the_durations():
    from experiments.papers.dp_fedavg import task

    history = [
        {"round": 0, "test_accuracy": 0.1, "test_loss": 2.0},
        {"round": 1, "seconds": 3.0, "clip_norm": 0.1, "clipped_fraction": 0.5, "epsilon": 1.0},
        {"round": 2, "seconds": 4.0, "clip_norm": 0.2, "test_accuracy": 0.5, "test_loss": 1.0},
    ]
    outcome = study.Outcome(task.evaluated(history), {"epsilon": 2.0})
    made = results.record(study.Case("a", 0), {}, outcome, seconds=1.0)
    assert made["columns"] == ["round", "test_accuracy", "test_loss", "clip_norm"]
    assert made["rows"] == [[0, 0.1, 2.0, None], [2, 0.5, 1.0, 0.2]]
    assert (made["seconds"], made["figures"]) == (7.0, {"epsilon": 2.0})


# The table and the verdict.


def record(case, seed=0, accuracy=0.5, figures=None):
    return {
        "case": case,
        "seed": seed,
        "settings": {key: value for key, value in SMALL.items() if key != "seeds"},
        "versions": {},
        "cores": 2,
        "seconds": 60.0,
        "columns": ["round", "test_accuracy"],
        "rows": [[0, 0.1], [100, accuracy]],
        "figures": figures or {},
    }


# Of 120 clients per round with adaptive norms: noise -> epsilon.
EPSILONS = {0.0: None, 0.6: 14.0, 1.2: 1.7, 1.8: 0.8, 2.4: 0.5, 3.6: 0.3}


def made(accuracies, others=()):
    """Returns the records of the runs with 120 clients and adaptive norms, in %, of two seeds."""
    found = list(others)
    for (noise, spent), accuracy in zip(EPSILONS.items(), accuracies, strict=True):
        figures = {"epsilon": spent} if spent else {}
        for seed, change in ((0, 0.01), (1, -0.01)):
            name = f"clients120-noise{noise}"
            found.append(record(name, seed, accuracy / 100 + change, figures))
    return results.by_case(found)


def test_the_verdict_wants_little_cost_at_the_target_and_more_below():
    verdict = STUDY.verdict(made([80, 80.5, 79, 76, 60, 20]))
    assert verdict.holds is True
    assert "Without noise 80.0 % accuracy; by epsilon 80.5 % at 14, 79.0 % at 1.7" in verdict.text
    assert STUDY.verdict(made([80, 79, 76, 70, 60, 20])).holds is False  # costs 4 points
    assert STUDY.verdict(made([80, 80, 79, 60, 76, 20])).holds is False  # rises again
    assert STUDY.verdict(made([80, 80, 79, 79, 79, 79])).holds is False  # does not fall
    partly = made([80, 80, 79, 76, 60, 20])
    del partly["clients120-noise3.6"]
    assert STUDY.verdict(partly) == study.Verdict(None, "5 of 6 noise multipliers have run.")


def test_the_verdict_compares_fixed_norms_with_the_adaptive_one():
    fixed = [
        record(f"clients120-noise1.2-norm{norm}", 0, accuracy, {"epsilon": 1.7})
        for norm, accuracy in ((0.1, 0.78), (0.3, 0.82))
    ]
    text = STUDY.verdict(made([80, 80, 79, 76, 60, 20], fixed)).text
    assert text.endswith("The best of 2 fixed clip norms has 82.0 %, the adaptive one 79.0 %.")


def test_the_table_has_the_published_accuracies_and_what_is_missing():
    records = made([80, 80, 79, 76, 60, 20])
    rows = {row.name: row for row in STUDY.rows(records)}
    row = rows["120 clients per round, adaptive norm, noise 1.2, epsilon 1.7"]
    assert (row.published, row.values) == (79.6, pytest.approx([80, 78]))
    assert row.note == "published for EMNIST"
    published = [each.published for each in rows.values() if "50 clients" in each.name]
    assert published == [80.5, 77.0, 70.9, 38.3]
    missing = rows["50 clients per round, adaptive norm, noise 1.0, epsilon not computed"]
    assert not missing.values


def test_the_table_tells_how_the_clip_norm_ends():
    run = record("clients50-noise1.0", figures={"epsilon": 1.06})
    run["columns"] = [*run["columns"], "clip_norm"]
    run["rows"] = [[0, 0.1, None], [100, 0.4, 7.361]]
    (row,) = (row for row in STUDY.rows(results.by_case([run])) if row.values)
    assert row.note == "published for EMNIST; clip norm 7.36 at the end"


def test_the_figure_is_drawn_of_what_has_run(tmp_path):
    fixed = record("clients120-noise1.2-norm0.1", 0, 0.8, {"epsilon": 1.7})
    complete = made([80, 80, 79, 76, 60, 20], [fixed])
    for i, records in enumerate([complete, results.by_case([record("accounting")])]):
        STUDY.draw(records, tmp_path / f"{i}.png")
        assert (tmp_path / f"{i}.png").stat().st_size > 1000


def test_cases_of_a_scale():
    found = STUDY.cases(SMALL)
    assert [case.seed for case in found if case.name == "accounting"] == [0]
    names = {case.name for case in found}
    assert {f"clients{clients}-noise{noise}" for clients, noise in dp_fedavg.PUBLISHED} <= names
    assert {"clients120-noise1.2-norm0.1", "clients120-noise0.0-unclipped"} <= names
