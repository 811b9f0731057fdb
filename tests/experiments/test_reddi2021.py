"""The Shakespeare task of Reddi et al. 2021: rows, weights, model, loss and rates."""

import numpy as np
import pytest

from experiments.papers.reddi2021 import study, task
from fedlab.clients import ClientData


def test_rows_are_those_of_the_authors():
    # Indices in the vocabulary, plus one: "a" 64, "b" 42, "t" 5. "~" is not in it.
    made = task.rows({"snippets": np.array([b"at~", b"b" * 79, b"b" * 80], object)})
    assert made["x"].shape == made["y"].shape == (4, 80)
    assert made["x"].dtype == made["y"].dtype == np.int32
    assert made["x"][0, :6].tolist() == [88, 64, 5, 87, 89, 0]
    assert made["y"][0, :6].tolist() == [64, 5, 87, 89, 0, 0]
    # 79 characters and two marks fill one row; one more character needs a second row.
    assert made["x"][1].tolist() == [88, *[42] * 79] and made["y"][1, -1] == 89
    assert made["y"][2].tolist() == [42] * 80
    assert made["x"][3].tolist() == [89, *[0] * 79] and not made["y"][3].any()
    clients = ClientData.from_dict({"ann": {"snippets": [b"at~", b""]}})
    assert task.num_tokens(clients.map(task.rows)) == {"ann": 4 + 1}


def test_the_rates_are_those_of_appendix_d():
    settings = {name: study.algorithm(name).settings for name in study.PUBLISHED}
    rates = {name: given["server_learning_rate"] for name, given in settings.items()}
    assert {name: round(float(np.log10(rate)), 9) for name, rate in rates.items()} == {
        "fed_adagrad": -0.5,
        "fed_adam": -2,
        "fed_yogi": -2,
        "fed_avgm": -0.5,
        "fed_avg": 0,
    }
    epsilons = {name: given["epsilon"] for name, given in settings.items() if "epsilon" in given}
    assert epsilons == {"fed_adagrad": 1e-1, "fed_adam": 1e-3, "fed_yogi": 1e-3}
    for name in ("fed_adam", "fed_yogi"):
        assert (settings[name]["beta_1"], settings[name]["beta_2"]) == (0.9, 0.999)
    assert settings["fed_avgm"]["momentum"] == 0.9


def cross_entropies(model, rows):
    """The loss at each position, by NumPy, from the model's logits."""
    logits = np.asarray(model(rows["x"]), np.float64)
    logits -= logits.max(axis=-1, keepdims=True)
    log_probabilities = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    return -np.take_along_axis(log_probabilities, rows["y"][..., None], axis=-1)[..., 0]


@pytest.mark.slow
@pytest.mark.parametrize("masked_loss", [False, True])
def test_padding_is_in_the_loss_as_published_and_never_in_the_accuracy(masked_loss):
    model = task.make_model(0, 1.0, masked_loss, units=8)
    model.set_weights([5 * weights for weights in model.get_weights()])  # losses that differ
    rows = task.rows({"snippets": np.array([b"at", b"to be, or not to be"], object)})
    losses, real = cross_entropies(model, rows), rows["y"] != task.PADDING
    right = np.asarray(model(rows["x"])).argmax(axis=-1) == rows["y"]
    found = model.evaluate(rows["x"], rows["y"], verbose=0, return_dict=True)
    expected = losses[real].mean() if masked_loss else losses.mean()
    assert found["loss"] == pytest.approx(expected, rel=1e-5)
    assert losses[real].mean() != pytest.approx(losses.mean(), rel=1e-3)
    assert found["accuracy"] == pytest.approx(right[real].mean(), abs=1e-6)


@pytest.mark.slow
def test_a_client_trains_as_keras_does_and_counts_by_its_tokens():
    import fedlab as fl

    snippets = {"ann": [b"at", b"to be, or not to be"], "bob": [b"O, " * 90]}
    clients = ClientData.from_dict({name: {"snippets": each} for name, each in snippets.items()})
    clients = clients.map(task.rows)
    tokens = task.num_tokens(clients)
    trained = []
    for name in clients:
        model = task.make_model(0, 1.0, False, units=8)
        start = model.get_weights()
        model.fit(clients[name]["x"], clients[name]["y"], batch_size=8, shuffle=False, verbose=0)
        trained.append([after - before for before, after in zip(start, model.get_weights())])
    run = fl.simulate(
        task.make_model(0, 1.0, False, units=8),
        clients,
        study.algorithm(
            "fed_avg", client_weighting=fl.algorithms.by_client(lambda c: tokens[c.client_id])
        ),
        rounds=1,
        cohort=list(clients),
        batch_size=8,
        progress=False,
    )
    weights = np.array([tokens[name] for name in clients]) / sum(tokens.values())
    for before, after, ann, bob in zip(start, run.model.get_weights(), *trained):
        expected = before + weights[0] * ann + weights[1] * bob
        np.testing.assert_allclose(after, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_the_model_has_the_published_number_of_parameters():
    assert task.make_model(0, 1.0, False).count_params() == 820_522


def verdict(**accuracies):
    """Returns the verdict of records whose last evaluations have these accuracies, in %."""
    return study.verdict(
        {
            name: [
                {
                    "settings": {**study.SCALES["paper"], "optimizers": list(accuracies)},
                    "columns": ["round", "test_accuracy"],
                    "rows": [[0, 0.0], [1110, value / 100], [1200, value / 100]],
                }
            ]
            for name, value in accuracies.items()
        }
    )


def test_the_claim_allows_half_a_point_below_fedavg():
    assert verdict(fed_adam=57.0, fed_yogi=56.5, fed_avg=56.9).holds is True
    assert verdict(fed_adam=57.0, fed_yogi=56.3, fed_avg=56.9).holds is False
    assert verdict(fed_adam=57.0, fed_avgm=50.0, fed_avg=56.9).holds is True
    assert verdict(fed_adam=57.0, fed_avg=56.9).text == (
        "FedAdam 57.0 %, against FedAvg 56.9 % after 1200 rounds."
    )
    assert verdict(fed_adam=56.6, fed_avg=56.9).text.endswith("0.5 points below count as equal.")
    published = {name: value for name, (_, value) in study.PUBLISHED.items()}
    assert verdict(**published).holds is True
    assert study.verdict({"fed_avg": [{"settings": study.SCALES["paper"]}]}).holds is None
