"""What the files of Keras 2.14 and Keras 3 call the same thing, as tables.

A class that is not listed cannot be converted. Neither can a setting that a rule does
not list. Classes are left out if the two versions compute different values, such as
`RandomCrop`, and so is the activation `hard_sigmoid`.
"""

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

ANY: Any = object()
"""In place of a value: every value is equivalent to leaving the setting out."""


class Rule(NamedTuple):
    """The settings of one class.

    Attributes:
      both: names of the settings that the two versions share.
      keras2: settings that only Keras 2 has -> the value with which it computes what
        Keras 3 computes, or `ANY`.
      keras3: settings that only Keras 3 has, in the same form.
      renamed: the name in Keras 2 -> the name in Keras 3.
      values: settings in `both` -> the values for which the versions agree.
    """

    both: frozenset[str]
    keras2: Mapping[str, Any]
    keras3: Mapping[str, Any]
    renamed: Mapping[str, str]
    values: Mapping[str, Collection[Any]]


def _rule(
    both: str = "",
    keras2: Mapping[str, Any] | None = None,
    keras3: Mapping[str, Any] | None = None,
    renamed: Mapping[str, str] | None = None,
    values: Mapping[str, Collection[Any]] | None = None,
) -> Rule:
    return Rule(frozenset(both.split()), keras2 or {}, keras3 or {}, renamed or {}, values or {})


def _names(text: str, rule: Rule) -> dict[str, Rule]:
    return dict.fromkeys(text.split(), rule)


# ---- Layers ----

_BIAS = "use_bias bias_initializer bias_regularizer bias_constraint activity_regularizer"
_KERNEL = f"{_BIAS} kernel_initializer kernel_regularizer kernel_constraint"
_CONV = "kernel_size strides padding data_format dilation_rate activation"
_DEPTHWISE = (
    f"{_BIAS} depth_multiplier depthwise_initializer depthwise_regularizer depthwise_constraint"
)
_POINTWISE = "pointwise_initializer pointwise_regularizer pointwise_constraint"
_AFFINE = (
    "axis epsilon center scale beta_initializer gamma_initializer beta_regularizer "
    "gamma_regularizer beta_constraint gamma_constraint"
)
_RECURRENT = "recurrent_initializer recurrent_regularizer recurrent_constraint"
_CELL = f"{_KERNEL} {_RECURRENT} units activation dropout recurrent_dropout"
# `zero_output_for_mask` is saved by Keras 2 only if it is True.
_LOOP = "return_sequences return_state go_backwards stateful unroll zero_output_for_mask"
_CELL_2: dict[str, Any] = {"implementation": ANY}
_LOOP_2: dict[str, Any] = {"time_major": False, "implementation": ANY, "input_dim": ANY}
_SEED_3: dict[str, Any] = {"seed": ANY}
_QUANTIZED_3 = {"quantization_config": None}
_POOLING = "pool_size strides padding data_format"
_LOOKUP = (
    "max_tokens num_oov_indices oov_token mask_token output_mode invert sparse pad_to_max_tokens "
    "vocabulary idf_weights vocabulary_size"
)
_LOOKUP_3 = {"oov_method": "floormod", "salt": None}
_IMAGES_3 = {"data_format": "channels_last"}

