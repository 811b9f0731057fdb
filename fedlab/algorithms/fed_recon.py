"""FedRecon: some layers stay on the client, which reconstructs their weights when it needs them.

Federated Reconstruction: Partially Local Federated Learning
Karan Singhal, Hakim Sidahmed, Zachary Garrett, Shanshan Wu, Keith Rush, Sushant Prakash.
NeurIPS 2021. https://arxiv.org/abs/2102.03448

    each client k:  local weights l_k = their initial values, global weights w_k = w
        for each batch b of the first part of its data:
            l_k = reconstruction_optimizer(l_k, gradient of l at (l_k, w_k), b)
        for each batch b of the rest:
            w_k = client_optimizer(w_k, gradient of w at (l_k, w_k), b)
    w = w - server_learning_rate * sum_k p_k (w - w_k) / sum_k p_k
    at evaluation:  l_k is reconstructed from all of the client's local examples
"""

from collections.abc import Sequence
from typing import NamedTuple

from fedlab import _checks, ops, optimizers
from fedlab.algorithms.algorithm import Algorithm, ClientResult, Pass, weights_delta
from fedlab.ops import Nest, Tensor, Weights
from fedlab.optimizers import Optimizer
from fedlab.optimizers.optimizer import Rate, zeros_like


class ClientState(NamedTuple):
    """Local and global weights, the states of their optimizers, and what was trained on so far."""

    local: Weights
    local_optimizer: Nest
    shared: Weights
    shared_optimizer: Nest
    step: Tensor
    num_examples: Tensor


def fed_recon(
    local_layers: Sequence[str],
    *,
    reconstruction_share: float = 0.5,
    reconstruction_optimizer: Optimizer | None = None,
    client_weighting: str = "num_examples",
    server_learning_rate: Rate = 1.0,
) -> Algorithm:
    """Federated reconstruction (Singhal et al. 2021, Algorithm 1).

    The server never changes the local layers: in the trained model they have their initial
    values, from which a client starts its reconstruction. Evaluate the model with
    `fedlab.evaluate_personalized`, or with a pair of data sets in `evaluate_on`.

    Args:
      local_layers: names of the layers whose weights are local.
      reconstruction_share: the share of a client's batches, rounded up, that reconstructs the
        local weights. The rest trains the global weights. With one local epoch the two parts are
        disjoint, as in the paper. With two epochs and 0.5, each part is all of the data.
      reconstruction_optimizer: an optimizer of `fedlab.optimizers`, by default `sgd(0.1)`.
      client_weighting: p_k: "num_examples", counted in the second part, or "uniform".
      server_learning_rate: at least 0, or a schedule over rounds.

    Returns:
      An `Algorithm`. It refuses models without these layers. Training metrics are those of the
      second part.

    Example:
      >>> fed_recon(["user"]).settings["reconstruction_share"]
      0.5
    """
    settings = {
        "local_layers": local_layers,
        "reconstruction_share": reconstruction_share,
        "reconstruction_optimizer": reconstruction_optimizer,
        "client_weighting": client_weighting,
        "server_learning_rate": server_learning_rate,
    }
    if isinstance(local_layers, str) or not local_layers:
        raise _checks.value_error(
            "local_layers", local_layers, "a list of one or more names of layers"
        )
    _checks.check_number("reconstruction_share", reconstruction_share, above=0, below=1)
    if client_weighting not in ("num_examples", "uniform"):
        raise _checks.value_error(
            "client_weighting", client_weighting, "'num_examples' or 'uniform' with fed_recon"
        )
    reconstruction = (
        optimizers.sgd(0.1)
        if reconstruction_optimizer is None
        else optimizers.check(reconstruction_optimizer)
    )
    server_optimizer = optimizers.sgd(server_learning_rate)

    def for_model(is_local):
        shared_positions = [i for i, local in enumerate(is_local) if not local]

        def split(weights):
            local = [w for w, here in zip(weights, is_local) if here]
            return local, [weights[i] for i in shared_positions]

        def join(local, shared):
            local, shared = iter(local), iter(shared)
            return [next(local) if here else next(shared) for here in is_local]

        def shared_optimizer(task):
            return optimizers.part(task.optimizer, shared_positions)

        def client_init(task, weights):
            local, shared = split(weights)
            return ClientState(
                local,
                reconstruction.init(local),
                shared,
                shared_optimizer(task).init(shared),
                ops.zeros([], "int32"),
                ops.zeros([]),
            )

        def reconstruct(task, weights, state, batch):
            current = join(state.local, state.shared)
            gradients, _ = split(task.gradients(current, batch, measure=False))
            local, optimizer = reconstruction.apply(
                state.local, state.local_optimizer, gradients, task.round_num
            )
            return state._replace(local=local, local_optimizer=optimizer, step=state.step + 1)

        def train(task, weights, state, batch):
            _, gradients = split(task.gradients(join(state.local, state.shared), batch))
            shared, optimizer = shared_optimizer(task).apply(
                state.shared, state.shared_optimizer, gradients
            )
            return state._replace(
                shared=shared,
                shared_optimizer=optimizer,
                step=state.step + 1,
                num_examples=state.num_examples + batch.num_examples,
            )

        def client_step(task, weights, state, batch):
            batches = reconstruction_share * ops.cast(task.counts.num_steps, "float64")
            # A share such as 0.07 is not exact in binary: 0.07 * 100 is a little more than 7.
            first_part = ops.cast(ops.ceil(batches - 1e-9), "int32")
            return ops.cond(
                state.step < first_part,
                lambda: reconstruct(task, weights, state, batch),
                lambda: train(task, weights, state, batch),
            )

        def client_final(task, weights, state, counts):
            local, shared = split(weights)
            delta = join(zeros_like(local), weights_delta(shared, state.shared))
            is_uniform = client_weighting == "uniform"
            weight = ops.ones_like(state.num_examples) if is_uniform else state.num_examples
            return ClientResult(delta, weight)

        def personalized_weights(task, weights, state, counts):
            return join(state.local, state.shared)

        return Algorithm(
            name="fed_recon",
            settings=settings,
            server_init=server_optimizer.init,
            client_init=client_init,
            client_step=client_step,
            client_final=client_final,
            server_update=server_update,
            personalize=Pass(client_init, reconstruct, personalized_weights),
            local_weights=frozenset(i for i, local in enumerate(is_local) if local),
        )

    def server_update(weights, state, update):
        return server_optimizer.apply(weights, state, update.delta, update.round_num)

    def prepare(model, schedule):
        layers = {layer.name: layer for layer in model.layers if layer.trainable_weights}
        unknown = [name for name in local_layers if name not in layers]
        if unknown or len(set(local_layers)) == len(layers):
            raise _checks.value_error(
                "local_layers",
                local_layers,
                f"some, but not all, of the model's layers {', '.join(layers)}",
            )
        local = {id(v) for name in local_layers for v in layers[name].trainable_weights}
        return for_model([id(v) in local for v in model.trainable_weights])

    return for_model([])._replace(prepare=prepare)
