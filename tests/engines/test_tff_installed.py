"""Asking for the tff engine where TensorFlow Federated is missing."""

import importlib.util

import pytest
import tensorflow as tf

import fedlab as fl
from fedlab import engines
from fedlab.learner import stack
from tests.quadratics import linear_model, regressions


def test_the_modern_stack_explains_how_to_get_the_engine(monkeypatch, tmp_path):
    monkeypatch.setattr(stack, "name", lambda: "modern")
    with pytest.raises(ModuleNotFoundError) as info:
        fl.simulate(
            linear_model(3, tf.keras.optimizers.SGD(0.1)),
            regressions(),
            rounds=1,
            clients_per_round=1,
            engine="tff",
            run_dir=tmp_path / "run",
            progress=False,
        )
    assert str(info.value) == (
        "engine='tff': expected the tff stack (Python 3.11, TensorFlow 2.14, Keras 2.14), which "
        "TensorFlow Federated 0.87 needs, but this is the modern stack; run scripts/setup "
        "--stack=tff in fedlab's repository and use .venv-tff/bin/python, or use engine='local'"
    )
    assert not (tmp_path / "run").exists()


def test_tensorflow_federated_is_missing(monkeypatch):
    monkeypatch.setattr(stack, "name", lambda: "tff")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match="Federated is not installed; install req"):
        engines.find("tff")


def test_the_stack_is_named_by_keras(monkeypatch):
    versions = {"2.14.0": "tff", "3.0.0": "modern", "3.15.1": "modern"}
    for version, expected in versions.items():
        monkeypatch.setattr("importlib.metadata.version", {"keras": version}.__getitem__)
        assert stack.name.__wrapped__() == expected


def test_the_engine_is_found_exactly_on_the_tff_stack():
    if stack.name() == "tff" and importlib.util.find_spec("tensorflow_federated"):
        assert engines.find("tff").__module__ == "fedlab.engines.tff"
    else:
        with pytest.raises(ModuleNotFoundError, match="scripts/setup --stack=tff"):
            engines.find("tff")
