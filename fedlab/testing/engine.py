"""What must hold for every engine."""

import contextlib
import os
import pathlib
import threading
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import tensorflow as tf

from fedlab import _checks, aggregators, algorithms, engines
from fedlab.clients import Batching, ClientData, Participation, seeding
from fedlab.clients.batching import batch_rows
from fedlab.clients.columns import keras_batch, num_rows
from fedlab.engines import client_work
from fedlab.engines.engine import Process, RoundResult, Setting
from fedlab.evaluation.central import Examples
from fedlab.evaluation.personalized import PersonalTests, TestExamples
from fedlab.learner import clone, weight_arrays
from fedlab.testing._check import check

_SHORTENED = 9  # in this round, clients take half of their steps
_NUM_EMBEDDINGS = 2**20  # 4 MB of weights


class Engine(Protocol):
    """A module, or another object, with the function that starts an engine."""

    def start(self, setting: Setting) -> Process:
        """See `fedlab.engines.engine`."""


def check_engine(engine: str | Engine) -> None:
    """Checks that an engine trains, evaluates and reports as `fedlab.engines.engine` says.

    - Training of one client and of several gives the weights and metrics of plain Keras
      and federated averaging, up to rounding.
    - Two rounds of MimeLite, whose clients are surveyed, give values worked out by
      hand. An engine that refuses MimeLite with a ValueError is checked with FedAvg.
    - Evaluation, per-client evaluation and personalization through `map` give the
      values of plain Keras. `map` yields results in the order of the items.
    - The same seed gives the same bits: if a round is run twice, in another process,
      with another number of workers, and after `save` and `restore`. A round does not
      change the state that it starts from.
    - A client with a non-finite update is excluded and reported. A cohort without a
      finite update, or without a client, changes nothing.
    - A client takes the share of its steps that the setting's conditions say.
    - Memory does not grow with the number of rounds. `close` ends all threads and child
      processes.

    The engine is started three times and trains small models for about 50 rounds.

    Args:
      engine: the name of one of fedlab's engines, or a module with `start(setting)`.

    Raises:
      AssertionError: the message says what does not hold.
      TypeError, ValueError: `engine` is not an engine.

    Example:
      >>> check_engine("local")
    """
    if isinstance(engine, str):
        start = engines.find(engine)
    elif callable(getattr(engine, "start", None)):
        start = engine.start
    else:
        wanted = "the name of an engine, or a module with a function start(setting)"
        raise _checks.type_error("engine", engine, wanted)
    setting, before = _setting(), _running()
    given = setting.model.get_weights()
    with contextlib.closing(start(setting)) as process:
        _check_training(process, setting)
        _check_cohorts(process, setting)
        _check_evaluation(process, setting)
        _check_personalization(process, setting)
        states = _train(process, _init(process, setting), [1, 2, 3])
        expected = [process.weights(state) for state in states]
        arrays = [np.array(array) for array in process.save(states[0])]
    check(_same(given, setting.model.get_weights()), "the weights of the caller's model change")
    with contextlib.closing(start(setting._replace(num_workers=2))) as process:
        _check_same_bits(process, setting, arrays, expected)
    _check_survey_and_memory(start)
    left = _running() - before
    check(not left, f"close() leaves threads or child processes: {sorted(map(str, left))}")


def _check_training(process: Process, setting: Setting) -> None:
    """Compares rounds with plain Keras."""
    for cohort, rounds in (
        (["c0"], [1, 2]),
        (["c2", "c0", "c3", "c1"], [1, 2]),
        (["c0", "empty"], [1]),
        (["c2", "c0"], [_SHORTENED]),
    ):
        state, weights = _init(process, setting), setting.model.get_weights()
        for round_num in rounds:
            state, result = process.run_round(state, round_num, cohort)
            weights, metrics, steps = _keras_round(setting, weights, round_num, cohort)
            where = f"round {round_num} of the cohort {cohort}"
            _check_close(process.weights(state)[0], weights, f"the weights after {where}")
            _check_close(result.metrics, metrics, f"the metrics of {where}")
            # Keras 3 sorts the names.
            names = sorted(metrics, key=lambda name: name != "loss")
            check(
                list(result.metrics) == list(process.metric_names) == names,
                f"metric_names is {list(process.metric_names)}, a round reports "
                f"{list(result.metrics)}: expected {names}",
            )
            _check_rows(result, setting, cohort, steps, where)


