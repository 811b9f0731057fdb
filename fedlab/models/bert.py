"""BERT as Keras models: an encoder of any size, for question answering or classification.

    BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding
    Jacob Devlin, Ming-Wei Chang, Kenton Lee, Kristina Toutanova. NAACL 2019.
    https://arxiv.org/abs/1810.04805

The models are Functional and consist of Keras's own layers, so that
`tf.keras.models.load_model` can load them without fedlab. The weights are random, or those
of a published checkpoint (`fedlab.models.bert_weights`). `fedlab.models.freeze` selects the
layers to train. Layers are named by their depth i = 0, 1, ...:

    embeddings_word, embeddings_type, embeddings_position, embeddings_norm
    layer_<i>_query, _key, _value, _attention, _attention_output, _attention_norm,
    layer_<i>_intermediate, _output, _output_norm
    head_pooler (classification only), head
"""

import os
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import tensorflow as tf

from fedlab import _checks, learner, optimizers
from fedlab.models import bert_weights

layers = tf.keras.layers


class Config(NamedTuple):
    """The sizes of an encoder. The defaults are those of BERT-tiny; checkpoints have their own.

    Attributes:
      vocab_size: number of word pieces.
      hidden_size: width d, a multiple of `num_heads`.
      num_layers: number of Transformer blocks. If a checkpoint has more, the first ones are
        used.
      num_heads: number of attention heads per block.
      intermediate_size: width of a block's feed-forward layer.
      max_positions: maximum length of the input, in tokens.
      type_vocab_size: number of segment types, such as question and context.
      dropout: rate after the embeddings, after each half of a block, and before the
        classification head.
      attention_dropout: rate on the attention weights; None means `dropout`.
      activation: of the feed-forward layer: "gelu" (exact, with the error function) or
        "relu".
      epsilon: of the layer normalizations.
    """

    vocab_size: int = 30522
    hidden_size: int = 128
    num_layers: int = 2
    num_heads: int = 2
    intermediate_size: int = 512
    max_positions: int = 512
    type_vocab_size: int = 2
    dropout: float = 0.1
    attention_dropout: float | None = None
    activation: str = "gelu"
    epsilon: float = 1e-12


_FREE = ("num_layers", "dropout", "attention_dropout")  # may differ from the checkpoint


def encoder(
    pretrained: str | os.PathLike | None = None, *, length: int | None = None, **config: Any
) -> tf.keras.Model:
    """Builds the encoder alone, not compiled.

        x = dropout(norm(word[input_ids] + type[token_type_ids] + position[0, 1, ...]))
        for each block:
            q, k, v = x Wq + bq, x Wk + bk, x Wv + bv    in heads of width h = d / num_heads
            a = dropout(softmax(q k' / sqrt(h)))         over tokens whose attention_mask is 1
            x = norm(x + dropout(a v Wo + bo))
            x = norm(x + dropout(gelu(x W1 + b1) W2 + b2))

    Devlin et al. 2019, section 3; the blocks are those of Vaswani et al. 2017, section 3.

    Args:
      pretrained: None for random weights as in BERT before training: kernels and embeddings
        from a normal distribution with standard deviation 0.02, truncated at two standard
        deviations; biases 0. "minilm" for MiniLM-L6 (6 blocks of width 384), from a Python
        package. Or the path of a Hugging Face checkpoint of BERT: a folder with
        `model.safetensors` and `config.json`, or a `.safetensors` file in a folder with
        `config.json`.
      length: number of tokens of every input; by default any number up to `max_positions`.
      **config: fields of `Config`. A checkpoint fixes all but num_layers, dropout and
        attention_dropout.

    Returns:
      A `tf.keras.Model`: {"input_ids", "token_type_ids", "attention_mask"}, each int32
      [batch, length] -> float32 [batch, length, d].

    Raises:
      ValueError: a field is unknown or out of range, or the checkpoint is damaged,
        incomplete or of another size.
      FileNotFoundError, ModuleNotFoundError: there is no such checkpoint.

    Example:
      >>> encoder(vocab_size=100, hidden_size=8, intermediate_size=16).output_shape
      (None, None, 8)
    """
    return _build("bert", lambda x, mask, config: x, {}, pretrained, length, config)