LAYERS: dict[str, Rule] = {
    "Dense": _rule(f"units activation {_KERNEL}", keras3=_QUANTIZED_3),
    "EinsumDense": _rule(
        f"equation output_shape bias_axes activation {_KERNEL}",
        keras3=_QUANTIZED_3,
    ),
    "Embedding": _rule(
        "input_dim output_dim embeddings_initializer embeddings_regularizer "
        "activity_regularizer embeddings_constraint mask_zero",
        keras2={"input_length": ANY},
        keras3=_QUANTIZED_3,
    ),
    "Activation": _rule("activation"),
    "ActivityRegularization": _rule("l1 l2"),
    # Convolutions
    **_names("Conv1D Conv2D Conv3D", _rule(f"filters groups {_CONV} {_KERNEL}")),
    **_names(
        "Conv1DTranspose Conv2DTranspose",
        _rule(f"filters output_padding {_CONV} {_KERNEL}", keras2={"groups": 1}),
    ),
    "Conv3DTranspose": _rule(
        f"filters output_padding kernel_size strides padding data_format activation {_KERNEL}",
        keras2={"groups": 1},
        keras3={"dilation_rate": [1, 1, 1]},
    ),
    **_names(
        "DepthwiseConv1D DepthwiseConv2D",
        _rule(
            f"{_CONV} {_DEPTHWISE}",
            keras2={
                "groups": 1,
                "kernel_initializer": ANY,
                "kernel_regularizer": ANY,
                "kernel_constraint": ANY,
            },
        ),
    ),
    **_names(
        "SeparableConv1D SeparableConv2D",
        _rule(
            f"filters {_CONV} {_DEPTHWISE} {_POINTWISE}",
            keras2={
                "groups": 1,
                "kernel_initializer": ANY,
                "kernel_regularizer": ANY,
                "kernel_constraint": ANY,
            },
        ),
    ),
    # Pooling and shapes
    **_names(
        "MaxPooling1D MaxPooling2D MaxPooling3D AveragePooling1D AveragePooling2D AveragePooling3D",
        _rule(_POOLING),
    ),
    **_names(
        "GlobalMaxPooling1D GlobalMaxPooling2D GlobalMaxPooling3D GlobalAveragePooling1D "
        "GlobalAveragePooling2D GlobalAveragePooling3D",
        _rule("data_format keepdims"),
    ),
    "ZeroPadding1D": _rule("padding", keras3=_IMAGES_3),
    "Cropping1D": _rule("cropping"),
    "UpSampling1D": _rule("size"),
    **_names("ZeroPadding2D ZeroPadding3D", _rule("padding data_format")),
    **_names("Cropping2D Cropping3D", _rule("cropping data_format")),
    "UpSampling2D": _rule(
        "size data_format interpolation", values={"interpolation": ("nearest", "bilinear")}
    ),
    "UpSampling3D": _rule("size data_format"),
    "Flatten": _rule("data_format"),
    "Reshape": _rule("target_shape"),
    "Permute": _rule("dims"),
    "RepeatVector": _rule("n"),
    "Identity": _rule(),
    # Normalization and noise
    "BatchNormalization": _rule(
        f"{_AFFINE} momentum moving_mean_initializer moving_variance_initializer",
        keras3={
            "synchronized": False,
            "renorm": False,
            "renorm_clipping": ANY,
            "renorm_momentum": ANY,
        },
    ),
    "LayerNormalization": _rule(_AFFINE, keras3={"rms_scaling": False}),
    "GroupNormalization": _rule(f"groups {_AFFINE}"),
    "UnitNormalization": _rule("axis"),
    "Dropout": _rule("rate noise_shape seed"),
    "SpatialDropout1D": _rule("rate seed", keras2={"noise_shape": None}),
    **_names(
        "SpatialDropout2D SpatialDropout3D",
        _rule("rate seed data_format", keras2={"noise_shape": None}),
    ),
    "GaussianNoise": _rule("stddev seed"),
    "GaussianDropout": _rule("rate seed"),
    "AlphaDropout": _rule("rate seed", keras2={"noise_shape": None}, keras3={"noise_shape": None}),
    # Activations
    "ELU": _rule("alpha"),
    "ReLU": _rule("max_value negative_slope threshold"),
    "LeakyReLU": _rule(renamed={"alpha": "negative_slope"}),
    "PReLU": _rule("alpha_initializer alpha_regularizer alpha_constraint shared_axes"),
    "Softmax": _rule("axis"),
    # Merging
    **_names("Add Subtract Multiply Average Maximum Minimum", _rule()),
    "Concatenate": _rule("axis"),
    "Dot": _rule("axes normalize"),
    # Attention
    "Attention": _rule("use_scale score_mode dropout", keras3=_SEED_3),
    "AdditiveAttention": _rule("use_scale dropout", keras3=_SEED_3),
    "MultiHeadAttention": _rule(
        f"num_heads key_dim value_dim dropout output_shape attention_axes {_KERNEL}",
        keras2={"query_shape": ANY, "key_shape": ANY, "value_shape": ANY},
        keras3={"use_gate": False, "sliding_window": None, "flash_attention": ANY, **_SEED_3},
    ),
    # Recurrent layers
    "SimpleRNN": _rule(f"{_CELL} {_LOOP}", keras2=_LOOP_2, keras3=_SEED_3),
    "LSTM": _rule(
        f"{_CELL} {_LOOP} recurrent_activation unit_forget_bias",
        keras2=_LOOP_2,
        keras3={"use_cudnn": ANY, **_SEED_3},
    ),
    "GRU": _rule(
        f"{_CELL} {_LOOP} recurrent_activation reset_after",
        keras2=_LOOP_2,
        keras3={"use_cudnn": ANY, **_SEED_3},
    ),
    "SimpleRNNCell": _rule(_CELL, keras2=_CELL_2, keras3=_SEED_3),
    "LSTMCell": _rule(
        f"{_CELL} recurrent_activation unit_forget_bias", keras2=_CELL_2, keras3=_SEED_3
    ),
    "GRUCell": _rule(f"{_CELL} recurrent_activation reset_after", keras2=_CELL_2, keras3=_SEED_3),
    "RNN": _rule(f"cell {_LOOP}", keras2=_LOOP_2),
    "StackedRNNCells": _rule("cells"),
    **_names(
        "ConvLSTM1D ConvLSTM2D ConvLSTM3D",
        _rule(
            f"filters {_CONV} {_KERNEL} {_RECURRENT} {_LOOP} recurrent_activation "
            "unit_forget_bias dropout recurrent_dropout",
            keras2={"time_major": False},
            keras3=_SEED_3,
        ),
    ),
    "Bidirectional": _rule("layer backward_layer merge_mode"),
    "TimeDistributed": _rule("layer"),
    "Masking": _rule("mask_value"),
    # Preprocessing
    "Normalization": _rule("axis mean variance invert"),
    "Rescaling": _rule("scale offset"),
    "Resizing": _rule(
        "height width interpolation crop_to_aspect_ratio",
        keras3={
            "pad_to_aspect_ratio": False,
            "fill_mode": ANY,
            "fill_value": ANY,
            "antialias": False,
            **_IMAGES_3,
        },
        values={"interpolation": ("nearest", "bilinear")},
    ),
    "CenterCrop": _rule("height width", keras3=_IMAGES_3),
    "RandomFlip": _rule("mode seed", keras3=_IMAGES_3),
    "RandomRotation": _rule("factor fill_mode fill_value interpolation seed", keras3=_IMAGES_3),
    **_names(
        "RandomTranslation RandomZoom",
        _rule(
            "height_factor width_factor fill_mode fill_value interpolation seed", keras3=_IMAGES_3
        ),
    ),
    "CategoryEncoding": _rule("num_tokens output_mode", keras2={"sparse": False}),
    "Discretization": _rule("bin_boundaries num_bins epsilon output_mode sparse"),
    "Hashing": _rule("num_bins mask_value salt output_mode sparse"),
    "HashedCrossing": _rule("num_bins output_mode sparse"),
    "StringLookup": _rule(f"{_LOOKUP} encoding", keras3=_LOOKUP_3),
    "IntegerLookup": _rule(f"{_LOOKUP} vocabulary_dtype", keras3=_LOOKUP_3),
    "TextVectorization": _rule(
        "max_tokens standardize split ngrams output_mode output_sequence_length "
        "pad_to_max_tokens sparse ragged vocabulary idf_weights encoding vocabulary_size"
    ),
}
"""Rules of the layers' settings, besides `name`, `trainable` and `dtype`."""

