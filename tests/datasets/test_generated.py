"""The synthetic data of LEAF and of the FedProx paper."""

import numpy as np
import pytest

from fedlab.datasets import fedprox_synthetic, leaf_synthetic


def whole(parts, client_id):
    return [np.concatenate([part[client_id][name] for part in parts]) for name in ("x", "y")]


def test_leafs_numbers():
    parts = leaf_synthetic.load()
    train, test = parts
    sizes = [train.num_examples(c) + test.num_examples(c) for c in train]
    # Caldas et al. 2018, table 1.
    assert len(train) == len(test) == 1000 and sum(sizes) == 107_553
    assert round(np.mean(sizes), 2) == 107.55 and round(np.std(sizes), 2) == 213.22
    # What LEAF's code generates: of the first client, and of all labels.
    x, y = whole(parts, "0")
    np.testing.assert_allclose(x[0, :3], [-1.6807979, 2.3469987, -1.3534158], rtol=1e-6)
    labels = np.concatenate([whole(parts, client_id)[1] for client_id in train])
    assert np.bincount(labels).tolist() == [16607, 15477, 23124, 35783, 16562]
    assert train.num_examples("0") == int(0.6 * len(x)) and x.dtype == np.float32


@pytest.mark.parametrize("make", [leaf_synthetic.load, leaf_synthetic.synthetic])
def test_leafs_clients_have_linear_models_and_their_own_inputs(make):
    parts = make(num_clients=40, num_classes=2, num_features=5)
    largest = max(parts[0], key=parts[0].num_examples)
    x, y = whole(parts, largest)
    assert len(x) > 400
    np.testing.assert_allclose(x.std(axis=0), np.arange(1, 6) ** -0.6, rtol=0.15)
    inputs = np.concatenate([np.ones([len(x), 1]), x], axis=1)
    w = np.linalg.lstsq(inputs, 2.0 * y - 1, rcond=None)[0]
    assert ((inputs @ w > 0) == y).mean() > max(y.mean(), 1 - y.mean(), 0.85) - 0.02
    means = [parts[0][c]["x"].mean() for c in parts[0]]
    assert np.std(means) > 0.5


def test_clusters_have_different_models():
    # Labels of two clusters agree less than labels of one.
    def disagreement(p):
        model = leaf_synthetic._Model(np.random.RandomState(1), 2, 3, np.array(p))
        rng = np.random.RandomState(2)
        x = np.concatenate([np.ones([500, 1]), rng.normal(size=[500, 3])], axis=1)
        labels = [(x @ (model.q @ mean)).argmax(axis=1) for mean in model.means]
        return (labels[0] != labels[-1]).mean()

    assert disagreement([1.0]) == 0 and disagreement([0.5, 0.5]) > 0.1


@pytest.mark.parametrize(
    "options, message",
    [
        ({"cluster_probabilities": [0.5, 0.4]}, "numbers of at least 0 whose sum is 1"),
        ({"cluster_probabilities": "half"}, "cluster_probabilities='half'"),
        ({"train_fraction": 1}, "train_fraction=1: expected a number above 0 and below 1"),
        ({"num_clients": 0}, "num_clients=0"),
        ({"seed": -1}, "seed=-1"),
        ({"path": "folder"}, "path='folder': expected None"),
    ],
)
def test_leafs_mistakes(options, message):
    with pytest.raises(ValueError, match=message):
        leaf_synthetic.load(**options)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"alpha": -1}, "alpha=-1: expected a number of at least 0, or None for the IID set"),
        ({"beta": "one"}, "beta='one'"),
        ({"path": "folder"}, "path='folder': expected None"),
        ({"source": "web"}, "source='web': expected one of auto, synthetic"),
    ],
)
def test_fedprox_mistakes(options, message):
    with pytest.raises(ValueError, match=message):
        fedprox_synthetic.load(**options)


def test_the_fedprox_papers_data():
    parts = fedprox_synthetic.load()
    train, test = parts
    assert len(train) == len(test) == 30
    sizes = [train.num_examples(c) + test.num_examples(c) for c in train]
    assert min(sizes) >= 50 and max(sizes) > 10 * min(sizes)
    for client_id, size in zip(train, sizes):
        assert train.num_examples(client_id) == int(0.9 * size)
    x, _ = whole(parts, train.client_ids[int(np.argmax(sizes))])
    np.testing.assert_allclose(x.std(axis=0), np.arange(1, 61) ** -0.6, rtol=0.1)


def spread(alpha, beta):
    """How much the means of inputs, and the frequencies of labels, differ between clients."""
    train, _ = fedprox_synthetic.synthetic(num_clients=60, alpha=alpha, beta=beta)
    means = np.std([train[c]["x"].mean() for c in train])
    labels = [np.bincount(train[c]["y"], minlength=10) / train.num_examples(c) for c in train]
    return means, np.std(labels, axis=0).mean()


def test_alpha_and_beta_make_clients_differ():
    iid, zero, one = spread(None, None), spread(0.0, 0.0), spread(1.0, 1.0)
    # The mean of an input is B_k, with the standard deviation beta, and the mean of 60 others.
    assert iid[0] < 0.05 < zero[0] < 0.25 and 0.7 < one[0] < 1.3
    assert iid[1] < zero[1]


def test_the_iid_set_has_one_model():
    train, _ = fedprox_synthetic.load(alpha=None)
    x, y = (np.concatenate([train[c][name] for c in train]) for name in ("x", "y"))
    targets = np.eye(10)[y]
    w = np.linalg.lstsq(x, targets, rcond=None)[0]
    means = np.array([train[c]["x"].mean(axis=0) for c in train])
    assert np.abs(means).max() < 5 / np.sqrt(45)
    shared = ((x @ w).argmax(axis=1) == y).mean()
    assert shared > 1.5 * np.bincount(y).max() / len(y)