def _check_rows(
    result: RoundResult, setting: Setting, cohort: list[str], steps: list[int], where: str
) -> None:
    for name, expected in (
        ("client_id", cohort),
        ("num_steps", steps),
        ("dropped", [False] * len(cohort)),
    ):
        reported = [row[name] for row in result.clients]
        check(reported == expected, f"{where} reports {name} {reported}: expected {expected}")
    check(
        result.num_finished == len(cohort),
        f"{where} reports num_finished {result.num_finished}: expected {len(cohort)}",
    )
    if where.startswith(f"round {_SHORTENED} "):
        return
    counts = [2 * setting.clients.num_examples(client_id) for client_id in cohort]  # two epochs
    for name in ("num_examples", "weight"):
        reported = [row[name] for row in result.clients]
        check(reported == counts, f"{where} reports {name} {reported}: expected {counts}")


def _check_cohorts(process: Process, setting: Setting) -> None:
    """Checks cohorts with clients that must not count, and rounds that are run again."""
    first = _init(process, setting)
    before = [np.array(array) for array in process.save(first)]
    without, _ = process.run_round(first, 1, ["c2", "c0"])
    check(_same(before, process.save(first)), "a round changes the state that it starts from")
    again, _ = process.run_round(first, 1, ["c2", "c0"])
    check(
        _same(process.save(without), process.save(again)),
        "a round that is run again from the same state gives other bits: something is carried over",
    )
    reordered, _ = process.run_round(first, 1, ["c0", "c2"])
    _check_close(
        process.weights(reordered)[0], process.weights(without)[0], "the weights of another order"
    )

    with_nan, result = process.run_round(first, 1, ["c2", "nan", "c0"])
    _check_close(
        process.weights(with_nan)[0],
        process.weights(without)[0],
        "the weights with a client whose update is not finite",
    )
    check(
        result.num_finished == 2,
        f"a non-finite client in a cohort of 3: num_finished is {result.num_finished}, expected 2",
    )
    dropped = {row["client_id"]: row["dropped"] for row in result.clients}
    for client_id, expected in (("c2", False), ("nan", True), ("c0", False)):
        check(
            dropped[client_id] in (expected, None),
            f"client {client_id!r} has dropped={dropped[client_id]}: expected {expected} or None",
        )
    for cohort, what in (([], "an empty cohort"), (["nan"], "a cohort without a finite update")):
        state, result = process.run_round(first, 1, cohort)
        check(
            _same(process.weights(state)[0], process.weights(first)[0]),
            f"{what} changes the weights",
        )
        reported = result.num_finished, [row["client_id"] for row in result.clients]
        check(reported == (0, cohort), f"{what} reports {reported}: expected {(0, cohort)}")
        check(
            set(result.metrics.values()) == {None},
            f"{what} reports the metrics {result.metrics}: expected None for each",
        )
    try:
        process.run_round(first, 1, ["empty"])
    except ValueError:
        pass
    else:
        raise AssertionError("a cohort whose clients have no example: expected a ValueError")


def _check_evaluation(process: Process, setting: Setting) -> None:
    """Compares evaluation with plain Keras, and checks `map` itself."""
    state, clients = _init(process, setting), setting.clients.select(["c2", "c0", "c3", "c1"])
    weights, device_weights = process.weights(state), process.device_weights(state)
    check(_same(sum(weights, []), sum(device_weights, [])), "device_weights differ from weights")
    check(
        all(isinstance(array, np.ndarray) for array in sum(weights, [])),
        "weights() returns something other than NumPy arrays",
    )
    model = setting.build()
    evaluated = Examples(model, clients, 4).evaluate(process, device_weights)
    _check_close(evaluated, _keras_evaluation(model, clients), "central evaluation")

    tests, initial = TestExamples(model, clients, 4), process.merger.initial
    device_weights = tf.nest.map_structure(tf.convert_to_tensor, device_weights)
    work = client_work.evaluate(
        device_weights,
        initial,
        tests.specs,
        lambda client_id: (tests.make(client_id)[0], client_id),
    )
    results = list(process.map(work, clients.client_ids))
    order = [client_id for _, client_id in results]
    check(order == list(clients), f"map yields the items in the order {order}: expected that given")
    for client_id, (outputs, _) in zip(clients, results):
        evaluated = process.metrics.results([np.asarray(values) for values in outputs])
        expected = _keras_evaluation(model, clients.select([client_id]))
        _check_close(evaluated, expected, f"the evaluation of client {client_id!r}")
    check(not list(process.map(work, [])), "map yields results without items")

    def fails(item: Any) -> Any:
        raise KeyError(item)

    try:
        list(process.map(work._replace(prepare=fails), ["c2", "c0"]))
    except KeyError:
        pass
    else:
        raise AssertionError("map hides an exception of a work's `prepare`")


