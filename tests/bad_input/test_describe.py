"""Wrong input to `fl.data.describe` and `fedlab datasets show`: one line each."""

import numpy as np
import pytest

import fedlab as fl
from fedlab import cli

CLIENTS = fl.ClientData.from_dict({"ann": {"x": np.zeros(2), "y": [0, 1]}})


@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda: fl.data.describe([1]), TypeError, "clients: expected a fedlab.ClientData"),
        (
            lambda: fl.data.describe(CLIENTS, "label"),
            ValueError,
            "label='label': expected one of the columns ['x', 'y']",
        ),
        (
            lambda: fl.data.describe(CLIENTS, max_clients=0),
            ValueError,
            "max_clients=0: expected an integer of at least 1, or None for all",
        ),
    ],
)
def test_wrong_arguments(call, error, message):
    with pytest.raises(error) as raised:
        call()
    assert message in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["show"], "arguments 'show': expected show and the name of a data set"),
        (["show", "shakespeare", "squad"], "expected show and the name of a data set"),
        (["shakespeare", "squad"], "expected the name of one data set, or none"),
        (["show", "shakespear"], "'shakespear': expected one of"),
        (["shakespeare", "--column=y"], "--column: expected only with `fedlab datasets show NAME`"),
        (["--output=x.png"], "--output: expected only with `fedlab datasets show NAME`"),
        (["show", "shakespeare", "--seed=1"], "--seed=1: expected only with --partitioner"),
        (
            ["show", "shakespeare", "--partitioner=dirichlet"],
            "the partitioner 'dirichlet': expected a name with settings",
        ),
        (
            ["show", "shakespeare", "--partitioner=dirchlet(alpha=1)"],
            "'dirchlet' is not one of the partitioners: expected by_time, clusters, dirichlet",
        ),
        (
            [
                *["show", "shakespeare", "--source=synthetic"],
                "--partitioner=dirichlet(num_clients=2, alpha=1.0)",
            ],
            "labels has shape",
        ),
        (
            [
                *["show", "shakespeare", "--source=synthetic"],
                "--partitioner=natural('user')",
            ],
            "natural('user') reads the column 'user': expected one of the columns ['client', 'x'",
        ),
        (["show", "shakespeare", "--source=synthetic", "--column=z"], "label='z': expected one"),
        (
            ["show", "shakespeare", "--source=synthetic", "--output=/nowhere/x.png"],
            "/nowhere/x.png",
        ),
    ],
)
def test_wrong_commands(arguments, message, capsys):
    assert cli.main(["datasets", *arguments]) == 2
    captured = capsys.readouterr()
    assert message in captured.err and captured.err.count("\n") == 1 and not captured.out
