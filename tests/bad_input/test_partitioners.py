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
    ],
)
def test_wrong_input(make, error, message):
    with pytest.raises(error) as raised:
        make()
    assert message in str(raised.value) and "\n" not in str(raised.value)
