"""Central evaluation: parts that span clients, and data larger than what is kept."""

import resource

import numpy as np
import pytest
import tensorflow as tf

import fedlab as fl
from fedlab.evaluation import central


def linear(num_features=3):
    tf.keras.utils.set_random_seed(0)
    model = tf.keras.Sequential([tf.keras.layers.Input([num_features]), tf.keras.layers.Dense(4)])
    loss = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    metric = tf.keras.metrics.SparseCategoricalAccuracy(name="accuracy")
    model.compile("sgd", loss, metrics=[metric])
    return model


def client(size, seed, num_features=3):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=[size, num_features]).astype(np.float32)
    return {"x": x, "y": rng.integers(4, size=size)}


# Parts have 8 batches of 4 rows: clients with several parts, a part with several clients.
SIZES = (0, 75, 3, 0, 1, 130, 32, 7)


def test_the_clients_together_are_evaluated_to_the_last_bit_as_one(monkeypatch):
    clients = fl.ClientData.from_dict({f"c{i}": client(n, i) for i, n in enumerate(SIZES)})
    model = linear()
    kept = fl.evaluate(model, clients, batch_size=4)
    assert fl.evaluate(model, clients.to_arrays(), batch_size=4) == kept
    expected = model.evaluate(clients.to_dataset(4), return_dict=True, verbose=0)
    assert kept == pytest.approx(expected, rel=1e-6)
    for limit in (0, 2000):  # nothing, and some parts
        monkeypatch.setattr(central, "HELD_BYTES", limit)
        assert fl.evaluate(model, clients, batch_size=4) == kept
        assert central.Examples(model, clients, 4).num_examples == sum(SIZES)


def test_rows_of_different_shapes_do_not_share_a_batch(monkeypatch):
    tf.keras.utils.set_random_seed(0)
    model = tf.keras.Sequential(
        [
            tf.keras.layers.Input([None], dtype="int32"),
            tf.keras.layers.Embedding(5, 4),
            tf.keras.layers.GlobalAveragePooling1D(),
            tf.keras.layers.Dense(2),
        ]
    )
    model.compile("sgd", tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    rng = np.random.default_rng(0)
    mapping = {
        f"c{i}": {"x": rng.integers(5, size=[n, length]), "y": rng.integers(2, size=n)}
        for i, (n, length) in enumerate([(50, 3), (5, 7), (20, 3), (90, 7), (1, 2)])
    }
    clients = fl.ClientData.from_dict(mapping)
    kept = fl.evaluate(model, clients, batch_size=4)
    monkeypatch.setattr(central, "HELD_BYTES", 0)
    assert fl.evaluate(model, clients, batch_size=4) == kept
    # The mean over examples: every client is evaluated with others of its length only.
    losses = [fl.evaluate(model, each)["loss"] for each in mapping.values()]
    sizes = [len(each["y"]) for each in mapping.values()]
    assert kept["loss"] == pytest.approx(np.average(losses, weights=sizes), rel=1e-6)


def test_a_wrong_label_of_the_last_client_is_named():
    mapping = {f"c{i}": client(n, i) for i, n in enumerate(SIZES)}
    mapping["c7"]["y"][-1] = 4
    with pytest.raises(ValueError, match="4.*0 to 3"):
        fl.evaluate(linear(), fl.ClientData.from_dict(mapping), batch_size=4)


@pytest.mark.alone
def test_memory_does_not_grow_with_the_examples(monkeypatch):
    """Evaluates 600 MB, of which 30 MB may be kept."""
    num_features, rows = 2500, 200  # 2 MB per client

    def clients(number):
        return fl.ClientData(
            [f"c{i}" for i in range(number)],
            lambda client_id: client(rows, int(client_id[1:]), num_features),
            cache_bytes=2**22,
        )

    monkeypatch.setattr(central, "HELD_BYTES", 30_000_000)
    model = linear(num_features)
    fl.evaluate(model, clients(40), num_workers=1)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    examples = central.Examples(model, clients(300), 64)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert examples.num_examples == 60_000
    fl.evaluate(model, clients(300), num_workers=1)
    evaluated = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert (after - before) * 1024 < 100e6 and (evaluated - before) * 1024 < 150e6
