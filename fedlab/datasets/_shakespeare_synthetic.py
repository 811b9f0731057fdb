"""Text made from one grammar, each client with its own word frequencies."""

import numpy as np

from fedlab import _checks
from fedlab.clients import seeding
from fedlab.clients.client_data import ClientData
from fedlab.datasets import _shakespeare_roles as roles_lib

_NOUNS = ("king", "queen", "fool", "ghost", "sword", "crown", "raven", "rose", "storm", "friar")
_ADJECTIVES = ("gentle", "bloody", "noble", "weary", "golden", "silent", "merry", "ancient")
_GRAMMAR = (
    ("The", "My", "Thy", "That", "Some"),
    _ADJECTIVES,
    _NOUNS,
    ("loves", "fears", "hath slain", "shall follow", "doth mock", "remembers"),
    ("the",),
    _ADJECTIVES,
    tuple(f"{noun}{ending}" for noun in _NOUNS for ending in ".!?"),
)


def load(
    num_clients: int = 10, seed: int = 0, num_sentences: int = 40
) -> tuple[ClientData, ClientData]:
    """Returns the train and test text; see `fedlab.datasets.shakespeare.synthetic`."""
    seeding.check_seed(seed)
    _checks.check_int("num_clients", num_clients)
    _checks.check_int("num_sentences", num_sentences, 2)
    roles = {}
    for client in range(num_clients):
        rng = np.random.default_rng([seed, client])
        words = [
            rng.choice(part, num_sentences, p=rng.dirichlet(np.full(len(part), 0.3)))
            for part in _GRAMMAR
        ]
        roles[f"ROLE_{client}"] = roles_lib.split_lines(
            [[" ".join(sentence)] for sentence in zip(*words, strict=True)]
        )
    return roles_lib.train_test(roles)
