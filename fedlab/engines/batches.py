"""The batches that a client reads in a round, the same for every engine."""

import math
import weakref
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from fedlab.clients import seeding
from fedlab.clients.batching import Batching, batch_rows
from fedlab.clients.columns import num_rows, targets
from fedlab.engines import blocks
from fedlab.learner import check_inputs, class_weights, fixed_batch_size


class Fill(NamedTuple):
    """How short batches are filled up for a model that is built for a fixed batch size: with rows that count for nothing.

    Attributes:
      batch_size: int.
      ignore_label: the label of such rows, which the loss ignores, or None for any. Their sample weight is 0 in any case.
    """

    batch_size: int
    ignore_label: Any


class Batches(NamedTuple):
    """A client's examples and which of them each batch holds. The examples are not copied.

    Memory: 4 bytes for each example of each epoch, beside the examples themselves.

    Attributes:
      source: name -> [n, ...], the client's examples.
      rows: int32 [steps, at most batch_size]: which of them each batch holds.
      real: int32 [steps]: how many of these are examples of the client's; the rest of a short batch.
      examples: float32 [steps]: how many of these have a sample weight above zero.
      tokens: float32 [steps]: how many of these examples' positions have a sample weight above zero.
      fill: a `Fill`, or None where the model is given short batches as they are.
    """

    source: dict
    rows: np.ndarray
    real: np.ndarray
    examples: np.ndarray
    tokens: np.ndarray
    fill: Fill | None

    @property
    def sizes(self):
        """int32 [steps]: how many rows of each batch the model is given."""
        return np.full_like(self.real, self.fill.batch_size) if self.fill else self.real

    @property
    def columns(self):
        """The batches laid out, with all their epochs: name -> [steps, batch_size, ...]. For engines that cannot look rows up."""
        rows = self.rows
        if self.fill:
            rows = np.pad(rows, [[0, 0], [0, self.fill.batch_size - rows.shape[1]]])
        columns = (
            {name: column[rows] for name, column in self.source.items()}
            if len(rows)
            else self._no_columns(rows.shape)
        )
        if not self.fill:
            return columns
        is_real = np.arange(rows.shape[1]) < self.real[:, None]  # [steps, batch_size]
        weights = columns.get("sample_weight", np.ones(rows.shape, np.float32))
        columns["sample_weight"] = np.where(
            _like(is_real, weights), weights, np.zeros([], weights.dtype)
        )
        if self.fill.ignore_label is not None and "y" in columns:
            labels = columns["y"]
            columns["y"] = np.where(_like(is_real, labels), labels, self.fill.ignore_label).astype(
                labels.dtype
            )
        return columns

    def _no_columns(self, shape):
        return {
            name: np.zeros([*shape, *column.shape[1:]], column.dtype)
            for name, column in self.source.items()
        }


def ignored_label(model):
    """The label that the model's loss masks (`ignore_class` of Keras's sparse losses), or None."""
    config = model.loss.get_config() if hasattr(model.loss, "get_config") else {}
    return config.get("ignore_class")


def check(model, batching, columns):
    """Raises ValueError where the model and the data cannot work together and TensorFlow would say so in a graph's traceback."""
    size = fixed_batch_size(model)
    if size is not None and size != batching.batch_size:
        raise ValueError(
            f"the model is built for batches of {size}, batch_size is {batching.batch_size}: pass batch_size={size}."
        )
    if not targets(columns):
        raise ValueError(
            f"the clients' columns are {list(columns)}; training needs a column 'y' with the targets; "
            "if the inputs are the targets, as in an autoencoder, pass clients.with_targets('x')."
        )
    for name in ("train_step", "test_step"):
        if getattr(type(model), name) is not getattr(tf.keras.Model, name):
            raise ValueError(
                f"{type(model).__name__} has a {name} of its own, which no engine runs; allowed: an own compute_loss."
            )
    labels = columns.get("y", np.zeros(0))
    is_negative = np.issubdtype(labels.dtype, np.signedinteger) and labels.size and labels.min() < 0
    if is_negative and _is_sparse(model) and ignored_label(model) != labels.min():
        raise ValueError(
            f"the data masks padding with label {labels.min()}, but the model's loss does not: compile it with "
            f"SparseCategoricalCrossentropy(ignore_class={labels.min()}, ...), see fedlab.models.compile_char_rnn; or drop_remainder=True."
        )
    check_inputs(model, columns)
    check_labels(model, columns)


def _is_sparse(model):
    """Whether the model's loss is a sparse cross-entropy, whose labels are classes."""
    loss, function = model.loss, tf.keras.losses.sparse_categorical_crossentropy
    return isinstance(loss, tf.keras.losses.SparseCategoricalCrossentropy) or loss in (
        function,
        function.__name__,
    )


