"""The batches that a client reads in a round, the same for every engine."""

import math
import weakref
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from fedlab.data import seeding
from fedlab.data.batching import Batching, batch_rows
from fedlab.data.columns import num_rows, targets
from fedlab.engines import class_weights, inputs


class Batches(NamedTuple):
    """A client's examples in batches. The examples are not copied until `columns` or `joined` lays them out.

    Attributes:
      source: name -> [n, ...], the client's examples.
      rows: int64 [steps, batch_size]: which of them each batch holds.
      own: name -> [steps, batch_size, ...], columns that take the place of the source's, or are not in it.
      sizes: int32 [steps]: the model is given the first `sizes[i]` rows of batch i.
      examples: float32 [steps]: how many of these rows are not padding.
      tokens: float32 [steps]: how many of these rows' positions have a sample weight above zero.
    """

    source: dict
    rows: np.ndarray
    own: dict
    sizes: np.ndarray
    examples: np.ndarray
    tokens: np.ndarray

    @property
    def columns(self):
        """name -> [steps, batch_size, ...]."""
        return joined([self])

    def _example(self, name):
        """Shape and dtype of an example in a column."""
        column = self.own.get(name, self.source.get(name))
        return column.shape[2 if name in self.own else 1 :], column.dtype

    def _read(self, name, out):
        if name in self.own:
            out[...] = self.own[name]
        else:
            np.take(self.source[name], self.rows, axis=0, out=out, mode="clip")  # "clip" writes straight into out


def joined(parts):
    """The columns of several clients' batches, one client after the other: name -> [steps, batch_size, ...], each value copied once."""
    steps = np.cumsum([0, *(len(part.sizes) for part in parts)])
    columns = {}
    for name in {**parts[0].source, **parts[0].own}:
        shape, dtype = parts[0]._example(name)
        columns[name] = np.empty([steps[-1], parts[0].rows.shape[1], *shape], dtype)
        for part, start, end in zip(parts, steps, steps[1:]):
            part._read(name, columns[name][start:end])
    return columns


def fixed_batch_size(model):
    """The batch size that the model is built for, or None for any."""
    inputs = getattr(model, "inputs", None)
    return inputs[0].shape[0] if inputs else None


def ignored_label(model):
    """The label that the model's loss masks (`ignore_class` of Keras's sparse losses), or None."""
    config = model.loss.get_config() if hasattr(model.loss, "get_config") else {}
    return config.get("ignore_class")


def check(model, batching, columns):
    """Raises ValueError where the model and the data cannot work together and TensorFlow would say so in a graph's traceback."""
    size = fixed_batch_size(model)
    if size is not None and size != batching.batch_size:
        raise ValueError(f"the model is built for batches of {size}, batch_size is {batching.batch_size}: pass batch_size={size}.")
    if not targets(columns):
        raise ValueError(f"the clients' columns are {list(columns)}; training needs a column 'y' with the targets.")
    for name in ("train_step", "test_step"):
        if getattr(type(model), name) is not getattr(tf.keras.Model, name):
            raise ValueError(f"{type(model).__name__} has a {name} of its own, which no engine runs; allowed: an own compute_loss.")
    labels = columns.get("y", np.zeros(0))
    if np.issubdtype(labels.dtype, np.signedinteger) and labels.size and labels.min() < 0 and ignored_label(model) != labels.min():
        raise ValueError(
            f"the data masks padding with label {labels.min()}, but the model's loss does not: compile it with "
            f"SparseCategoricalCrossentropy(ignore_class={labels.min()}, ...), see fedlab.models.compile_char_rnn; or drop_remainder=True."
        )
    inputs.check(model, columns)
    check_labels(model, columns)


def check_labels(model, columns, owner="the data"):
    """Raises ValueError where a label is none of the classes of a model with a sparse cross-entropy and one output."""
    sparse = tf.keras.losses.SparseCategoricalCrossentropy, tf.keras.losses.sparse_categorical_crossentropy
    labels, outputs = np.asarray(columns.get("y", ())), getattr(model, "outputs", None) or ()
    is_sparse = isinstance(model.loss, sparse[0]) or model.loss in (sparse[1], sparse[1].__name__)
    if not is_sparse or len(outputs) != 1 or labels.dtype.kind not in "iuf" or not labels.size:
        return
    classes, ignored = outputs[0].shape[-1], ignored_label(model)
    labels = labels if ignored is None else labels[labels != ignored]
    wrong = labels[(labels < 0) | ((labels >= classes) if classes else False) | (labels % 1 != 0)]
    if wrong.size:
        known = f"0 to {classes - 1}, the classes that the model has an output for" if classes else "whole numbers of 0 or more"
        raise ValueError(f"{owner} has the label {wrong[0]}; allowed: {known}{'' if ignored is None else f', and {ignored} for padding'}.")


