"""The TFF engine against a plain Keras loop and the local engine, and its worker process."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

import fedlab as fl
from fedlab.clients.columns import keras_batch
from fedlab.engines import engine, local
from fedlab.engines import tff as tff_engine
from fedlab.engines.batches import client_batches
from fedlab.learner import clone
from fedlab.models.char_rnn import char_rnn
from fedlab.tasks.generation import text

pytest.importorskip("tensorflow_federated")

ROOT = Path(__file__).resolve().parents[2]
layers = tf.keras.layers


def make_setting(model, clients, *, batch_size=4, epochs=1, **algorithm):
    return engine.Setting(
        model=model,
        build=lambda: clone(model),
        clients=fl.clients.ClientData.from_dict(clients),
        algorithm=fl.algorithms.fed_avg(**algorithm),
        aggregator=fl.aggregators.mean(),
        batching=fl.clients.Batching(batch_size=batch_size, epochs=epochs),
        seed=0,
    )


def started(setting):
    return contextlib.closing(tff_engine.start(setting))


def weights_of(model):
    return [v.numpy() for v in model.trainable_variables], [
        v.numpy() for v in model.non_trainable_variables
    ]


# Against plain Keras.


def char_clients():
    """Texts that fill neither their last row nor their last batch."""
    rng = np.random.default_rng(0)
    return {
        f"c{i}": text.sequences(rng.integers(0, 11, 40 + 17 * i).astype(np.int32), 6)
        for i in range(3)
    }


def row_clients(**columns):
    """columns: name -> function of (generator, number of rows)."""
    rng = np.random.default_rng(0)
    return {
        f"c{i}": {name: column(rng, 6 + 3 * i) for name, column in columns.items()}
        for i in range(3)
    }


def classes(rng, n):
    return rng.integers(0, 3, n)


def features(rng, n):
    return rng.normal(size=[n, 5]).astype(np.float32)


def weights(rng, n):
    return rng.uniform(size=n).astype(np.float32)


def padded_ids(rng, n):
    ids = rng.integers(1, 11, [n, 6]).astype(np.int32)
    ids[:, 4:] = 0
    return ids


def mlp(optimizer=None, *middle, **options):
    model = tf.keras.Sequential(
        [layers.Input([5]), layers.Dense(6, "tanh", **options), *middle, layers.Dense(3)]
    )
    loss = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(
        optimizer or tf.keras.optimizers.SGD(0.1),
        loss,
        metrics=["accuracy"],
        weighted_metrics=["accuracy"],
    )
    return model


def masked_model():
    model = tf.keras.Sequential(
        [
            layers.Embedding(11, 4, mask_zero=True),
            layers.Bidirectional(layers.LSTM(3, return_sequences=True)),
            layers.Dense(11),
        ]
    )
    model.build([None, 6])
    model.compile(
        tf.keras.optimizers.SGD(0.5),
        tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        weighted_metrics=["accuracy"],
    )
    return model


def two_inputs():
    a, b = layers.Input([3], name="a"), layers.Input([2], name="b")
    model = tf.keras.Model(
        {"a": a, "b": b}, layers.Dense(1)(layers.Concatenate()([a, layers.Dense(3)(b)]))
    )
    model.compile(tf.keras.optimizers.SGD(0.1), "mse", metrics=["mae"])
    return model


def regularized():
    return mlp(
        None,
        layers.Dense(4, activity_regularizer="l2"),
        kernel_regularizer=tf.keras.regularizers.L1(0.01),
    )


def masked_clients():
    return row_clients(x=padded_ids, y=lambda rng, n: rng.integers(0, 11, [n, 6]))


def two_input_clients():
    def column(width):
        return lambda rng, n: rng.normal(size=[n, width]).astype(np.float32)

    return row_clients(a=column(3), b=column(2), y=column(1))


slow = pytest.mark.slow
CASES = [
    pytest.param(lambda: make_setting(char_rnn(11, 4, 5), char_clients()), id="gru"),
    pytest.param(
        lambda: make_setting(
            char_rnn(11, 4, 5, stateful=True, batch_size=4),
            char_clients(),
            client_weighting="num_tokens",
        ),
        id="stateful-tokens",
    ),
    pytest.param(
        lambda: make_setting(
            char_rnn(11, 4, 5, cell="lstm", num_layers=2, stateful=True, batch_size=4),
            char_clients(),
            epochs=2,
            client_weighting="uniform",
            server_learning_rate=0.7,
            server_momentum=0.9,
        ),
        id="stateful-lstm-server-momentum",
        marks=slow,
    ),
    pytest.param(
        lambda: make_setting(
            char_rnn(11, 4, 5, reset_after=False), char_clients(), client_weighting="uniform"
        ),
        id="gru-uniform",
        marks=slow,
    ),
    pytest.param(
        lambda: make_setting(masked_model(), masked_clients()), id="keras-mask", marks=slow
    ),
    pytest.param(
        lambda: make_setting(regularized(), row_clients(x=features, y=classes)),
        id="regularizers",
        marks=slow,
    ),
    pytest.param(
        lambda: make_setting(two_inputs(), two_input_clients()), id="two-inputs", marks=slow
    ),
    pytest.param(
        lambda: make_setting(mlp(), row_clients(x=features, y=classes, sample_weight=weights)),
        id="sample-weight",
        marks=slow,
    ),
    *[
        pytest.param(
            lambda make=make: make_setting(
                mlp(make()), row_clients(x=features, y=classes), epochs=2
            ),
            id=id,
            marks=marks,
        )
        for id, marks, make in [
            ("momentum", slow, lambda: tf.keras.optimizers.SGD(0.1, momentum=0.9)),
            # With Keras's small epsilon, Adam turns the rounding error of a gradient near zero
            # into a whole step.
            ("adam", (), lambda: tf.keras.optimizers.Adam(0.05, epsilon=0.01)),
            (
                "adamw",
                slow,
                lambda: tf.keras.optimizers.AdamW(0.05, weight_decay=0.1, epsilon=0.01),
            ),
            ("adagrad", slow, lambda: tf.keras.optimizers.Adagrad(0.3)),
            ("yogi", slow, lambda: fl.optimizers.Yogi(0.05, epsilon=0.01)),
        ]
    ],
]


def keras_rounds(setting, rounds, cohort):
    """FedAvg as a loop over `train_on_batch`: the trainable weights and each round's loss."""
    model = setting.build()
    config = model.optimizer.get_config()
    settings = setting.algorithm.settings
    trainable = [v.numpy().astype(np.float64) for v in model.trainable_variables]
    velocity = [np.zeros_like(w) for w in trainable]
    losses = []
    for round_num in range(rounds):
        total, total_weight, loss_sum, examples = (
            [np.zeros_like(w) for w in trainable],
            0.0,
            0.0,
            0.0,
        )
        for client_id in cohort:
            model.compile(type(model.optimizer).from_config(config), model.loss, run_eagerly=True)
            for variable, value in zip(model.trainable_variables, trainable):
                variable.assign(value)
            model.reset_states()
            part = client_batches(setting, round_num, client_id)
            for i, size in enumerate(part.sizes):
                x, y, sample_weight = (
                    *keras_batch({name: c[i, :size] for name, c in part.columns.items()}),
                    None,
                )[:3]
                model.reset_metrics()
                loss_sum += float(model.train_on_batch(x, y, sample_weight)) * part.examples[i]
            counts = {
                "num_examples": part.examples.sum(),
                "num_tokens": part.tokens.sum(),
                "uniform": 1.0,
            }
            weight = counts[settings["client_weighting"]]
            total = [
                t + weight * (w - v.numpy())
                for t, w, v in zip(total, trainable, model.trainable_variables)
            ]
            total_weight += weight
            examples += part.examples.sum()
        velocity = [
            settings["server_momentum"] * m + t / total_weight for m, t in zip(velocity, total)
        ]
        trainable = [w - settings["server_learning_rate"] * m for w, m in zip(trainable, velocity)]
        losses.append(loss_sum / examples)
    return trainable, losses


