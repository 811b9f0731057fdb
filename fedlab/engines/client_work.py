"""The work of clients, as TensorFlow graphs: train, survey, evaluate, personalize.

Each function here returns a `Work`, which an engine maps over blocks of clients, clients, or the
parts of a data set.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from fedlab.aggregators import mean
from fedlab.algorithms import Pass, Task
from fedlab.algorithms.algorithm import sent
from fedlab.engines import batches as batching
from fedlab.engines import blocks, structure
from fedlab.engines.engine import Setting, Work, averaged_weights
from fedlab.optimizers import optimizers

average = mean()
"""How non-trainable weights are averaged, whatever the aggregator of the run."""


Weights = list[tf.Tensor]
ModelWeights = tuple[Weights, Weights]
"""(trainable, non-trainable) weights."""


class Shared(NamedTuple):
    """What all clients of a round receive beside the weights."""

    round_num: Any
    broadcast: Any
    survey: Any


def train(
    setting: Setting,
    weights: ModelWeights,
    shared: Shared,
    aggregator_state: Any,
    prepare: Callable,
) -> Work:
    """Training of a block of clients, whose results are added up.

    Args:
      setting: the run's `Setting`.
      weights: (trainable, non-trainable) weights, lists of tensors.
      shared: the round's `Shared`.
      aggregator_state: the aggregator's state.
      prepare: (block) -> ((`Block`, `Counts`, `Client`, kept), about); see `ClientBlocks`.

    The graph returns the aggregator's accumulator, the sum of the extras, the sum of the changes of
    the averaged non-trainable weights, and a dict of tensors [clients, ...]: weight, finite,
    results, metrics, state.
    """
    inputs = *weights, shared, aggregator_state
    return Work("train", lambda replica: _train(replica, setting), inputs, prepare)


def train_one(setting: Setting, weights: ModelWeights, shared: Shared, prepare: Callable) -> Work:
    """Training of the only client of a block.

    The arguments are those of `train`. The graph returns the client's result, the changes of its
    averaged non-trainable weights, whether both are finite, and the state of the metrics.
    """
    inputs = *weights, shared
    return Work("one", lambda replica: _train_one(replica, setting), inputs, prepare)


def survey(setting: Setting, weights: ModelWeights, shared: Shared, prepare: Callable) -> Work:
    """The algorithm's survey of a block of clients. The graph returns the sum of its results.

    The arguments are those of `train`; `prepare` gives no kept state.
    """
    inputs = *weights, shared
    return Work("survey", lambda replica: _survey(replica, setting), inputs, prepare)


def evaluate(
    weights: ModelWeights, metric_state: Sequence[Any], specs: blocks.Specs, prepare: Callable
) -> Work:
    """Evaluation on batches. The graph returns the metrics' state after them.

    Args:
      weights: (trainable, non-trainable) weights, lists of tensors.
      metric_state: the metrics' state before, a list of arrays.
      specs: the `Specs` of the examples.
      prepare: (item) -> ((`Block`, steps), about); see `fedlab.engines.blocks`. `steps`, int32 [2],
        are the first of the block's batches and the one after the last.
    """

    def make(replica):
        learner = replica.learner

        @tf.function
        def test(trainable, non_trainable, state, block, steps):
            learner.set_weights(trainable, non_trainable)
            return _test(learner, block, steps, specs, state)

        return test

    inputs = *weights, [tf.constant(values) for values in metric_state]
    return Work(("test", str(specs)), make, inputs, prepare)


def personalize(setting: Setting, weights: ModelWeights, round_num: int, prepare: Callable) -> Work:
    """Personalization of a client's model. The graph returns its weights, as `Learner.weights`.

    Args:
      setting: its clients have the examples that the model is personalized on.
      weights: (trainable, non-trainable) weights, lists of tensors.
      round_num: int, for schedules over rounds.
      prepare: (client id) -> ((`Block`, `Counts`, `Client`), about).
    """

    def make(replica):
        run = _personalization(replica, setting)

        @tf.function
        def personalized(trainable, non_trainable, shared, own, counts, client):
            run(trainable, non_trainable, shared, own, counts, client)
            return replica.learner.weights()

        return personalized

    inputs = *weights, _outside_of_rounds(round_num)
    return Work(_personal_key(setting, "weights"), make, inputs, prepare)


def evaluate_personalized(
    setting: Setting,
    weights: ModelWeights,
    round_num: int,
    metric_state: Sequence[Any],
    specs: blocks.Specs,
    prepare: Callable,
) -> Work:
    """Evaluation of a client's personalized model. The graph returns the metrics' state after it.

    Args:
      setting, weights, round_num: as in `personalize`.
      metric_state, specs: as in `evaluate`; of the test examples.
      prepare: (client id) -> ((`Block`, `Counts`, `Client`, test `Block`, steps), about).
    """

    def make(replica):
        run = _personalization(replica, setting)

        @tf.function
        def test(trainable, non_trainable, shared, state, own, counts, client, block, steps):
            run(trainable, non_trainable, shared, own, counts, client)
            return _test(replica.learner, block, steps, specs, state)

        return test

    state = [tf.constant(values) for values in metric_state]
    inputs = *weights, _outside_of_rounds(round_num), state
    return Work(_personal_key(setting, str(specs)), make, inputs, prepare)


def _outside_of_rounds(round_num):
    return Shared(tf.constant(round_num, tf.int64), (), ())


def _personal_key(setting, use):
    return setting.algorithm.personalize, str(batching.column_specs(setting)), use


def _client(replica, setting, work, names):
    """A function for graphs that runs one client: a `Pass` over the client's batches.

    Args:
      replica: the `Replica` whose variables are used.
      setting: the run's `Setting`.
      work: the `Pass`.
      names: the names of the pass's `init` and `step` in errors.

    The function takes the weights, the non-trainable weights and `Shared`; a `Block` and the
    client's number in it; the client's `Counts`, `Client` and kept state; and the client's first
    step in the block. It returns the pass's result and the next client's first step.
    """
    learner = replica.learner
    fill = batching.fill_for(learner.model, setting.batching)
    specs = batching.column_specs(setting)
    optimizer = optimizers.of_model(learner.model, setting.client_learning_rate)

    def run(weights, non_trainable, shared, block, k, counts, client, kept, first_step):
        learner.set_weights(non_trainable=non_trainable)
        learner.reset_recurrent_states()
        learner.set_metric_state(learner.metrics.initial)
        learner.seed(client.layers)
        of_round = optimizers.in_round(optimizer, shared.round_num)
        task = Task(
            learner.gradients,
            of_round,
            counts,
            client=client,
            client_state=kept,
            **shared._asdict(),
        )
        examples = blocks.examples_of(block, k, specs)

        def step(i, state):
            columns = blocks.batch_columns(block, examples, i, learner.fixed_size, fill)
            after = work.step(task, weights, state, learner.batch(columns, block.num_examples[i]))
            remedy = f"A step keeps the nesting, dtypes and shapes of what {names[0]} returns."
            who = f"the state that {names[1]} returns"
            return i + 1, structure.check_alike(after, state, who, remedy)

        last_step = first_step + tf.cast(counts.num_steps, tf.int32)
        who = f"the state that {names[0]} returns"
        state = structure.tensors(work.init(task, weights), who)
        loop = first_step, state
        _, state = tf.while_loop(lambda i, _: i < last_step, step, loop, parallel_iterations=1)
        return work.final(task, weights, state, counts), last_step

    return run


def _training(replica, setting):
    """As `_client`, of the algorithm's training."""
    algorithm = setting.algorithm
    work = Pass(algorithm.client_init, algorithm.client_step, algorithm.client_final)
    names = [f"{name} of {algorithm.name!r}" for name in ("client_init", "client_step")]
    return _client(replica, setting, work, names)


