"""The study of McMahan et al. 2017: its clients, its rounds, and when its claim holds."""

import math

import numpy as np
import pytest

from experiments.papers.mcmahan2017 import study, table, task


def record(name, curve, limit=100, target=0.9, lower=0.5):
    """Returns a record that was evaluated in the rounds of `curve`, {round: accuracy}."""
    model = table.method(name).model
    return {
        "case": name,
        "seed": 0,
        "settings": {
            "targets": {model: target},
            "lower_targets": {model: lower},
            "rows": {name: {"rate": 0.1, "max_rounds": limit, "evaluate_every": 1}},
        },
        "columns": ["round", "test_accuracy"],
        "rows": [[number, accuracy] for number, accuracy in curve.items()],
    }


def deciding(model, fedsgd, fedavg, part):
    """Returns records in which FedSGD and FedAvg reach the target in the given rounds."""
    return {
        f"{model}_{part}_fedsgd": [record(f"{model}_{part}_fedsgd", fedsgd)],
        f"{model}_{part}_e5_b10": [record(f"{model}_{part}_e5_b10", fedavg)],
    }


@pytest.mark.parametrize(
    "name, ratio",
    [  # as the paper prints them
        ("cnn_iid_e5_b10", 31.3),
        ("cnn_shards_e5_b10", 2.1),
        ("cnn_shards_e5_binf", 0.5),
        ("shakespeare_role_e5_b10", 95.3),
        ("shakespeare_iid_e5_binf", 4.1),
    ],
)
def test_the_published_rounds_give_the_published_gains(name, ratio):
    base = table.PUBLISHED[study._base(name)]
    assert round(base / table.PUBLISHED[name], 1) == ratio


def test_a_name_says_what_is_trained():
    assert table.method("cnn_shards_e20_binf") == ("cnn", "shards", 20, None, False)
    assert table.method("2nn_iid_fedsgd") == ("2nn", "iid", 1, None, True)
    assert table.method("shakespeare_role_e5_b10").title == "FedAvg, E = 5, B = 10"


@pytest.mark.parametrize("part, labels", [("iid", 10), ("shards", 2)])
def test_mnist_has_100_clients_with_600_images(part, labels, monkeypatch):
    digits = np.repeat(np.arange(10, dtype=np.int32), 6000)
    columns = {"x": np.zeros([60000, 1], np.float32), "y": digits}
    monkeypatch.setattr(task, "images", lambda *_: (columns, columns))
    what, paper = table.method(f"cnn_{part}_e5_b10"), study.SCALES["paper"]
    made, _ = task.clients(what, paper, None, seed=3)
    assert len(made) == 100
    assert {made.num_examples(client_id) for client_id in made} == {600}
    found = [len(set(made[client_id]["y"].tolist())) for client_id in made]
    assert max(found) == labels and np.mean(found) > labels * 0.9


def test_iid_text_is_shared_equally_by_as_many_clients_as_there_are_roles():
    settings = study.SCALES["smoke"]
    roles, _ = task.clients(table.method("shakespeare_role_fedsgd"), settings, None, 0)
    equal, _ = task.clients(table.method("shakespeare_iid_fedsgd"), settings, None, 0)
    sizes = [equal.num_examples(client_id) for client_id in equal]
    assert len(sizes) == len(roles) == 5
    assert sum(sizes) == sum(roles.num_examples(client_id) for client_id in roles)
    assert max(sizes) - min(sizes) <= 1


def test_a_gain_is_a_bound_if_fedsgd_does_not_reach_the_target():
    reached = deciding("cnn", {0: 0.1, 40: 0.9}, {0: 0.1, 4: 0.9}, "iid")
    assert study.gains(reached, "cnn_iid_e5_b10") == ([10.0], False)
    late = deciding("cnn", {0: 0.1, 100: 0.8}, {0: 0.1, 4: 0.9}, "iid")
    assert study.gains(late, "cnn_iid_e5_b10") == ([25.0], True)
    never = deciding("cnn", {0: 0.1, 40: 0.9}, {0: 0.1, 100: 0.8}, "iid")
    assert study.gains(never, "cnn_iid_e5_b10") == ([], False)
    assert study.gains({}, "cnn_iid_e5_b10") == ([], False)


def test_a_gain_compares_records_of_one_seed():
    found = deciding("cnn", {0: 0.1, 40: 0.9}, {0: 0.1, 4: 0.9}, "iid")
    other = deciding("cnn", {0: 0.1, 60: 0.9}, {0: 0.1, 5: 0.9}, "iid")
    for name, (each,) in other.items():
        found[name].append({**each, "seed": 1})
    assert study.gains(found, "cnn_iid_e5_b10") == ([10.0, 12.0], False)
    found["cnn_iid_fedsgd"].pop(0)
    assert study.gains(found, "cnn_iid_e5_b10") == ([12.0], False)
    for each in found.values():
        each[0]["settings"]["rows"] = {name: {"max_rounds": 100} for name in found}
    (row,) = (row for row in study.rows(found) if row.measure.startswith("gain"))
    assert (row.published, row.values) == (626 / 20, [12.0])


