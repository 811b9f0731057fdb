"""Models of standard layers, which both Keras 2 and Keras 3 can build, and inputs for them."""

import numpy as np
import tensorflow as tf

layers = tf.keras.layers


def dense():
    x = layers.Input([4])
    h = layers.Dense(3, "relu", kernel_regularizer="l2", bias_constraint="non_neg")(x)
    return tf.keras.Model(x, layers.Dense(2, "softmax", use_bias=False)(layers.Dropout(0.5)(h)))


def conv():
    return tf.keras.Sequential(
        [
            layers.Input([8, 8, 3]),
            layers.Rescaling(0.5),
            layers.Conv2D(2, 3, padding="same", activation="relu"),
            layers.BatchNormalization(momentum=0.9),
            layers.MaxPooling2D(),
            layers.DepthwiseConv2D(2, depth_multiplier=2),
            layers.SeparableConv2D(3, 2),
            layers.Conv2DTranspose(2, 2, strides=2),
            layers.LayerNormalization(),
            layers.GroupNormalization(2),
            layers.PReLU(),
            layers.LeakyReLU(0.25),
            layers.ZeroPadding2D(1),
            layers.Cropping2D(1),
            layers.UpSampling2D(),
            layers.AveragePooling2D(2),
            layers.GlobalAveragePooling2D(),
            layers.Dense(2),
        ]
    )


def recurrent():
    x = layers.Input([5], dtype="int32")
    h = layers.Embedding(7, 3, mask_zero=True)(x)
    h = layers.LSTM(3, return_sequences=True, recurrent_dropout=0.1)(h)
    h = layers.GRU(2, return_sequences=True, reset_after=True)(h)
    h = layers.GRU(2, return_sequences=True, reset_after=False)(h)
    h = layers.SimpleRNN(2, return_sequences=True)(h)
    return tf.keras.Model(x, layers.TimeDistributed(layers.Dense(2))(h))


def bidirectional():
    x = layers.Input([5, 3])
    h = layers.Bidirectional(layers.LSTM(2, return_sequences=True))(layers.Masking()(x))
    h = layers.Bidirectional(layers.GRU(2), merge_mode="sum")(h)
    return tf.keras.Model(x, layers.Dense(1)(h))


def cells():
    x = layers.Input([5, 3])
    h = layers.RNN([layers.LSTMCell(2), layers.GRUCell(3)], return_sequences=True)(x)
    return tf.keras.Model(x, layers.RNN(layers.SimpleRNNCell(2))(h))


def nested():
    inner = tf.keras.Sequential([layers.Input([3]), layers.Dense(4, "tanh"), layers.Dense(3)])
    y = layers.Input([3])
    functional = tf.keras.Model(y, layers.BatchNormalization()(layers.Dense(3)(y)))
    x = layers.Input([3])
    h = layers.Add()([inner(x), functional(x)])
    return tf.keras.Model(x, layers.Dense(1)(layers.Concatenate()([inner(h), functional(h)])))


def shared():
    x, y = layers.Input([4], name="left"), layers.Input([4], name="right")
    layer = layers.Dense(3, "elu")
    both = layers.Concatenate()([layer(x), layer(y)])
    return tf.keras.Model([x, y], [layers.Dense(1, name="one")(both), layers.Dense(2)(both)])


def named_inputs():
    x, y = layers.Input([4], name="left"), layers.Input([2], name="right")
    h = layers.Concatenate()([layers.Dense(3)(x), layers.Dense(2)(y)])
    return tf.keras.Model({"left": x, "right": y}, {"sum": layers.Dense(1, name="sum")(h)})


def nested_output():
    """A model whose output is that of another one, which is called twice."""
    inner = layers.Input([3])
    model = tf.keras.Model(inner, layers.Dense(3, "tanh")(inner))
    x = layers.Input([3])
    return tf.keras.Model(x, model(model(x)))


def initial_states():
    """An encoder and a decoder, which starts from the encoder's states."""
    x, y = layers.Input([4, 3], name="a"), layers.Input([5, 2], name="b")
    _, h, c = layers.LSTM(3, return_state=True)(x)
    decoded = layers.LSTM(3, return_sequences=True)(y, initial_state=[h, c])
    _, state = layers.GRU(2, return_state=True)(x)
    return tf.keras.Model(
        [x, y], [decoded, layers.GRU(2, return_sequences=True)(y, initial_state=state)]
    )


def masked():
    x = layers.Input([5], dtype="int32")
    h = layers.Embedding(7, 4, mask_zero=True)(x)
    h = layers.Dropout(0.1)(layers.Dense(4)(h))
    h = layers.MultiHeadAttention(2, 2)(h, h)
    return tf.keras.Model(x, layers.Dense(1)(layers.GlobalAveragePooling1D()(h)))


def attention():
    x = layers.Input([5, 4])
    h = layers.MultiHeadAttention(2, 3)(x, x)
    h = layers.LayerNormalization()(layers.Add()([x, h]))
    h = layers.Attention(use_scale=True)([h, x])
    h = layers.AdditiveAttention()([h, x])
    h = layers.EinsumDense("abc,cd->abd", [None, 3], bias_axes="d")(h)
    h = layers.Conv1D(2, 2, padding="causal")(h)
    h = layers.Permute([2, 1])(layers.Reshape([5, 2])(h))
    return tf.keras.Model(x, layers.Dense(1)(layers.Flatten()(h)))


