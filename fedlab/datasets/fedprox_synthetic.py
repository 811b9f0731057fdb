"""The FedProx paper's synthetic(alpha, beta): clients with different models and inputs.

Features after `load`:

  x: [N, 60] float32
  y: [N] int32, the class, 0 to 9

Each client k has its own model W_k, b_k and its own distribution of inputs:

  u_k ~ N(0, alpha^2)   W_k ~ N(u_k, 1), [60, 10]   b_k ~ N(u_k, 1), [10]
  B_k ~ N(0, beta^2)    v_k ~ N(B_k, 1), [60]
  n_k = floor(lognormal(4, 2)) + 50 examples
  x ~ N(v_k, diag(j^-1.2))   y = argmax(W_k'x + b_k)

In the IID set, all clients share one W and b ~ N(0, 1), and v_k = 0. The first nine tenths of
a client's examples are for training.

Sources:

  auto: generated, all clients from one sequence of random numbers. No file is read.
  synthetic: `synthetic()` with its defaults: the same process, whose clients are
    functions of (seed, number of the client).

Li et al. 2018, "Federated Optimization in Heterogeneous Networks", section 5.1 and appendix
C.1: 30 clients, (alpha, beta) = (0, 0), (0.5, 0.5), (1, 1) and IID. The standard deviations
are those of the paper's code. The model is `fedlab.models.logistic_regression` (610
parameters).
"""

import os

import numpy as np

from fedlab import _checks
from fedlab.clients import seeding
from fedlab.clients.client_data import ClientData
from fedlab.datasets import _locate

SOURCES = ("auto", "synthetic")
NUM_CLIENTS, DIM, NUM_CLASSES = 30, 60, 10
_DEVIATIONS = np.arange(1, DIM + 1) ** -0.6


def load(
    source: str = "auto",
    *,
    path: str | os.PathLike | None = None,
    alpha: float | None = 1.0,
    beta: float | None = 1.0,
    num_clients: int = NUM_CLIENTS,
    seed: int = 0,
) -> tuple[ClientData, ClientData]:
    """Generates synthetic(alpha, beta).

    Args:
      source: "auto" or "synthetic"; see the module.
      path: None, since no file is read.
      alpha: how much the clients' models differ, 0 or more; None for the IID set.
      beta: how much the clients' inputs differ, 0 or more; not used for the IID set.
      num_clients: 1 or more.
      seed: determines everything random.

    Returns:
      (train, test), with the same clients "device_00" and so on.

    Raises:
      ValueError: a setting is out of range.

    Example:
      >>> train, test = load(alpha=0.5, beta=0.5)
      >>> len(train), train["device_00"]["x"].shape[1]
      (30, 60)
    """
    _locate.check_source(source, SOURCES, None)
    if path is not None:
        raise ValueError(f"path={str(path)!r}: expected None, since fedprox_synthetic is generated")
    if source == "synthetic":
        return synthetic(alpha=alpha, beta=beta)
    _check(num_clients, alpha, beta)
    rng = np.random.default_rng(seeding.check_seed(seed))
    sizes = rng.lognormal(4, 2, num_clients).astype(int) + 50
    common = _common(rng)
    return _split({k: _client(rng, int(n), alpha, beta, common) for k, n in enumerate(sizes)})


def synthetic(
    num_clients: int = 10,
    seed: int = 0,
    *,
    alpha: float | None = 1.0,
    beta: float | None = 1.0,
) -> tuple[ClientData, ClientData]:
    """Generates clients by the same process, each a function of the seed and its number.

    Args:
      num_clients: 1 or more.
      seed: client i is a pure function of (seed, i).
      alpha, beta: as in `load`.

    Returns:
      (train, test).

    Example:
      >>> train, test = synthetic(num_clients=3)
      >>> train.client_ids
      ('device_00', 'device_01', 'device_02')
    """
    _check(num_clients, alpha, beta)
    common = _common(seeding.generator(seed, "fedprox_synthetic common"))
    made = {}
    for k in range(num_clients):
        rng = seeding.generator(seed, "fedprox_synthetic client", k)
        made[k] = _client(rng, int(rng.lognormal(4, 2)) + 50, alpha, beta, common)
    return _split(made)


def _check(num_clients: int, alpha: float | None, beta: float | None) -> None:
    _checks.check_int("num_clients", num_clients)
    if alpha is not None:
        _checks.check_number("alpha", alpha, 0, what="or None for the IID set")
        _checks.check_number("beta", beta, 0)


def _common(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """W and b of the IID set."""
    return rng.normal(size=[DIM, NUM_CLASSES]), rng.normal(size=NUM_CLASSES)


def _client(
    rng: np.random.Generator,
    num_examples: int,
    alpha: float | None,
    beta: float | None,
    common: tuple[np.ndarray, np.ndarray],
) -> dict[str, np.ndarray]:
    if alpha is None or beta is None:
        (w, b), v = common, np.zeros(DIM)
    else:
        u = rng.normal(0, alpha)
        w, b = rng.normal(u, 1, [DIM, NUM_CLASSES]), rng.normal(u, 1, NUM_CLASSES)
        v = rng.normal(rng.normal(0, beta), 1, DIM)
    x = rng.normal(v, _DEVIATIONS, [num_examples, DIM])
    y = np.argmax(x @ w + b, axis=1)
    return {"x": x.astype(np.float32), "y": y.astype(np.int32)}


def _split(made: dict[int, dict[str, np.ndarray]]) -> tuple[ClientData, ClientData]:
    parts: tuple[dict, dict] = {}, {}
    for k, columns in made.items():
        n = len(columns["y"])
        num_train = int(0.9 * n)
        for part, rows in zip(parts, (slice(num_train), slice(num_train, n))):
            part[f"device_{k:02}"] = {name: column[rows] for name, column in columns.items()}
    train, test = map(ClientData.from_dict, parts)
    return train, test
