"""TFF's algorithms and optimizers that compute the same as those of fedlab and Keras."""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from fedlab import _checks, optimizers
from fedlab.aggregators import privacy
from fedlab.engines.engine import averaged_weights
from fedlab.engines.setting import Setting
from fedlab.engines.tff import aggregators as _tff_aggregators
from fedlab.learner.keras2.yogi import Yogi
from fedlab.learner.weight_decay import weight_decay_exclusions
from fedlab.optimizers.schedules import Schedule


def build(
    setting: Setting, model_fn: Callable[[bool], Callable[[], Any]]
) -> tff.learning.templates.LearningProcess:
    """Returns TFF's learning process for `setting`.

    Args:
      setting: an engine's setting.
      model_fn: a function of whether clients are weighted by tokens, which returns a
        function that builds a `tff.learning.models.VariableModel`.

    Raises:
      ValueError: TFF does not support a part of the setting, or computes it differently.
    """
    algorithm = setting.algorithm
    if algorithm.name not in _ALGORITHMS:
        raise ValueError(
            f"engine='tff' with algorithm {algorithm.name!r}: expected {', '.join(_ALGORITHMS)}"
        )
    averaged = [*averaged_weights(setting).values()]
    privacy.check(setting.aggregator.privacy, algorithm, averaged)
    aggregator = _tff_aggregators.build(setting.aggregator)
    if averaged:
        raise ValueError(
            f"non_trainable='average' and a model with weight {averaged[0]!r}: expected "
            "non_trainable='broadcast' with engine='tff', which then never updates such weights"
        )
    if setting.precision != "float32":
        raise _checks.value_error("precision", setting.precision, "'float32' with engine='tff'")
    constrained = [v.name for v in setting.model.trainable_variables if v.constraint is not None]
    if constrained:
        raise ValueError(
            f"weight {constrained[0]!r} with a constraint: expected no constraints with "
            "engine='tff'"
        )
    if setting.client_learning_rate is not None and algorithm.name not in _SCHEDULED:
        raise ValueError(
            f"client_learning_rate with engine='tff' and algorithm {algorithm.name!r}: expected "
            f"one of {', '.join(_SCHEDULED)}"
        )
    if (
        isinstance(aggregator, tff.aggregators.UnweightedAggregationFactory)
        and algorithm.name not in _UNWEIGHTED
    ):
        raise ValueError(
            f"aggregator {setting.aggregator.name!r} with engine='tff' and algorithm "
            f"{algorithm.name!r}: expected one of {', '.join(_UNWEIGHTED)}"
        )
    return _ALGORITHMS[algorithm.name](setting, model_fn, aggregator, **algorithm.settings)


def _fed_opt(setting, model_fn, aggregator, *, server_optimizer, client_weighting):
    client_weighting, count_tokens = _weighting(client_weighting)
    options = dict(
        server_optimizer_fn=_server_optimizer(server_optimizer, setting.model),
        model_aggregator=aggregator,
    )
    if setting.client_learning_rate is not None:
        if client_weighting is not tff.learning.ClientWeighting.NUM_EXAMPLES:
            raise ValueError(
                "client_weighting='uniform': expected 'num_examples' or 'num_tokens' with "
                "engine='tff' and client_learning_rate"
            )
        return tff.learning.algorithms.build_weighted_fed_avg_with_optimizer_schedule(
            model_fn(count_tokens),
            client_learning_rate_fn=_rate_fn(setting.client_learning_rate, setting.model),
            client_optimizer_fn=client_optimizer_fn(setting.model, scheduled=True),
            **options,
        )
    options["client_optimizer_fn"] = client_optimizer(setting.model)
    if isinstance(aggregator, tff.aggregators.UnweightedAggregationFactory):
        return tff.learning.algorithms.build_unweighted_fed_avg(model_fn(count_tokens), **options)
    return tff.learning.algorithms.build_weighted_fed_avg(
        model_fn(count_tokens), client_weighting=client_weighting, **options
    )


def _fed_avg(*given, client_weighting, server_learning_rate, server_momentum):
    server_optimizer = optimizers.sgd(server_learning_rate, server_momentum)
    return _fed_opt(*given, server_optimizer=server_optimizer, client_weighting=client_weighting)