def _check_alike(columns, first, owner):
    """Raises ValueError where a client has other columns than the first one, which the graph is made for."""
    forms = [{name: (column.ndim, column.dtype.kind) for name, column in each.items()} for each in (columns, first)]
    if forms[0] != forms[1]:
        said = [", ".join(f"{name!r}: {c.dtype} {list(c.shape[1:])}" for name, c in each.items()) for each in (columns, first)]
        raise ValueError(f"{owner} has the columns {said[0]}; the first client has {said[1]}: bring all to one form with ClientData.map.")


_checked = weakref.WeakKeyDictionary()  # model -> clients -> ids of those that are good: data are the same in every round


def _check_client(setting, client_id, columns):
    """Raises ValueError where the model cannot train on a client."""
    good = _checked.setdefault(setting.model, weakref.WeakKeyDictionary()).setdefault(setting.clients, set())
    if client_id in good:
        return
    owner = f"client {client_id!r}"
    inputs.check(setting.model, columns, owner)
    _check_alike(columns, setting.clients[setting.clients.client_ids[0]], owner)
    check_labels(setting.model, columns, owner)
    good.add(client_id)


def no_batch(batching, round_num):
    """The error for a round in which no client has anything to train on."""
    return ValueError(
        f"no client of round {round_num}'s cohort has a batch of {batching.batch_size} examples: "
        "use a smaller batch_size, or drop_remainder=False."
    )


def make_batches(columns, batching, rng, *, fixed_size=None, ignore_label=None):
    """Arranges a client's columns as batches.

    Where the model is built for a fixed batch size, a short batch is filled up with rows that count for nothing: sample weight 0, and
    the ignored label where the loss has one; clients without a short batch then have sample weights too, all of the same columns.
    Otherwise the model sees a short batch as it is.
    """
    rows, sizes = batch_rows(num_rows(columns), batching, rng)
    real = np.arange(batching.batch_size) < sizes[:, None]  # [steps, batch_size]
    own = {"sample_weight": columns["sample_weight"][rows]} if "sample_weight" in columns else {}
    if fixed_size and not batching.drop_remainder:
        weights = own.get("sample_weight")
        own["sample_weight"] = real.astype(np.float32) if weights is None else weights * _like(real, weights)
        if ignore_label is not None and "y" in columns:
            labels = columns["y"][rows]
            own["y"] = np.where(_like(real, labels), labels, ignore_label).astype(labels.dtype)
        sizes = np.full_like(sizes, fixed_size)
    return Batches(columns, rows, own, sizes, *_counts(own.get("sample_weight"), real))


def _like(mask, array):
    return mask.reshape(mask.shape + (1,) * (array.ndim - mask.ndim))


def _counts(weights, real):
    if weights is None:
        examples = real.sum(axis=1)
        return examples.astype(np.float32), examples.astype(np.float32)
    counted = (weights > 0) & _like(real, weights)
    tokens = counted.reshape(*real.shape, int(np.prod(counted.shape[2:]))).sum(axis=2)  # [steps, batch_size]
    return (tokens > 0).sum(axis=1).astype(np.float32), tokens.sum(axis=1).astype(np.float32)


def client_batches(setting, round_num, client_id):
    """The batches of one client in one round, a pure function of (seed, round, client): see `make_batches`."""
    columns = setting.clients[client_id]
    _check_client(setting, client_id, columns)
    batches = make_batches(
        columns,
        setting.batching,
        seeding.generator(setting.seed, "batches", round_num, client_id),
        fixed_size=fixed_batch_size(setting.model),
        ignore_label=ignored_label(setting.model),
    )
    if setting.class_weight is not None:
        batches = _class_weighted(setting, batches, f"client {client_id!r}")
    if setting.conditions is None:
        return batches
    share = setting.conditions(client_id, round_num, setting.seed).share
    return first_batches(batches, math.ceil(share * len(batches.sizes)))


def _class_weighted(setting, batches, owner):
    """The batches with sample weights times the weights of their classes, which leave it as it is what counts as an example."""
    labels, ignored = batches.source["y"], ignored_label(setting.model)
    weights = class_weights.of_examples(setting.class_weight, setting.model, labels, owner, ignored)
    sample_weight = class_weights.multiplied(batches.own.get("sample_weight"), weights[batches.rows])
    return batches._replace(own={**batches.own, "sample_weight": sample_weight})


def first_batches(batches, num_steps):
    """The first `num_steps` batches."""
    own = {name: column[:num_steps] for name, column in batches.own.items()}
    return Batches(batches.source, batches.rows[:num_steps], own, *(values[:num_steps] for values in batches[3:]))


def in_order(columns, batch_size, *, fixed_size=None, ignore_label=None):
    """All examples once, in order, for evaluation."""
    batching = Batching(batch_size=batch_size, shuffle=False)
    return make_batches(columns, batching, None, fixed_size=fixed_size, ignore_label=ignore_label)
