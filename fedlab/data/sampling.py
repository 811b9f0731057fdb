"""Cohort samplers: which clients take part in a round.

A sampler is a function `(client_ids, round_num, seed) -> cohort` without a state: a list of distinct client ids, the same whenever it is
asked.
"""

from fedlab.data import seeding


def uniform(clients_per_round):
    """Every round draws `clients_per_round` distinct clients, each as likely as any other (McMahan et al. 2017, Algorithm 1).

    Raises:
      ValueError: where the number is not between 1 and the number of clients.
    """

    def sample(client_ids, round_num, seed):
        if not 1 <= clients_per_round <= len(client_ids):
            raise ValueError(f"clients_per_round is {clients_per_round}; allowed: 1 to {len(client_ids)}, the number of clients.")
        chosen = seeding.generator(seed, "cohort", round_num).choice(len(client_ids), clients_per_round, replace=False)
        return [client_ids[i] for i in chosen]

    return sample


def fixed(cohort):
    """The same clients in every round, in the order given.

    Raises:
      ValueError: where the list is empty, names a client twice, or names one that does not exist.
    """
    cohort = list(cohort)
    if not cohort or len(set(cohort)) < len(cohort):
        raise ValueError(f"the fixed cohort is {cohort}; allowed: a list of one or more distinct client ids.")

    def sample(client_ids, round_num, seed):
        unknown = [client_id for client_id in cohort if client_id not in client_ids]
        if unknown:
            raise ValueError(f"unknown clients {unknown[:3]} in the fixed cohort; `client_ids` of the data lists the known ones.")
        return cohort

    return sample
