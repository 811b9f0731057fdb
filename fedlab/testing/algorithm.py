"""What must hold for every algorithm."""

import pathlib
import tempfile

import numpy as np

from fedlab.aggregators import differentially_private
from fedlab.algorithms.algorithm import prepare, wrap
from fedlab.clients import ClientData

_COHORTS = [["c0", "c1", "c2"], ["c2", "c4"], ["c1", "c0", "c5", "c3"]]


def check_algorithm(algorithm):
    """Trains a small model for a few rounds in several ways, and raises AssertionError where an algorithm does not do what all do.

    - Weights keep their shapes and dtypes, float32 and float64, and change.
    - The order of the clients does not matter (to rounding), nor the number of worker threads (to the bit).
    - No graph is traced after the first round, whatever the cohort.
    - A run that is interrupted and continued ends in the same bits as one that is not.
    - A client with a non-finite update is dropped and counted, and changes nothing, nor what it keeps itself.
    - A cohort without a client, or without a batch, is an error that says so.
    - Under differential privacy it is refused, with the reason, where clients send more than an update or count differently.
    - Settings are such as a run folder can write down.

    Args:
      algorithm: an `Algorithm` for a Sequential model with the layers "body" and "head", compiled with SGD.

    Example:
      >>> from fedlab import algorithms
      >>> check_algorithm(algorithms.fed_avg())
    """
    whole, traces = _with_counted_traces(
        algorithm, lambda counted: _simulate(counted, num_workers=2)
    )
    for dtype, run in (
        ("float64", whole),
        ("float32", _simulate(algorithm, dtype="float32", rounds=1)),
    ):
        start = _model(dtype).get_weights()
        weights = run.model.get_weights()
        _check(
            [w.shape for w in weights] == [w.shape for w in start],
            f"{algorithm.name} changes the weights' shapes",
        )
        _check(
            {w.dtype for w in weights} == {np.dtype(dtype)},
            f"{algorithm.name} does not keep weights of {dtype}",
        )
        _check(
            all(np.isfinite(w).all() for w in weights),
            f"{algorithm.name} makes weights that are not finite, {dtype}",
        )
        _check(
            any((w != s).any() for w, s in zip(weights, start)),
            f"{algorithm.name} does not change the weights",
        )
    _check(
        traces[1:] == traces[:1] * 2,
        f"{algorithm.name} is traced anew after the first round: {traces} calls of client_step by round",
    )

    reordered = _simulate(algorithm, cohorts=[cohort[::-1] for cohort in _COHORTS], num_workers=1)
    _check(_close(whole, reordered), f"{algorithm.name} depends on the order of the clients")

    with tempfile.TemporaryDirectory() as folder:
        options = {"run_dir": pathlib.Path(folder) / "run", "num_workers": 1}
        _simulate(algorithm, rounds=1, **options)
        continued = _simulate(algorithm, **options)
    _check(
        _same(whole, continued),
        f"{algorithm.name} does not go on to the same bits after an interruption",
    )

    with_nan = _simulate(
        algorithm, cohorts=[[*cohort, "nan"] for cohort in _COHORTS], num_workers=1
    )
    _check(
        [row["clients_dropped"] for row in with_nan.history[1:]] == [1, 1, 1],
        f"{algorithm.name} does not drop a non-finite client",
    )
    _check(
        _close(whole, with_nan),
        f"{algorithm.name} lets a client with a non-finite update change the result",
    )

    for options, message in (
        ({"cohorts": [[]]}, "cohort"),
        ({"batch_size": 100, "drop_remainder": True}, "no client of round 1's cohort"),
    ):
        try:
            _simulate(algorithm, rounds=1, **options)
        except ValueError as error:
            _check(message in str(error), f"{algorithm.name} has no word of the cohort in: {error}")
        else:
            raise AssertionError(f"{algorithm.name} trains without a client or a batch: {options}")

    _check_kept(algorithm)
    _check_privacy(algorithm)