def _check_personalization(process: Process, setting: Setting) -> None:
    """Compares personalized models with plain Keras."""
    algorithm = algorithms.prepare(algorithms.fine_tuning(), setting.model)
    setting = setting._replace(algorithm=algorithm, conditions=None)
    clients, state = setting.clients.select(["c2", "c1"]), _init(process, setting)
    tests = PersonalTests(setting, setting.clients, clients, 4)
    evaluated = tests.evaluate(process, process.device_weights(state), 1)
    model, expected = setting.build(), []
    for client_id in clients:
        trained, _, _ = _keras_round(setting, setting.model.get_weights(), 0, [client_id])
        model.set_weights(trained)
        expected.append(_keras_evaluation(model, clients.select([client_id])))
    sizes = [clients.num_examples(client_id) for client_id in clients]
    means = {
        name: np.average([each[name] for each in expected], weights=sizes) for name in expected[0]
    }
    _check_close(evaluated, means, "the evaluation of personalized models")


def _check_same_bits(
    process: Process, setting: Setting, arrays: list[np.ndarray], expected: list[Any]
) -> None:
    """Checks a process with other workers: one that resumes, and one that starts."""
    first = _init(process, setting)
    resumed = _train(process, process.restore(first, arrays), [2, 3])
    check(
        _same(sum(process.weights(resumed[-1]), []), sum(expected[-1], [])),
        "a run that is resumed from save() and restore() gives other bits",
    )
    weights = [process.weights(state) for state in _train(process, first, [1, 2, 3])]
    for round_num, (one, other) in enumerate(zip(weights, expected), start=1):
        check(
            _same(sum(one, []), sum(other, [])),
            f"round {round_num} with two workers gives other bits than with one, for the same seed",
        )


def _check_survey_and_memory(start: Callable[[Setting], Process]) -> None:
    """Two rounds of a problem that is solved by hand, and then many.

    Two clients have the losses (w - 2)^2, on 1 example, and (w + 4)^2, on 3; w = 1. At
    the learning rate 0.25 a step leads to (w + 2) / 2 and (w - 4) / 2, and the mean to
    -0.75.

    In round 2, FedAvg leads to (0.625 - 3 * 2.375) / 4 = -1.625. MimeLite's clients
    start with the momentum -0.25 * 7, of the full gradient (-2 + 3 * 10) / 4 = 7 of
    round 1. With the factor 0.5 they move by -0.875 + 1.375 and -0.875 - 1.625, to
    -0.25 and -3.25, and the mean is -2.5.
    """
    embedding = tf.keras.layers.Embedding(_NUM_EMBEDDINGS, 1)
    parts = [tf.keras.Input([1]), embedding, tf.keras.layers.Flatten()]
    model = tf.keras.Sequential(parts, name="quadratic")
    model.compile(tf.keras.optimizers.SGD(0.25, momentum=0.5), "mse")
    model.set_weights([np.ones([_NUM_EMBEDDINGS, 1])])
    columns = {
        client_id: {"x": np.zeros([n, 1], np.int32), "y": np.full([n, 1], goal, np.float32)}
        for client_id, n, goal in (("a", 1, 2.0), ("b", 3, -4.0))
    }
    setting = _setting()._replace(
        model=model,
        build=lambda: clone(model),
        clients=ClientData.from_dict(columns),
        batching=Batching(batch_size=4),
        conditions=None,
    )
    try:
        process = start(setting._replace(algorithm=algorithms.mime_lite()))
        expected = [-0.75, -2.5]
    except ValueError:
        process, expected = start(setting), [-0.75, -1.625]
    with contextlib.closing(process):
        state, sizes = _init(process, setting), []
        for round_num in range(1, 25):
            state, _ = process.run_round(state, round_num, ["a", "b"])
            sizes.append((_resident_bytes("self"), sum(map(_resident_bytes, _children("self")))))
            if round_num <= len(expected):
                value = float(process.weights(state)[0][0][0, 0])
                check(
                    abs(value - expected[round_num - 1]) < 1e-5,
                    f"two clients with quadratic losses: the weight is {value} after round "
                    f"{round_num}, expected {expected[round_num - 1]}",
                )
    # The first rounds fill caches. Afterwards, half of the model's size per round is a leak. The
    # median ignores what the allocator, or another thread, takes at once.
    own, children = (np.array(column[7:], float) for column in zip(*sizes))
    grown = float(np.median(own[4:] - own[:-4])) / 4
    check(
        grown < 2 * _NUM_EMBEDDINGS,
        f"memory grows by {grown / 1e6:.1f} MB per round of a model of 4.2 MB",
    )
    # A runtime in a child process may leak if the engine replaces the process in time.
    check(
        children[-1] < 2 * children[0] + 2**28,
        f"child processes grow from {children[0] / 1e6:.0f} to {children[-1] / 1e6:.0f} MB in "
        f"{len(children) - 1} rounds",
    )


