"""The round loop."""

import contextlib
import functools
import time
from collections.abc import Mapping, Sequence
from typing import Any

from fedlab import _checks, _interrupted, _progress, engines, ops
from fedlab._dropped_clients import DroppedClients
from fedlab.aggregators import Aggregator, privacy
from fedlab.algorithms import Algorithm
from fedlab.callbacks import Round
from fedlab.callbacks._hooks import Hooks
from fedlab.clients import Batching, ClientData
from fedlab.clients.cohorts import Cohorts, rows_of
from fedlab.data import description, description_json
from fedlab.engines.setting import make_setting
from fedlab.evaluation.evaluation import Global
from fedlab.evaluation.evaluations import Evaluations
from fedlab.learner import statistics, weight_arrays, with_weights
from fedlab.run import Run
from fedlab.runs.read.report import write_report_of_run
from fedlab.runs.read.tables import read_tables
from fedlab.runs.write.run_folder import RunFolder, known


def simulate(
    model: Any,
    clients: ClientData,
    algorithm: Algorithm | None = None,
    *,
    rounds: int,
    clients_per_round: int | None = None,
    cohort: Any = None,
    seed: int = 0,
    engine: str = "local",
    aggregator: Aggregator | None = None,
    batch_size: int = 8,
    local_epochs: int = 1,
    max_batches: int | None = None,
    shuffle: bool = True,
    drop_remainder: bool = False,
    client_learning_rate: Any = None,
    class_weight: Mapping[int, float] | None = None,
    non_trainable: str = "average",
    precision: str = "float32",
    conditions: Any = None,
    evaluate_on: Any = None,
    evaluate_every: int = 1,
    evaluation_batch_size: int = 64,
    callbacks: Sequence[Any] | None = None,
    run_dir: Any = None,
    num_workers: int | None = None,
    progress: bool | None = None,
    max_dropped_rounds: int | None = 3,
) -> Run:
    """Trains a compiled Keras model by federated learning over simulated clients.

    Args:
      What is trained:

      model: a compiled `tf.keras` model, Sequential or Functional, or a function
        without arguments that makes a compiled model (for subclassed models).
        Optimizer, loss and metrics are those of `compile()`. The model is not changed.
      clients: a `ClientData` with columns for Keras: `x` (or the inputs by name), `y`,
        and `sample_weight` to mask padding.
      algorithm: for example `fedlab.algorithms.fed_avg()`, the default.
      aggregator: for example `fedlab.aggregators.mean()`, the default.
      rounds: the number of rounds, 1 or more.
      seed: determines everything random: the same seed gives bit-identical results.
      engine: "local" (TensorFlow in this process) or "tff" (the TensorFlow Federated
        runtime).

      Who participates:

      clients_per_round: the number of clients that are drawn at random in each round.
        Pass this or `cohort`.
      cohort: a list of client ids that train in every round, or a sampler: a function
        `(client_ids, round_num, seed) -> client ids`, or one that also uses the
        clients' sizes and last losses, such as `fedlab.clients.highest_loss(...)` or
        `fedlab.clients.adaptive(...)`.
      conditions: dropouts and stragglers: `fedlab.clients.dropouts(...)`,
        `fedlab.clients.stragglers(...)`, a list of these, or a function
        `(client_id, round_num, seed) -> fedlab.clients.Participation`.

      How clients train:

      batch_size, local_epochs, max_batches, shuffle, drop_remainder: how a client reads
        its examples; see `fedlab.clients.Batching`.
      client_learning_rate: a schedule over rounds (`fedlab.optimizers.schedules`) in
        place of the compiled optimizer's learning rate.
      class_weight: class -> weight of its examples in the training loss, as in Keras's
        `fit`, such as {0: 1.0, 1: 5.0}. It multiplies sample weights and does not
        affect evaluation. Labels in column `y` are class numbers, one per example or
        per position of a sequence, or one-hot. Every class needs a weight. Examples of
        a class with weight 0 do not train, but they still count as examples: in the
        mean over a batch, as in Keras, and in `client_weighting`.
      non_trainable: what happens to non-trainable weights that training changes, such
        as the moving mean and variance of BatchNormalization.
        - "average" (default): they are averaged over the clients with the client
          weights, whatever the aggregator. Integers are rounded.
        - "broadcast": clients start from the server's values and their changes are
          dropped, as in TFF. The statistics keep their initial values, also in
          evaluation.
        If a model has such weights, engine "tff" and private aggregators need
        "broadcast". The weights of frozen layers and what `adapt()` has computed are
        constants.
      precision: "float32", or "bfloat16": the layers of clients compute in bfloat16
        (Keras's `mixed_bfloat16`), while weights, evaluation and the final model stay
        float32.

      Evaluation and callbacks:

      evaluate_on: one of the following, which is called "test", or a dict of them by
        name. Metrics are `{name}_{metric}` in the round's row.
        - a `ClientData`: all examples together, as `fedlab.evaluate`.
        - a pair (local, test) of `ClientData`: each client of `test` first personalizes
          the model on its examples in `local`, as the algorithm says
          (`fedlab.algorithms.fine_tuning`, `fed_recon`).
        - `fedlab.per_client(test)`: each client by itself. The row gets a summary.
        - a function `(model, round_num) -> {metric: number}`. `model` is a compiled
          Keras model with the global weights. It should depend only on its arguments,
          so that a resumed run gives the same numbers.
      evaluate_every: the number of rounds between evaluations. The model is also
        evaluated before the first and after the last round. A function with an
        attribute `every_round` that is true, such as `fedlab.question_answering.Probe`,
        is called after every round.
      evaluation_batch_size: examples per step of evaluation.
      callbacks: a list of `fedlab.callbacks.EarlyStopping(...)`,
        `fedlab.callbacks.BestModel(...)`, other `fedlab.callbacks.Callback` objects, or
        functions `(round) -> None`. They are called after each round with a
        `fedlab.callbacks.Round`: its metrics, its clients and the global model. A
        callback can stop the run, and the round it stops after is evaluated. A stopped
        run stays stopped if it is started again, also with more rounds.

      Running:

      run_dir: a folder for the run: config.json, metrics.csv, events/ (TensorBoard),
        clients.sqlite, data.json, initial.npz, checkpoints/, model.keras, report.html.
        The same call with the same folder resumes an interrupted run, with
        bit-identical results. Only `rounds`, `num_workers`, `progress` and
        `max_dropped_rounds` may differ. If another setting, the model, its loss,
        metrics or optimizer, the data or an evaluation set differs, the call is refused
        with its name. Functions are compared by their code and the constants that they
        refer to, other objects by their class and constructor arguments. Weights are
        not compared: a run resumes from the initial weights in its folder, and warns if
        those of the model differ, as they do if it is built without a seed. Only one
        process may use the folder at a time.
      num_workers: threads of the local engine and of evaluation; by default the number
        of cores. It does not change the result.
      progress: False for no output. By default, there is a progress bar on a terminal
        and in a notebook, and one line per round on stderr elsewhere. If logging is
        configured to show informational records of the logger "fedlab", the lines are
        log records. True for a bar even if stderr is not a terminal.
      max_dropped_rounds: the run stops with an error after this number of consecutive
        rounds without a usable update: no client's update was finite (NaN in the data,
        divergence) or arrived (see `conditions`). The training metrics of such a round
        are None. 1 or more, default 3, or None to never stop.

    Returns:
      A `Run`.

    Raises:
      TypeError, ValueError: an argument is wrong; the message says what was expected.
        Also for a run folder that has other settings, is in use, or is damaged.
      OSError: the run folder cannot be written, for example because the disk is full.
        The last checkpoint stays intact.
      RuntimeError: there was no usable update in `max_dropped_rounds` consecutive
        rounds. The run can be resumed with a larger number.

    Example:
      >>> import fedlab as fl
      >>> train, test = fl.datasets.shakespeare.synthetic(num_clients=3)
      >>> model = fl.models.char_rnn(units=8, embedding_dim=4)
      >>> run = fl.simulate(
      ...     model, train, rounds=2, clients_per_round=2, evaluate_on=test, progress=False
      ... )
      >>> [row["round"] for row in run.history]
      [0, 1, 2]
    """
    _checks.check_int("rounds", rounds)
    start_engine = engines.find(engine)
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
        num_workers=num_workers,
    )
    watched = setting.algorithm.weigh is not None
    cohorts = Cohorts(clients, clients_per_round, cohort, seed, engine, watched)
    privacy.check_cohorts(setting.aggregator.privacy, cohorts.sampler, len(clients))
    evaluations = Evaluations(
        evaluate_on, evaluate_every, evaluation_batch_size, setting, rounds, cohorts.candidates
    )
    hooks = Hooks(callbacks)
    identity = {
        "engine": engine,
        "cohort": cohorts.sampler,
        "callbacks": hooks.settings() or None,
        "class_weight": setting.class_weight,
        **evaluations.settings(with_data=run_dir is not None),
    }
    folder = RunFolder.open(run_dir, setting, identity, rounds, read_tables)
    with contextlib.ExitStack() as stack:
        stack.callback(folder.close)
        stack.enter_context(_interrupted.explained(folder.path, rounds, folder.last_saved))
        hooks.configure(folder.settings, folder.path)
        folder.describe(lambda: description_json.dumps(description.sample(clients)))
        stores: dict[str, Any] = {
            "client_states": folder.client_states,
            "client_history": cohorts.history,
        }
        process = stack.enter_context(contextlib.closing(start_engine(setting._replace(**stores))))
        report = stack.enter_context(_progress.reporter(progress, rounds, folder.history))
        end_round = _RoundEnd(process, setting, evaluations, hooks, folder, report)
        state = end_round.resume(process.init(*weight_arrays(setting.model)))
        dropped.resume(folder.history)
        cohorts.resume(folder.clients)
        for round_num in range(folder.history[-1]["round"] + 1, rounds + 1):
            if hooks.stopped is not None:
                break
            started = time.perf_counter()
            members, absent = cohorts.draw(round_num, setting.conditions)
            present = [client_id for client_id in members if client_id not in absent]
            state, result = process.run_round(state, round_num, present)
            result = result._replace(clients=rows_of(members, absent, result.clients))
            row = _row(round_num, result, setting, time.perf_counter() - started)
            end_round(state, row, result.clients)
            cohorts.add(round_num, result.clients)
            dropped.add(row, result.clients)
        run = end_round.finish(state)
    return run