COHORT = ["c2", "c0", "c1"]


def three_rounds(engine, setting):
    with contextlib.closing(engine.start(setting)) as process:
        state, results = process.init(*weights_of(setting.model)), []
        for round_num in range(3):
            state, result = process.run_round(state, round_num, COHORT)
            results.append(result)
        return process.weights(state), results


@pytest.mark.parametrize("make", CASES)
def test_equals_a_keras_loop_and_the_local_engine(make):
    tf.keras.utils.set_random_seed(1)
    setting = make()
    (trainable, non_trainable), results = three_rounds(tff_engine, setting)
    expected, losses = keras_rounds(setting, 3, COHORT)
    for before, after, value in zip(weights_of(setting.model)[0], trainable, expected):
        assert np.abs(after - before).max() > 1e-4  # it trained
        np.testing.assert_allclose(after, value, rtol=0, atol=1e-5 * np.abs(value).max())
    np.testing.assert_allclose([result.metrics["loss"] for result in results], losses, rtol=1e-5)
    assert [row["client_id"] for row in results[0].clients] == COHORT

    (local_trainable, local_non_trainable), local_results = three_rounds(local, setting)
    for value, other in zip(local_trainable + local_non_trainable, trainable + non_trainable):
        np.testing.assert_allclose(value, other, rtol=0, atol=1e-5 * np.abs(other).max())
    for result, other in zip(local_results, results):
        assert list(result.metrics) == list(other.metrics)
        assert result.metrics == pytest.approx(other.metrics, rel=1e-5)
        for row, other_row in zip(result.clients, other.clients):
            assert list(row["metrics"]) == [name for name in result.metrics if name != "loss"]
            # TFF reports neither per client.
            assert {**row, "loss": None, "metrics": {}} == other_row


