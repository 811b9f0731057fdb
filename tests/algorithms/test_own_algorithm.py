"""The algorithm of docs/writing-an-algorithm.md, in under 40 lines: it runs, and is checked."""

import inspect
import pathlib

import pytest
import tensorflow as tf

from fedlab.testing import check_algorithm
from tests.algorithms import sign_sgd as module
from tests.algorithms.sign_sgd import sign_sgd
from tests.quadratics import linear_model, points, simulate


def test_the_page_shows_it():
    page = pathlib.Path(__file__).resolve().parents[2] / "docs" / "writing-an-algorithm.md"
    assert inspect.getsource(sign_sgd) in page.read_text()


def test_it_is_short():
    assert len(pathlib.Path(module.__file__).read_text().splitlines()) < 40


def test_the_majority_decides():
    # Clients at 1, 2 and -3, steps of 0.25 from 0: two vote up until w is 1. There the first has
    # no gradient, and the others cancel out.
    clients = points([1.0, 2.0, -3.0], [1, 5, 1])
    path = [
        simulate(linear_model(1, tf.keras.optimizers.SGD(1.0)), clients, sign_sgd(0.25), rounds)[0]
        for rounds in (1, 3, 4, 6)
    ]
    assert path == [0.25, 0.75, 1.0, 1.0]


@pytest.mark.slow
def test_it_passes_the_check():
    check_algorithm(sign_sgd(0.01))