def _check_kept(algorithm):
    import tensorflow as tf

    if not tf.nest.flatten(
        prepare(algorithm, _model("float32")).client_state(_model("float32").trainable_weights)
    ):
        return

    def client_final(base):
        def final(task, *arguments):
            result = base.client_final(task, *arguments)
            fails = (task.client.id == "c1") & (task.round_num == 1)
            return result._replace(
                delta=[tf.where(fails, tf.constant(np.nan, d.dtype), d) for d in result.delta]
            )

        return final

    failing = wrap(algorithm, lambda base: base._replace(client_final=client_final(base)))
    absent = [[client_id for client_id in _COHORTS[0] if client_id != "c1"], *_COHORTS[1:]]
    same = _close(
        _simulate(failing, num_workers=1), _simulate(algorithm, cohorts=absent, num_workers=1)
    )
    _check(
        same,
        f"{algorithm.name} has a client keep what it computed beside an update that is not finite",
    )


def _check_privacy(algorithm):
    prepared = prepare(algorithm, _model("float32"))
    sends_more = bool(prepared.survey or prepared.extras(_model("float32").trainable_weights))
    try:
        private = differentially_private(
            0.0, 3, len(_clients("float32")), norm=1.0, sampling="uniform"
        )
        _simulate(
            algorithm,
            cohorts=None,
            clients_per_round=3,
            aggregator=private,
            dtype="float32",
            rounds=1,
        )
    except ValueError as error:
        _check(
            "private aggregator" in str(error),
            f"{algorithm.name} under differential privacy is refused without the reason: {error}",
        )
    else:
        _check(
            not sends_more,
            f"{algorithm.name} has clients send more than an update under differential privacy",
        )


def _check(condition, message):
    if not condition:
        raise AssertionError(message)


def _same(first, second):
    return all(
        np.array_equal(a, b) for a, b in zip(first.model.get_weights(), second.model.get_weights())
    )


def _close(first, second):
    return all(
        np.allclose(a, b, rtol=1e-9, atol=1e-12)
        for a, b in zip(first.model.get_weights(), second.model.get_weights())
    )


def _with_counted_traces(algorithm, run):
    """The result of `run(algorithm)`, and how often `client_step` had been called in Python by the end of each round."""
    calls, by_round = [], []

    def client_step(base):
        def step(*arguments):
            calls.append(1)
            return base.client_step(*arguments)

        return step

    def server_update(base):
        def update(*arguments):
            by_round.append(len(calls))
            return base.server_update(*arguments)

        return update

    counted = wrap(
        algorithm,
        lambda base: base._replace(
            client_step=client_step(base), server_update=server_update(base)
        ),
    )
    return run(counted), by_round


def _simulate(algorithm, *, cohorts=_COHORTS, dtype="float64", rounds=3, batch_size=3, **options):
    from fedlab.simulation import simulate

    def cohort(client_ids, round_num, seed):
        return cohorts[round_num - 1]

    options = {
        "cohort": cohort if cohorts else None,
        "batch_size": batch_size,
        "progress": False,
        **options,
    }
    return simulate(_model(dtype), _clients(dtype), algorithm, rounds=rounds, **options)


def _model(dtype):
    import tensorflow as tf

    layers, rng = tf.keras.layers, np.random.default_rng(1)
    body = layers.Dense(4, activation="tanh", dtype=dtype, name="body")
    head = layers.Dense(2, dtype=dtype, name="head")
    model = tf.keras.Sequential([layers.Input([3], dtype=dtype), body, head], name="small")
    model.compile(
        tf.keras.optimizers.SGD(0.25),
        tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    model.set_weights([rng.normal(size=w.shape) for w in model.get_weights()])
    return model


def _clients(dtype):
    # An engine may order clients by their size: in each cohort two are of the same, so that their order is the cohort's.
    rng, clients = np.random.default_rng(0), {}
    for name, n in (("c0", 7), ("c1", 7), ("c2", 9), ("c3", 1), ("c4", 9), ("c5", 5), ("nan", 4)):
        clients[name] = {"x": rng.normal(size=[n, 3]).astype(dtype), "y": rng.integers(2, size=n)}
    clients["nan"]["x"][:] = np.nan
    return ClientData.from_dict(clients)
