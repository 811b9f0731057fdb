"""The round loop."""

import collections.abc
import contextlib
import functools
import time
from typing import Any, NamedTuple

from fedlab import _checks, _modules, algorithms
from fedlab import _progress as progress_lib
from fedlab._dropped_clients import DroppedClients
from fedlab.aggregators import privacy
from fedlab.callbacks import Round
from fedlab.callbacks import _hooks as hooks_lib
from fedlab.clients import Batching, ClientData
from fedlab.clients.cohorts import Cohorts, rows_of
from fedlab.clients.columns import num_rows
from fedlab.engines.client_work import make_setting
from fedlab.engines.workers import Workers
from fedlab.evaluation.central import columns_of, evaluate_function, evaluate_weights
from fedlab.evaluation.per_client import (
    PerClient,
    check_per_client,
    evaluate_per_client,
    evaluation_rows,
)
from fedlab.evaluation.personalized import check_personalization, evaluate_clients
from fedlab.learner.keras2.cloning import weight_arrays, with_weights
from fedlab.learner.keras2.freezing import statistics
from fedlab.learner.keras2.metric_state import finalize
from fedlab.runs.write.run_folder import RunFolder, known


class Run(NamedTuple):
    """What a simulation gives back.

    Attributes:
      model: a compiled Keras model of the same architecture with the final global weights; the one handed over is unchanged.
      history: one dict a round, name -> number, the columns of metrics.csv. Round 0 is the evaluation before training.
        The training metrics of a round without a usable update are None.
      clients: one dict a client and round: round, client_id, num_examples, num_tokens, num_steps, weight, loss, dropped, and why: reason,
        which is "not finite", what its condition says ("dropout", "deadline"), or empty. `metrics` is a dict of the client's other
        training metrics, name -> float. A loss or metric that is not a number is None, as is the loss of a client without examples.
        Engine "tff" knows no client's loss and metrics. With a run folder, a sequence that reads them from it when asked for.
      path: the run folder, or None.
      evaluations: one dict a client, round and metric, of the sets whose clients are evaluated one by one (`fedlab.per_client`): round,
        part, which is the set's name, client_id, num_examples, metric, value. Kept as `clients` is.
      best: a compiled Keras model with the global weights of the best round, if `fedlab.callbacks.BestModel` was among the callbacks, or
        None.
      stopped: why a callback stopped the run before its last round, or None.
    """

    model: Any
    history: list
    clients: list
    path: Any
    evaluations: list
    best: Any = None
    stopped: str | None = None


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
    client_learning_rate=None,
    class_weight=None,
    non_trainable="average",
    precision="float32",
    conditions=None,
    evaluate_on=None,
    evaluate_every=1,
    evaluation_batch_size=64,
    callbacks=None,
    run_dir=None,
    num_workers=None,
    progress=None,
    max_dropped_rounds=3,
):
    """Trains a compiled Keras model by federated learning over simulated clients.

    Args:
      model: a compiled `tf.keras` model, Sequential or Functional, or a function without arguments that makes a compiled model (for
        subclassed models). Optimizer, loss and metrics are those of `compile()`; it is not changed.
      clients: a `ClientData` with columns for Keras: `x` (or the inputs by name), `y`, and `sample_weight` where there is padding.
      algorithm: for example `fedlab.algorithms.fed_avg()`, the default.
      rounds: how many, 1 or more.
      clients_per_round: so many clients are drawn at random for each round. Give this or `cohort`.
      cohort: a list of client ids that train in every round, or a sampler: a function
        `(client_ids, round_num, seed) -> client ids`, or one that also uses the clients' sizes and last losses, such as
        `fedlab.clients.highest_loss(...)` or `fedlab.clients.adaptive(...)`.
      seed: everything random derives from it: the same seed gives the same bits.
      engine: "local" (TensorFlow in this process) or "tff" (the TensorFlow Federated runtime).
      aggregator: for example `fedlab.aggregators.mean()`, the default.
      batch_size, local_epochs, max_batches, shuffle, drop_remainder: how a client reads its examples; see `fedlab.clients.Batching`.
      client_learning_rate: a schedule over rounds (`fedlab.optimizers.schedules`) in place of the compiled optimizer's learning rate.
      class_weight: class -> weight of its examples in the training loss, as in Keras's `fit`, such as {0: 1.0, 1: 5.0}. It multiplies
        sample weights and leaves evaluation as it is. Labels in column `y` are numbers of classes, one per example or per position of a
        sequence, or one-hot. Every class needs a weight. A class of weight 0 does not train, but its examples still count as examples:
        in the mean over a batch, as in Keras, and in `client_weighting`.
      non_trainable: what happens to non-trainable weights that training changes, such as
        BatchNormalization's moving mean and variance.
        "average" (default): they are averaged over the clients with the weights of the updates,
        whatever the aggregator. Integers are rounded.
        "broadcast": clients start from the server's and their changes are dropped, as in TFF. The
        statistics keep their initial values, also in evaluation.
        Where a model has such weights, engine "tff" and private aggregators need "broadcast". The
        weights of frozen layers and what `adapt()` has computed are constants.
      precision: "float32", or "bfloat16": clients' layers compute in it (Keras's `mixed_bfloat16`), while weights, evaluation and the
        final model stay float32.
      conditions: which clients drop out or are slow: `fedlab.clients.dropouts(...)`, `fedlab.clients.stragglers(...)`, a list of such, or a function
        `(client_id, round_num, seed) -> fedlab.clients.Participation` of your own.
      evaluate_on: a `ClientData`, or name -> `ClientData`: evaluated centrally before the first round and after rounds. In place of a
        `ClientData`, a pair (own, test) of them: each client of `test` first makes the model its own on its examples in `own`, as the
        algorithm's personalization says (`fedlab.algorithms.fine_tuning`, `fed_recon`), and is evaluated on those in `test`. Or
        `fedlab.per_client(test)`: each client is evaluated by itself, and what the global model is worth to them is in the row. Or a
        function `(model, round_num) -> {metric: number}` of your own, called with a compiled Keras model that holds the global weights;
        what it returns joins the round's row as `{name}_{metric}`. Make it a pure function of the two, so that a run that goes on after
        an interruption ends in the same numbers.
      evaluate_every: evaluate after every so many rounds; the last round always is. A function in `evaluate_on` that has an attribute
        `every_round` which is true, as `fedlab.tasks.question_answering.Probe` has, is called after each round all the same.
      evaluation_batch_size: examples a step of evaluation.
      callbacks: a list of `fedlab.callbacks.EarlyStopping(...)`, `fedlab.callbacks.BestModel(...)`, other `fedlab.callbacks.Callback`
        objects, or functions `(round) -> None`. They are called after each round with a `fedlab.callbacks.Round`: its metrics, the rows
        of its clients and the global model. A callback can stop the run; the round it stops after is evaluated. A stopped run stays
        stopped if it is started again, also with more rounds.
      run_dir: a folder for the run: config.json, metrics.csv, events/ (TensorBoard), clients.sqlite, initial.npz, checkpoints/,
        model.keras, report.html. The same call on the same folder continues an interrupted run, and ends in the same bits. Only `rounds`,
        `num_workers`, `progress` and `max_dropped_rounds` may differ: another model, loss, metric, optimizer, data, evaluation set or
        setting is refused by name. Functions are compared by their code and the constants they refer to, and other objects by their
        class and what their constructor sets. The weights are no setting: a run continues from the initial weights that its folder
        holds. Where the model has other weights, as one built without a seed does, a warning says so. Only one process may use the
        folder at a time.
      num_workers: threads of the local engine and of evaluation; by default the number of cores. It does not change the result.
      progress: True for a bar, False for silence, None for a bar on a terminal and a log line a round elsewhere.
      max_dropped_rounds: the run stops with an error after this number of consecutive rounds without
        a usable update: each client's was not finite (NaN in the data, divergence), or it was lost to
        `conditions`. The training metrics of such a round are None. 1 or more, default 3, or None to never stop.

    Returns:
      A `Run`.

    Raises:
      ValueError: for a setting out of range; the message says what is allowed. Also for a run folder of other settings, in use, or
        damaged.
      OSError: the run folder cannot be written, the disk is full for example. Its last checkpoint stays good.
      RuntimeError: no update was usable in `max_dropped_rounds` consecutive rounds. The run folder can
        be continued with a larger number.

    Example:
      >>> import fedlab as fl
      >>> train, test = fl.datasets.shakespeare.synthetic(num_clients=3)
      >>> model = fl.models.char_rnn(units=8, embedding_dim=4)
      >>> run = fl.simulate(model, train, rounds=2, clients_per_round=2, evaluate_on=test, progress=False)
      >>> [row["round"] for row in run.history]
      [0, 1, 2]
    """
    rounds = _checks.check_int("rounds", rounds)
    evaluate_every = _checks.check_int("evaluate_every", evaluate_every)
    evaluation_batch_size = _checks.check_int("evaluation_batch_size", evaluation_batch_size)
    dropped = DroppedClients(max_dropped_rounds)
    setting = make_setting(
        model,
        clients,
        algorithm,
        aggregator=aggregator,
        seed=seed,
        batching=Batching(batch_size, local_epochs, shuffle, max_batches, drop_remainder),
        client_learning_rate=client_learning_rate,
        class_weight=class_weight,
        conditions=conditions,
        non_trainable=non_trainable,
        precision=precision,
    )
    model, build, algorithm, conditions = (
        setting.model,
        setting.build,
        setting.algorithm,
        setting.conditions,
    )
    cohorts = Cohorts(
        clients, clients_per_round, cohort, seed, engine, watched=algorithm.weigh is not None
    )
    privacy.check_cohorts(setting.aggregator.privacy, cohorts.sampler, len(clients))
    start_engine = _modules.find("fedlab.engines", engine, "start")
    if evaluate_on is None:
        evaluate_on = {}
    elif isinstance(evaluate_on, (ClientData, tuple)) or callable(evaluate_on):
        evaluate_on = {"test": evaluate_on}
    _check_sets(evaluate_on)
    tuned = algorithm if algorithm.personalize else algorithms.fine_tuning(algorithm)
    evaluation_sets = {
        name: data if isinstance(data, tuple) or callable(data) else columns_of(data)
        for name, data in evaluate_on.items()
    }
    for data in evaluation_sets.values():
        if isinstance(data, PerClient):
            check_per_client(tuned, data)
        elif isinstance(data, tuple):
            check_personalization(algorithm, *data)

    workers = Workers(build, clients, num_workers)
    setting = setting._replace(workers=workers, client_history=cohorts.history)
    hooks = hooks_lib.Hooks(hooks_lib.check(callbacks))
    more = {
        "engine": engine,
        "cohort": cohorts.sampler,
        "callbacks": hooks.settings() or None,
        "class_weight": setting.class_weight,
        "evaluation_examples": {
            name: _num_evaluated(data) for name, data in evaluation_sets.items()
        },
    }
    if run_dir is not None and evaluate_on:
        more["evaluation_data"] = {
            name: _evaluated_data(data) for name, data in evaluate_on.items()
        }
        more["evaluate_every"], more["evaluation_batch_size"] = (
            evaluate_every,
            evaluation_batch_size,
        )
    folder = RunFolder.open(run_dir, setting, more, rounds)
    setting = setting._replace(client_states=folder.client_states)
    history = folder.history
    with contextlib.ExitStack() as stack:
        stack.callback(folder.close)
        stack.callback(workers.close)
        process = start_engine(setting)
        stack.callback(process.close)
        report = stack.enter_context(progress_lib.reporter(progress, rounds, len(history)))

        shown = functools.cache(
            build
        )  # one model for the caller's own functions and callbacks, made when it is needed

        trained = (
            {f"train_{name}" for name in workers.any_replica().metric_names}
            if evaluation_sets
            else set()
        )

        def evaluate(state, round_num, due):
            sets = {
                name: data
                for name, data in evaluation_sets.items()
                if due or getattr(data, "every_round", False)
            }
            weights, row, rows = process.weights(state) if sets else (), {}, []
            for name, data in sets.items():
                if callable(data):
                    metrics = evaluate_function(
                        data, name, with_weights(shown(), *weights), round_num
                    )
                elif isinstance(data, PerClient):
                    options = max(round_num, 1), evaluation_batch_size
                    metrics, each = evaluate_per_client(
                        setting._replace(algorithm=tuned), workers, *weights, data, *options
                    )
                    rows += evaluation_rows(name, each)
                elif isinstance(data, tuple):
                    metrics = evaluate_clients(
                        setting, workers, *weights, *data, max(round_num, 1), evaluation_batch_size
                    )
                else:
                    metrics = evaluate_weights(workers, *weights, data, evaluation_batch_size)
                columns = {f"{name}_{metric}": value for metric, value in metrics.items()}
                if taken := columns.keys() & (trained | row.keys()):
                    raise ValueError(
                        f"evaluate_on[{name!r}] gives a value called {min(taken)!r}, as another column is: rename the set."
                    )
                row.update(columns)
            return row, rows

        def conclude(state, row, clients=()):
            """Evaluates a round, calls the callbacks, and writes the round down."""
            round_num = row["round"]
            due = round_num % evaluate_every == 0 or round_num == rounds
            evaluated, evaluations = evaluate(state, round_num, due)
            if hooks:
                hooks.end_round(
                    _seen(
                        process, state, {**row, **evaluated}, clients, evaluations, workers, shown
                    )
                )
                if hooks.stopped is not None and not due:
                    evaluated, evaluations = evaluate(state, round_num, True)
            row.update(evaluated)
            folder.save(process.save(state), row, clients, evaluations, hooks.save())
            report(row)

        state = process.init(*weight_arrays(model))
        if (arrays := folder.resume(process.save(state))) is not None:
            state = process.restore(state, arrays)
        hooks.begin(history, *folder.callbacks)
        if not history:
            conclude(state, {"round": 0})
        dropped.resume(history)
        cohorts.resume(folder.clients)
        for round_num in range(history[-1]["round"] + 1, rounds + 1):
            if hooks.stopped is not None:
                break
            started = time.perf_counter()
            asked, lost = cohorts.draw(round_num, conditions)
            state, result = process.run_round(
                state, round_num, [client_id for client_id in asked if client_id not in lost]
            )
            result = result._replace(clients=rows_of(asked, lost, result.clients))
            row = {
                "round": round_num,
                **_summary(result, model, non_trainable),
                "seconds": time.perf_counter() - started,
            }
            conclude(state, row, result.clients)
            cohorts.add(round_num, result.clients)
            dropped.add(row, result.clients)

        final = with_weights(build(), *process.weights(state))
        best = (
            None if (weights := hooks.best_weights()) is None else with_weights(build(), *weights)
        )
        folder.finish(final, best, hooks.stopped)
    run = Run(final, history, folder.clients, folder.path, folder.evaluations, best, hooks.stopped)
    hooks.end(run)
    return run