# By hand: y = w x with squared error and w = 1.


def line(learning_rate=0.1):
    model = tf.keras.Sequential(
        [layers.Input([1]), layers.Dense(1, use_bias=False, kernel_initializer="ones")]
    )
    model.compile(tf.keras.optimizers.SGD(learning_rate), "mse", metrics=["mae"])
    return model


LINE_CLIENTS = {
    "ann": {
        "x": np.array([[1.0]], np.float32),
        "y": np.array([[0.0]], np.float32),
    },  # loss 1, w = 1 - .1 * 2 = .8
    "bob": {
        "x": np.array([[1.0], [1.0]], np.float32),
        "y": np.array([[3.0], [3.0]], np.float32),
    },  # loss 4, w = 1 + .1 * 4 = 1.4
    "nan": {"x": np.array([[1.0]], np.float32), "y": np.array([[np.nan]], np.float32)},
    "nobody": {"x": np.zeros([0, 1], np.float32), "y": np.zeros([0, 1], np.float32)},
}


@pytest.fixture(scope="module")
def line_process():
    with started(make_setting(line(), LINE_CLIENTS)) as process:
        yield process


def round_of(process, cohort):
    state, result = process.run_round(process.init([np.ones([1, 1], np.float32)], []), 0, cohort)
    return process.weights(state)[0][0].item(), result


def test_two_clients_by_hand(line_process):
    weight, result = round_of(line_process, ["ann", "bob"])
    assert weight == pytest.approx((0.8 + 2 * 1.4) / 3)
    assert result.metrics == pytest.approx({"loss": (1 + 2 * 4) / 3, "mae": (1 + 2 * 2) / 3})
    assert list(result.metrics) == ["loss", "mae"]
    assert result.clients[1] == dict(
        client_id="bob",
        num_examples=2,
        num_tokens=2,
        num_steps=1,
        weight=2.0,
        loss=None,
        dropped=False,
        metrics={},
    )


def test_client_without_examples_counts_nothing(line_process):
    weight, result = round_of(line_process, ["nobody", "ann"])
    assert weight == pytest.approx(0.8)
    assert result.clients[0]["num_steps"] == 0 and result.clients[0]["weight"] == 0.0
    with pytest.raises(ValueError, match="no client of the cohort of round 0 has a batch"):
        round_of(line_process, ["nobody"])


def test_client_that_is_not_finite_counts_nothing(line_process):
    weight, result = round_of(line_process, ["ann", "nan"])
    assert weight == pytest.approx(0.8)
    assert result.metrics["loss"] == pytest.approx(1.0)
    assert [row["dropped"] for row in result.clients] == [None, None]  # TFF does not say which
    weight, result = round_of(line_process, ["nan"])
    assert weight == 1.0
    assert result.clients[0]["dropped"] is True and result.clients[0]["weight"] == 0.0


