"""signSGD with majority vote: clients send a sign for each weight.

signSGD with Majority Vote is Communication Efficient and Fault Tolerant
Jeremy Bernstein et al. ICLR 2019. https://arxiv.org/abs/1810.05291

    each client k:  v_k = sign(the sum of its batches' gradients at w)
    w = w - learning_rate * sign(sum_k v_k)
"""

from fedlab import ops
from fedlab.algorithms import Algorithm, ClientResult


def sign_sgd(learning_rate):
    def server_init(weights):
        return ()

    def client_init(task, weights):
        return [ops.zeros_like(w) for w in weights]

    def client_step(task, weights, state, batch):
        return [s + g for s, g in zip(state, task.gradients(weights, batch))]

    def client_final(task, weights, state, counts):
        return ClientResult(delta=[ops.sign(s) for s in state], weight=ops.ones([]))

    def server_update(weights, state, update):
        return [w - learning_rate * ops.sign(d) for w, d in zip(weights, update.delta)], state

    settings = {"learning_rate": learning_rate}
    return Algorithm(
        "sign_sgd", settings, server_init, client_init, client_step, client_final, server_update
    )
