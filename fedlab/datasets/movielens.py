"""MovieLens: ratings of movies; each user is a client.

Features after `load`:

  x: [N] int32, the movie: its place among the rated movies in the order of their ids
  y: [N] float32, the rating, 1 to 5

Published counts:

  version "100k": 943 users, 1,682 movies, 100,000 ratings; every user has 20 or more
  version "1m": 6,040 users, 3,706 rated movies, 1,000,209 ratings; likewise

Sources:

  auto: ml-100k.zip or u.data (for "1m", ml-1m.zip or ratings.dat) in `path`. Without a
    path, "100k" is taken from the Python package recbole, if it is installed; else the
    .zip is downloaded from GroupLens, whose terms forbid redistribution.
  synthetic: `synthetic()` with its defaults.

Harper & Konstan 2015, "The MovieLens Datasets: History and Context". Singhal et al. 2021,
"Federated Reconstruction: Partially Local Federated Learning", section 5: users are
divided into 80 % for training, 10 % for validation and 10 % for testing, and a user has
at most 300 ratings. The model is `fedlab.models.matrix_factorization`; its layer "user"
is the client's:

  train, test = load(version="1m", max_ratings=300)
  train, validation = train.split_clients(1 / 9, seed=0)
  fedlab.simulate(fedlab.models.matrix_factorization(), train,
      fedlab.algorithms.fed_recon(["user"]), rounds=500, clients_per_round=100, batch_size=5)
"""

import io
import logging
import os
import pathlib
from typing import Any, NamedTuple

import numpy as np

from fedlab import _checks
from fedlab.clients import seeding
from fedlab.clients.client_data import ClientData
from fedlab.datasets import _archives, _installed, _locate
from fedlab.datasets._locate import File

logger = logging.getLogger(__name__)

SOURCES = ("auto", "synthetic")
SPLITS = ("users", "time")
# The checksums that tensorflow-datasets has.
FILES = {
    "100k": File(
        "ml-100k.zip",
        "https://files.grouplens.org/datasets/movielens/ml-100k.zip",
        "sha256:50d2a982c66986937beb9ffb3aa76efe955bf3d5c6b761f4e3a7cd717c6a3229",
    ),
    "1m": File(
        "ml-1m.zip",
        "https://files.grouplens.org/datasets/movielens/ml-1m.zip",
        "sha256:a6898adb50b9ca05aa231689da44c217cb524e7ebd39d264c56e2832f2c54e20",
    ),
}
NUM_USERS = {"100k": 943, "1m": 6040}
NUM_ITEMS = {"100k": 1682, "1m": 3706}
NUM_RATINGS = {"100k": 100_000, "1m": 1_000_209}
_NAMES = {"100k": ("u.data", "ml-100k.inter"), "1m": ("ratings.dat", "ml-1m.inter")}


class Ratings(NamedTuple):
    """The ratings of all users, [n] each.

    Attributes:
      user, item: int64, the ids in the file.
      rating: float64.
      time: int64, seconds since 1970.
    """

    user: np.ndarray
    item: np.ndarray
    rating: np.ndarray
    time: np.ndarray


def load(
    source: str = "auto",
    *,
    path: str | os.PathLike | None = None,
    version: str = "100k",
    cache_dir: str | os.PathLike | None = None,
    split: str = "users",
    max_ratings: int | None = None,
    seed: int = 0,
) -> tuple[ClientData, ClientData]:
    """Loads the ratings of each user, in the order of time.

    Args:
      source: "auto" or "synthetic"; see the module.
      path: the folder with the source's files.
      version: "100k" or "1m".
      cache_dir: the folder for downloads; by default $FEDLAB_CACHE, else
        $XDG_CACHE_HOME/fedlab, else ~/.cache/fedlab.
      split: "users": a tenth of the users, at random, are for testing; "time": the last
        fifth of each user's ratings, at least one, is for testing.
      max_ratings: a user with more keeps so many random ones; None for no limit. 2 or
        more.
      seed: determines the users for testing, and the ratings that are kept.

    Returns:
      (train, test). Client ids are the users' ids.

    Raises:
      ValueError: a setting is out of range, or a file is damaged or incomplete.
      FileNotFoundError, ConnectionError: a file is not available; the message says what
        to do.

    Example:
      >>> train, test = load()  # doctest: +SKIP
      >>> len(train), len(test)  # doctest: +SKIP
      (849, 94)
    """
    _locate.check_source(source, SOURCES, path)
    _check(version=version, split=split)
    if max_ratings is not None:
        _checks.check_int("max_ratings", max_ratings, 2, what="or None for no limit")
    if source == "synthetic":
        return synthetic(split=split)
    ratings = load_ratings(path=path, version=version, cache_dir=cache_dir)
    return _divided(_clients(ratings, max_ratings, seed), split, seed)


def load_ratings(
    *,
    path: str | os.PathLike | None = None,
    version: str = "100k",
    cache_dir: str | os.PathLike | None = None,
) -> Ratings:
    """Loads the ratings of all users, in the order of the file.

    Args, Raises: as in `load`.
    """
    _check(version=version)
    name = _NAMES[version][0]
    if path is None:
        installed = _installed.file("recbole", "dataset_example/ml-100k/ml-100k.inter")
        if version == "100k" and installed is not None:
            return _parse(installed, installed.read_bytes(), version)
        file = _locate.find(FILES[version], "movielens", cache_dir=cache_dir)
    else:
        names = (*_NAMES[version], FILES[version].name)
        file = _locate.given(path, names, f"MovieLens {version}")
    if file.suffix == ".zip":
        data = _archives.members(file, [f"ml-{version}/{name}"])[f"ml-{version}/{name}"]
    else:
        data = _archives.read(file)
    return _parse(file, data, version)