def check_labels(model, columns, owner="the data"):
    """Raises ValueError where a label is none of the classes of a model with a sparse cross-entropy and one output."""
    labels, outputs = np.asarray(columns.get("y", ())), getattr(model, "outputs", None) or ()
    if (
        not _is_sparse(model)
        or len(outputs) != 1
        or labels.dtype.kind not in "iuf"
        or not labels.size
    ):
        return
    classes, ignored = outputs[0].shape[-1], ignored_label(model)
    labels = labels if ignored is None else labels[labels != ignored]
    wrong = labels[(labels < 0) | ((labels >= classes) if classes else False) | (labels % 1 != 0)]
    if wrong.size:
        known = (
            f"0 to {classes - 1}, the classes that the model has an output for"
            if classes
            else "whole numbers of 0 or more"
        )
        raise ValueError(
            f"{owner} has the label {wrong[0]}; allowed: {known}{'' if ignored is None else f', and {ignored} for padding'}."
        )


_checked = (
    weakref.WeakKeyDictionary()
)  # model -> clients -> ids of those that are good: data are the same in every round


def _check_client(setting, client_id, columns):
    """Raises ValueError where the model cannot train on a client."""
    good = _checked.setdefault(setting.model, weakref.WeakKeyDictionary()).setdefault(
        setting.clients, set()
    )
    if client_id in good:
        return
    owner = f"client {client_id!r}"
    check_inputs(setting.model, columns, owner)
    check_labels(setting.model, columns, owner)
    good.add(client_id)


def no_batch(batching, round_num):
    """The error for a round in which no client has anything to train on."""
    return ValueError(
        f"no client of round {round_num}'s cohort has a batch of {batching.batch_size} examples: "
        "use a smaller batch_size, or drop_remainder=False."
    )


def fill_for(model, batching):
    """The `Fill` of short batches for a model, or None where it takes short batches or there are none."""
    size = fixed_batch_size(model)
    return Fill(size, ignored_label(model)) if size and not batching.drop_remainder else None


def make_batches(columns, batching, rng, fill=None):
    """Arranges a client's columns as `Batches`.

    Args:
      columns: name -> [n, ...].
      batching: a `Batching`.
      rng: a NumPy generator for the order.
      fill: how short batches are filled up, or None where the model sees them as they are. With it, clients without a short batch have
        sample weights too: all clients have the same columns.
    """
    rows, real = batch_rows(num_rows(columns), batching, rng)
    return Batches(columns, rows, real, *_counts(columns.get("sample_weight"), rows, real), fill)


def _like(mask, array):
    return mask.reshape(mask.shape + (1,) * (array.ndim - mask.ndim))


def _counts(weights, rows, real):
    """How many examples and tokens with a sample weight above zero each batch has."""
    if weights is None:
        return real.astype(np.float32), real.astype(np.float32)
    tokens = (
        np.count_nonzero(weights.reshape(len(weights), -1) > 0, axis=1)
        if len(weights)
        else np.zeros(1, np.int64)
    )
    in_batch = np.where(
        np.arange(rows.shape[1]) < real[:, None], tokens[rows], 0
    )  # [steps, batch_size]
    return np.count_nonzero(in_batch, axis=1).astype(np.float32), in_batch.sum(axis=1).astype(
        np.float32
    )


def client_batches(setting, round_num, client_id):
    """The batches of one client in one round, a pure function of (seed, round, client): see `make_batches`."""
    columns = setting.clients.in_schema(client_id)
    _check_client(setting, client_id, columns)
    rng = seeding.generator(setting.seed, "batches", round_num, client_id)
    batches = make_batches(
        columns, setting.batching, rng, fill_for(setting.model, setting.batching)
    )
    if (
        setting.class_weight is not None
    ):  # only now: class weights do not change what counts as an example
        batches = batches._replace(source=class_weighted(setting, columns, f"client {client_id!r}"))
    if setting.conditions is None:
        return batches
    share = setting.conditions(client_id, round_num, setting.seed).share
    return first_batches(batches, math.ceil(share * len(batches.real)))


def column_specs(setting):
    """The `fedlab.engines.blocks.Specs` of the columns that `client_batches` returns."""
    schema = setting.clients.schema
    specs = blocks.column_specs(schema)
    if setting.class_weight is not None:
        weighted = class_weighted(setting, setting.clients.example(), "the data")["sample_weight"]
        shapes = [schema[name].shape for name in ("y", "sample_weight") if name in schema]
        shape = max((shape[: weighted.ndim - 1] for shape in shapes), key=len)
        specs["sample_weight"] = tf.TensorSpec([None, *shape], tf.as_dtype(weighted.dtype))
    return specs


def _class_weights(setting, labels, owner):
    return class_weights.of_examples(
        setting.class_weight, setting.model, labels, owner, ignored_label(setting.model)
    )


def class_weighted(setting, columns, owner):
    """Columns whose sample weights are multiplied by the weights of the examples' classes."""
    weights = _class_weights(setting, columns["y"], owner)
    return {
        **columns,
        "sample_weight": class_weights.multiplied(columns.get("sample_weight"), weights),
    }


def first_batches(batches, num_steps):
    """The first `num_steps` batches."""
    names = ("rows", "real", "examples", "tokens")
    return batches._replace(**{name: getattr(batches, name)[:num_steps] for name in names})


def in_order(columns, batch_size, fill=None):
    """All examples once, in order, for evaluation."""
    return make_batches(columns, Batching(batch_size=batch_size, shuffle=False), None, fill)