NOT_TRAINABLE = frozenset(
    ("SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D", "Discretization", "HashedCrossing")
)
"""Layers without weights that do not accept `trainable` in Keras 3."""

CALLS: dict[str, tuple[str, ...]] = {
    "MultiHeadAttention": (
        "query",
        "value",
        "key",
        "query_mask",
        "value_mask",
        "key_mask",
        "attention_mask",
        "return_attention_scores",
        "training",
        "use_causal_mask",
    ),
    **dict.fromkeys(
        ("Attention", "AdditiveAttention"),
        ("inputs", "mask", "training", "return_attention_scores", "use_causal_mask"),
    ),
    **dict.fromkeys(
        ("SimpleRNN", "LSTM", "GRU", "RNN", "Bidirectional"),
        ("sequences", "initial_state", "mask", "training"),
    ),
}
"""The arguments of a layer's call in their order, if there are more than the inputs."""

WITH_STATES = frozenset(("SimpleRNN", "LSTM", "GRU", "RNN", "Bidirectional"))
"""Layers that Keras 2 calls on the list of the inputs and the initial states."""

MASKS = frozenset(("mask", "query_mask", "value_mask", "key_mask"))
"""Arguments that Keras 2 computes and does not save, whereas Keras 3 saves them."""

# ---- Operations ----