def _fed_avgm(*given, client_weighting, server_learning_rate, momentum, nesterov):
    server_optimizer = optimizers.sgd(server_learning_rate, momentum, nesterov)
    return _fed_opt(*given, server_optimizer=server_optimizer, client_weighting=client_weighting)


def _fed_adagrad(
    *given,
    client_weighting,
    server_learning_rate,
    epsilon,
    epsilon_in_root,
    initial_accumulator_value,
):
    server_optimizer = optimizers.adagrad(
        server_learning_rate, initial_accumulator_value, epsilon, epsilon_in_root
    )
    return _fed_opt(*given, server_optimizer=server_optimizer, client_weighting=client_weighting)


def _fed_adam(*given, client_weighting, server_learning_rate, **settings):
    return _fed_opt(
        *given,
        server_optimizer=optimizers.adam(server_learning_rate, **settings),
        client_weighting=client_weighting,
    )


def _fed_yogi(*given, client_weighting, server_learning_rate, **settings):
    server_optimizer = optimizers.yogi(server_learning_rate, **settings)
    return _fed_opt(*given, server_optimizer=server_optimizer, client_weighting=client_weighting)


def _fed_prox(*given, mu, **settings):
    if mu:
        raise ValueError(
            f"mu={mu!r}: expected 0 with engine='tff', because TFF 0.87 adds mu (w - w_k) to the "
            "gradient at w_k, but the paper adds mu (w_k - w); use engine='local'"
        )
    return fed_prox_of_tff(*given, mu=mu, **settings)


def fed_prox_of_tff(
    setting: Setting,
    model_fn: Callable[[bool], Callable[[], Any]],
    aggregator: Any,
    *,
    mu: float,
    client_weighting: str,
    server_learning_rate: float | Schedule,
    server_momentum: float,
) -> tff.learning.templates.LearningProcess:
    """Returns TFF's FedProx, whose proximal term has the opposite sign of the paper's."""
    client_weighting, count_tokens = _weighting(client_weighting)
    options = dict(
        proximal_strength=float(mu),
        client_optimizer_fn=client_optimizer(setting.model),
        server_optimizer_fn=_server_optimizer(
            optimizers.sgd(server_learning_rate, server_momentum), setting.model
        ),
        model_aggregator=aggregator,
    )
    if isinstance(aggregator, tff.aggregators.UnweightedAggregationFactory):
        return tff.learning.algorithms.build_unweighted_fed_prox(model_fn(count_tokens), **options)
    return tff.learning.algorithms.build_weighted_fed_prox(
        model_fn(count_tokens), client_weighting=client_weighting, **options
    )


def _fed_sgd(setting, model_fn, aggregator, *, server_optimizer, client_weighting):
    if client_weighting != "num_examples":
        raise _checks.value_error(
            "client_weighting",
            client_weighting,
            "'num_examples' with engine='tff' and algorithm 'fed_sgd'",
        )
    optimizer = (
        client_optimizer(setting.model)
        if server_optimizer is None
        else _server_optimizer(server_optimizer, setting.model)
    )
    return tff.learning.algorithms.build_fed_sgd(
        model_fn(False), server_optimizer_fn=optimizer, model_aggregator=aggregator
    )


def _mime_lite(setting, model_fn, aggregator, *, client_weighting, server_learning_rate):
    if client_weighting == "num_tokens":
        raise _checks.value_error(
            "client_weighting",
            client_weighting,
            "'num_examples' or 'uniform' with engine='tff' and algorithm 'mime_lite'",
        )
    client_weighting, _ = _weighting(client_weighting)
    options = dict(
        server_optimizer=_server_optimizer(optimizers.sgd(server_learning_rate), setting.model),
        client_weighting=client_weighting,
        model_aggregator=aggregator,
        full_gradient_aggregator=tff.aggregators.MeanFactory(no_nan_division=True),
    )
    if setting.client_learning_rate is not None:
        # The schedule replaces the learning rate of 1.
        base_optimizer = client_optimizer_fn(setting.model, scheduled=True)(
            _number(1, setting.model)
        )
        rate_fn = _rate_fn(setting.client_learning_rate, setting.model)
        return tff.learning.algorithms.build_mime_lite_with_optimizer_schedule(
            model_fn(False), learning_rate_fn=rate_fn, base_optimizer=base_optimizer, **options
        )
    base_optimizer = client_optimizer(setting.model)
    return tff.learning.algorithms.build_weighted_mime_lite(
        model_fn(False), base_optimizer=base_optimizer, **options
    )


