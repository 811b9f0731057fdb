"""A dense network for the columns of given clients, with its preprocessing."""

import collections
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from fedlab import _checks
from fedlab.clients.client_data import ClientData
from fedlab.clients.columns import RESERVED, TARGET_OF

layers = tf.keras.layers

_MOST_CLASSES = 100
_SMALLEST = 1e-6  # a column with less spread is constant


def dense(
    clients: ClientData,
    *,
    hidden: Sequence[int] = (64,),
    num_classes: int | None = None,
    learning_rate: float = 0.1,
    max_words: int = 100,
) -> tf.keras.Model:
    """Builds a dense network that reads the columns of clients as they are.

    ```
    numbers -> (column - mean) / standard deviation         of these clients
    words   -> one-hot: unknown, or one of the column's words
    output  =  Dense(...)(relu(Dense(hidden)(all columns)))
    ```

    The preprocessing is part of the model, so that the saved model predicts from the
    columns of a table. It learns from `clients`: pass the training clients only.

    Args:
      clients: the training clients, with a column `y`. An input [n] or [n, k] is of
        numbers, an input [n] of texts is of words.
      hidden: the sizes of the hidden layers, which may be none.
      num_classes: the number of classes of integer labels; 0 for a number to predict; or
        None: integers from 0 to at most 99 are classes, other labels are numbers.
      learning_rate: of the SGD optimizer, above 0. If a number is predicted, it is divided
        by the variance of the labels: the network trains as on labels of variance 1.
      max_words: the largest number of different words in a column.

    Returns:
      The compiled model: inputs by the names of their columns -> logits
      [batch, num_classes] with the accuracy as a metric; or a number [batch, 1] with the
      mean squared error as the loss and the mean absolute error as a metric.

    Raises:
      TypeError, ValueError: an argument is wrong, or the model cannot read a column.

    Example:
      >>> ann = {"age": [20.0, 40.0], "city": ["oslo", "rome"], "y": [0, 1]}
      >>> model = dense(ClientData.from_dict({"ann": ann}), hidden=[8])
      >>> model.output_shape, model.count_params()
      ((None, 2), 58)
    """
    if not isinstance(clients, ClientData):
        raise _checks.type_error("clients", clients, "a fedlab.ClientData")
    if isinstance(hidden, str) or not isinstance(hidden, Iterable):
        raise _checks.type_error("hidden", hidden, "a list of sizes, such as [64]")
    hidden = [_checks.check_int("hidden", size) for size in hidden]
    if num_classes is not None:
        _checks.check_int("num_classes", num_classes, 0, what="or None")
    _checks.check_number("learning_rate", learning_rate, above=0)
    _checks.check_int("max_words", max_words)
    names = _inputs(clients.schema)
    numbers = {name: _Moments() for name in names if clients.schema[name].dtype != object}
    words = {name: collections.Counter[str]() for name in names if name not in numbers}
    labels = _Labels()
    for client_id in clients:
        columns = clients.in_schema(client_id)
        for name, moments in numbers.items():
            moments.add(columns[name])
        for name, counter in words.items():
            counter.update(_texts(columns[name]))
        labels.add(columns["y"])
    for name, counter in words.items():
        if len(counter) > max_words:
            raise ValueError(
                f"column {name!r} has {len(counter):,} different texts, such as "
                f"{next(iter(counter))!r:.40}: expected at most max_words={max_words} words; "
                "leave the column out, or train a model of your own that reads texts"
            )
    inputs, parts = [], []
    for name in names:
        if name in numbers:
            shape = clients.schema[name].shape or (1,)
            inputs.append(layers.Input(shape, name=name))
            mean, variance = numbers[name].result()
            parts.append(layers.Normalization(mean=mean, variance=variance)(inputs[-1]))
        else:
            vocabulary = sorted(words[name])
            inputs.append(layers.Input([], dtype="string", name=name))
            lookup = layers.StringLookup(vocabulary=vocabulary, output_mode="one_hot")
            # Keras 2 takes a batch of one text for a row.
            parts.append(lookup(layers.Reshape([1])(inputs[-1])))
    features = layers.Concatenate()(parts) if len(parts) > 1 else parts[0]
    for size in hidden:
        features = layers.Dense(size, activation="relu")(features)
    found = labels.num_classes() if num_classes is None else num_classes
    if found:
        labels.check(found)
        outputs = layers.Dense(found, name="logits")(features)
        model = tf.keras.Model(inputs, outputs, name="dense")
        model.compile(
            tf.keras.optimizers.SGD(learning_rate),
            tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=[tf.keras.metrics.SparseCategoricalAccuracy(name="accuracy")],
        )
        return model
    mean, scale = labels.scale()
    outputs = layers.Rescaling(scale, offset=mean)(layers.Dense(1)(features))
    model = tf.keras.Model(inputs, outputs, name="dense")
    model.compile(
        tf.keras.optimizers.SGD(learning_rate / scale**2),
        tf.keras.losses.MeanSquaredError(),
        metrics=[tf.keras.metrics.MeanAbsoluteError(name="mae")],
    )
    return model