def merging():
    x = layers.Input([3, 4])
    h = layers.Dense(4)(x)
    parts = [
        layers.Add()([x, h]),
        layers.Multiply()([x, h]),
        layers.Subtract()([x, h]),
        layers.Average()([x, h]),
        layers.Maximum()([x, h]),
        layers.Minimum()([x, h]),
        layers.Dot(2)([x, h]),
    ]
    h = layers.Concatenate(axis=2)(parts)
    h = layers.Activation("swish")(layers.GaussianNoise(0.1)(layers.SpatialDropout1D(0.1)(h)))
    return tf.keras.Model(x, layers.Dense(1)(layers.GlobalMaxPooling1D()(h)))


def normalization():
    layer = layers.Normalization()
    layer.adapt(np.random.default_rng(0).normal(2, 3, [20, 3]).astype(np.float32))
    given = layers.Normalization(mean=[1.0, 2.0, 3.0], variance=[1.0, 4.0, 9.0])
    x = layers.Input([3])
    both = layers.Concatenate()([layer(x), given(x)])
    return tf.keras.Model(x, layers.Dense(1)(both))


def words():
    x = layers.Input([1], dtype="string")
    text = layers.TextVectorization(output_sequence_length=3)
    text.adapt(["a b", "b c"])
    h = layers.Embedding(text.vocabulary_size(), 2)(text(x))
    lookup = layers.StringLookup(output_mode="multi_hot")
    lookup.adapt([["a b"], ["c"]])
    given = layers.StringLookup(vocabulary=["c", "d"], output_mode="one_hot")
    return tf.keras.Model(
        x, layers.Dense(1)(layers.Concatenate()([layers.Flatten()(h), lookup(x), given(x)]))
    )


def numbers():
    x = layers.Input([1], dtype="int64")
    bins = layers.Discretization([0.0, 2.0], output_mode="one_hot")
    lookup = layers.IntegerLookup(vocabulary=[1, 2], output_mode="one_hot")
    category = layers.CategoryEncoding(4, output_mode="one_hot")
    return tf.keras.Model(
        x, layers.Dense(1)(layers.Concatenate()([bins(x), lookup(x), category(x)]))
    )


def arithmetic():
    """Operations on tensors, without a layer's name."""
    x, y = layers.Input([4, 3]), layers.Input([3])
    h = layers.Dense(3)(x)
    h = (h * 0.5 - h / 4.0 + h * h) + 1.0 - (-h)
    return tf.keras.Model([x, y], [h[:, 1:3, ::2], h[:, 0] + y, y / (h[:, -1] * h[:, 2] + 9.0)])


def next_characters():
    """A recurrent model of fedlab, which keeps its state from batch to batch."""
    from fedlab.models import char_rnn

    return char_rnn(7, units=4, embedding_dim=3, num_layers=2, stateful=True, batch_size=3)


def questions():
    """A BERT of fedlab."""
    from fedlab.models import bert

    return bert.question_answering(
        vocab_size=9,
        hidden_size=4,
        num_layers=2,
        num_heads=2,
        intermediate_size=6,
        max_positions=8,
        type_vocab_size=4,
        dropout=0.0,
    )


def texts():
    """A BERT of fedlab that classifies."""
    from fedlab.models import bert

    return bert.classification(
        3,
        vocab_size=9,
        hidden_size=4,
        num_layers=1,
        num_heads=2,
        intermediate_size=6,
        max_positions=8,
        type_vocab_size=4,
        dropout=0.0,
    )


def inputs_of(model, rows=3):
    """Returns an input for a model, the same for the same model on both stacks."""
    draw = np.random.default_rng(0)

    def column(tensor):
        shape = [rows, *[size or 4 for size in tensor.shape[1:]]]
        dtype = tf.as_dtype(tensor.dtype)
        if dtype == tf.string:
            return tf.constant(draw.choice(["a b", "c", "d e"], shape))
        if dtype.is_integer:
            return draw.integers(0, 4, shape).astype(dtype.as_numpy_dtype)
        return draw.normal(size=shape).astype(np.float32)

    if model.__class__.__name__ == "Functional" and isinstance(model.input, dict):
        x = {name: column(model.input[name]) for name in sorted(model.input)}
        if "attention_mask" in x:
            x["attention_mask"] = np.int32([[1, 1, 1, 0], [1, 1, 1, 1], [1, 1, 0, 0]])
        return x
    columns = [column(tensor) for tensor in model.inputs]
    return columns if len(columns) > 1 else columns[0]


def outputs_of(model, x=None):
    """Returns the outputs of a model as a list of arrays."""
    x = inputs_of(model) if x is None else x
    for layer in model.layers:
        if getattr(layer, "stateful", False):
            (getattr(layer, "reset_states", None) or layer.reset_state)()
    return [np.asarray(y) for y in tf.nest.flatten(model(x, training=False))]


def randomized(model):
    """Sets the weights of a model to random values, the same on both stacks, and returns it."""
    draw = np.random.default_rng(1)
    for weight in model.trainable_weights:
        weight.assign(draw.uniform(0.1, 0.9, weight.shape) * draw.choice([0.4, 1], weight.shape))
    return model


ALL = [
    dense,
    conv,
    recurrent,
    bidirectional,
    cells,
    nested,
    shared,
    named_inputs,
    nested_output,
    initial_states,
    masked,
    attention,
    merging,
    normalization,
    words,
    numbers,
    arithmetic,
    next_characters,
    questions,
    texts,
]