def _setting() -> Setting:
    """A small recurrent model with momentum, sample weights, short batches and two epochs."""
    rng, columns = np.random.default_rng(0), {}
    for client_id, n in (("c0", 7), ("c1", 4), ("c2", 10), ("c3", 2), ("empty", 0), ("nan", 5)):
        columns[client_id] = {
            "x": rng.normal(size=[n, 3, 2]).astype(np.float32),
            "y": rng.integers(3, size=n).astype(np.int32),
            "sample_weight": rng.uniform(0.5, 2, size=n).astype(np.float32),
        }
    columns["nan"]["x"][:] = np.nan
    layers = tf.keras.layers
    model = tf.keras.Sequential([layers.Input([3, 2]), layers.GRU(3), layers.Dense(3)], name="gru")
    model.compile(
        tf.keras.optimizers.SGD(0.2, momentum=0.9),
        tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        weighted_metrics=[],  # Keras warns of sample weights without it
    )
    model.set_weights([rng.normal(scale=0.5, size=w.shape) for w in model.get_weights()])
    return Setting(
        model=model,
        build=lambda: clone(model),
        clients=ClientData.from_dict(columns),
        algorithm=algorithms.fed_avg(),
        aggregator=aggregators.mean(),
        batching=Batching(batch_size=3, epochs=2),
        seed=1,
        conditions=_condition,
        num_workers=1,
    )


def _condition(client_id: str, round_num: int, seed: int) -> Participation:
    return Participation(share=0.5 if round_num == _SHORTENED else 1.0)


def _init(process: Process, setting: Setting) -> Any:
    return process.init(*weight_arrays(setting.model))


def _train(process: Process, state: Any, rounds: Sequence[int]) -> list[Any]:
    """The states after these rounds."""
    states = []
    for round_num in rounds:
        cohort = ["c0", "c1", "c2"][: round_num + 1]
        state, _ = process.run_round(state, round_num, cohort)
        states.append(state)
    return states


def _keras_round(
    setting: Setting, weights: list[np.ndarray], round_num: int, cohort: Sequence[str]
) -> tuple[list[np.ndarray], dict[str, float], list[int]]:
    """Federated averaging in plain Keras: (weights, metrics, each client's number of steps)."""
    trained, counts, metrics, sizes, steps = [], [], [], [], []
    for client_id in cohort:
        columns = setting.clients[client_id]
        rng = seeding.generator(setting.seed, "batches", round_num, client_id)
        rows, real = batch_rows(num_rows(columns), setting.batching, rng)
        share = 1.0 if setting.conditions is None else _condition(client_id, round_num, 0).share
        steps.append(-(-len(real) // round(1 / share)))
        model = setting.build()  # with a new optimizer
        model.run_eagerly = True  # tracing each of these small models would take longer
        model.set_weights(weights)
        count = 0
        for row, size in zip(rows[: steps[-1]], real):
            batch = {name: column[row[:size]] for name, column in columns.items()}
            model.reset_metrics()
            measured = model.train_on_batch(*keras_batch(batch), return_dict=True)
            metrics.append(measured)
            sizes.append(size)
            count += size
        trained.append(model.get_weights())
        counts.append(count)
    means = [np.average(np.stack(each), axis=0, weights=counts) for each in zip(*trained)]
    names = metrics[0]
    averaged = {name: np.average([each[name] for each in metrics], weights=sizes) for name in names}
    return means, averaged, steps


def _keras_evaluation(model: Any, clients: ClientData) -> dict[str, float]:
    return model.evaluate(clients.to_dataset(batch_size=4), return_dict=True, verbose=0)


def _running() -> set[Any]:
    """The threads, without daemons, and the child processes of this process."""
    threads = (thread for thread in threading.enumerate() if not thread.daemon)
    return {*threads, *_children("self")}


def _children(pid: str) -> list[str]:
    """The processes that a process has started."""
    files = pathlib.Path("/proc").glob(f"{pid}/task/*/children")
    return [child for file in files for child in file.read_text().split()]


def _resident_bytes(pid: str) -> int:
    pages = pathlib.Path("/proc", pid, "statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def _same(first: Sequence[Any], second: Sequence[Any]) -> bool:
    """Whether arrays have the same bits."""
    pairs = zip(map(np.asarray, first), map(np.asarray, second), strict=True)
    return all(a.dtype == b.dtype and a.tobytes() == b.tobytes() for a, b in pairs)


def _check_close(actual: Any, expected: Any, what: str) -> None:
    if isinstance(expected, dict):
        # Their order is that of Keras 2 or of Keras 3, which sorts the names.
        names = sorted(expected)
        check(sorted(actual) == names, f"{what} have the names {sorted(actual)}: expected {names}")
        what = f"{what}, {', '.join(names)},"
        actual, expected = ([each[name] for name in names] for each in (actual, expected))
    for value, other in zip(actual, expected, strict=True):
        scale = max(np.max(np.abs(other)), 1e-3)
        largest = np.max(np.abs(np.asarray(value, np.float64) - other)) / scale
        check(largest < 1e-5, f"{what} differ from what is expected by {largest:.1e}, relative")
