"""Images and their writers, as arrays that fedlab and Flower Datasets partition."""

import numpy as np

IMAGE = (28, 28)
NUM_CLASSES = 62


def writers(num_writers, num_rows, seed):
    """Returns the writer of each row, unicode [num_rows], in random order."""
    rng = np.random.default_rng(seed)
    share = rng.lognormal(sigma=0.5, size=num_writers)
    rows = np.concatenate(
        [
            np.arange(num_writers),  # everyone writes something
            rng.choice(num_writers, num_rows - num_writers, p=share / share.sum()),
        ]
    )
    names = np.array([f"f{i:04}" for i in range(num_writers)])
    return names[rng.permutation(rows)]


def images_of(num_rows, seed):
    """Returns the rows that are partitioned: (images, uint8 [n, 784]; labels, int64 [n])."""
    rng = np.random.default_rng([seed, 1])
    images = rng.integers(256, size=[num_rows, IMAGE[0] * IMAGE[1]], dtype=np.uint8)
    return images, rng.integers(NUM_CLASSES, size=num_rows)
