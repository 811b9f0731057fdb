"""A compiled Keras model as pure functions of its weights.

Only this package uses Keras internals. Other packages import the names below from
`fedlab.learner`, never from a subpackage, which implements them for one version of
Keras.

    KerasLearner                   the `Learner` of a model; see `learner.py`

    clone, in_precision            copies of compiled models
    check_compiled, check_finite   checks of models
    check_inputs, input_names      which columns a model reads
    fixed_batch_size
    freeze, statistics             which weights train, and which only change
    weight_arrays, with_weights    weights as arrays
    non_trainable_weights
    finalize_adapted               prepares preprocessing layers after loading
    weight_name
    recurrent_states, accelerated  recurrent layers
    reset_states
    stepwise                       a copy that reads one sequence in parts
    multiply_adds                  an estimate of a model's arithmetic
    identity                       what a compiled model computes, as JSON
    warn_of_left_out               warns about metrics that cannot be merged

    positions, head_mask           parts of models that the versions need in other forms

    graph                          module: a model's layers and connections
    saving                         module: the contents of saved models

    Yogi                           a Keras optimizer
    of_model, from_keras           Keras optimizers as pure functions
    check_model
"""

from importlib import metadata

from fedlab._modules import lazily

# The only place that depends on which Keras is installed. It reads the version without
# importing Keras.
_KERAS = int(metadata.version("keras").partition(".")[0])
_IMPLEMENTATION = f"fedlab.learner.keras{_KERAS}"
_NAMES = {
    "building": ("head_mask", "positions"),
    "cloning": (
        "check_compiled",
        "check_finite",
        "clone",
        "finalize_adapted",
        "non_trainable_weights",
        "weight_arrays",
        "weight_name",
        "with_weights",
    ),
    "freezing": ("freeze", "statistics"),
    "graph": ("input_names",),
    "identity": ("identity",),
    "learner": ("KerasLearner",),
    "optimizers": ("check_model", "from_keras", "of_model"),
    "precision": ("in_precision",),
    "recurrent": ("accelerated", "recurrent_states", "reset_states"),
    "stepwise": ("stepwise",),
    "yogi": ("Yogi",),
}
_SHARED = {
    "check_inputs": "fedlab.learner.inputs",
    "fixed_batch_size": "fedlab.learner.inputs",
    "multiply_adds": "fedlab.learner.arithmetic",
    "warn_of_left_out": "fedlab.learner.metric_state",
}

# TensorFlow is imported when a name is first used.
__getattr__, __dir__, __all__ = lazily(
    __name__,
    _SHARED
    | {name: f"{_IMPLEMENTATION}.{module}" for module, names in _NAMES.items() for name in names},
    modules=[f"{_IMPLEMENTATION}.graph", f"{_IMPLEMENTATION}.saving"],
)
