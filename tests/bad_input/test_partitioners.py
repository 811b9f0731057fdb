"""Wrong input to partitioners: one line that says what was received and what is expected."""

import numpy as np
import pytest

from fedlab.clients import partitioners

COLUMNS = {"x": np.arange(6.0), "y": np.array([0, 1, 0, 1, 0, 1])}


@pytest.mark.parametrize(
    "make, error, message",
    [
        (
            lambda: partitioners.dirichlet(num_clients=2, alpha=0.5),
            TypeError,
            "dirichlet(): missing a required argument: 'seed'",
        ),
        (
            lambda: partitioners.dirichlet(10, 0.5, seed=0),
            TypeError,
            "labels may be left out if the others are named",
        ),
        (
            lambda: partitioners.dirichlet(num_clients=2, alpha=0.5, seed=0, minimum=3),
            TypeError,
            "unexpected keyword argument 'minimum'",
        ),
        (lambda: partitioners.natural(), TypeError, "natural(): expected groups, or the name"),
        (
            lambda: partitioners.natural("user")(COLUMNS),
            ValueError,
            "natural('user') reads the column 'user': expected one of the columns ['x', 'y']",
        ),
        (
            lambda: partitioners.uniform("x", num_clients=2, seed=0),
            TypeError,
            "num_examples: expected an integer (or leave num_examples out), got str 'x'",
        ),
        (lambda: partitioners.natural([1, None]), ValueError, "labels=[1, None]"),
        (lambda: partitioners.natural([None]), ValueError, "labels=[None]: expected one number"),
        (lambda: partitioners.natural(np.array([1.0, np.nan])), ValueError, "labels[1]=nan"),
        (
            lambda: partitioners.natural(np.array([1.0, np.nan], object)),
            ValueError,
            "labels[1]=nan",
        ),
        (
            lambda: partitioners.natural(np.array(["2020-01-01", "NaT"], "datetime64[D]")),
            ValueError,
            "labels[1]=NaT",
        ),
        (
            lambda: partitioners.dirichlet(np.eye(3), 2, 0.5, 0),
            ValueError,
            "labels has shape [3, 3]: expected one per example, [n]; use np.argmax",
        ),
        (
            lambda: partitioners.partition(COLUMNS, 5),
            TypeError,
            "the partitioner: expected a function of the columns",
        ),
        (
            lambda: partitioners.partition(COLUMNS, partitioners),
            TypeError,
            "got module fedlab.clients.partitioners",
        ),
        (
            lambda: partitioners.partition(COLUMNS, lambda columns: [[0, 1]]),
            TypeError,
            "what the partitioner returned: expected a dict client_id -> rows, got list",
        ),
        (
            lambda: partitioners.partition(COLUMNS, {"a": [6]}),
            ValueError,
            "partition['a']=[6]: expected row numbers between 0 and 5",
        ),
        (
            lambda: partitioners.partition(COLUMNS, {"a": [True]}),
            ValueError,
            "partition['a']=[True]: expected row numbers",
        ),
        (
            lambda: partitioners.dirichlet([0, 1, 0], 2, 1.0, 0, balanced=1),
            TypeError,
            "balanced: expected True or False, got int 1",
        ),
        (
            lambda: partitioners.dirichlet([0, 1, 0], 2, 1.0, 0, balanced=True, min_examples=2),
            ValueError,
            "min_examples=2: expected an integer between 0 and 1, an equal share",
        ),
        (
            lambda: partitioners.labels_per_client([0, 1, 2], 2, 4, 0),
            ValueError,
            "num_labels=4: expected an integer between 1 and 3, the number of different labels",
        ),
        (
            lambda: partitioners.labels_per_client([0, 1, 2], 2, 1, 0),
            ValueError,
            "expected a product of at least 3, the number of different labels",
        ),
        (
            lambda: partitioners.labels_per_client(["a", "b", "b", "b"], 3, 2, 0),
            ValueError,
            "label 'a' has 1 examples: expected at least 3, one for each of its clients",
        ),
        (lambda: partitioners.power_law(5, 2, -1.0, 0), ValueError, "exponent=-1.0"),
        (lambda: partitioners.power_law(5, 2, 1.0, 0, min_examples=3), ValueError, "min_examples"),
        (lambda: partitioners.log_normal(5, 2, float("inf"), 0), ValueError, "sigma=inf"),
        (lambda: partitioners.log_normal(5, 6, 1.0, 0), ValueError, "num_clients=6"),
        (
            lambda: partitioners.by_time(["2024-01-01", "2024-02-01"], 2),
            ValueError,
            "expected numbers or datetime64; convert texts with np.array(times, 'datetime64[s]')",
        ),
        (lambda: partitioners.by_time([1.0, np.nan], 2), ValueError, "times[1]=nan"),
        (lambda: partitioners.by_time([1, 2], 3), ValueError, "num_clients=3"),
        (
            lambda: partitioners.by_time(np.array(["2024-01-01", 5], object), 2),
            ValueError,
            "times=",
        ),
        (
            lambda: partitioners.pachinko([0, 1, 2], 2, {0: 0, 1: 0}, 0),
            ValueError,
            "parents has no coarse label for the label 2",
        ),
        (
            lambda: partitioners.pachinko([0, 1, 2], 2, [0, 0], 0),
            ValueError,
            "parents has no coarse label for the label 2",
        ),
        (
            lambda: partitioners.pachinko([0, 1, -1], 2, [0, 0], 0),
            ValueError,
            "parents has no coarse label for the label -1",
        ),
        (lambda: partitioners.pachinko([0, 1], 2, 5, 0), TypeError, "parents: expected a dict"),
        (lambda: partitioners.pachinko([0, 1], 2, [0, None], 0), TypeError, "parents[1]"),
        (lambda: partitioners.pachinko([0, 1], 2, [0, 0], 0, beta=0), ValueError, "beta=0"),
        (
            lambda: partitioners.pachinko([0, 1], 2, [0, 0], 0, examples_per_client=2),
            ValueError,
            "examples_per_client=2: expected an integer between 1 and 1",
        ),
        (
            lambda: partitioners.leaf(["a", "a", "b"], 0, min_examples=3),
            ValueError,
            "min_examples=3: expected at most 2, the size of the largest client",
        ),
        (lambda: partitioners.leaf(["a"], 0, fraction=0), ValueError, "fraction=0: expected"),
        (lambda: partitioners.leaf(["a"], 0, fraction=0.5), ValueError, "fraction=0.5"),
        (
            lambda: partitioners.leaf_synthetic(4, 1, 0),
            ValueError,
            "num_examples=4: expected at least",
        ),
        (
            lambda: partitioners.clusters([1.0, 2.0], 2, 0.5, 0),
            ValueError,
            "embeddings has shape [2] and dtype float64: expected numbers [n, ...]",
        ),
        (
            lambda: partitioners.clusters([[1.0], [np.nan]], 2, 0.5, 0),
            ValueError,
            "embeddings[1] is not finite",
        ),
        (
            lambda: partitioners.clusters([[1.0], [2.0, 3.0]], 2, 0.5, 0),
            ValueError,
            "expected numbers [n, ...]",
        ),
        (lambda: partitioners.clusters([[1.0], [2.0]], 2, 0.5, 0), ValueError, "num_clusters=10"),
        (
            lambda: partitioners.parse("dirichlet"),
            ValueError,
            "the partitioner 'dirichlet': expected a name with settings, such as",
        ),
        (lambda: partitioners.parse("dirichlet(alpha=)"), ValueError, "expected a name with"),
        (lambda: partitioners.parse("dirichlet(alpha=open('x'))"), ValueError, "expected a name"),
        (lambda: partitioners.parse("dirichlet(**{'alpha': 1})"), ValueError, "expected a name"),
        (lambda: partitioners.parse("os.remove('x')"), ValueError, "expected a name with settings"),
        (lambda: partitioners.parse("uniform(5, 2)"), ValueError, "expected a name with settings"),
        (
            lambda: partitioners.parse("dirichle(alpha=1)"),
            ValueError,
            "'dirichle' is not one of the partitioners: expected by_time, clusters, dirichlet",
        ),
        (
            lambda: partitioners.parse("dirichlet(alpha=0.5)"),
            ValueError,
            "missing a required argument: 'num_clients'",
        ),
    ],
)
def test_wrong_input(make, error, message):
    with pytest.raises(error) as raised:
        make()
    assert message in str(raised.value) and "\n" not in str(raised.value)
