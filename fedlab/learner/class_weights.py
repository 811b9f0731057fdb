"""Weights of classes in the training loss, as `class_weight` of Keras's `fit`."""

import collections.abc
from collections.abc import Mapping
from typing import Any

import numpy as np

from fedlab import _checks
from fedlab.clients.columns import targets


def check(
    class_weight: Mapping[int, float] | None,
    model: Any,
    columns: Mapping[str, np.ndarray],
    ignored: int | None = None,
) -> dict[int, float] | None:
    """Returns a `class_weight` as a dict of int -> float, or None for None.

    Args:
      class_weight: class -> weight of its examples, 0 or more.
      model: a compiled Keras model.
      columns: those of the first client, name -> [n, ...].
      ignored: the label that the loss ignores, or None.

    Raises:
      TypeError, ValueError: `class_weight` is not such a dict, or does not fit the
        model or the columns.
    """
    if class_weight is None:
        return None
    if not isinstance(class_weight, collections.abc.Mapping) or not class_weight:
        raise TypeError(
            f"class_weight={class_weight!r:.60}: expected a dict, class -> weight, such as "
            "{0: 1.0, 1: 5.0}"
        )
    for label, weight in class_weight.items():
        _checks.check_int("a class in class_weight", label, 0)
        _checks.check_number(f"class_weight[{label}]", weight, 0)
    if not any(class_weight.values()):
        raise _checks.value_error(
            "class_weight", dict(class_weight), "a weight above 0 for at least one class"
        )
    outputs = getattr(model, "outputs", None) or ()
    if list(targets(columns)) != ["y"] or len(outputs) > 1:
        raise ValueError(
            f"class_weight with a model of {len(outputs) or 'unknown'} outputs and clients with "
            f"the columns {list(columns)}: expected one output and its labels in column 'y', as "
            "in Keras"
        )
    num_classes = (outputs[0].shape[-1] or 0) if outputs else 0
    missing = [label for label in range(num_classes) if label not in class_weight]
    if num_classes > 1 and missing:
        raise ValueError(
            f"class_weight lacks class {missing[0]}: expected a weight for each of the model's "
            f"{num_classes} classes; for a default of 1.0, pass "
            f"dict.fromkeys(range({num_classes}), 1.0) | class_weight"
        )
    class_weight = {int(label): float(weight) for label, weight in sorted(class_weight.items())}
    of_examples(class_weight, model, columns["y"], "the first client", ignored)
    return class_weight


def of_examples(
    class_weight: Mapping[int, float],
    model: Any,
    labels: np.ndarray,
    owner: str,
    ignored: int | None = None,
) -> np.ndarray:
    """Returns the weight of each label.

    For labels with more than one column, Keras takes the position of the largest value
    as the class, whether they are one-hot or not. Here, labels [n, positions] of a
    model whose output is [n, positions, classes] are themselves classes.

    Args:
      class_weight: the result of `check`.
      model: a compiled Keras model.
      labels: column "y", [n, ...].
      owner: whose labels they are, for error messages.
      ignored: the label that the loss ignores, or None. Its weight is 1.

    Returns:
      float32 [n], or [n, positions] for one class per position.

    Raises:
      ValueError: a label is not a class, or has no weight.
    """
    classes = _classes(model, np.asarray(labels), owner)
    known = np.array([*class_weight], np.int64)
    weights = np.array([*class_weight.values()], np.float32)
    places = np.searchsorted(known, classes).clip(max=len(known) - 1)
    is_ignored = np.zeros(classes.shape, bool) if ignored is None else classes == ignored
    if (unknown := classes[(known[places] != classes) & ~is_ignored]).size:
        raise ValueError(
            f"{owner} has the label {unknown[0]}: expected a class in class_weight, which has a "
            f"weight for {', '.join(map(str, class_weight))}"
        )
    return np.where(is_ignored, np.float32(1), weights[places])


def multiplied(sample_weight: np.ndarray | None, weights: np.ndarray) -> np.ndarray:
    """Returns sample weights multiplied by the weights of examples.

    Args:
      sample_weight: [n, ...], or None for 1.
      weights: [n, ...]. One of the two arrays may lack the later axes.
    """
    if sample_weight is None:
        return weights
    ndim = max(sample_weight.ndim, weights.ndim)
    first, second = (
        array.reshape(array.shape + (1,) * (ndim - array.ndim))
        for array in (sample_weight, weights)
    )
    return first * second.astype(sample_weight.dtype)


def _classes(model, labels, owner):
    """int64 [n] or [n, positions]: the class of each example or position."""
    outputs = getattr(model, "outputs", None) or ()
    is_sequence = bool(outputs) and labels.ndim > 1 and labels.ndim == len(outputs[0].shape) - 1
    if labels.dtype.kind not in "biuf":
        raise ValueError(
            f"{owner} has labels of {labels.dtype}: expected class numbers with class_weight"
        )
    if labels.ndim > 1 and not is_sequence:
        if labels.shape[-1] > 1:
            return _from_one_hot(labels, owner)
        labels = labels[..., 0]
    if (fractions := labels[labels % 1 != 0]).size:
        raise ValueError(
            f"{owner} has the label {fractions[0]}: expected whole numbers, the classes of "
            "class_weight"
        )
    return labels.astype(np.int64)


def _from_one_hot(labels, owner):
    sums = labels.sum(axis=-1, dtype=np.float64)
    if (wrong := sums[(np.abs(sums - 1) > 1e-3) & (sums != 0)]).size or (labels < 0).any():
        shown = (
            f"labels whose rows add up to {wrong[0]:g}"
            if wrong.size
            else "negative numbers in one-hot labels"
        )
        raise ValueError(
            f"{owner} has {shown}: expected one class per example with class_weight, as a number "
            "or one-hot"
        )
    return labels.argmax(axis=-1)