def _train_one(replica, setting):
    algorithm, run = setting.algorithm, _training(replica, setting)
    averaged = list(averaged_weights(setting))

    @tf.function
    def train_one(weights, non_trainable, shared, block, counts, clients, kept):
        first = tf.constant(0)
        mine = tf.nest.map_structure(lambda values: values[0], (counts, clients, kept))
        result, _ = run(weights, non_trainable, shared, block, first, *mine, first)
        extras = algorithm.extras(weights)
        extras = structure.tensors(extras, f"what extras of {algorithm.name!r} returns")
        result = structure.check_result(result, weights, extras, mine[2], algorithm.name)
        changes = _changes(replica.learner, non_trainable, averaged)
        finite = _is_finite((result, changes))
        return result, changes, finite, replica.learner.metric_state()

    return train_one


def _train(replica, setting):
    algorithm, aggregator, learner = setting.algorithm, setting.aggregator, replica.learner
    run = _training(replica, setting)
    averaged = list(averaged_weights(setting))

    def fold(sums, non_trainable, aggregator_state, result, seed):
        """Adds a client to the sums, if its result is finite."""
        changes = _changes(learner, non_trainable, averaged)
        finite = _is_finite((result, changes))

        def added():
            total, extras, non_trainable_sum = sums
            folded = aggregator.accumulate(
                aggregator_state, total, sent(algorithm, result.delta), result.weight, seed
            )
            who = f"what accumulate of {aggregator.name} returns"
            total = structure.check_alike(folded, total, who, "zero gives its form.")
            extras = tf.nest.map_structure(tf.add, extras, result.extras)
            if averaged:
                non_trainable_sum = average.accumulate(
                    (), non_trainable_sum, changes, result.weight, None
                )
            return total, extras, non_trainable_sum

        return (
            tf.cond(finite, added, lambda: sums),
            tf.where(finite, result.weight, 0.0),
            finite,
        )

    @tf.function
    def train_block(weights, non_trainable, shared, aggregator_state, block, counts, clients, kept):
        num_clients = tf.shape(clients.id)[0]

        def rows_of(dtype, shape):
            return tf.TensorArray(dtype, num_clients, element_shape=shape)

        out = {
            "weight": rows_of(tf.float32, []),
            "finite": rows_of(tf.bool, []),
            "results": rows_of(tf.float32, [len(learner.metrics.names)]),
            "metrics": [rows_of(v.dtype, v.shape) for v in learner.metrics.variables],
            "state": [rows_of(a.dtype, a.shape[1:]) for a in tf.nest.flatten(kept)],
        }

        def one(k, first_step, sums, out):
            mine = tf.nest.map_structure(lambda values: values[k], (counts, clients, kept))
            result, next_step = run(weights, non_trainable, shared, block, k, *mine, first_step)
            result = structure.check_result(result, weights, sums[1], mine[2], algorithm.name)
            seed = mine[1].aggregator
            sums, weight, finite = fold(sums, non_trainable, aggregator_state, result, seed)
            rows = {
                "weight": weight,
                "finite": finite,
                "results": learner.metrics.results_in_graph(),
                "metrics": learner.metric_state(),
                "state": tf.nest.flatten(result.state),
            }
            out = {
                name: [array.write(k, value) for array, value in zip(arrays, rows[name])]
                if isinstance(arrays, list)
                else arrays.write(k, rows[name])
                for name, arrays in out.items()
            }
            return k + 1, next_step, sums, out

        sums = zero_sums(setting, weights, non_trainable, aggregator_state)
        loop = tf.constant(0), tf.constant(0), sums, out
        _, _, sums, out = tf.while_loop(
            lambda k, *_: _continues(replica, k < num_clients), one, loop, parallel_iterations=1
        )
        return *sums, tf.nest.map_structure(lambda a: a.stack(), out)

    return train_block