class _RoundEnd:
    """The end of every round: evaluation, callbacks, and writing the round to the run folder."""

    def __init__(self, process, setting, evaluations, hooks, folder, report):
        self._process, self._setting = process, setting
        self._evaluations, self._hooks = evaluations, hooks
        self._folder, self._report = folder, report
        # One model for the functions and callbacks of the caller, made when it is needed.
        self._keras_model = functools.cache(setting.build)

    def resume(self, state):
        """The state of the last checkpoint. A new run is evaluated before training."""
        if (arrays := self._folder.resume(self._process.save(state))) is not None:
            state = self._process.restore(state, arrays)
        self._hooks.begin(self._folder.history, *self._folder.callbacks)
        if not self._folder.history:
            self(state, {"round": 0})
        return state

    def __call__(self, state, row, clients=()):
        round_num, hooks = row["round"], self._hooks
        evaluated, evaluations = self._evaluate(state, row)
        if hooks:
            hooks.end_round(self._round(state, {**row, **evaluated}, clients, evaluations))
            if hooks.stopped is not None and not self._evaluations.is_due(round_num):
                evaluated, evaluations = self._evaluate(state, row, everything=True)
        row.update(evaluated)
        self._folder.save(self._process.save(state), row, clients, evaluations, hooks.save())
        self._report(row)

    def finish(self, state):
        """The `Run` at its end."""
        folder, hooks, build = self._folder, self._hooks, self._setting.build
        model = with_weights(build(), *self._process.weights(state))
        best = hooks.best_weights()
        best = None if best is None else with_weights(build(), *best)
        folder.finish(model, write_report_of_run, best, hooks.stopped)
        tables = folder.history, folder.clients, folder.path, folder.evaluations
        run = Run(model, *tables, best, hooks.stopped, folder.settings)
        hooks.end(run)
        return run

    def _evaluate(self, state, row, everything=None):
        trained = (f"train_{name}" for name in self._process.metric_names)
        return self._evaluations.run(
            lambda: self._global(state, row["round"]), row["round"], trained, everything
        )

    def _global(self, state, round_num):
        weights = self._process.device_weights(state)
        make_model = functools.partial(self._with_weights, weights)
        return Global(self._process, weights, round_num, make_model)

    def _with_weights(self, weights):
        return with_weights(self._keras_model(), *weights)

    def _round(self, state, row, clients, evaluations):
        """What callbacks see of a round."""
        trained = (f"train_{name}" for name in self._process.metric_names)
        names = [*dict.fromkeys([*(name for name in row if name != "round"), *trained])]
        tables = (
            [{"round": row["round"], **each} for each in known(rows)]
            for rows in (clients, evaluations)
        )
        return Round(
            row["round"],
            row,
            names,
            *tables,
            lambda: self._process.weights(state),
            lambda: self._with_weights(self._process.weights(state)),
        )


def _row(round_num, result, setting, seconds):
    """A round's row of the history, without evaluation."""
    trained, changing = _message_sizes(setting.model)
    trained -= result.local_bytes
    extra = result.more_bytes_up + (changing if setting.non_trainable == "average" else 0)
    # An aggregator that encodes updates reports their size itself.
    aggregated = {"bytes_up": trained * result.num_finished, **result.aggregator}
    aggregated["bytes_up"] += extra * result.num_finished
    return {
        "round": round_num,
        **{f"train_{name}": value for name, value in result.metrics.items()},
        "clients_asked": len(result.clients),
        "clients_finished": result.num_finished,
        "clients_dropped": len(result.clients) - result.num_finished,
        "examples": sum(client["num_examples"] for client in result.clients),
        "bytes_down": (trained + changing + result.more_bytes_down) * len(result.clients),
        **aggregated,
        "seconds": seconds,
    }


def _message_sizes(model):
    """Bytes of the trainable weights, and of the others that a round sends.

    Clients have constants, such as the weights of frozen layers, from the start.
    """
    parts = model.trainable_weights, statistics(model)
    return [sum(map(ops.num_bytes, weights)) for weights in parts]
