"""What an engine is: the place where client work runs.

    process = engine.start(setting)                              # builds what it needs; may take seconds
    state = process.init(trainable, non_trainable)
    state, result = process.run_round(state, round_num, cohort)   # once a round
    trainable, non_trainable = process.weights(state)
    arrays = process.save(state)                                  # for a checkpoint: a list of NumPy arrays
    state = process.restore(state, arrays)                        # into a state of the same process, from `init` say
    process.close()                                              # also on errors and signals: `with contextlib.closing(process)`

Weights are lists of NumPy arrays in the order of the Keras model's `trainable_weights` and of
`fedlab.learner.keras2.cloning.non_trainable_weights(model)`; `state` is a nest of arrays that belongs to the engine.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from fedlab.aggregators import Aggregator
from fedlab.algorithms import Algorithm
from fedlab.clients import Batching, ClientData
from fedlab.learner.keras2.cloning import non_trainable_weights
from fedlab.learner.keras2.freezing import statistics


class Setting(NamedTuple):
    """Everything an engine needs to know before the first round.

    Attributes:
      model: a compiled Keras model, never changed by the engine: its architecture, optimizer, loss and metrics count.
      build: makes another compiled model of the same architecture, with weights of its own (any values).
      clients: the `ClientData` that cohorts are drawn from.
      algorithm: an `Algorithm`.
      aggregator: an `Aggregator`.
      batching: a `Batching`.
      seed: int.
      non_trainable: what happens to non-trainable weights that training changes, such as
        BatchNormalization's statistics: "average", or "broadcast" (clients start from the server's
        and theirs are dropped, as in TFF). See `averaged_weights`.
      precision: "float32", or "bfloat16": clients' layers compute in it while weights stay float32; see `fedlab.learner.keras2.precision`.
      conditions: which clients are slow, `(client_id, round_num, seed) -> fedlab.clients.Participation`, or None. Engines give a client its share of the
        steps; cohorts hold only clients whose updates arrive.
      client_learning_rate: a `fedlab.optimizers.schedules.Schedule` over rounds in place of the optimizer's own learning rate, or None.
      client_states: the `ClientStates` that keeps what clients keep from round to round, or None for a temporary one.
      workers: replicas of the model that the run has for evaluation and that an engine in this process may share, or None.
      client_history: the `ClientHistory` of the rounds so far, or None for a run at its start.
      class_weight: class -> weight of its examples in the training loss; see `fedlab.learner.class_weights.check`; or None.
    """

    model: Any
    build: Callable
    clients: ClientData
    algorithm: Algorithm
    aggregator: Aggregator
    batching: Batching
    seed: int
    non_trainable: str = "average"
    precision: str = "float32"
    conditions: Callable | None = None
    client_learning_rate: Any = None
    client_states: Any = None
    workers: Any = None
    class_weight: dict | None = None
    client_history: Any = None


def averaged_weights(setting):
    """Which non-trainable weights are averaged over the clients.

    Returns:
      Index in the model's `non_trainable_weights` (`fedlab.learner.keras2.cloning`) -> name.

    Raises:
      ValueError: `setting.non_trainable` is neither "average" nor "broadcast".
    """
    model, policy = setting.model, setting.non_trainable
    if policy not in ("average", "broadcast"):
        raise ValueError(f"non_trainable is {policy!r}; allowed: 'average', 'broadcast'.")
    changing = {id(w) for w in statistics(model)} if policy == "average" else ()
    return {i: w.name for i, w in enumerate(non_trainable_weights(model)) if id(w) in changing}


class RoundResult(NamedTuple):
    """What a round reports.

    Attributes:
      metrics: name -> float over the training of the clients whose updates are finite, "loss" first,
        in Keras's names. None where no such client had an example.
      clients: one dict a client, in cohort order: client_id, num_examples, num_tokens, num_steps, weight, loss, dropped (bool: its
        update was not finite), and metrics, a dict of its other training metrics, name -> float. None where the engine does not know, and
        as the loss of a client without examples; no metrics then.
      num_finished: how many clients' updates were finite.
      aggregator: name -> float, what the aggregator adds.
      more_bytes_down, more_bytes_up: what the algorithm sends to and from each client beside the weights and their delta.
    """

    metrics: dict
    clients: list
    num_finished: int
    aggregator: dict
    more_bytes_down: int = 0
    more_bytes_up: int = 0