def test_training_continues_after_a_worker_restart(line_process):
    state = line_process.init([np.ones([1, 1], np.float32)], [])
    state, _ = line_process.run_round(state, 0, ["ann"])
    pid, arrays = line_process.worker_pid, line_process.save(state)
    line_process.restart_worker()
    assert line_process.worker_pid is None and gone(pid)
    fresh = line_process.restore(line_process.init([np.zeros([1, 1], np.float32)], []), arrays)
    for before in (state, fresh):
        state, _ = line_process.run_round(before, 1, ["ann"])
        assert line_process.weights(state)[0][0].item() == pytest.approx(0.64)
    assert line_process.worker_pid not in (None, pid)


def test_a_worker_that_has_grown_is_restarted(line_process, monkeypatch, caplog):
    state = line_process.init([np.ones([1, 1], np.float32)], [])
    line_process.restart_worker()
    sizes = iter([100, 150, 201, 90, 180])  # MB, of two workers
    monkeypatch.setattr("fedlab.engines.tff.process._GROWTH_BYTES", 0)
    monkeypatch.setattr(
        type(line_process._worker), "resident_bytes", lambda worker: next(sizes) * 10**6
    )
    pids, values = [], []
    with caplog.at_level("INFO", "fedlab"):
        for round_num in range(5):
            state, _ = line_process.run_round(state, round_num, ["ann"])
            pids.append(line_process.worker_pid)
            values.append(line_process.weights(state)[0][0].item())
    assert values == pytest.approx([0.8**n for n in range(1, 6)])
    assert pids[0] == pids[1] and pids[2] is None and pids[3] == pids[4] != pids[0]
    assert "TFF's worker has grown from 100 to 201 MB and is restarted" in caplog.text


def test_the_size_of_a_worker_is_that_of_its_process(line_process):
    line_process.run_round(line_process.init([np.ones([1, 1], np.float32)], []), 0, ["ann"])
    with open(f"/proc/{line_process.worker_pid}/status") as file:
        (resident,) = (int(line.split()[1]) * 1024 for line in file if line.startswith("VmRSS"))
    assert line_process._worker.resident_bytes() == pytest.approx(resident, rel=0.1)


def test_works_in_a_running_event_loop(line_process):
    async def main():
        return round_of(line_process, ["ann"])[0]

    assert asyncio.run(main()) == pytest.approx(0.8)


@tf.keras.utils.register_keras_serializable("tests")
class Finite(layers.Layer):
    def call(self, inputs):
        return tf.debugging.check_numerics(inputs, "refused by the layer")


def test_error_in_a_round_ends_the_worker():
    clients = {
        "c0": {"x": np.ones([2, 5], np.float32), "y": np.array([0, 1])},
        "bad": {"x": np.full([2, 5], np.nan, np.float32), "y": np.array([0, 1])},
    }
    setting = make_setting(mlp(None, Finite()), clients)
    with started(setting) as process:
        state = process.init(*weights_of(setting.model))
        pid = process.worker_pid
        with pytest.raises(Exception, match="refused by the layer"):
            process.run_round(state, 0, ["bad"])
        assert gone(pid)
        process.run_round(state, 0, ["c0"])  # a new worker
        pid = process.worker_pid
    assert gone(pid)


# What TFF loses, and what it breaks.


@pytest.mark.slow
def test_batch_normalization_is_broadcast_and_eager_models_still_work(tmp_path):
    setting = make_setting(
        mlp(None, layers.BatchNormalization()), row_clients(x=features, y=classes)
    )
    setting = setting._replace(non_trainable="broadcast")
    model, columns = setting.model, setting.clients["c0"]
    other = masked_model()
    before = model.predict(columns["x"], verbose=0)
    start = weights_of(model)
    with started(setting) as process:
        state, _ = process.run_round(process.init(*start), 0, ["c0", "c1"])
        for kept, given in zip(process.weights(state)[1], start[1]):
            np.testing.assert_array_equal(kept, given)
    np.testing.assert_array_equal(model.predict(columns["x"], verbose=0), before)
    model.save(tmp_path / "model.keras")
    np.testing.assert_array_equal(
        tf.keras.models.load_model(tmp_path / "model.keras").predict(columns["x"], verbose=0),
        before,
    )
    model.evaluate(columns["x"], columns["y"], verbose=0)
    model.fit(columns["x"], columns["y"], verbose=0)
    other.fit(np.ones([2, 6]), np.ones([2, 6]), verbose=0)


