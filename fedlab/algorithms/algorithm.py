"""What a federated algorithm is: a tuple of functions that the engines run.

    server_state = server_init(weights)
    each round:
        each client of the cohort, in TensorFlow graphs:
            state = client_init(task, weights)
            for batch in the client's batches:
                state = client_step(task, weights, state, batch)
            result = client_final(task, weights, state, counts)
        update = the aggregator's mean of the results' deltas, the sum of their extras
        weights, server_state = server_update(weights, server_state, update)

`weights` is the list of the model's trainable weights, tensors of the model's shapes and dtypes; states are any nest of tensors. The
functions are pure. These are enough for most methods. Some need more, and have a field for it:

- `broadcast(server_state)`: what the server sends beside the weights, such as SCAFFOLD's control variate. Clients see it as `task.broadcast`.
- `client_state(weights)`: what a client knows before its first round, and keeps from round to round. It sees it as `task.client_state` and
  returns the next one in its result.
- `extras(weights)`: zeros like the extras of a result, for a method whose clients send more than a delta.
- `survey`: a pass over the same clients and batches before the round, whose sum all clients know, such as Mime's mean gradient.
- `weigh(client)`: a number for each client, which Python computes before the round from its `fedlab.clients.ClientStats`, such as a weight
  that depends on its last loss. Clients see it as `counts.client_weight`.
- `personalize`: a pass that makes a client's own weights at evaluation.
- `prepare(model, schedule)`: the algorithm for one compiled model, for a method that needs to know its optimizer or its layers' names;
  `schedule` is that of the clients' learning rate over rounds, or None.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from fedlab import _checks
from fedlab.optimizers import optimizers


class Counts(NamedTuple):
    """What a client trained on in one round, float32 scalars. An example that is read in two epochs counts twice, as in TFF.

    Attributes:
      num_examples: examples with at least one position that is not padding.
      num_tokens: positions with a sample weight above zero; equal to `num_examples` where there are no sample weights.
      num_steps: batches.
      client_weight: what `Algorithm.weigh` gives the client, 1 without it.
    """

    num_examples: Any
    num_tokens: Any
    num_steps: Any
    client_weight: Any = 1.0


class Task(NamedTuple):
    """What a client knows in one round.

    Attributes:
      gradients: (weights, batch) -> gradients of the compiled loss at `weights`, dense.
        `gradients(weights, batch, measure=False)` leaves the batch out of the training metrics, and
        `update_statistics=False` out of statistics such as BatchNormalization's: for a second pass
        over a batch.
      optimizer: the optimizer that the model was compiled with, as `fedlab.optimizers.optimizers.Optimizer`.
      counts: the client's `Counts`.
      round_num: int64 scalar, from 1.
      client: its `id`, a string scalar, and seeds for `tf.random.stateless_*`, int64 [2]: `seed`, a function of (seed, round, client), and
        `lasting_seed`, of (seed, client).
      broadcast: what `Algorithm.broadcast` gave.
      client_state: what the client kept of its last round.
      survey: the sum of `Algorithm.survey` over the clients, `()` without a survey.
    """

    gradients: Callable
    optimizer: Any
    counts: Counts
    round_num: Any
    client: Any = None
    broadcast: Any = ()
    client_state: Any = ()
    survey: Any = ()


class ClientResult(NamedTuple):
    """What a client sends.

    Attributes:
      delta: global weights minus trained weights, a list of tensors of the model's shapes: the server treats it as a gradient.
      weight: float32 scalar, 0 or more: how much the client counts.
      extras: a nest of tensors that are summed over the clients as they are: weighted by nothing, and neither clipped nor noised.
      state: a nest of tensors that the client keeps for its next round.
    """

    delta: Any
    weight: Any
    extras: Any = ()
    state: Any = ()


class Update(NamedTuple):
    """What the clients of a round amount to. A client whose result is not finite is left out of all of it.

    Attributes:
      delta: what the aggregator made of the deltas, a list of tensors of the model's shapes.
      extras: the sum of the clients' extras.
      survey: the sum of the survey, `()` without one.
      num_clients: how many clients it comes from, a float32 scalar.
      total_clients: how many clients there are in all, a float32 scalar.
      round_num: int64 scalar, from 1.
    """

    delta: Any
    extras: Any
    survey: Any
    num_clients: Any
    total_clients: Any
    round_num: Any


class Pass(NamedTuple):
    """A pass over a client's batches: `init` and `step` as an algorithm's `client_init` and `client_step`.

    Attributes:
      init: (task, weights) -> state.
      step: (task, weights, state, batch) -> state.
      final: (task, weights, state, counts) -> the pass's result: of a survey, a nest of tensors that is summed over the clients; of a
        personalization, the client's own weights.
      zero: weights -> zeros like a survey's result.
    """

    init: Callable
    step: Callable
    final: Callable
    zero: Callable | None = None


class StructureError(ValueError):
    """A tensor, or a nest of them, is of another form than it must be; raised while a graph is traced."""

    # AutoGraph would write the traceback of its converted code into the message.
    ag_pass_through = True


def nothing(_):
    """What a method without a part has in its place."""
    return ()


class Algorithm(NamedTuple):
    """A federated algorithm. See the module's text for how the functions are called.

    Attributes:
      name: as its paper calls it, and as its file is named.
      settings: the arguments it was made with, for run folders and for engines that bring their own implementation.
    """

    name: str
    settings: dict
    server_init: Callable
    client_init: Callable
    client_step: Callable
    client_final: Callable
    server_update: Callable
    broadcast: Callable = nothing
    client_state: Callable = nothing
    extras: Callable = nothing
    survey: Pass | None = None
    personalize: Pass | None = None
    prepare: Callable | None = None
    weigh: Callable | None = None


def prepare(algorithm, model, schedule=None):
    """The algorithm for a compiled model and a schedule of its learning rate over rounds, or None.

    Raises:
      TypeError: it is no `Algorithm`.
      ValueError: where it cannot train this model; the message says why.
    """
    _check(algorithm)
    return algorithm.prepare(model, schedule) if algorithm.prepare else algorithm


def _check(algorithm):
    if not isinstance(algorithm, Algorithm):
        given = _checks.kind(algorithm)
        raise TypeError(
            f"algorithm is {given}; allowed: an Algorithm, as a call such as fedlab.algorithms.fed_avg() gives it."
        )


def completed(algorithm, fields):
    """An algorithm whose server needs the optimizer that the model was compiled with: whole once it is prepared for a model.

    Args:
      algorithm: without what needs the optimizer.
      fields: optimizer -> name -> what the algorithm lacks; the optimizer is a copy of the clients' for the server.
    """

    def prepare_for(model, schedule):
        return algorithm._replace(**fields(optimizers.of_model(model, schedule)))

    return algorithm._replace(prepare=prepare_for)


def wrap(algorithm, change):
    """`change(algorithm)`, an algorithm made of another; where that has yet to be prepared for a model, once more after it is."""
    _check(algorithm)
    changed = change(algorithm)
    if algorithm.prepare is None:
        return changed
    return changed._replace(
        prepare=lambda model, schedule: change(algorithm.prepare(model, schedule))
    )