def question_answering(
    pretrained: str | os.PathLike | None = None,
    *,
    length: int | None = None,
    learning_rate: float = 5e-5,
    **config: Any,
) -> tf.keras.Model:
    """Builds a compiled model that predicts where an answer starts and ends.

        logits[0, t], logits[1, t] = x[t] W + b    minus 1e9 where attention_mask[t] is 0

    The loss is the mean of the cross-entropies of start and end. The accuracy is the mean
    over both positions. Devlin et al. 2019, section 4.2.

    Args:
      pretrained, length, **config: as in `encoder`. The head is the checkpoint's
        `qa_outputs`, or random if there is none.
      learning_rate: of the Adam optimizer.

    Returns:
      A `tf.keras.Model`: inputs as in `encoder` -> float32 logits [batch, 2, length].
      Targets are int [batch, 2]: the positions of the answer's first and last token.

    Raises:
      ValueError, FileNotFoundError, ModuleNotFoundError: as in `encoder`.

    Example:
      >>> sizes = dict(vocab_size=100, hidden_size=8, intermediate_size=16)
      >>> question_answering(**sizes, length=12).output_shape
      (None, 2, 12)
    """

    def head(x, mask, config):
        logits = layers.Permute((2, 1))(_dense(2, "head")(x))  # [batch, 2, length]
        lowered = layers.Rescaling(1e9, offset=-1e9, name="head_mask")(mask)
        return layers.Add(name="logits")([logits, layers.Reshape((1, -1))(lowered)])

    return _compile(
        _build("bert_question_answering", head, {"head": "qa_outputs"}, pretrained, length, config),
        learning_rate,
    )


def classification(
    num_classes: int,
    pretrained: str | os.PathLike | None = None,
    *,
    length: int | None = None,
    learning_rate: float = 5e-5,
    **config: Any,
) -> tf.keras.Model:
    """Builds a compiled model that classifies texts by their first token, [CLS].

        logits = dropout(tanh(x[0] Wp + bp)) W + b

    Devlin et al. 2019, section 4.1.

    Args:
      num_classes: 2 or more.
      pretrained, length, **config: as in `encoder`. The pooler Wp is the checkpoint's, if it
        has one. The head is the checkpoint's `classifier`, if it has as many classes.
      learning_rate: of the Adam optimizer.

    Returns:
      A `tf.keras.Model`: inputs as in `encoder` -> float32 logits [batch, num_classes].
      Targets are int [batch].

    Raises:
      ValueError, FileNotFoundError, ModuleNotFoundError: as in `encoder`.

    Example:
      >>> classification(3, vocab_size=100, hidden_size=8, intermediate_size=16).output_shape
      (None, 3)
    """
    _checks.check_int("num_classes", num_classes, 2)

    def head(x, mask, config):
        pooled = _dense(config.hidden_size, "head_pooler", activation="tanh")(x[:, 0])
        return _dense(num_classes, "head")(
            layers.Dropout(config.dropout, name="head_dropout")(pooled)
        )

    modules = {"head_pooler": "pooler.dense", "head": "classifier"}
    return _compile(
        _build("bert_classification", head, modules, pretrained, length, config), learning_rate
    )


def up_to(num_layers: int) -> tuple[str, ...]:
    """Returns patterns for the names of the embeddings and the first blocks.

    `freeze(model, *up_to(4))` freezes the embeddings and the first four blocks.

    Example:
      >>> up_to(2)
      ('embeddings_*', 'layer_0_*', 'layer_1_*')
    """
    _checks.check_int("num_layers", num_layers, 0)
    return ("embeddings_*", *(f"layer_{i}_*" for i in range(num_layers)))


# ---- Building ----


def _build(
    name: str,
    head: Callable,
    modules: Mapping[str, str],
    pretrained: str | os.PathLike | None,
    length: int | None,
    given: Mapping[str, Any],
) -> tf.keras.Model:
    """Builds a model, not compiled.

    Args:
      name: the model's name.
      head: (encoder's output, mask, Config) -> output.
      modules: layer of the head -> module of the checkpoint.
      pretrained, length, given: as in `encoder`.
    """
    checkpoint = bert_weights.read(pretrained) if pretrained is not None else None
    config = _config(given, checkpoint)
    if length is not None:
        _checks.check_int(
            "length", length, 1, config.max_positions, "which is max_positions, or None"
        )
    inputs = {
        column: layers.Input([length], dtype="int32", name=column)
        for column in ("input_ids", "token_type_ids", "attention_mask")
    }
    mask = inputs["attention_mask"]
    model = tf.keras.Model(inputs, head(_encode(**inputs, config=config), mask, config), name=name)
    if checkpoint is not None:
        bert_weights.assign(model, checkpoint, config.num_layers, modules)
    return model