class Operation(NamedTuple):
    """An operation on tensors, such as `x + y`, in a Functional model.

    Attributes:
      module: the module of `keras.src.ops` that Keras 3 has it in.
      function: the function of TensorFlow that Keras 2 calls.
      arguments: argument in Keras 3 -> argument in Keras 2, without the first one.
      settings: setting in Keras 3 -> argument in Keras 2.
    """

    module: str
    function: str
    arguments: Mapping[str, str] = {}
    settings: Mapping[str, str] = {}


OPERATIONS: dict[str, Operation] = {
    "Add": Operation("numpy", "__operators__.add", {"x2": "y"}),
    "Subtract": Operation("numpy", "math.subtract", {"x2": "y"}),
    "Multiply": Operation("numpy", "math.multiply", {"x2": "y"}),
    "TrueDivide": Operation("numpy", "math.truediv", {"x2": "y"}),
    "Divide": Operation("numpy", "math.divide", {"x2": "y"}),
    "Negative": Operation("numpy", "math.negative"),
    "Cast": Operation("core", "cast", settings={"dtype": "dtype"}),
    "OnesLike": Operation("numpy", "ones_like", settings={"dtype": "dtype"}),
    "Cumsum": Operation("numpy", "math.cumsum", settings={"axis": "axis", "dtype": "dtype"}),
    "GetItem": Operation("numpy", "__operators__.getitem", {"key": "slice_spec"}),
}
"""The class in Keras 3 -> the operation."""

OPERATIONS_2: dict[str, str] = {each.function: name for name, each in OPERATIONS.items()} | {
    "math.add": "Add"
}
"""The function in Keras 2 -> the class in Keras 3."""

OPERATION_CLASSES_2 = frozenset(("TFOpLambda", "SlicingOpLambda"))
"""Classes that call a function of TensorFlow in Keras 2."""

OPERATION_DEFAULTS_2: dict[str, Any] = {
    "exclusive": False,
    "reverse": False,
    "optimize": True,
    "layout": None,
    "dtype": None,
}
"""Arguments of these functions that Keras 3 lacks -> the value with which they compute the same."""

PARTS: dict[str, tuple[tuple[str, str], ...]] = {
    "MultiHeadAttention": tuple(
        (f"_{name}_dense", f"{name}_dense") for name in ("query", "key", "value", "output")
    ),
    "TextVectorization": (("_lookup_layer", "_lookup_layer"),),
}
"""Parts of a layer with weights or files of their own: (name in Keras 2, name in Keras 3)."""

# ---- Initializers, regularizers, constraints ----

_FANS_3 = {"input_axes": None, "output_axes": None}
_TYPE_2 = {"dtype": ANY}  # saved by early versions

