"""The study of TFF's text-generation tutorial."""

import csv
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from experiments.papers import results, study
from experiments.papers.tff_tutorial import study as tutorial
from experiments.papers.tff_tutorial import task
from fedlab.tasks.generation.text import CHAR_VOCABULARY

ROOT = Path(__file__).resolve().parents[2]
SMOKE = tutorial.SCALES["smoke"]


def test_every_character_of_random_text_is_equally_likely():
    columns = task.random_text(400, seed=0)
    assert columns["x"].shape == columns["y"].shape == (400, 100)
    np.testing.assert_array_equal(columns["x"][:, 1:], columns["y"][:, :-1])
    counts = np.bincount(columns["y"].ravel(), minlength=86)
    # Chi-squared with 85 degrees of freedom: mean 85, standard deviation 13.
    assert len(counts) == len(CHAR_VOCABULARY) == 86
    assert abs(((counts - 40000 / 86) ** 2 / (40000 / 86)).sum() - 85) < 4 * 13
    assert not np.array_equal(columns["x"], task.random_text(400, seed=1)["x"])


def test_deviations_from_chance_are_binomial():
    assert task.deviations(1 / 86, 800) == 0
    # By hand: the standard deviation of the share of 800 with p = 1/86.
    assert math.sqrt(85 / 86 / 86 / 800) == pytest.approx(0.003790, abs=1e-6)
    assert task.deviations(1 / 86 + 0.003790, 800) == pytest.approx(1, abs=1e-3)
    # All outputs of the tutorial, of 800 characters each.
    assert all(abs(task.deviations(each, 800)) < 1.3 for each in (0.010, 0.014, 0.007, 0.013))


def test_published_outputs_are_complete():
    for losses, accuracies, train_losses in tutorial.PUBLISHED.values():
        assert (len(losses), len(accuracies), len(train_losses)) == (6, 6, 5)


def record(case, seed, accuracy):
    return {
        "case": case,
        "seed": seed,
        "settings": {},
        "columns": ["round", "roles_accuracy"],
        "rows": [[0, 0.4], [20, accuracy]],
        "figures": {},
    }


def test_gains_compare_the_same_seed_with_its_own_base():
    records = results.by_case(
        [
            *[record("base", seed, accuracy) for seed, accuracy in enumerate((0.40, 0.50))],
            *[record("epochs_5", seed, accuracy) for seed, accuracy in enumerate((0.42, 0.51))],
            *[record("clients_2", seed, accuracy) for seed, accuracy in enumerate((0.41, 0.49))],
            record("weight_examples", 0, 0.60),
            record("weight_uniform", 0, 0.57),
            record("weight_uniform", 1, 0.99),  # its base has not run
        ]
    )
    found = tutorial.gains(records)
    assert found["epochs_5"] == pytest.approx([2, 1])
    assert found["weight_uniform"] == pytest.approx([-3])
    assert set(found) == {"epochs_5", "clients_2", "weight_uniform"}
    notes = {row.name: row.note for row in tutorial.rows(records)}
    assert notes["5 local epochs"] == "helps"
    assert notes["2 random roles per round"] == "undecided"
    assert notes["ten roles, uniform weights"] == "one seed"
    assert tutorial.verdict(records).holds is None


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_any_model_is_right_on_random_text_as_often_as_chance(seed):
    import fedlab as fl

    settings = {**SMOKE, "units": 16}
    columns = task.random_text(200, seed)
    for model in (task.tutorial_model(settings), task.untrained_model(settings, seed)):
        # Large weights, so that the predictions vary.
        model.set_weights([20 * weight for weight in model.get_weights()])
        accuracy = fl.evaluate(model, columns)["accuracy"]
        assert abs(task.deviations(accuracy, columns["y"].size)) < 4


@pytest.mark.slow
def test_the_untrained_model_has_the_published_size():
    model = task.untrained_model(tutorial.SCALES["paper"], seed=0)
    assert model.count_params() == 4_045_398


@pytest.mark.slow
def test_clients_that_lose_recurrent_weights_train_the_others_and_send_their_random_ones():
    import fedlab as fl

    train, _ = task.text(SMOKE, None, drop_remainder=True)
    model = task.tutorial_model(SMOKE)
    bounds = task.recurrent_weights(model)
    # Embedding, then the GRU's kernel, recurrent kernel and bias, then the dense layer.
    assert bounds == {1: math.sqrt(6 / (2 + 24)), 2: math.sqrt(6 / (8 + 24)), 3: 0.0}
    sent = [np.full_like(weight, 0.25) for weight in model.get_weights()]
    model.set_weights(sent)
    got = {}
    for cohort in (["ROLE_0"], ["ROLE_1"], ["ROLE_0", "ROLE_1"]):
        algorithm = task.losing_recurrent_weights(
            fl.algorithms.fed_avg(client_weighting="uniform"), bounds
        )
        run = fl.simulate(model, train, algorithm, rounds=1, cohort=cohort, progress=False)
        got[tuple(cohort)] = run.model.get_weights()
    one, two, both = got.values()
    for i, weights in enumerate(zip(sent, one, two, both)):
        before, *after = weights
        if i in bounds:
            for each in after:
                assert np.abs(each).max() <= bounds[i] and not np.array_equal(each, before)
            assert not bounds[i] or not np.array_equal(*after[:2])
        else:
            assert all(not np.array_equal(each, before) for each in after)
        np.testing.assert_allclose(both[i], (one[i] + two[i]) / 2, atol=1e-6)


@pytest.mark.slow
def test_the_first_output_is_the_run_of_experiments_shakespeare_bit_for_bit(tmp_path):
    import tensorflow as tf

    settings = {**SMOKE, "rounds": 2}
    task.tutorial_model(settings).save(tmp_path / "model.keras")
    setup = study.Setup("smoke", settings, None, tmp_path / "study", None)
    outcome = tutorial.train(study.Case("healthy", 3), setup)
    cohort = [*settings["cohort"], settings["example"]]
    command = [sys.executable, "-m", "experiments.shakespeare.run", "--source=synthetic"]
    command += [f"--flagfile={ROOT / 'experiments/shakespeare/tutorial.flags'}", "--num_chars=0"]
    command += [f"--model={tmp_path / 'model.keras'}", f"--cohort={','.join(cohort)}"]
    command += ["--seed=3", "--rounds=2", f"--run_dir={tmp_path / 'run'}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-2000:]
    with open(tmp_path / "run" / "metrics.csv") as file:
        rows = list(csv.DictReader(file))
    for ours, row in zip(outcome.history[1:], rows[1:], strict=True):
        assert ours["train_loss"] == float(row["train_loss"])
        assert ours["held_out_text_loss"] == pytest.approx(float(row["held_out_text_loss"]))
    models = [
        tf.keras.models.load_model(tmp_path / name / "model.keras") for name in ("study", "run")
    ]
    for one, other in zip(*(model.get_weights() for model in models), strict=True):
        np.testing.assert_array_equal(one, other)