_ALGORITHMS: dict[str, Callable] = {
    "fed_adagrad": _fed_adagrad,
    "fed_adam": _fed_adam,
    "fed_avg": _fed_avg,
    "fed_avgm": _fed_avgm,
    "fed_opt": _fed_opt,
    "fed_prox": _fed_prox,
    "fed_sgd": _fed_sgd,
    "fed_yogi": _fed_yogi,
    "mime_lite": _mime_lite,
}
_FED_OPT = ("fed_adagrad", "fed_adam", "fed_avg", "fed_avgm", "fed_opt", "fed_yogi")
_SCHEDULED = (*_FED_OPT, "mime_lite")
_UNWEIGHTED = (*_FED_OPT, "fed_prox")

# TFF weights clients by what the model reports as the size of its batches: examples or tokens.
_WEIGHTINGS = {
    "num_examples": tff.learning.ClientWeighting.NUM_EXAMPLES,
    "num_tokens": tff.learning.ClientWeighting.NUM_EXAMPLES,
    # `build_unweighted_fed_avg` with a mean would count a client whose update is not finite as
    # a client with an update of 0.
    "uniform": tff.learning.ClientWeighting.UNIFORM,
}


def _weighting(name):
    if name not in _WEIGHTINGS:
        given = getattr(name, "__name__", repr(name))
        raise ValueError(
            f"client_weighting={given}: expected one of {', '.join(map(repr, _WEIGHTINGS))} with "
            "engine='tff'"
        )
    return _WEIGHTINGS[name], name == "num_tokens"


def _dtype(model):
    """The dtype of an optimizer's numbers in TFF, which has to fit the weights."""
    return tf.float64 if all(w.dtype == tf.float64 for w in model.trainable_weights) else tf.float32


def _number(value, model):
    # TFF reads a Python float as float32.
    return np.float64(value) if _dtype(model) == tf.float64 else float(value)


def _numbers(settings, model):
    return {
        name: value if isinstance(value, bool) else _number(value, model)
        for name, value in settings.items()
    }


def _rate_fn(schedule, model):
    """A schedule as TFF calls it, with the number of rounds done."""
    return lambda rounds_done: tf.cast(schedule(rounds_done + 1), _dtype(model))


def _server_optimizer(optimizer, model):
    """Returns TFF's optimizer with the same formula. Raises ValueError if there is none."""
    settings = dict(optimizer.settings)
    rate = settings.pop("learning_rate", None)
    build_fn, unlike = _SERVER_OPTIMIZERS.get(optimizer.name, (None, {}))
    if build_fn is None:
        raise ValueError(
            f"engine='tff' with server optimizer {optimizer.name!r}: expected "
            f"{', '.join(_SERVER_OPTIMIZERS)}"
        )
    _check_yogi(optimizer.name == "yogi", model)
    for name, has in unlike.items():
        if (value := settings.pop(name)) != has:
            raise ValueError(
                f"{name}={value!r} for server optimizer {optimizer.name!r}: expected {has} with "
                "engine='tff'"
            )
    for ours, theirs in (
        ("initial_accumulator_value", "initial_preconditioner_value"),
        ("rho", "decay"),
    ):
        if ours in settings:
            settings[theirs] = settings.pop(ours)
    build_fn = functools.partial(build_fn, **_numbers(settings, model))
    if isinstance(rate, Schedule):
        return tff.learning.optimizers.schedule_learning_rate(
            build_fn(_number(1, model)), _rate_fn(rate, model)
        )
    return build_fn(_number(rate, model))