INITIALIZERS: dict[str, Rule] = {
    **_names("Zeros Ones", _rule(keras2=_TYPE_2)),
    "Constant": _rule("value", keras2=_TYPE_2),
    "Identity": _rule(keras2={"gain": 1.0}),
    "Orthogonal": _rule("gain seed", keras2=_TYPE_2),
    **_names("RandomNormal TruncatedNormal", _rule("mean stddev seed", keras2=_TYPE_2)),
    "RandomUniform": _rule("minval maxval seed", keras2=_TYPE_2),
    **_names(
        "GlorotNormal GlorotUniform HeNormal HeUniform LecunNormal LecunUniform",
        _rule("seed", keras2=_TYPE_2, keras3=_FANS_3),
    ),
    "VarianceScaling": _rule("scale mode distribution seed", keras2=_TYPE_2, keras3=_FANS_3),
}
REGULARIZERS: dict[str, Rule] = {
    "L1": _rule("l1"),
    "L2": _rule("l2"),
    "L1L2": _rule("l1 l2"),
    "OrthogonalRegularizer": _rule("factor mode"),
}
CONSTRAINTS: dict[str, Rule] = {
    "NonNeg": _rule(),
    "UnitNorm": _rule("axis"),
    "MaxNorm": _rule("max_value axis"),
    "MinMaxNorm": _rule("min_value max_value rate axis"),
}

# ---- Functions ----

ACTIVATIONS: dict[str, str] = {
    name: name
    for name in (
        "elu exponential gelu linear mish relu selu sigmoid softmax softplus softsign tanh"
    ).split()
} | {"swish": "silu"}
"""The name in Keras 2 -> the name in Keras 3. The functions compute the same values."""

LOSS_FUNCTIONS = frozenset(
    """
    KLD MAE MAPE MSE MSLE binary_crossentropy binary_focal_crossentropy categorical_crossentropy
    categorical_focal_crossentropy categorical_hinge cosine_similarity hinge huber kl_divergence
    kld kullback_leibler_divergence log_cosh logcosh mae mape mean_absolute_error
    mean_absolute_percentage_error mean_squared_error mean_squared_logarithmic_error mse msle mape
    poisson sparse_categorical_crossentropy squared_hinge
    """.split()
)
METRIC_FUNCTIONS = LOSS_FUNCTIONS | frozenset(
    """
    acc accuracy binary_accuracy categorical_accuracy ce crossentropy sparse_categorical_accuracy
    sparse_top_k_categorical_accuracy top_k_categorical_accuracy
    """.split()
) - {"huber", "categorical_hinge"}

# ---- Losses, metrics, optimizers ----

_REDUCED = "reduction"
_LOSS_2 = {"fn": ANY}