def _encode(input_ids, token_type_ids, attention_mask, config):
    def norm(x, name):
        return layers.LayerNormalization(epsilon=config.epsilon, name=name)(x)

    def dropped(x):
        return layers.Dropout(config.dropout)(x) if config.dropout else x

    def heads(x):  # [batch, length, d] -> [batch, heads, length, d / heads]
        width = config.hidden_size // config.num_heads
        return layers.Permute((2, 1, 3))(layers.Reshape((-1, config.num_heads, width))(x))

    positions = learner.positions(input_ids)
    x = _embedding(config.vocab_size, config, "embeddings_word")(input_ids)
    x = x + _embedding(config.type_vocab_size, config, "embeddings_type")(token_type_ids)
    x = x + _embedding(config.max_positions, config, "embeddings_position")(positions)
    x = dropped(norm(x, "embeddings_norm"))
    mask = learner.head_mask(attention_mask)
    scale = (config.hidden_size // config.num_heads) ** -0.5
    for i in range(config.num_layers):
        # Keras's MultiHeadAttention is 5 % slower on the CPU, and its projections cannot be
        # frozen one by one.
        query, key, value = (
            heads(_dense(config.hidden_size, f"layer_{i}_{name}")(x))
            for name in ("query", "key", "value")
        )
        attention = layers.Attention(dropout=config.attention_dropout, name=f"layer_{i}_attention")
        attended = attention([query * scale, value, key], mask=[None, mask])
        attended = layers.Reshape((-1, config.hidden_size))(layers.Permute((2, 1, 3))(attended))
        attended = dropped(_dense(config.hidden_size, f"layer_{i}_attention_output")(attended))
        x = norm(layers.Add()([x, attended]), f"layer_{i}_attention_norm")
        wide = _dense(
            config.intermediate_size, f"layer_{i}_intermediate", activation=config.activation
        )(x)
        x = norm(
            layers.Add()([x, dropped(_dense(config.hidden_size, f"layer_{i}_output")(wide))]),
            f"layer_{i}_output_norm",
        )
    return x


def _initializer():
    return tf.keras.initializers.TruncatedNormal(stddev=0.02)


def _dense(units, name, activation=None):
    return layers.Dense(units, activation, kernel_initializer=_initializer(), name=name)


def _embedding(rows, config, name):
    return layers.Embedding(
        rows, config.hidden_size, embeddings_initializer=_initializer(), name=name
    )


def _compile(model, learning_rate):
    optimizers.check_rate(learning_rate)
    model.compile(
        optimizer=tf.keras.optimizers.Adam(learning_rate),
        loss=tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=[tf.keras.metrics.SparseCategoricalAccuracy(name="accuracy")],
    )
    return model


# ---- Sizes ----


def _config(given, checkpoint):
    """Returns the checked `Config` that results from the caller's fields and a checkpoint's."""
    if unknown := [name for name in given if name not in Config._fields]:
        value = f"{unknown[0]}={given[unknown[0]]!r}"
        raise ValueError(f"unknown argument {value}: expected one of {', '.join(Config._fields)}")
    stored = checkpoint.config if checkpoint is not None else {}
    for name in given.keys() & stored.keys() - set(_FREE):
        if given[name] != stored[name]:
            raise ValueError(
                f"{name}={given[name]!r}: expected {stored[name]!r}, as in {checkpoint.source}; "
                "leave it out"
            )
    config = Config(**{**stored, **given})
    if given.get("attention_dropout") is None and (
        "dropout" in given or config.attention_dropout is None
    ):
        config = config._replace(attention_dropout=config.dropout)
    for name in (
        "vocab_size",
        "hidden_size",
        "num_layers",
        "num_heads",
        "intermediate_size",
        "max_positions",
        "type_vocab_size",
    ):
        _checks.check_int(name, getattr(config, name))
    for name in ("dropout", "attention_dropout"):
        _checks.check_number(name, getattr(config, name), 0, below=1)
    _checks.check_number("epsilon", config.epsilon, above=0, below=1)
    if config.hidden_size % config.num_heads:
        raise _checks.value_error(
            "hidden_size", config.hidden_size, f"a multiple of num_heads={config.num_heads}"
        )
    if config.activation not in ("gelu", "relu"):
        raise _checks.value_error("activation", config.activation, "'gelu' or 'relu'")
    if "num_layers" in stored:
        what = f"the number of layers in {checkpoint.source}"
        _checks.check_int("num_layers", config.num_layers, 1, stored["num_layers"], what)
    return config
