"""Fine-tuning: at evaluation each client trains the global model on its own data.

Federated Evaluation of On-device Personalization
Kangkang Wang, Rajiv Mathews, Chloe Kiddon, Hubert Eichner, Francoise Beaufays, Daniel Ramage. 2019. https://arxiv.org/abs/1910.10252

    training as in any algorithm;  at evaluation:  w_k = w;  for each batch b of the client's own data:
        w_k = client_optimizer(w_k, gradient(w_k, b))
    and w_k is evaluated on the client's test data
"""

from fedlab.algorithms.algorithm import Pass, wrap
from fedlab.algorithms.fed_avg import fed_avg


def fine_tuning(algorithm=None):
    """An algorithm whose model is fine-tuned by each client at evaluation (Wang et al. 2019, Section 2).

    Args:
      algorithm: what trains the global model; by default `fed_avg()`.

    Returns:
      The same `Algorithm` with a personalization: use it with a pair of train and test data in `evaluate_on` of `fedlab.simulate`, or with
      `fedlab.evaluate_personalized`. Clients read their own data in batches and epochs as in a round.

    Example:
      >>> fine_tuning().name
      'fed_avg'
    """
    client = fed_avg()

    def own_weights(task, weights, state, counts):
        return state.weights

    personalize = Pass(client.client_init, client.client_step, own_weights)
    return wrap(
        fed_avg() if algorithm is None else algorithm,
        lambda base: base._replace(personalize=personalize),
    )