LOSSES: dict[str, Rule] = {
    **_names(
        "CategoricalHinge Hinge KLDivergence LogCosh MeanAbsoluteError "
        "MeanAbsolutePercentageError MeanSquaredError MeanSquaredLogarithmicError Poisson "
        "SquaredHinge",
        _rule(_REDUCED, keras2=_LOSS_2),
    ),
    "BinaryCrossentropy": _rule(f"{_REDUCED} from_logits label_smoothing axis", keras2=_LOSS_2),
    "BinaryFocalCrossentropy": _rule(
        f"{_REDUCED} apply_class_balancing alpha gamma from_logits label_smoothing axis",
        keras2=_LOSS_2,
    ),
    "CategoricalCrossentropy": _rule(
        f"{_REDUCED} from_logits label_smoothing axis", keras2=_LOSS_2
    ),
    "CategoricalFocalCrossentropy": _rule(
        f"{_REDUCED} alpha gamma from_logits label_smoothing axis", keras2=_LOSS_2
    ),
    "CosineSimilarity": _rule(f"{_REDUCED} axis", keras2=_LOSS_2),
    "Huber": _rule(f"{_REDUCED} delta", keras2=_LOSS_2),
    "SparseCategoricalCrossentropy": _rule(
        f"{_REDUCED} from_logits ignore_class", keras2=_LOSS_2, keras3={"axis": -1}
    ),
}
_THRESHOLDED = "num_thresholds class_id"
METRICS: dict[str, Rule] = {
    **_names(
        "Accuracy CategoricalAccuracy CategoricalHinge Hinge KLDivergence LogCoshError Mean "
        "MeanAbsoluteError MeanAbsolutePercentageError MeanSquaredError "
        "MeanSquaredLogarithmicError Poisson RootMeanSquaredError SparseCategoricalAccuracy "
        "SquaredHinge Sum",
        _rule(),
    ),
    "CosineSimilarity": _rule("axis"),
    "AUC": _rule(
        "num_thresholds curve summation_method multi_label num_labels label_weights from_logits "
        "thresholds"
    ),
    "BinaryAccuracy": _rule("threshold"),
    "BinaryCrossentropy": _rule("from_logits label_smoothing"),
    "CategoricalCrossentropy": _rule("from_logits label_smoothing axis"),
    "SparseCategoricalCrossentropy": _rule("from_logits ignore_class axis"),
    "F1Score": _rule("average threshold"),
    "FBetaScore": _rule("average beta threshold"),
    **_names("TruePositives TrueNegatives FalsePositives FalseNegatives", _rule("thresholds")),
    **_names("Precision Recall", _rule("thresholds top_k class_id")),
    "PrecisionAtRecall": _rule(f"{_THRESHOLDED} recall"),
    "RecallAtPrecision": _rule(f"{_THRESHOLDED} precision"),
    "SensitivityAtSpecificity": _rule(f"{_THRESHOLDED} specificity"),
    "SpecificityAtSensitivity": _rule(f"{_THRESHOLDED} sensitivity"),
    **_names("TopKCategoricalAccuracy SparseTopKCategoricalAccuracy", _rule("k")),
    "R2Score": _rule("class_aggregation num_regressors"),
}

_OPTIMIZER = (
    "learning_rate weight_decay clipnorm global_clipnorm clipvalue use_ema ema_momentum "
    "ema_overwrite_frequency"
)
_OPTIMIZER_2 = {"jit_compile": ANY, "is_legacy_optimizer": False}
_OPTIMIZER_3 = {"loss_scale_factor": None, "gradient_accumulation_steps": None}


def _optimizer(settings: str) -> Rule:
    return _rule(f"{_OPTIMIZER} {settings}", keras2=_OPTIMIZER_2, keras3=_OPTIMIZER_3)


OPTIMIZERS: dict[str, Rule] = {
    "Adadelta": _optimizer("rho epsilon"),
    "Adafactor": _optimizer("beta_2_decay epsilon_1 epsilon_2 clip_threshold relative_step"),
    "Adagrad": _optimizer("initial_accumulator_value epsilon"),
    **_names("Adam AdamW", _optimizer("beta_1 beta_2 epsilon amsgrad")),
    **_names("Adamax Nadam", _optimizer("beta_1 beta_2 epsilon")),
    "Ftrl": _optimizer(
        "learning_rate_power initial_accumulator_value l1_regularization_strength "
        "l2_regularization_strength l2_shrinkage_regularization_strength beta"
    ),
    "Lion": _optimizer("beta_1 beta_2"),
    "RMSprop": _optimizer("rho momentum epsilon centered"),
    "SGD": _optimizer("momentum nesterov"),
}
SCHEDULES: dict[str, Rule] = {
    "CosineDecay": _rule("initial_learning_rate decay_steps alpha warmup_target warmup_steps"),
    "CosineDecayRestarts": _rule("initial_learning_rate first_decay_steps t_mul m_mul alpha"),
    **_names(
        "ExponentialDecay InverseTimeDecay",
        _rule("initial_learning_rate decay_steps decay_rate staircase"),
    ),
    "PiecewiseConstantDecay": _rule("boundaries values"),
    "PolynomialDecay": _rule("initial_learning_rate decay_steps end_learning_rate power cycle"),
}
