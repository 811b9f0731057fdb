"""Columns that a model cannot read are named before the first graph."""

import numpy as np
import pytest
import tensorflow as tf

import fedlab as fl
from fedlab.learner import check_inputs
from tests.models import bert_reference

layers = tf.keras.layers
ENCODER = fl.models.bert.encoder(
    vocab_size=30,
    hidden_size=4,
    num_layers=1,
    num_heads=2,
    intermediate_size=4,
    max_positions=12,
    type_vocab_size=2,
)
COLUMNS = bert_reference.inputs(3, 12, 30) | {"y": np.zeros([3, 2], np.int32)}


def changed(**columns):
    return {name: column for name, column in (COLUMNS | columns).items() if column is not None}


def test_what_fits():
    check_inputs(ENCODER, COLUMNS)
    check_inputs(ENCODER, {name: column[:0] for name, column in COLUMNS.items()})
    check_inputs(ENCODER, changed(id=np.array(["a", "b", "c"])))
    check_inputs(
        tf.keras.Sequential([layers.Input([1]), layers.Dense(1)]), {"x": np.zeros([3])}
    )  # Keras adds the axis
    check_inputs(fl.models.char_rnn(5, 2, 2), {"x": np.full([2, 7], 4), "y": np.full([2, 7], 9)})


@pytest.mark.parametrize(
    "columns, message",
    [
        (
            {"token_type_ids": None},
            "has the inputs 'input_ids', 'attention_mask': expected .*; 'token_type_ids' is "
            "missing",
        ),
        (
            {"input_ids": np.full([3, 12], 30)},
            "client 'c' has column 'input_ids' with id 30: expected 0 to 29, the rows of the "
            "model's 'embeddings_word'; prepare the data",
        ),
        ({"token_type_ids": np.full([3, 12], -1)}, "'token_type_ids' with id -1: expected 0 to 1"),
        (
            {"input_ids": np.zeros([3, 13], int)},
            "'input_ids' with rows of 13 tokens: expected at most 12, the model's positions; use "
            "shorter windows",
        ),
    ],
)
def test_what_does_not(columns, message):
    with pytest.raises(ValueError, match=message) as error:
        check_inputs(ENCODER, changed(**columns), "client 'c'")
    assert "\n" not in str(error.value)


def test_a_fixed_length():
    model = fl.models.bert.encoder(
        vocab_size=30, hidden_size=4, num_layers=1, intermediate_size=4, length=10
    )
    with pytest.raises(ValueError, match=r"with rows of shape \[12\]: expected \[10\]"):
        check_inputs(model, COLUMNS)


def test_sequential_models_and_one_input():
    with pytest.raises(ValueError, match="column 'x' with id 5: expected 0 to 4"):
        check_inputs(fl.models.char_rnn(5, 2, 2), {"x": np.full([2, 7], 5)})


def test_a_later_client_is_named():
    model = fl.models.bert.question_answering(
        vocab_size=30, hidden_size=4, num_layers=1, intermediate_size=4
    )
    clients = fl.clients.ClientData.from_dict(
        {"good": COLUMNS, "bad": changed(input_ids=np.full([3, 12], 40))}
    )
    with pytest.raises(ValueError, match="client 'bad' has column 'input_ids' with id 40"):
        fl.simulate(model, clients, rounds=1, cohort=["bad"], progress=False)
