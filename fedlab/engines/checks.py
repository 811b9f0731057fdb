"""Checks of a model and its clients before and during the first round, for every engine.

Without them TensorFlow would raise errors from within a graph.
"""

import weakref
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from fedlab.clients import Batching
from fedlab.clients import client_ids as ids_lib
from fedlab.clients.columns import targets
from fedlab.engines.engine import Setting
from fedlab.learner import check_inputs, fixed_batch_size

Columns = Mapping[str, np.ndarray]

# model -> clients -> the ids of those that were checked. Clients have the same data in every round.
_checked: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()


def check(model: tf.keras.Model, batching: Batching, columns: Columns) -> None:
    """Raises ValueError if a model cannot be trained or tested on data with these columns."""
    size = fixed_batch_size(model)
    if size is not None and size != batching.batch_size:
        raise ValueError(
            f"batch_size={batching.batch_size}: expected {size}, which the model is built for"
        )
    if not targets(columns):
        raise ValueError(
            f"the clients' columns are {list(columns)}: expected a column 'y' with the targets. If "
            "the inputs are the targets, as in an autoencoder, pass clients.with_targets('x')"
        )
    for name in ("train_step", "test_step", "make_train_function", "make_test_function"):
        if getattr(type(model), name) is not getattr(tf.keras.Model, name):
            raise ValueError(
                f"{type(model).__name__} overrides {name}, which engines do not call: expected "
                "Keras's own. Override compute_loss instead"
            )
    labels = columns.get("y", np.zeros(0))
    is_negative = np.issubdtype(labels.dtype, np.signedinteger) and labels.size and labels.min() < 0
    if is_negative and _is_sparse(model) and ignored_label(model) != labels.min():
        raise ValueError(
            f"the data masks padding with label {labels.min()}: expected a loss that ignores it. "
            f"Compile the model with SparseCategoricalCrossentropy(ignore_class={labels.min()}, "
            "...), see fedlab.models.compile_char_rnn; or pass drop_remainder=True"
        )
    check_inputs(model, columns)
    check_labels(model, columns)


def check_client(setting: Setting, client_id: str, columns: Columns) -> None:
    """Raises ValueError if the model cannot be trained on a client. Checks each client once."""
    of_model = _checked.setdefault(setting.model, weakref.WeakKeyDictionary())
    if (good := of_model.get(setting.clients)) is None:
        empty = ids_lib.empty_set(setting.clients.client_ids)
        good = of_model.setdefault(setting.clients, empty)
    if client_id not in good:
        owner = f"client {client_id!r}"
        check_inputs(setting.model, columns, owner)
        check_labels(setting.model, columns, owner)
        good.add(client_id)


def check_labels(model: tf.keras.Model, columns: Columns, owner: str = "the data") -> None:
    """Raises ValueError if a label is not a class of the model.

    Only models with a sparse cross-entropy and one output are checked.
    """
    labels = np.asarray(columns.get("y", ()))
    outputs: Any = getattr(model, "outputs", None) or ()
    is_numeric = labels.dtype.kind in "iuf" and labels.size
    if not is_numeric or not _is_sparse(model) or len(outputs) != 1:
        return
    classes, ignored = outputs[0].shape[-1], ignored_label(model)
    labels = labels if ignored is None else labels[labels != ignored]
    wrong = labels[(labels < 0) | ((labels >= classes) if classes else False) | (labels % 1 != 0)]
    if wrong.size:
        known = "a whole number of 0 or more"
        if classes:
            known = f"0 to {classes - 1}, the classes that the model has an output for"
        padding = "" if ignored is None else f", or {ignored} for padding"
        raise ValueError(f"{owner} has the label {wrong[0]}: expected {known}{padding}")


def ignored_label(model: tf.keras.Model) -> Any:
    """The label that the model's loss ignores (`ignore_class` of sparse losses), or None."""
    config = model.loss.get_config() if hasattr(model.loss, "get_config") else {}
    return config.get("ignore_class")


def no_batch(batching: Batching, round_num: int) -> ValueError:
    """The error for a round in which no client has a batch to train on."""
    return ValueError(
        f"no client of the cohort of round {round_num} has a batch of {batching.batch_size} "
        "examples: use a smaller batch_size, or drop_remainder=False"
    )


def _is_sparse(model):
    """Whether the model's loss is a sparse cross-entropy, whose labels are classes."""
    function = tf.keras.losses.sparse_categorical_crossentropy
    is_object = isinstance(model.loss, tf.keras.losses.SparseCategoricalCrossentropy)
    return is_object or model.loss in (function, function.__name__)
