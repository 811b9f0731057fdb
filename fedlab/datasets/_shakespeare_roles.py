"""Speaking roles: their lines are divided into train and test text."""

from collections.abc import Iterable, Sequence

import numpy as np

from fedlab.clients.client_data import ClientData

Role = tuple[list[bytes], list[bytes]]  # train snippets, test snippets


def split_lines(speeches: Sequence[Sequence[str]]) -> Role:
    """Returns the first 80 % of the lines and the rest (at least one), one snippet per speech."""
    num_train = sum(map(len, speeches)) * 4 // 5
    train, test = [], []
    for lines in speeches:
        train.append(lines[: max(num_train, 0)])
        test.append(lines[max(num_train, 0) :])
        num_train -= len(lines)
    return _join(train), _join(test)


def train_test(roles: dict[str, Role]) -> tuple[ClientData, ClientData]:
    """Returns the clients' train and test text, each with one column, snippets."""
    return (
        ClientData(roles, lambda client_id: _columns(roles[client_id][0])),
        ClientData(roles, lambda client_id: _columns(roles[client_id][1])),
    )


def _join(speeches: Iterable[Sequence[str]]) -> list[bytes]:
    return ["".join(f"{line}\n" for line in lines).encode("ascii") for lines in speeches if lines]


def _columns(snippets: Sequence[bytes]) -> dict[str, np.ndarray]:
    column = np.empty([len(snippets)], object)
    column[:] = snippets
    return {"snippets": column}
