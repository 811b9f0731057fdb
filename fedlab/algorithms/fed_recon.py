"""FedRecon: some layers never leave the client, which rebuilds them from its data each time it needs them.

Federated Reconstruction: Partially Local Federated Learning
Karan Singhal, Hakim Sidahmed, Zachary Garrett, Shanshan Wu, Keith Rush, Sushant Prakash. NeurIPS 2021. https://arxiv.org/abs/2102.03448

    each client k:  local weights l_k = their initial values, global weights w_k = w
        for each batch b of the first part of its data:  l_k = reconstruction_optimizer(l_k, gradient of l at (l_k, w_k), b)
        for each batch b of the rest:                    w_k = client_optimizer(w_k, gradient of w at (l_k, w_k), b)
    w = w - server_learning_rate * sum_k p_k (w - w_k) / sum_k p_k
    at evaluation:  l_k is rebuilt from all of the client's own data
"""

from typing import Any, NamedTuple

import tensorflow as tf

from fedlab import _checks
from fedlab.algorithms.algorithm import Algorithm, ClientResult, Pass
from fedlab.optimizers import optimizers


class ClientState(NamedTuple):
    local: Any
    local_optimizer: Any
    shared: Any
    shared_optimizer: Any
    step: Any
    num_examples: Any


def fed_recon(
    local_layers,
    *,
    reconstruction_share=0.5,
    reconstruction_optimizer=None,
    client_weighting="num_examples",
    server_learning_rate=1.0,
):
    """Federated reconstruction (Singhal et al. 2021, Algorithm 1).

    The server never changes the local layers: in the model that comes out they have the initial values, from which a client starts to
    rebuild them. So the model is worth something only after `fedlab.evaluate_personalized`, or with a pair in `evaluate_on`.

    Args:
      local_layers: names of the layers whose weights are local.
      reconstruction_share: the first such share of a client's batches, rounded up, rebuilds the local weights; the rest trains the others.
        With one local epoch the two parts are disjoint, as in the paper; with two epochs and .5 both are all of the data.
      reconstruction_optimizer: one of `fedlab.optimizers.optimizers`; SGD with rate .1 by default.
      client_weighting: p_k: "num_examples", those of the second part, or "uniform".
      server_learning_rate: 0 or more, or a schedule over rounds.

    Returns:
      An `Algorithm`. It refuses models without these layers. Training metrics are those of the second part.

    Example:
      >>> fed_recon(["user"]).settings["reconstruction_share"]
      0.5
    """
    settings = dict(locals())
    if isinstance(local_layers, str) or not local_layers:
        raise ValueError(
            f"local_layers is {local_layers!r}; allowed: a list of one or more names of layers."
        )
    if not _checks.is_number(reconstruction_share) or not 0 < reconstruction_share < 1:
        raise ValueError(
            f"reconstruction_share is {reconstruction_share!r}; allowed: above 0, below 1."
        )
    if client_weighting not in ("num_examples", "uniform"):
        raise ValueError(
            f"client_weighting is {client_weighting!r}; allowed with fed_recon: 'num_examples', 'uniform'."
        )
    rebuild = (
        optimizers.sgd(0.1)
        if reconstruction_optimizer is None
        else optimizers.check(reconstruction_optimizer)
    )
    server_optimizer = optimizers.sgd(server_learning_rate)

    def for_model(is_local):
        shared_positions = [i for i, local in enumerate(is_local) if not local]

        def split(weights):
            return [w for w, local in zip(weights, is_local) if local], [
                w for w, local in zip(weights, is_local) if not local
            ]

        def join(local, shared):
            local, shared = iter(local), iter(shared)
            return [next(local) if here else next(shared) for here in is_local]

        def client_init(task, weights):
            local, shared = split(weights)
            own_optimizer = optimizers.part(task.optimizer, shared_positions)
            return ClientState(
                local,
                rebuild.init(local),
                shared,
                own_optimizer.init(shared),
                tf.constant(0),
                tf.zeros([]),
            )

        def rebuild_step(task, weights, state, batch):
            gradients, _ = split(
                task.gradients(join(state.local, state.shared), batch, measure=False)
            )
            local, optimizer = rebuild.apply(
                state.local, state.local_optimizer, gradients, task.round_num
            )
            return state._replace(local=local, local_optimizer=optimizer, step=state.step + 1)

        def train_step(task, weights, state, batch):
            _, gradients = split(task.gradients(join(state.local, state.shared), batch))
            own_optimizer = optimizers.part(task.optimizer, shared_positions)
            shared, optimizer = own_optimizer.apply(state.shared, state.shared_optimizer, gradients)
            num_examples = state.num_examples + batch.num_examples
            return state._replace(
                shared=shared,
                shared_optimizer=optimizer,
                step=state.step + 1,
                num_examples=num_examples,
            )

        def client_step(task, weights, state, batch):
            # A share such as 0.07 is not exact in binary: 0.07 * 100 is a little more than 7.
            batches = reconstruction_share * tf.cast(task.counts.num_steps, tf.float64)
            first_part = tf.cast(tf.math.ceil(batches - 1e-9), tf.int32)
            steps = [
                lambda step=step: step(task, weights, state, batch)
                for step in (rebuild_step, train_step)
            ]
            return tf.cond(state.step < first_part, *steps)

        def client_final(task, weights, state, counts):
            local, shared = split(weights)
            delta = join(
                [tf.zeros_like(w) for w in local],
                [before - after for before, after in zip(shared, state.shared)],
            )
            weight = (
                tf.ones_like(state.num_examples)
                if client_weighting == "uniform"
                else state.num_examples
            )
            return ClientResult(delta, weight)

        def own_weights(task, weights, state, counts):
            return join(state.local, state.shared)

        return Algorithm(
            name="fed_recon",
            settings=settings,
            server_init=server_optimizer.init,
            client_init=client_init,
            client_step=client_step,
            client_final=client_final,
            server_update=server_update,
            personalize=Pass(client_init, rebuild_step, own_weights),
        )

    def server_update(weights, state, update):
        return server_optimizer.apply(weights, state, update.delta, update.round_num)

    def prepare(model, schedule):
        layers = {layer.name: layer for layer in model.layers if layer.trainable_weights}
        unknown = [name for name in local_layers if name not in layers]
        if unknown or len(set(local_layers)) == len(layers):
            raise ValueError(
                f"local_layers is {local_layers!r}; allowed: some, but not all, of the model's layers {', '.join(layers)}."
            )
        local = {id(v) for name in local_layers for v in layers[name].trainable_weights}
        return for_model([id(v) in local for v in model.trainable_weights])

    return for_model([])._replace(prepare=prepare)