def count_classes(*data: ClientData) -> int:
    """Returns the number of classes of the labels in data, or 0 if they are no classes.

    Example:
      >>> count_classes(ClientData.from_dict({"ann": {"x": [1.0, 2.0], "y": [0, 2]}}))
      3
    """
    labels = _Labels()
    for clients in data:
        for client_id in clients:
            labels.add(clients.in_schema(client_id)["y"])
    return labels.num_classes()


class _Moments:
    """Sums of a column of numbers: what its mean and its variance are computed from."""

    def __init__(self) -> None:
        self._count, self._sum, self._squares = 0, np.zeros(1), np.zeros(1)

    def add(self, column: np.ndarray) -> None:
        rows = column.reshape(len(column), -1).astype(np.float64)
        self._count += len(rows)
        self._sum = self._sum + rows.sum(axis=0)
        self._squares = self._squares + (rows**2).sum(axis=0)

    def result(self) -> tuple[Any, Any]:
        """The mean and the variance of each number in a row."""
        mean = self._sum / max(1, self._count)
        variance = np.maximum(self._squares / max(1, self._count) - mean**2, 0)
        variance[variance < _SMALLEST * np.maximum(1, mean**2)] = 1  # a constant stays one
        return mean.astype(np.float32), variance.astype(np.float32)


class _Labels:
    """The labels of all clients."""

    def __init__(self) -> None:
        self._moments = _Moments()
        self._least, self._most, self._whole = math.inf, -math.inf, True

    def add(self, column: np.ndarray) -> None:
        if column.dtype == object or column.ndim > 2 or column.shape[1:] not in ((), (1,)):
            kind = "texts" if column.dtype == object else f"the shape {list(column.shape)}"
            raise ValueError(
                f"column 'y' has {kind}: expected one number per row; name the classes with "
                "class_names if the labels are texts, or train a model of your own"
            )
        self._moments.add(column)
        if len(column):
            self._whole = self._whole and column.dtype.kind in "biu"
            self._least = min(self._least, float(column.min()))
            self._most = max(self._most, float(column.max()))

    def num_classes(self) -> int:
        """The number of classes, or 0 if the labels are numbers to predict."""
        classes = self._whole and self._least >= 0 and self._most < _MOST_CLASSES
        return max(2, int(self._most) + 1) if classes else 0

    def check(self, num_classes: int) -> None:
        if not (self._whole and self._least >= 0 and self._most < num_classes):
            raise ValueError(
                f"column 'y' has labels from {self._least:g} to {self._most:g}: expected integers "
                f"from 0 to {num_classes - 1}, the classes; num_classes=0 predicts a number"
            )

    def scale(self) -> tuple[float, float]:
        mean, variance = self._moments.result()
        return float(mean[0]), math.sqrt(float(variance[0]))


def _inputs(schema: Mapping[str, Any]) -> list[str]:
    if "y" not in schema:
        raise ValueError(
            f"clients have the columns {', '.join(schema)}: expected the labels, 'y', as well; "
            "name their column"
        )
    rest = [name for name in schema if name not in RESERVED and not name.startswith(TARGET_OF)]
    names = ["x"] if "x" in rest else rest
    for name in names:
        column = schema[name]
        if len(column.shape) > (0 if column.dtype == object else 1):
            raise ValueError(
                f"column {name!r} has rows of the shape {list(column.shape)}: expected numbers [n] "
                "or [n, k], or texts [n]; train a model of your own"
            )
    return names


def _texts(column: np.ndarray) -> Iterator[str]:
    return (each.decode() if isinstance(each, bytes) else str(each) for each in column)
