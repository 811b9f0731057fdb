"""The `Setting` of an engine, from the arguments that `simulate` and `client_update` share."""

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from fedlab import _checks, aggregators, algorithms
from fedlab.clients import Batching, ClientData, seeding
from fedlab.clients.availability import check_condition, together
from fedlab.engines.checks import ignored_label
from fedlab.engines.engine import Setting
from fedlab.learner import check_compiled, check_finite, class_weights, clone
from fedlab.optimizers import schedules


def make_setting(
    model: Any,
    clients: ClientData,
    algorithm: algorithms.Algorithm | None,
    *,
    aggregator: aggregators.Aggregator | None = None,
    seed: int,
    batching: Batching,
    client_learning_rate: Any,
    class_weight: Mapping[int, float] | None,
    conditions: Any,
    **options: Any,
) -> Setting:
    """The `Setting` of these arguments of `fedlab.simulate`.

    Args:
      model: a compiled Keras model, or a function that makes one.
      clients, algorithm, aggregator, seed: as in `fedlab.simulate`.
      client_learning_rate, class_weight, conditions: as in `fedlab.simulate`.
      batching: a `Batching`.
      **options: fields of `Setting` as they are.

    Raises:
      TypeError, ValueError: an argument is wrong; the message says what is allowed.
    """
    model_fn = None
    if callable(model) and not isinstance(model, tf.keras.Model):
        model_fn, model = model, model()
    check_compiled(model)
    if not model.trainable_weights:
        raise ValueError(
            f"model {model.name!r} has no trainable weights: expected at least one layer that "
            "is not frozen, see fedlab.models.freeze"
        )
    check_finite(model)
    if not isinstance(clients, ClientData):
        raise _checks.type_error(
            "clients", clients, "a fedlab.ClientData, see ClientData.from_dict"
        )
    seeding.check_seed(seed)
    if options.get("num_workers") is not None:
        _checks.check_int("num_workers", options["num_workers"], what="or None for one per core")
    if client_learning_rate is not None and not isinstance(
        client_learning_rate, schedules.Schedule
    ):
        raise _checks.value_error(
            "client_learning_rate",
            client_learning_rate,
            "a schedule such as fl.optimizers.schedules.cosine(0.1, rounds=100), or None for the "
            "learning rate that the model was compiled with",
        )
    aggregator = aggregators.mean() if aggregator is None else aggregator
    if not isinstance(aggregator, aggregators.Aggregator):
        raise _checks.type_error(
            "aggregator", aggregator, "an Aggregator, such as fedlab.aggregators.mean()"
        )
    if isinstance(conditions, (list, tuple)):
        conditions = together(conditions)
    elif conditions is not None:
        check_condition(conditions)
    return Setting(
        model=model,
        build=lambda: clone(model, model_fn),
        clients=clients,
        algorithm=algorithms.prepare(
            algorithms.fed_avg() if algorithm is None else algorithm, model, client_learning_rate
        ),
        aggregator=aggregator,
        batching=batching.check(),
        seed=seed,
        client_learning_rate=client_learning_rate,
        conditions=conditions,
        class_weight=class_weights.check(
            class_weight, model, clients.example(), ignored_label(model)
        ),
        **options,
    )
