"""What a federated algorithm is: a tuple of functions that the engines run.

    server_state = server_init(weights)
    each round:
        each client of the cohort, in TensorFlow graphs:
            state = client_init(task, weights)
            for batch in the client's batches:
                state = client_step(task, weights, state, batch)
            result = client_final(task, weights, state, counts)
        delta = the aggregator's mean of the results
        weights, server_state = server_update(weights, server_state, delta)

`weights` is the list of the model's trainable weights, float32 tensors of the model's shapes; states are any nest of tensors. The
functions are pure. `task` is what the client knows of its own: `task.gradients(weights, batch)`, and `task.optimizer`, the optimizer the
model was compiled with, as `fedlab.algorithms.optimizers.Optimizer`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple


class Counts(NamedTuple):
    """What a client trained on in one round, float32 scalars. An example that is read in two passes counts twice, as in TFF.

    Attributes:
      num_examples: examples with at least one position that is not padding.
      num_tokens: positions with a sample weight above zero; equal to `num_examples` where there are no sample weights.
      num_steps: batches.
    """

    num_examples: Any
    num_tokens: Any
    num_steps: Any


class ClientResult(NamedTuple):
    """What a client sends.

    Attributes:
      delta: global weights minus trained weights, a list of tensors of the model's shapes: the server treats it as a gradient.
      weight: float32 scalar, 0 or more: how much the client counts.
      extras: a nest of tensors that must be neither clipped nor noised.
      state: a nest of tensors that the client keeps for its next round.
    """

    delta: Any
    weight: Any
    extras: Any = ()
    state: Any = ()


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
