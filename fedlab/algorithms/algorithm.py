"""What a federated algorithm is: a tuple of functions that the engines call.

    server_state = server_init(weights)
    each round:
        each client of the cohort:
            state = client_init(task, weights)
            for batch in the client's batches:
                state = client_step(task, weights, state, batch)
            result = client_final(task, weights, state, counts)
        update = the aggregate of the results' deltas, and the sum of their extras
        weights, server_state = server_update(weights, server_state, update)

`weights` is the list of the model's trainable weights, as tensors. States are nests of tensors.
The functions are pure and use `fedlab.ops`; those of clients are compiled into graphs. These
functions are enough for most methods. The other fields of `Algorithm` are for methods that need
more:

- `broadcast(server_state)`: what the server sends in addition to the weights, such as SCAFFOLD's
  control variate. Clients read it from `task.broadcast`.
- `client_state(weights)`: the initial state of a client that keeps a state between rounds. The
  client reads it from `task.client_state` and returns the next one in its result.
- `extras(weights)`: zeros like the extras of a result, if clients send more than a delta.
- `survey`: a pass over the same clients and batches before the round, whose sum is sent to all
  clients, such as Mime's full gradient. Clients read it from `task.survey`.
- `weigh(client)`: a number per client that depends on its `fedlab.clients.ClientStats`, such as
  its last loss. It is computed in Python before the round. Clients read it from
  `counts.client_weight`.
- `local_weights`: the positions of weights that never leave the clients, such as those of
  FedRecon's local layers. They are neither sent nor aggregated: their part of the delta is zero.
- `personalize`: a pass that computes the personalized weights of a client at evaluation.
- `prepare(model, schedule)`: the algorithm for one compiled model, if it depends on the model's
  optimizer or layers. `schedule` is the schedule of the clients' learning rate, or None.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

from fedlab import _checks, ops, optimizers
from fedlab.clients.client_stats import ClientStats
from fedlab.ops import Nest, Tensor, Weights
from fedlab.optimizers import Optimizer
from fedlab.optimizers.schedules import Schedule


class Counts(NamedTuple):
    """What a client trains on in one round, float32 scalars.

    An example that is read in two epochs counts twice, as in TFF.

    Attributes:
      num_examples: examples with at least one position that is not padding.
      num_tokens: positions with a sample weight above 0; `num_examples` without sample weights.
      num_steps: batches.
      client_weight: the value of `Algorithm.weigh` for the client, 1 without it.
    """

    num_examples: Tensor
    num_tokens: Tensor
    num_steps: Tensor
    client_weight: Tensor | float = 1.0


class Batch(Protocol):
    """One batch, in the form that the model takes.

    `num_examples` is a float32 scalar, the number of rows that are not padding.
    """

    x: Nest
    y: Nest
    sample_weight: Nest
    num_examples: Tensor


class Gradients(Protocol):
    """The gradients of the compiled loss on a batch; see `Task`."""

    def __call__(
        self,
        weights: Weights,
        batch: Batch,
        *,
        measure: bool = True,
        update_statistics: bool = True,
    ) -> Weights: ...


class ClientInfo(Protocol):
    """The client of a task; see `Task`."""

    id: Tensor
    seed: Tensor
    lasting_seed: Tensor


class Task(NamedTuple):
    """What a client knows in one round.

    Attributes:
      gradients: (weights, batch) -> dense gradients of the compiled loss at `weights`. For a
        second pass over a batch, `measure=False` excludes the batch from the training metrics and
        `update_statistics=False` from statistics such as those of BatchNormalization.
      optimizer: the optimizer that the model was compiled with.
      counts: the client's `Counts`.
      round_num: int64 scalar, from 1.
      client: its `id`, a string scalar, and two int64 [2] seeds for random operations: `seed`
        depends on (seed, round, client), `lasting_seed` on (seed, client).
      broadcast: the value of `Algorithm.broadcast`.
      client_state: the state from the client's last round.
      survey: the sum of `Algorithm.survey` over the cohort, `()` without a survey.
    """

    gradients: Gradients
    optimizer: Optimizer
    counts: Counts
    round_num: Tensor
    client: ClientInfo | None = None
    broadcast: Nest = ()
    client_state: Nest = ()
    survey: Nest = ()


class ClientResult(NamedTuple):
    """What a client sends to the server, and the state that it keeps.

    Attributes:
      delta: initial minus trained weights, which the server treats as a gradient.
      weight: the client weight, a float32 scalar of at least 0.
      extras: a nest of tensors that are summed over the clients. They are neither weighted nor
        clipped nor noised.
      state: the client state for its next round, a nest of tensors.
    """

    delta: Weights
    weight: Tensor
    extras: Nest = ()
    state: Nest = ()


class Update(NamedTuple):
    """The combined results of a round, without clients whose result is not finite.

    Attributes:
      delta: the aggregate of the deltas.
      extras: the sum of the extras.
      survey: the sum of the survey, `()` without a survey.
      num_clients: how many clients contributed, a float32 scalar.
      total_clients: how many clients the run has, a float32 scalar.
      round_num: int64 scalar, from 1.
    """

    delta: Weights
    extras: Nest
    survey: Nest
    num_clients: Tensor
    total_clients: Tensor
    round_num: Tensor


class Pass(NamedTuple):
    """A pass over a client's batches, with the functions of an algorithm.

    Attributes:
      init: (task, weights) -> state.
      step: (task, weights, state, batch) -> state.
      final: (task, weights, state, counts) -> result. The result of a survey is a nest of tensors
        that is summed over the clients; that of a personalization is the client's weights.
      zero: weights -> zeros like the result of a survey.
    """

    init: Callable[[Task, Weights], Nest]
    step: Callable[[Task, Weights, Nest, Batch], Nest]
    final: Callable[[Task, Weights, Nest, Counts], Nest]
    zero: Callable[[Weights], Nest] | None = None


class StructureError(ValueError):
    """A nest of tensors has an unexpected structure, shape or dtype."""

    # Otherwise AutoGraph adds the traceback of its converted code to the message.
    ag_pass_through = True


def nothing(_: Any) -> Nest:
    """The value of a field that a method does not use."""
    return ()


class Algorithm(NamedTuple):
    """A federated algorithm. The text of this module explains the functions.

    Attributes:
      name: the name of the function that makes it.
      settings: the arguments of that function. They are written to run folders, and engines with
        their own implementation read them.
    """

    name: str
    settings: dict[str, Any]
    server_init: Callable[[Weights], Nest]
    client_init: Callable[[Task, Weights], Nest]
    client_step: Callable[[Task, Weights, Nest, Batch], Nest]
    client_final: Callable[[Task, Weights, Nest, Counts], ClientResult]
    server_update: Callable[[Weights, Nest, Update], tuple[Weights, Nest]]
    broadcast: Callable[[Nest], Nest] = nothing
    client_state: Callable[[Weights], Nest] = nothing
    extras: Callable[[Weights], Nest] = nothing
    survey: Pass | None = None
    personalize: Pass | None = None
    prepare: Callable[[Any, Schedule | None], "Algorithm"] | None = None
    weigh: Callable[[ClientStats], float] | None = None
    local_weights: frozenset[int] = frozenset()


def sent(algorithm: Algorithm, weights: Sequence[Any]) -> list[Any]:
    """Returns those of a list like the weights that travel between server and clients."""
    return [w for i, w in enumerate(weights) if i not in algorithm.local_weights]


def with_local(algorithm: Algorithm, delta: Sequence[Tensor], weights: Weights) -> list[Tensor]:
    """Returns the delta of all weights: that of those that are sent, and zeros for the others."""
    deltas = iter(delta)
    return [
        ops.zeros_like(w) if i in algorithm.local_weights else next(deltas)
        for i, w in enumerate(weights)
    ]


def prepare(algorithm: Algorithm, model: Any, schedule: Schedule | None = None) -> Algorithm:
    """The algorithm for one model.

    Args:
      algorithm: an `Algorithm`.
      model: a compiled Keras model.
      schedule: the schedule of the clients' learning rate over rounds, or None.

    Raises:
      TypeError: `algorithm` is not an `Algorithm`.
      ValueError: the algorithm cannot train this model; the message says why.
    """
    _check(algorithm)
    return algorithm.prepare(model, schedule) if algorithm.prepare else algorithm


def _check(algorithm: Any) -> None:
    if not isinstance(algorithm, Algorithm):
        raise _checks.type_error(
            "algorithm", algorithm, "an Algorithm, such as fedlab.algorithms.fed_avg()"
        )


def unprepared(*_: Any) -> Any:
    """The place of a function that `prepare` provides."""
    raise TypeError("algorithm: expected one that is prepared for a model")


def completed(
    algorithm: Algorithm, fields: Callable[[Optimizer], dict[str, Callable]]
) -> Algorithm:
    """An algorithm whose server uses the optimizer that the model was compiled with.

    Args:
      algorithm: an algorithm with `unprepared` in place of the functions that need the optimizer.
      fields: optimizer -> these functions by name. The server's optimizer is a copy of the
        clients'.
    """

    def prepare_for(model, schedule):
        return algorithm._replace(**fields(optimizers.of_model(model, schedule)))

    return algorithm._replace(prepare=prepare_for)


def wrap(algorithm: Algorithm, change: Callable[[Algorithm], Algorithm]) -> Algorithm:
    """Returns `change(algorithm)`, also after the algorithm is prepared for a model."""
    _check(algorithm)
    changed, prepare_base = change(algorithm), algorithm.prepare
    if prepare_base is None:
        return changed
    return changed._replace(prepare=lambda model, schedule: change(prepare_base(model, schedule)))


def weights_delta(weights: Weights, trained: Weights) -> Weights:
    """Initial minus trained weights, the delta that a client sends."""
    return [before - after for before, after in zip(weights, trained)]