def zero_sums(
    setting: Setting, weights: Weights, non_trainable: Weights, aggregator_state: Any
) -> tuple:
    """What the results of no client add up to: (accumulator, extras, averaged changes)."""
    algorithm = setting.algorithm
    averaged = averaged_weights(setting)
    unchanged = [change(non_trainable[i], non_trainable[i]) for i in averaged]
    extras = algorithm.extras(weights)
    return (
        setting.aggregator.zero(aggregator_state, sent(algorithm, weights)),
        structure.tensors(extras, f"what extras of {algorithm.name!r} returns"),
        average.zero((), unchanged) if averaged else (),
    )


def _continues(replica, more):
    """Whether a loop over clients continues: not after Ctrl-C, when nobody will read its result."""
    return tf.logical_and(more, tf.logical_not(replica.stopping.read_value()))


def _survey(replica, setting):
    algorithm, work = setting.algorithm, setting.algorithm.survey
    names = [f"survey.{name} of {algorithm.name!r}" for name in ("init", "step")]
    run = _client(replica, setting, work, names)

    @tf.function
    def survey_block(weights, non_trainable, shared, block, counts, clients):
        num_clients = tf.shape(clients.id)[0]

        def one(k, first_step, total):
            mine = tf.nest.map_structure(lambda values: values[k], (counts, clients))
            result, next_step = run(weights, non_trainable, shared, block, k, *mine, (), first_step)
            who = f"what survey.final of {algorithm.name!r} returns"
            result = structure.check_alike(result, total, who, "survey.zero gives its form.")
            total = tf.cond(
                _is_finite(result),
                lambda: tf.nest.map_structure(tf.add, total, result),
                lambda: total,
            )
            return k + 1, next_step, total

        loop = tf.constant(0), tf.constant(0), work.zero(weights)
        return tf.while_loop(
            lambda k, *_: _continues(replica, k < num_clients), one, loop, parallel_iterations=1
        )[2]

    return survey_block


