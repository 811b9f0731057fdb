"""The synthetic data sets of FedProx.

Federated Optimization in Heterogeneous Networks
Tian Li et al. MLSys 2020. https://arxiv.org/abs/1812.06127
Section 5.1 and Appendix C.1. The standard deviations are those of the paper's code.
"""

import numpy as np

NUM_CLIENTS, DIM, NUM_CLASSES = 30, 60, 10


def synthetic(alpha, beta, seed=0):
    """Generates synthetic(alpha, beta), in which each client k has its own model and inputs.

        u_k ~ N(0, alpha^2)   W_k ~ N(u_k, 1), [60, 10]   b_k ~ N(u_k, 1), [10]
        B_k ~ N(0, beta^2)    v_k ~ N(B_k, 1), [60]
        n_k = floor(lognormal(4, 2)) + 50 examples
        x ~ N(v_k, diag(j^-1.2))   y = argmax(W_k'x + b_k)

    Args:
      alpha: how much the clients' models differ; None for the IID set, in which all
        clients share one W and b ~ N(0, 1), and v_k = 0.
      beta: how much the clients' inputs differ.
      seed: determines everything random.

    Returns:
      (train, test): `ClientData` of 30 clients with the columns x: [n, 60] float32 and
      y: [n] int64. A tenth of each client's examples is in `test`.
    """
    import fedlab as fl

    rng = np.random.default_rng(seed)
    sizes = rng.lognormal(4, 2, NUM_CLIENTS).astype(int) + 50
    deviations = np.arange(1, DIM + 1) ** -0.6
    common = rng.normal(size=[DIM, NUM_CLASSES]), rng.normal(size=NUM_CLASSES)
    splits = {}, {}
    for k, n in enumerate(sizes):
        if alpha is None:
            (w, b), v = common, np.zeros(DIM)
        else:
            u = rng.normal(0, alpha)
            w, b = rng.normal(u, 1, [DIM, NUM_CLASSES]), rng.normal(u, 1, NUM_CLASSES)
            v = rng.normal(rng.normal(0, beta), 1, DIM)
        x = rng.normal(v, deviations, [n, DIM])
        y = np.argmax(x @ w + b, axis=1)
        num_train = int(0.9 * n)
        for split, part in zip(splits, (slice(num_train), slice(num_train, n))):
            split[f"device_{k:02}"] = {"x": x[part].astype(np.float32), "y": y[part]}
    return tuple(map(fl.ClientData.from_dict, splits))
