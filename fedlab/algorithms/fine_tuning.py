"""Fine-tuning: at evaluation, each client trains the global model on its local examples.

Federated Evaluation of On-device Personalization
Kangkang Wang, Rajiv Mathews, Chloe Kiddon, Hubert Eichner, Francoise Beaufays, Daniel Ramage.
2019. https://arxiv.org/abs/1910.10252

    training as in any algorithm
    at evaluation:  w_k = w;  for each batch b of the client's local examples:
        w_k = client_optimizer(w_k, gradient(w_k, b))
    w_k is evaluated on the client's test data
"""

from fedlab.algorithms.algorithm import Algorithm, Pass, wrap
from fedlab.algorithms.fed_avg import fed_avg


def fine_tuning(algorithm: Algorithm | None = None) -> Algorithm:
    """An algorithm whose clients fine-tune the model at evaluation (Wang et al. 2019, Section 2).

    Args:
      algorithm: the algorithm that trains the global model, by default `fed_avg()`.

    Returns:
      The same `Algorithm` with a personalization. Use it with a pair of training and test data in
      `evaluate_on` of `fedlab.simulate`, or with `fedlab.evaluate_personalized`. Clients read
      their local examples in batches and epochs as in a round.

    Example:
      >>> fine_tuning().name
      'fed_avg'
    """
    client = fed_avg()

    def personalized_weights(task, weights, state, counts):
        return state.weights

    personalize = Pass(client.client_init, client.client_step, personalized_weights)
    return wrap(
        fed_avg() if algorithm is None else algorithm,
        lambda base: base._replace(personalize=personalize),
    )