def _seen(process, state, row, clients, evaluations, workers, shown):
    """What callbacks see of a round."""

    def metric_names():
        replica = workers.any_replica()
        trained = finalize(replica, workers.merger.initial, workers.merger.unmergeable)
        return [
            *dict.fromkeys(
                [*(name for name in row if name != "round"), *(f"train_{name}" for name in trained)]
            )
        ]

    def of_round(rows):
        return [{"round": row["round"], **each} for each in known(rows)]

    def weights():
        return process.weights(state)

    return Round(
        row["round"],
        row,
        metric_names,
        of_round(clients),
        of_round(evaluations),
        weights,
        lambda: with_weights(shown(), *weights()),
    )


def _num_evaluated(data):
    if isinstance(data, PerClient):
        own = {} if data.own is None else {"own": sum(map(data.own.num_examples, data.own))}
        return {
            "clients": len(data.test),
            "test": sum(map(data.test.num_examples, data.test)),
            **own,
        }
    if hasattr(data, "name") and hasattr(data, "settings"):
        return data
    if callable(data):
        return f"{getattr(data, '__qualname__', type(data).__qualname__)}()"  # not its address: that differs in every process
    if isinstance(data, tuple):
        return {
            part: sum(map(clients.num_examples, clients))
            for part, clients in zip(("own", "test"), data)
        }
    return sum(map(num_rows, data))