def build_as_in_a_tff_tutorial(monkeypatch):
    """Reads the recurrent layer's configuration inside TFF's graph, which loses its weights."""
    from fedlab.engines.tff import model as _tff_model
    from fedlab.learner.keras2.blueprint import Blueprint

    model = char_rnn(11, 4, 5)
    monkeypatch.setattr(
        Blueprint, "build", lambda self: type(model).from_config(model.get_config())
    )
    return _tff_model, model


def test_round_at_rate_0_refuses_a_model_that_loses_weights(monkeypatch):
    _tff_model, model = build_as_in_a_tff_tutorial(monkeypatch)
    monkeypatch.setattr(_tff_model, "check_reads", lambda model: None)
    before = children()  # other tests' workers
    with pytest.raises(
        RuntimeError, match="TFF loses the weights gru.*/recurrent_kernel:0.* learning rate 0"
    ):
        tff_engine.start(make_setting(model, char_clients()))
    assert children() == before


def test_cached_reads_are_refused_at_once(monkeypatch):
    _, model = build_as_in_a_tff_tutorial(monkeypatch)
    with pytest.raises(RuntimeError, match="would lose the weights .*recurrent_kernel"):
        tff_engine.start(make_setting(model, char_clients()))


class Subclassed(tf.keras.Model):
    def call(self, inputs):
        return inputs


def subclassed():
    model = Subclassed()
    model.compile("sgd", "mse")
    return model


RMSprop, SGD, LegacySGD = (
    tf.keras.optimizers.RMSprop,
    tf.keras.optimizers.SGD,
    tf.keras.optimizers.legacy.SGD,
)
schedule = tf.keras.optimizers.schedules.ExponentialDecay(0.1, 10, 0.9)


@pytest.mark.parametrize(
    ("make", "changes", "message"),
    [
        (
            line,
            dict(algorithm=fl.algorithms.fed_avg()._replace(name="mine")),
            "algorithm 'mine': expected .*fed_avg",
        ),
        (
            line,
            dict(aggregator=fl.aggregators.mean()._replace(name="median")),
            "aggregator 'median': expected mean, clipped",
        ),
        (
            line,
            dict(algorithm=fl.algorithms.fed_avg(client_weighting=lambda counts: 1.0)),
            "client_weighting=.*'num_tokens'",
        ),
        (
            lambda: mlp(None, layers.BatchNormalization(name="mine")),
            {},
            "'mine/moving_mean:0': expected .*'broadcast'",
        ),
        (
            lambda: mlp(RMSprop()),
            {},
            "RMSprop: expected SGD, Adam, AdamW, Adagrad",
        ),
        (lambda: mlp(LegacySGD()), {}, "optimizer SGD: expected"),
        (lambda: mlp(SGD(nesterov=True, momentum=0.9)), {}, "nesterov=True: expected none"),
        (lambda: mlp(SGD(clipnorm=1.0)), {}, "clipnorm=1.0: expected none"),
        (lambda: mlp(SGD(weight_decay=0.1)), {}, "weight_decay=0.1: expected none"),
        (lambda: mlp(SGD(schedule)), {}, "learning_rate='ExponentialDecay': expected none"),
        (subclassed, {}, "class Subclassed: expected a Sequential or Functional model"),
    ],
)
def test_features_that_tff_lacks_are_refused(make, changes, message):
    model = make()
    clients = (
        LINE_CLIENTS if make is line or make is subclassed else row_clients(x=features, y=classes)
    )
    setting = make_setting(model, clients)._replace(**changes)
    with pytest.raises(ValueError, match=message):
        tff_engine.start(setting)


