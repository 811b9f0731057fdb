"""The round loop."""

import contextlib
import time
from typing import Any, NamedTuple

import tensorflow as tf

from fedlab import _modules, aggregators, algorithms
from fedlab.data import Batching, ClientData, sampling, seeding
from fedlab.engines.engine import Setting
from fedlab.engines.workers import Workers
from fedlab.models.cloning import check_compiled, clone
from fedlab.simulation import progress as progress_lib
from fedlab.simulation.evaluation import columns_of, evaluate_weights
from fedlab.simulation.run_folder import RunFolder


class Run(NamedTuple):
    """What a simulation gives back.

    Attributes:
      model: a compiled Keras model of the same architecture with the final global weights; the one handed over is unchanged.
      history: one dict a round, name -> number, the columns of metrics.csv. Round 0 is the evaluation before training.
      clients: one dict a client and round: round, client_id, num_examples, num_tokens, num_steps, weight, loss, dropped.
      path: the run folder, or None.
    """

    model: Any
    history: list
    clients: list
    path: Any


def simulate(
    model,
    clients,
    algorithm=None,
    *,
    rounds,
    clients_per_round=None,
    cohort=None,
    seed=0,
    engine="local",
    aggregator=None,
    batch_size=8,
    local_epochs=1,
    max_batches=None,
    shuffle=True,
    drop_remainder=False,
    non_trainable="broadcast",
    evaluate_on=None,
    evaluate_every=1,
    evaluation_batch_size=64,
    run_dir=None,
    num_workers=None,
    progress=None,
):
    """Trains a compiled Keras model by federated learning over simulated clients.

    Args:
      model: a compiled `tf.keras` model, Sequential or Functional, or a function without arguments that makes a compiled model (for
        subclassed models). Optimizer, loss and metrics are those of `compile()`; it is not changed.
      clients: a `ClientData` with columns for Keras: `x` (or the inputs by name), `y`, and `sample_weight` where there is padding.
      algorithm: for example `fedlab.algorithms.fed_avg()`, the default.
      rounds: how many, 1 or more.
      clients_per_round: so many clients are drawn at random for each round. Give this or `cohort`.
      cohort: a list of client ids that train in every round, or a sampler `(client_ids, round_num, seed) -> client ids`.
      seed: everything random derives from it: the same seed gives the same bits.
      engine: "local" (TensorFlow in this process) or "tff" (the TensorFlow Federated runtime).
      aggregator: for example `fedlab.aggregators.mean()`, the default.
      batch_size, local_epochs, max_batches, shuffle, drop_remainder: how a client reads its examples; see `fedlab.data.Batching`.
      non_trainable: "broadcast" (default): clients start from the server's non-trainable weights and their changes are dropped, as in
        TFF; or "average": they are averaged as the trainable ones.
      evaluate_on: a `ClientData`, or name -> `ClientData`: evaluated centrally before the first round and after rounds.
      evaluate_every: evaluate after every so many rounds; the last round always is.
      evaluation_batch_size: examples a step of evaluation.
      run_dir: a folder for the run: config.json, metrics.csv, clients.csv, checkpoints/, model.keras. The same call on the same folder
        continues an interrupted run.
      num_workers: threads of the local engine and of evaluation; by default the number of cores. It does not change the result.
      progress: True for a bar, False for silence, None for a bar on a terminal and a log line a round elsewhere.

    Returns:
      A `Run`.

    Raises:
      ValueError: for a setting out of range; the message says what is allowed.

    Example:
      >>> import fedlab as fl
      >>> train, test = fl.datasets.shakespeare.synthetic(num_clients=3)
      >>> model = fl.models.char_rnn(units=8, embedding_dim=4)
      >>> run = fl.simulate(model, train, rounds=2, clients_per_round=2, evaluate_on=test, progress=False)
      >>> [row["round"] for row in run.history]
      [0, 1, 2]
    """
    model_fn = None
    if callable(model) and not isinstance(model, tf.keras.Model):
        model_fn, model = model, model()
    check_compiled(model)
    if not isinstance(clients, ClientData):
        raise TypeError(f"clients is a {type(clients).__name__}; allowed: a fedlab.data.ClientData, see ClientData.from_dict.")
    for name, value in (("rounds", rounds), ("evaluate_every", evaluate_every), ("evaluation_batch_size", evaluation_batch_size)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"{name} is {value!r}; allowed: an int of 1 or more.")
    seeding.check_seed(seed)
    algorithm = algorithm or algorithms.fed_avg()
    aggregator = aggregator or aggregators.mean()
    sample = _sampler(clients_per_round, cohort)
    sample(clients.client_ids, 1, seed)  # raises now where the cohort is impossible
    start_engine = _modules.find("fedlab.engines", engine, "start")
    if evaluate_on is None:
        evaluate_on = {}
    elif isinstance(evaluate_on, ClientData):
        evaluate_on = {"test": evaluate_on}
    evaluation_sets = {name: columns_of(data) for name, data in evaluate_on.items()}

    def build():
        return clone(model, model_fn)

    workers = Workers(build, clients[clients.client_ids[0]], num_workers)
    setting = Setting(
        model=model,
        build=build,
        clients=clients,
        algorithm=algorithm,
        aggregator=aggregator,
        batching=Batching(batch_size, local_epochs, shuffle, max_batches, drop_remainder).check(),
        seed=seed,
        non_trainable=non_trainable,
        workers=workers,
    )
    evaluation = {name: len(next(iter(columns.values()))) for name, columns in evaluation_sets.items()}
    more = {"engine": engine, "clients_per_round": clients_per_round, "cohort": cohort, "evaluation_examples": evaluation}
    folder = RunFolder.open(run_dir, setting, more)
    history, client_rows = folder.history, folder.clients
    with contextlib.ExitStack() as stack:
        stack.callback(workers.close)
        process = start_engine(setting)
        stack.callback(process.close)
        report = stack.enter_context(progress_lib.reporter(progress, rounds, len(history)))

        def evaluate(state):
            weights = process.weights(state)
            return {
                f"{name}_{metric}": value
                for name, columns in evaluation_sets.items()
                for metric, value in evaluate_weights(workers, *weights, columns, evaluation_batch_size).items()
            }

        state = process.init([w.numpy() for w in model.trainable_weights], [w.numpy() for w in model.non_trainable_weights])
        if folder.checkpoint is not None:
            state = process.restore(state, folder.checkpoint)
        if not history:
            history.append({"round": 0, **evaluate(state)})
            report(history[-1])
        for round_num in range(history[-1]["round"] + 1, rounds + 1):
            started = time.perf_counter()
            ids = sample(clients.client_ids, round_num, seed)
            state, result = process.run_round(state, round_num, ids)
            row = {"round": round_num, **_summary(result, model), "seconds": time.perf_counter() - started}
            if round_num % evaluate_every == 0 or round_num == rounds:
                row.update(evaluate(state))
            history.append(row)
            client_rows += [{"round": round_num, **client} for client in result.clients]
            folder.save(process.save(state), history, client_rows)
            report(row)

        trainable, non_trainable_weights = process.weights(state)
    final = build()
    for variables, values in ((final.trainable_weights, trainable), (final.non_trainable_weights, non_trainable_weights)):
        for variable, value in zip(variables, values):
            variable.assign(value)
    folder.finish(final)
    return Run(final, history, client_rows, folder.path)


def _sampler(clients_per_round, cohort):
    if (clients_per_round is None) == (cohort is None):
        raise ValueError("give either clients_per_round (a number of random clients) or cohort (client ids, or a sampler).")
    if clients_per_round is not None:
        return sampling.uniform(clients_per_round)
    return cohort if callable(cohort) else sampling.fixed(cohort)


def _summary(result, model):
    down = sum(w.dtype.size * w.shape.num_elements() for w in model.weights)
    up = sum(w.dtype.size * w.shape.num_elements() for w in model.trainable_weights)
    return {
        **{f"train_{name}": value for name, value in result.metrics.items()},
        "clients_asked": len(result.clients),
        "clients_finished": result.num_finished,
        "clients_dropped": len(result.clients) - result.num_finished,
        "examples": sum(client["num_examples"] for client in result.clients),
        "bytes_down": down * len(result.clients),
        "bytes_up": up * result.num_finished,
        **result.aggregator,
    }
