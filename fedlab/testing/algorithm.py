"""What must hold for every algorithm."""

import pathlib
import tempfile

import numpy as np

from fedlab.aggregators import differentially_private
from fedlab.algorithms.algorithm import Algorithm, prepare, wrap
from fedlab.clients import ClientData
from fedlab.testing._check import check

_COHORTS = [["c0", "c1", "c2"], ["c2", "c4"], ["c1", "c0", "c5", "c3"]]


def check_algorithm(algorithm: Algorithm) -> None:
    """Checks that an algorithm keeps its contract; see `fedlab.algorithms.algorithm`.

    - Weights keep their shapes and dtypes, float32 and float64, and change.
    - The order of the clients does not matter, up to rounding. The number of worker
      threads does not change the bits.
    - Graphs are traced only in the first round, whatever the cohort.
    - A run that is interrupted and resumed gives the same bits as one that is not.
    - A client with a non-finite update is dropped and counted. Neither the result nor
      the state that it stores changes.
    - A cohort without a client, or without a batch, raises an error that says so.
    - If clients send more than an update, differential privacy refuses the algorithm
      and says why.
    - A run folder can store the settings.

    Args:
      algorithm: an `Algorithm` for a Sequential model with the layers "body" and
        "head", compiled with SGD.

    Raises:
      AssertionError: the message says what does not hold.

    Example:
      >>> from fedlab import algorithms
      >>> check_algorithm(algorithms.fed_avg())
    """
    whole, traces = _with_counted_traces(
        algorithm, lambda counted: _simulate(counted, num_workers=2)
    )
    _check_weights(algorithm, whole, "float64")
    check(
        traces[1:] == traces[:1] * 2,
        f"{algorithm.name} is traced again after the first round: client_step was called {traces} "
        "times by the end of each round",
    )
    _check_other_cohorts(algorithm, whole)
    with tempfile.TemporaryDirectory() as folder:
        options = {"run_dir": pathlib.Path(folder) / "run", "num_workers": 1}
        _simulate(algorithm, rounds=1, **options)
        resumed = _simulate(algorithm, **options)
    check(_same(whole, resumed), f"{algorithm.name} gives other bits if a run is interrupted")
    _check_kept(algorithm)
    private = _check_privacy(algorithm)
    float32 = private or _simulate(algorithm, dtype="float32", rounds=1, num_workers=1)
    _check_weights(algorithm, float32, "float32")


def _check_weights(algorithm, run, dtype):
    start, weights = _model(dtype).get_weights(), run.model.get_weights()
    check(
        [w.shape for w in weights] == [w.shape for w in start],
        f"{algorithm.name} changes the weights' shapes",
    )
    check(
        {w.dtype for w in weights} == {np.dtype(dtype)},
        f"{algorithm.name} does not keep weights of {dtype}",
    )
    check(
        all(np.isfinite(w).all() for w in weights),
        f"{algorithm.name} gives non-finite weights of {dtype}",
    )
    check(
        any((w != s).any() for w, s in zip(weights, start)),
        f"{algorithm.name} does not change the weights",
    )


def _check_other_cohorts(algorithm, whole):
    """One run shows that neither the order of clients nor one that is not finite matters."""
    rounds = []

    def keep(round):
        rounds.append((round.metrics, round.weights[0]))

    cohorts = [[*cohort[::-1], "nan"] for cohort in _COHORTS]
    for options, message in (
        ({"cohorts": [[]], "rounds": 1}, "cohort"),
        ({"cohorts": [*cohorts, ["empty"]], "rounds": 4}, "no client of the cohort of round 4"),
    ):
        rounds.clear()
        try:
            _simulate(algorithm, num_workers=1, callbacks=[keep], **options)
        except ValueError as error:
            check(message in str(error), f"{algorithm.name} has no word of the cohort in: {error}")
        else:
            raise AssertionError(f"{algorithm.name} trains without a client or a batch: {options}")
    dropped = [metrics["clients_dropped"] for metrics, _ in rounds[1:]]
    check(dropped == [1, 1, 1], f"{algorithm.name} does not drop a non-finite client")
    if _close(whole.model.get_weights(), rounds[-1][1]):
        return
    reordered = _simulate(
        algorithm, cohorts=[cohort[::-1] for cohort in _COHORTS], num_workers=1
    ).model.get_weights()
    check(
        _close(whole.model.get_weights(), reordered),
        f"{algorithm.name} depends on the order of the clients",
    )
    raise AssertionError(
        f"{algorithm.name} lets a client with a non-finite update change the result"
    )


def _check_kept(algorithm):
    """A client with a non-finite update must not store its state: as if it were absent."""
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
    runs = _simulate(failing, num_workers=1), _simulate(algorithm, cohorts=absent, num_workers=1)
    check(
        _close(*(run.model.get_weights() for run in runs)),
        f"{algorithm.name} has a client keep what it computed beside an update that is not finite",
    )


def _check_privacy(algorithm):
    """The run under differential privacy, or None if it is refused."""
    prepared = prepare(algorithm, _model("float32"))
    sends_more = bool(prepared.survey or prepared.extras(_model("float32").trainable_weights))
    private = differentially_private(0.0, 3, len(_clients("float32")), norm=1.0, sampling="uniform")
    options = {"clients_per_round": 3, "dtype": "float32", "rounds": 1, "num_workers": 1}
    try:
        run = _simulate(algorithm, cohorts=None, aggregator=private, **options)
    except ValueError as error:
        check(
            "private aggregator" in str(error),
            f"{algorithm.name} under differential privacy is refused without the reason: {error}",
        )
        return None
    check(
        not sends_more,
        f"{algorithm.name} has clients send more than an update under differential privacy",
    )
    return run


def _same(first, second):
    return all(
        np.array_equal(a, b) for a, b in zip(first.model.get_weights(), second.model.get_weights())
    )


def _close(first, second):
    return all(np.allclose(a, b, rtol=1e-9, atol=1e-12) for a, b in zip(first, second))


def _with_counted_traces(algorithm, run):
    """`run(algorithm)`, and how often Python had called `client_step` by the end of each round."""
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


def _simulate(algorithm, *, cohorts=_COHORTS, dtype="float64", rounds=3, **options):
    from fedlab.simulation import simulate

    def cohort(client_ids, round_num, seed):
        return cohorts[round_num - 1]

    options = {
        "cohort": cohort if cohorts else None,
        "batch_size": 3,
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
    # An engine may order clients by size. In each cohort two have the same size, so that their
    # order is the cohort's.
    rng, clients = np.random.default_rng(0), {}
    sizes = {"c0": 7, "c1": 7, "c2": 9, "c3": 1, "c4": 9, "c5": 5, "nan": 4, "empty": 0}
    for name, n in sizes.items():
        clients[name] = {"x": rng.normal(size=[n, 3]).astype(dtype), "y": rng.integers(2, size=n)}
    clients["nan"]["x"][:] = np.nan
    return ClientData.from_dict(clients)
