"""TFF's own algorithms and optimizers, where they are the same as ours and Keras's."""

import tensorflow as tf
import tensorflow_federated as tff


def build(setting, model_fn):
    """The `tff.learning.templates.LearningProcess` for `setting`.

    Args:
      setting: an engine's `Setting`.
      model_fn: `num_tokens as weight (bool) -> function that makes a tff.learning.models.VariableModel`.

    Raises:
      ValueError: for what TFF has not, or has with other mathematics.
    """
    algorithm = setting.algorithm
    if algorithm.name not in _ALGORITHMS:
        raise ValueError(f"engine 'tff' has no algorithm {algorithm.name!r}; allowed: {', '.join(_ALGORITHMS)}.")
    if setting.aggregator.name != "mean":
        raise ValueError(f"engine 'tff' has no aggregator {setting.aggregator.name!r}; allowed: mean.")
    if setting.non_trainable != "broadcast":
        raise ValueError(f"non_trainable is {setting.non_trainable!r}; allowed with engine 'tff': 'broadcast'.")
    return _ALGORITHMS[algorithm.name](model_fn, client_optimizer(setting.model.optimizer), **algorithm.settings)


def _fed_avg(model_fn, optimizer, *, client_weighting, server_learning_rate, server_momentum):
    if client_weighting not in _WEIGHTINGS:
        raise ValueError(f"client_weighting is {client_weighting!r}; allowed with engine 'tff': {', '.join(map(repr, _WEIGHTINGS))}.")
    return tff.learning.algorithms.build_weighted_fed_avg(
        model_fn(client_weighting == "num_tokens"),
        client_optimizer_fn=optimizer,
        server_optimizer_fn=tff.learning.optimizers.build_sgdm(server_learning_rate, server_momentum),
        client_weighting=_WEIGHTINGS[client_weighting],
        model_aggregator=tff.aggregators.MeanFactory(no_nan_division=True),  # all weights zero: no step, as in ours
    )


_ALGORITHMS = {"fed_avg": _fed_avg}

# TFF weights by what the model says its batches count: examples, or tokens.
_WEIGHTINGS = {
    "num_examples": tff.learning.ClientWeighting.NUM_EXAMPLES,
    "num_tokens": tff.learning.ClientWeighting.NUM_EXAMPLES,
    # Not `build_unweighted_fed_avg`, which is the same but counts a client whose update is not finite as one that did not move.
    "uniform": tff.learning.ClientWeighting.UNIFORM,
}


def client_optimizer(optimizer):
    """TFF's optimizer with the same formula as a Keras optimizer.

    TFF 0.87 takes optimizers of its own only. Its RMSprop adds epsilon outside of the root, Keras inside: not the same.

    Raises:
      ValueError: where TFF has none.
    """
    allowed = ", ".join(cls.__name__ for cls in _OPTIMIZERS)
    if type(optimizer) not in _OPTIMIZERS:
        raise ValueError(
            f"the model's optimizer is {type(optimizer).__name__}; allowed with engine 'tff': {allowed} of tf.keras.optimizers."
        )
    config = optimizer.get_config()
    unsupported = {name: config[name] for name in _OPTIONS if config.get(name)}
    if type(optimizer) is not tf.keras.optimizers.AdamW and config.get("weight_decay"):
        unsupported["weight_decay"] = config["weight_decay"]
    if getattr(optimizer, "_exclude_from_weight_decay", None) or getattr(optimizer, "_exclude_from_weight_decay_names", None):
        unsupported["exclude_from_weight_decay"] = True
    if isinstance(config["learning_rate"], dict):
        unsupported["learning_rate"] = config["learning_rate"].get("class_name")
    if unsupported:
        options = ", ".join(f"{name}={value!r}" for name, value in unsupported.items())
        raise ValueError(f"the model's {type(optimizer).__name__} has {options}, which TFF lacks: compile without, or use engine 'local'.")
    build_fn, arguments = _OPTIMIZERS[type(optimizer)]
    return build_fn(float(config["learning_rate"]), **{theirs: config[ours] for ours, theirs in arguments.items()})


_OPTIONS = ("nesterov", "amsgrad", "clipnorm", "global_clipnorm", "clipvalue", "use_ema")
_ADAM = {"beta_1": "beta_1", "beta_2": "beta_2", "epsilon": "epsilon"}
_OPTIMIZERS = {
    tf.keras.optimizers.SGD: (tff.learning.optimizers.build_sgdm, {"momentum": "momentum"}),
    tf.keras.optimizers.Adam: (tff.learning.optimizers.build_adam, _ADAM),
    tf.keras.optimizers.AdamW: (tff.learning.optimizers.build_adamw, {**_ADAM, "weight_decay": "weight_decay"}),
    tf.keras.optimizers.Adagrad: (
        tff.learning.optimizers.build_adagrad,
        {"initial_accumulator_value": "initial_preconditioner_value", "epsilon": "epsilon"},
    ),
}