@pytest.mark.parametrize(
    "iid, shards, holds",
    [(4, 20, True), (5, 20, False), (4, 3, False), (4, 41, False)],
)  # FedSGD takes 40 rounds
def test_the_claim_needs_tenfold_gains_and_smaller_ones_with_shards(iid, shards, holds):
    base = {0: 0.1, 40: 0.9}
    found = deciding("cnn", base, {0: 0.1, iid: 0.9}, "iid")
    assert study.verdict(found).holds is None, "shards are missing"
    found |= deciding("cnn", base, {0: 0.1, shards: 0.9}, "shards")
    assert study.verdict(found).holds is holds
    assert f"{40 / iid:.1f} times with IID clients" in study.verdict(found).text


def test_without_fedsgd_the_verdict_tells_the_rounds_so_far():
    name = "shakespeare_role_e5_b10"
    found = study.verdict({name: [record(name, {0: 0.0, 40: 0.54}, target=0.54)]})
    assert found.holds is None and "40 rounds to 54% (published: 41)" in found.text
    missed = study.verdict({name: [record(name, {0: 0.0, 62: 0.5}, limit=62, target=0.54)]})
    assert missed.holds is None and "54% not reached in 62 rounds (published: 41)" in missed.text
    assert "Runs recorded: 1." in study.verdict({name: [record(name, {0: 0.0})]}).text


def test_roles_need_a_larger_gain_than_iid_text():
    base = {0: 0.1, 40: 0.9}
    found = deciding("shakespeare", base, {0: 0.1, 4: 0.9}, "iid")
    assert study.verdict(found | deciding("shakespeare", base, {0: 0.1, 2: 0.9}, "role")).holds
    assert not study.verdict(found | deciding("shakespeare", base, {0: 0.1, 5: 0.9}, "role")).holds


def test_a_run_that_misses_the_target_tells_how_far_it_came():
    records = deciding("cnn", {0: 0.1, 40: 0.9}, {0: 0.1, 100: 0.8}, "iid")
    for each in records.values():
        each[0]["settings"]["rows"] = {name: {"max_rounds": 100} for name in records}
    rows = {row.name: row for row in study.rows(records)}
    row = rows["CNN, IID: FedAvg, E = 5, B = 10"]
    assert row.values == [math.inf] and row.published is None
    assert row.note == "best 80.0% in 100 rounds; 57.1 rounds to 50%; published: 20 to 99%"
    assert study.rows({}) == []


@pytest.mark.slow
def test_fedsgd_is_fedavg_with_one_step_on_all_examples():
    # Section 2 of the paper: FedSGD is FedAvg with E = 1 and B = infinity.
    settings = {**study.SCALES["smoke"], "targets": {"2nn": 2.0}}
    row = {"rate": 0.1, "max_rounds": 2, "evaluate_every": 2}
    sgd, _ = task.train(table.method("2nn_iid_fedsgd"), settings, row, 0)
    avg, _ = task.train(table.method("2nn_iid_fedsgd")._replace(fedsgd=False), settings, row, 0)
    for a, b in zip(sgd.model.get_weights(), avg.model.get_weights()):
        np.testing.assert_allclose(a, b, atol=1e-6)


@pytest.mark.slow
def test_a_run_stops_when_it_reaches_its_target():
    settings = {**study.SCALES["smoke"], "targets": {"2nn": 0.2}}
    row = {"rate": 0.1, "max_rounds": 30, "evaluate_every": 1}
    run, _ = task.train(table.method("2nn_iid_e5_b10"), settings, row, 0)
    accuracies = [each["test_accuracy"] for each in run.history]
    assert max(accuracies[:-1], default=0.0) < 0.2 <= accuracies[-1] and len(accuracies) < 31


def test_every_tuned_rate_is_inside_its_grid():
    for name, found in table.tuned().items():
        rates = sorted(found["accuracy"], key=float)
        best = max(found["accuracy"], key=found["accuracy"].get)
        assert rates[0] != best != rates[-1], name
        assert [float(rate) for rate in rates] == [
            table.rate(power) for power in range(-9, 9) if table.rate(power) in map(float, rates)
        ]


def test_rows_that_were_not_tuned_use_the_rate_of_the_nearest(monkeypatch):
    made = {"cnn_iid_fedsgd": 3.0, "cnn_iid_e1_b10": 1.0, "cnn_iid_e5_b10": 2.0}
    found = {name: {"accuracy": {str(rate): 0.5, "9": 0.4}} for name, rate in made.items()}
    monkeypatch.setattr(table, "tuned", lambda: found)
    kinds = {"fedsgd": 3, "e20_binf": 3, "e1_b50": 1, "e1_b10": 1, "e5_b50": 2, "e20_b10": 2}
    for kind, rate in kinds.items():
        assert table.best_rate(f"cnn_iid_{kind}") == rate
    assert table.best_rate("shakespeare_role_e5_b10") == 1.0
    found["shakespeare_role_e5_b10"] = {"accuracy": {"1": 0.4, "2.15": 0.5}}
    assert table.best_rate("shakespeare_role_e5_b50") == 2.15


def test_the_kernels_of_the_lstm_are_drawn_as_by_reddi_et_al():
    models = [task.make_model("shakespeare", 1.0, seed, units=64) for seed in (3, 3, 4)]
    one, same, other = ([model.get_weights()[i] for i in (1, 4)] for model in models)
    for kernel, rows in zip(one, (8, 64)):
        assert kernel.std() == pytest.approx((2 / rows) ** 0.5, rel=0.05)
    assert all(np.array_equal(a, b) for a, b in zip(one, same))
    assert not np.array_equal(one[0], other[0])
    assert not np.array_equal(one[0].ravel()[:9], one[1].ravel()[:9])