def synthetic(
    num_clients: int = 10,
    seed: int = 0,
    *,
    num_items: int = 60,
    num_ratings: int = 30,
    split: str = "users",
) -> tuple[ClientData, ClientData]:
    """Generates a small data set of the same form, without reading any file.

    ```
    u_k, v_i ~ N(0, 1)^2,  rating = round(3 + u_k . v_i + N(0, 0.3^2)), within 1 and 5
    ```

    Args:
      num_clients: users to train on, 1 or more. With split="users", a quarter as many
        others, at least one, are for testing.
      seed: user k is a pure function of (seed, k), and the movies are of seed.
      num_items: number of movies; movies are rated with equal probability.
      num_ratings: ratings per user, 2 to num_items.
      split: as in `load`.

    Returns:
      (train, test).

    Example:
      >>> train, test = synthetic(num_clients=4)
      >>> train["user_3"]["x"].shape, test.client_ids
      ((30,), ('user_4',))
    """
    _check(split=split)
    _checks.check_int("num_clients", num_clients)
    _checks.check_int("num_items", num_items, 2)
    _checks.check_int("num_ratings", num_ratings, 2, num_items, "the number of movies")
    items = seeding.generator(seed, "movielens movies").normal(size=[num_items, 2])

    def user(k: int) -> dict[str, np.ndarray]:
        rng = seeding.generator(seed, "movielens user", k)
        factors = rng.normal(size=2)
        x = rng.choice(num_items, num_ratings, replace=False)
        ratings = 3 + items[x] @ factors + rng.normal(0, 0.3, num_ratings)
        y = np.clip(np.round(ratings), 1, 5)
        return {"x": x.astype(np.int32), "y": y.astype(np.float32)}

    if split == "time":
        clients = ClientData.from_dict({f"user_{k}": user(k) for k in range(num_clients)})
        return _by_time(clients)
    numbers = range(num_clients), range(num_clients, num_clients + max(1, num_clients // 4))
    train, test = (ClientData.from_dict({f"user_{k}": user(k) for k in part}) for part in numbers)
    return train, test


def _check(**settings: str) -> None:
    for name, value in settings.items():
        allowed = tuple(FILES) if name == "version" else SPLITS
        if value not in allowed:
            raise _checks.value_error(name, value, f"one of {', '.join(allowed)}")


def _parse(file: pathlib.Path, data: bytes, version: str) -> Ratings:
    """Reads lines of user, item, rating, time: separated by "::" or a tab."""
    header = int(data[:1].isalpha())  # of recbole's files
    text = data.partition(b"\n")[2] if header else data
    text = text.replace(b"::", b"\t")
    with _archives.readable(file, "lines of user, item, rating and time"):
        if not text.strip():
            raise ValueError("it has no ratings")
        table = np.loadtxt(io.BytesIO(text), np.float64, delimiter="\t", comments=None, ndmin=2)
        if table.shape[1] != 4:
            raise ValueError(f"it has a table {list(table.shape)}")
    user, item, rating, time = table.T
    if (rating < 1).any() or (rating > 5).any():
        row = int(np.argmax((rating < 1) | (rating > 5)))
        raise ValueError(
            f"{str(file)!r}, line {row + 1 + header}: rating {rating[row]:g}: expected 1 to 5"
        )
    ratings = Ratings(user.astype(np.int64), item.astype(np.int64), rating, time.astype(np.int64))
    found = len(np.unique(ratings.user)), len(np.unique(ratings.item)), len(table)
    published = NUM_USERS[version], NUM_ITEMS[version], NUM_RATINGS[version]
    if found != published:
        logger.warning(
            "MovieLens %s: %s has %d users, %d movies and %d ratings; %d, %d and %d were published",
            *(version, file, *found, *published),
        )
    return ratings


def _clients(ratings: Ratings, max_ratings: int | None, seed: int) -> ClientData:
    items = np.unique(ratings.item, return_inverse=True)[1]
    order = np.lexsort((ratings.item, ratings.time, ratings.user))
    users, starts = np.unique(ratings.user[order], return_index=True)
    clients: dict[str, Any] = {}
    for user, rows in zip(users, np.split(order, starts[1:])):
        if max_ratings is not None and len(rows) > max_ratings:
            rng = seeding.generator(seed, "movielens max_ratings", user)
            rows = rows[np.sort(rng.choice(len(rows), max_ratings, replace=False))]
        x, y = items[rows].astype(np.int32), ratings.rating[rows].astype(np.float32)
        clients[str(user)] = {"x": x, "y": y}
    return ClientData.from_dict(clients)


def _divided(clients: ClientData, split: str, seed: int) -> tuple[ClientData, ClientData]:
    return clients.split_clients(0.1, seed) if split == "users" else _by_time(clients)


def _by_time(clients: ClientData) -> tuple[ClientData, ClientData]:
    parts: tuple[dict, dict] = {}, {}
    for client_id in clients:
        columns = clients[client_id]
        num_train = len(columns["y"]) * 4 // 5
        for part, rows in zip(parts, (slice(num_train), slice(num_train, None))):
            part[client_id] = {name: column[rows] for name, column in columns.items()}
    train, test = map(ClientData.from_dict, parts)
    return train, test