def test_client_of_another_shape_is_named():
    clients = {
        "a": {"x": np.ones([2, 5], np.float32), "y": np.array([0, 1])},
        "b": {"x": np.ones([2, 4], np.float32), "y": np.array([0, 1])},
    }
    setting = make_setting(mlp(), clients)
    with started(setting) as process:
        with pytest.raises(
            ValueError,
            match=r"client 'b' has column 'x' with rows of shape \[4\]: expected \[5\]",
        ):
            process.run_round(process.init(*weights_of(setting.model)), 0, ["b"])


def test_tff_is_imported_when_needed_only(monkeypatch):
    code = (
        "import sys, fedlab, fedlab.engines.tff; assert 'tensorflow_federated' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
    monkeypatch.setitem(sys.modules, "tensorflow_federated", None)
    with pytest.raises(
        ModuleNotFoundError,
        match="engine='tff': TensorFlow Federated is not installed.*scripts/setup",
    ):
        tff_engine.start(make_setting(line(), LINE_CLIENTS))


# The worker process, when Python ends.


def gone(pid):
    return not os.path.exists(f"/proc/{pid}")


def children():
    """The process ids of the workers that this process has."""
    found = set()
    for status in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            pid, name, _, parent = status.read_text().split(maxsplit=4)[:4]
            if int(parent) == os.getpid() and name.startswith("(worker_binary"):
                found.add(int(pid))
    return found


SCRIPT = """
import os, signal, sys
# As in a terminal: a background job starts with Ctrl-C ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
import numpy as np, tensorflow as tf
import fedlab as fl
from fedlab.engines import engine, tff as tff_engine
from fedlab.learner import clone

path, end = sys.argv[1:]
model = tf.keras.Sequential([tf.keras.layers.Input([1]), tf.keras.layers.Dense(1)])
model.compile("sgd", "mse")
endless = {"x": np.ones([1000, 1], np.float32), "y": np.ones([1000, 1], np.float32)}
setting = engine.Setting(
    model, lambda: clone(model), fl.clients.ClientData.from_dict({"a": endless}),
    fl.algorithms.fed_avg(), fl.aggregators.mean(),
    fl.clients.Batching(batch_size=1, epochs=5000 if end == "long" else 1), 0)
setting.model.optimizer = tf.keras.optimizers.SGD(1e-6)
process = tff_engine.start(setting)
state = process.init([v.numpy() for v in model.trainable_variables], [])
with open(path + ".tmp", "w") as f:
    f.write(str(process.worker_pid))
os.rename(path + ".tmp", path)  # the test sends signals from now on
process.run_round(state, 0, ["a"])
if end == "raise":
    raise RuntimeError("on purpose")
print("end", flush=True)
"""


def run_script(path, end, **options):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(path), end],
        env=environment,
        start_new_session=True,
        **options,
    )


def wait_for(condition, timeout_s):
    deadline = time.monotonic() + timeout_s
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert condition()


@pytest.mark.slow
def test_a_script_without_close_ends_and_frees_its_pipe(tmp_path):
    script = run_script(
        tmp_path / "pid", "return", stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    output, _ = script.communicate(
        timeout=120
    )  # like `script | cat`: until the last holder of the pipe closes it
    assert (script.returncode, output.decode()) == (0, "end\n")
    assert gone(int((tmp_path / "pid").read_text()))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("end", "sent", "code"),
    [
        ("raise", None, 1),
        ("long", signal.SIGINT, -signal.SIGINT),
        ("long", signal.SIGTERM, -signal.SIGTERM),
        ("long", signal.SIGKILL, -signal.SIGKILL),
    ],
    ids=["exception", "sigint", "sigterm", "sigkill"],
)
def test_worker_ends_with_python(tmp_path, end, sent, code):
    path = tmp_path / "pid"
    with open(tmp_path / "output", "w") as output:
        script = run_script(path, end, stdout=output, stderr=subprocess.STDOUT)
    wait_for(path.exists, 120)
    worker = int(path.read_text())
    if sent:
        time.sleep(3)  # into the round
        assert script.poll() is None and not gone(worker)
        script.send_signal(sent)
    assert script.wait(20) == code, (tmp_path / "output").read_text()[-2000:]
    wait_for(lambda: gone(worker), 5)