# TFF's function, and the values of settings that TFF does not have.
_SERVER_OPTIMIZERS = {
    "sgd": (tff.learning.optimizers.build_sgdm, {"nesterov": False}),
    "adam": (
        tff.learning.optimizers.build_adam,
        {"bias_correction": True, "initial_accumulator_value": 0.0},
    ),
    "adamw": (tff.learning.optimizers.build_adamw, {}),
    "adagrad": (tff.learning.optimizers.build_adagrad, {"epsilon_in_root": True}),
    "yogi": (tff.learning.optimizers.build_yogi, {"bias_correction": True}),
    "rmsprop": (tff.learning.optimizers.build_rmsprop, {"epsilon_in_root": False}),
}


def _check_yogi(is_yogi, model):
    """Raises ValueError for weights other than float32, because TFF's Yogi counts in float32."""
    if is_yogi and (wrong := [v.name for v in model.trainable_variables if v.dtype != tf.float32]):
        raise ValueError(
            f"weight {wrong[0]!r} is not float32: expected float32 weights with engine='tff' and "
            "Yogi; use engine='local'"
        )


def client_optimizer(model: tf.keras.Model) -> tff.learning.optimizers.Optimizer:
    """Returns TFF's optimizer with the same formula as the model's.

    Raises:
      ValueError: there is none.
    """
    build_fn = client_optimizer_fn(model)
    return build_fn(_number(model.optimizer.get_config()["learning_rate"], model))


def client_optimizer_fn(
    model: tf.keras.Model, scheduled: bool = False
) -> Callable[[Any], tff.learning.optimizers.Optimizer]:
    """Returns a function of the learning rate that builds TFF's optimizer with the same formula.

    TFF 0.87 accepts only its own optimizers. RMSprop is not among them, because TFF adds
    epsilon outside of the root and Keras inside.

    Args:
      model: a compiled Keras model.
      scheduled: whether a schedule replaces the learning rate.

    Raises:
      ValueError: there is no such optimizer.
    """
    optimizer = model.optimizer
    allowed = ", ".join(cls.__name__ for cls in _OPTIMIZERS)
    if type(optimizer) not in _OPTIMIZERS:
        raise ValueError(
            f"engine='tff' with the model's optimizer {type(optimizer).__name__}: expected "
            f"{allowed} of tf.keras.optimizers or fedlab.optimizers"
        )
    _check_yogi(type(optimizer) is Yogi, model)
    config = optimizer.get_config()
    unsupported = {name: config[name] for name in _OPTIONS if config.get(name)}
    if type(optimizer) is not tf.keras.optimizers.AdamW and config.get("weight_decay"):
        unsupported["weight_decay"] = config["weight_decay"]
    if any(weight_decay_exclusions(optimizer, model.trainable_variables)):
        unsupported["exclude_from_weight_decay"] = True
    if not scheduled and isinstance(config["learning_rate"], dict):
        unsupported["learning_rate"] = config["learning_rate"].get("class_name")
    if unsupported:
        options = ", ".join(f"{name}={value!r}" for name, value in unsupported.items())
        raise ValueError(
            f"the model's {type(optimizer).__name__} has {options}: expected none of these with "
            "engine='tff'; compile the model without them, or use engine='local'"
        )
    build_fn, arguments = _OPTIMIZERS[type(optimizer)]
    return functools.partial(
        build_fn, **_numbers({theirs: config[ours] for ours, theirs in arguments.items()}, model)
    )


_OPTIONS = ("nesterov", "amsgrad", "clipnorm", "global_clipnorm", "clipvalue", "use_ema")
_ADAM = {"beta_1": "beta_1", "beta_2": "beta_2", "epsilon": "epsilon"}
_OPTIMIZERS = {
    tf.keras.optimizers.SGD: (tff.learning.optimizers.build_sgdm, {"momentum": "momentum"}),
    tf.keras.optimizers.Adam: (tff.learning.optimizers.build_adam, _ADAM),
    tf.keras.optimizers.AdamW: (
        tff.learning.optimizers.build_adamw,
        {**_ADAM, "weight_decay": "weight_decay"},
    ),
    tf.keras.optimizers.Adagrad: (
        tff.learning.optimizers.build_adagrad,
        {"initial_accumulator_value": "initial_preconditioner_value", "epsilon": "epsilon"},
    ),
    Yogi: (
        tff.learning.optimizers.build_yogi,
        {**_ADAM, "initial_accumulator_value": "initial_preconditioner_value"},
    ),
}