def _evaluated_data(data):
    """The identity of an evaluation set: a fingerprint of its examples, or what a function is and refers to."""
    if isinstance(data, PerClient):
        return {
            name: part.fingerprint() for name, part in data._asdict().items() if part is not None
        }
    if isinstance(data, tuple):
        return {name: part.fingerprint() for name, part in zip(("own", "test"), data)}
    if isinstance(data, collections.abc.Mapping):
        return ClientData.from_dict({"examples": data}).fingerprint()
    return data.fingerprint() if isinstance(data, ClientData) else data


def _check_sets(evaluate_on):
    """Raises TypeError or ValueError where `evaluate_on` is no dict of what can be evaluated."""
    if not isinstance(evaluate_on, collections.abc.Mapping):
        raise TypeError(
            f"evaluate_on is {evaluate_on!r:.60}; allowed: a ClientData, a pair of them, fedlab.per_client(...), or a dict of such."
        )
    for name, data in evaluate_on.items():
        if not isinstance(name, str) or not name or name == "train":
            raise ValueError(
                f"evaluate_on has a set called {name!r}; allowed: a text but 'train', which the training's metrics are called."
            )
        pair = isinstance(data, tuple) and not isinstance(data, PerClient)
        if pair and not (len(data) == 2 and all(isinstance(part, ClientData) for part in data)):
            parts = ", ".join(type(part).__name__ for part in data)
            raise TypeError(
                f"evaluate_on[{name!r}] is a tuple of {parts or 'nothing'}; allowed: a pair (own, test) of ClientData."
            )


def _summary(result, model, non_trainable):
    trained, changing = _message_sizes(model)
    beside = result.more_bytes_up + (changing if non_trainable == "average" else 0)
    aggregated = {
        "bytes_up": trained * result.num_finished,
        **result.aggregator,
    }  # of encoded updates, where it encodes them
    aggregated["bytes_up"] += beside * result.num_finished
    return {
        **{f"train_{name}": value for name, value in result.metrics.items()},
        "clients_asked": len(result.clients),
        "clients_finished": result.num_finished,
        "clients_dropped": len(result.clients) - result.num_finished,
        "examples": sum(client["num_examples"] for client in result.clients),
        "bytes_down": (trained + changing + result.more_bytes_down) * len(result.clients),
        **aggregated,
    }


def _message_sizes(model):
    """Bytes of the trainable and of the other weights that a round sends.

    Clients have constants, such as the weights of frozen layers, from the start.
    """
    parts = model.trainable_weights, statistics(model)
    return [sum(w.dtype.size * w.shape.num_elements() for w in weights) for weights in parts]