def _personalization(replica, setting):
    """A function for graphs that sets the learner's weights to a client's personalized ones."""
    algorithm = setting.algorithm
    names = [f"personalize.{name} of {algorithm.name!r}" for name in ("init", "step")]
    run = _client(replica, setting, algorithm.personalize, names)

    def personalized(weights, non_trainable, shared, own, counts, client):
        first = tf.constant(0)
        mine = tf.nest.map_structure(lambda values: values[0], (counts, client))
        result, _ = run(weights, non_trainable, shared, own, first, *mine, (), first)
        who = f"what personalize.final of {algorithm.name!r} returns"
        replica.learner.set_weights(structure.check_weights(result, weights, who))

    return personalized


def _test(learner, block, steps, specs, state):
    """In a graph: the metrics' state after some batches of the only client of a block."""
    learner.reset_recurrent_states()
    learner.set_metric_state(state)
    fill = batching.fill_for(learner.model, batching.Batching())
    examples = blocks.examples_of(block, 0, specs)
    for i in tf.range(steps[0], steps[1]):
        columns = blocks.batch_columns(block, examples, i, learner.fixed_size, fill)
        learner.test(learner.batch(columns, block.num_examples[i]))
    return learner.metric_state()


def _is_finite(nest):
    """Whether all floating-point tensors of a nest are finite: a bool scalar."""
    numbers = [tf.abs(x) if x.dtype.is_complex else x for x in tf.nest.flatten(nest)]
    floats = [x for x in numbers if x.dtype.is_floating]
    if not floats:
        return tf.constant(True)
    # One pass over each tensor. The sum of squares may overflow although the values are finite.
    norms = tf.stack([tf.cast(tf.nn.l2_loss(x), tf.float32) for x in floats])
    return tf.cond(
        tf.reduce_all(tf.math.is_finite(norms)),
        lambda: True,
        lambda: tf.reduce_all([tf.reduce_all(tf.math.is_finite(x)) for x in floats]),
    )


def _changes(learner, non_trainable, averaged):
    after = learner.weights()[1]
    return [change(non_trainable[i], after[i]) for i in averaged]


def _is_counted(dtype):
    """Whether values are integers or bools: their changes are averaged in float64 and rounded."""
    return dtype.is_integer or dtype.is_bool


def change(before: tf.Tensor, after: tf.Tensor) -> tf.Tensor:
    """A non-trainable weight before minus after training, in a dtype that has averages."""
    if not _is_counted(before.dtype):
        return before - after
    # Unsigned integers would wrap around.
    return tf.cast(tf.cast(before, tf.int64) - tf.cast(after, tf.int64), tf.float64)


def changed(before: tf.Tensor, change: tf.Tensor) -> tf.Tensor:
    """A non-trainable weight minus an averaged change. Without a change it keeps its bits."""
    if not _is_counted(before.dtype):
        return before - change
    return tf.cast(tf.cast(before, tf.int64) - tf.cast(tf.round(change), tf.int64), before.dtype)
