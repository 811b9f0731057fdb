"""The batches that a client reads in a round, the same for every engine."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from fedlab.clients import seeding
from fedlab.clients.batching import Batching, batch_rows
from fedlab.clients.columns import num_rows
from fedlab.engines import blocks
from fedlab.engines.checks import check_client, ignored_label
from fedlab.engines.engine import Setting
from fedlab.learner import class_weights, fixed_batch_size

Columns = Mapping[str, np.ndarray]


class Fill(NamedTuple):
    """The rows that fill up short batches of a model with a fixed batch size.

    The sample weight of such rows is 0.

    Attributes:
      batch_size: the model's batch size.
      ignore_label: their label, which the loss ignores, or None for any label.
    """

    batch_size: int
    ignore_label: Any


class Batches(NamedTuple):
    """A client's examples, and which of them each batch holds. The examples are not copied.

    Memory: 4 bytes for each example of each epoch, beside the examples themselves.

    Attributes:
      source: name -> [n, ...], the client's examples.
      rows: int32 [steps, at most batch_size]: the examples of each batch.
      real: int32 [steps]: how many of these are the client's. The others of a short batch are
        padding.
      examples: float32 [steps]: how many of these have a sample weight above zero.
      tokens: float32 [steps]: how many positions of these examples have a sample weight above zero.
      fill: a `Fill`, or None if the model takes short batches.
    """

    source: Columns
    rows: np.ndarray
    real: np.ndarray
    examples: np.ndarray
    tokens: np.ndarray
    fill: Fill | None

    @property
    def sizes(self) -> np.ndarray:
        """int32 [steps]: the number of rows of each batch, padding included."""
        return np.full_like(self.real, self.fill.batch_size) if self.fill else self.real

    @property
    def columns(self) -> dict[str, np.ndarray]:
        """The batches of all epochs, laid out: name -> [steps, batch_size, ...]."""
        rows = self.rows
        if self.fill:
            rows = np.pad(rows, [[0, 0], [0, self.fill.batch_size - rows.shape[1]]])
        if not len(rows):
            columns = {
                name: np.zeros([*rows.shape, *column.shape[1:]], column.dtype)
                for name, column in self.source.items()
            }
        else:
            columns = {name: column[rows] for name, column in self.source.items()}
        if not self.fill:
            return columns
        is_real = np.arange(rows.shape[1]) < self.real[:, None]  # [steps, batch_size]
        weights = columns.get("sample_weight", np.ones(rows.shape, np.float32))
        zero = np.zeros([], weights.dtype)
        columns["sample_weight"] = np.where(_like(is_real, weights), weights, zero)
        if self.fill.ignore_label is not None and "y" in columns:
            labels = columns["y"]
            filled = np.where(_like(is_real, labels), labels, self.fill.ignore_label)
            columns["y"] = filled.astype(labels.dtype)
        return columns


def fill_for(model: tf.keras.Model, batching: Batching) -> Fill | None:
    """The `Fill` for a model, or None if it takes short batches or there are none."""
    size = fixed_batch_size(model)
    return Fill(size, ignored_label(model)) if size and not batching.drop_remainder else None


def make_batches(
    columns: Columns, batching: Batching, rng: np.random.Generator | None, fill: Fill | None = None
) -> Batches:
    """Arranges a client's columns as `Batches`.

    Args:
      columns: name -> [n, ...].
      batching: a `Batching`.
      rng: a NumPy generator for the order; None if the batches are not shuffled.
      fill: how short batches are filled up, or None for none. With it, clients without a short
        batch have sample weights too, so that all clients have the same columns.
    """
    rows, real = batch_rows(num_rows(columns), batching, rng)
    examples, tokens = _counts(columns.get("sample_weight"), rows, real)
    return Batches(columns, rows, real, examples, tokens, fill)


def _like(mask, array):
    return mask.reshape(mask.shape + (1,) * (array.ndim - mask.ndim))


def _counts(weights, rows, real):
    """How many examples and tokens with a sample weight above zero each batch has."""
    if weights is None:
        return real.astype(np.float32), real.astype(np.float32)
    tokens = np.zeros(1, np.int64)
    if len(weights):
        tokens = np.count_nonzero(weights.reshape(len(weights), -1) > 0, axis=1)
    is_real = np.arange(rows.shape[1]) < real[:, None]  # [steps, batch_size]
    in_batch = np.where(is_real, tokens[rows], 0)
    examples = np.count_nonzero(in_batch, axis=1)
    return examples.astype(np.float32), in_batch.sum(axis=1).astype(np.float32)


def client_batches(setting: Setting, round_num: int, client_id: str) -> Batches:
    """The batches of a client in a round: a pure function of (seed, round, client)."""
    columns = setting.clients.in_schema(client_id)
    check_client(setting, client_id, columns)
    rng = seeding.generator(setting.seed, "batches", round_num, client_id)
    batches = make_batches(
        columns, setting.batching, rng, fill_for(setting.model, setting.batching)
    )
    if setting.class_weight is not None:
        # Only now: class weights do not change what counts as an example.
        batches = batches._replace(source=class_weighted(setting, columns, f"client {client_id!r}"))
    if setting.conditions is None:
        return batches
    share = setting.conditions(client_id, round_num, setting.seed).share
    return first_batches(batches, math.ceil(share * len(batches.real)))


def column_specs(setting: Setting) -> dict[str, tf.TensorSpec]:
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


def class_weighted(setting: Setting, columns: Columns, owner: str) -> dict[str, np.ndarray]:
    """Columns whose sample weights are multiplied by the weights of the examples' classes."""
    weights = _class_weights(setting, columns["y"], owner)
    return {
        **columns,
        "sample_weight": class_weights.multiplied(columns.get("sample_weight"), weights),
    }


def first_batches(batches: Batches, num_steps: int) -> Batches:
    """The first `num_steps` batches."""
    names = ("rows", "real", "examples", "tokens")
    return batches._replace(**{name: getattr(batches, name)[:num_steps] for name in names})


def in_order(columns: Columns, batch_size: int, fill: Fill | None = None) -> Batches:
    """All examples once, in order, for evaluation."""
    return make_batches(columns, Batching(batch_size=batch_size, shuffle=False), None, fill)
