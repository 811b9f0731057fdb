"""What is measured: models, cohorts of synthetic clients, and the matrix products of training.

A product of [m, k] and [k, n] counts 2 m k n FLOPs. Training a layer takes three
products: the forward product and the gradients of the input and of the weights. The
first layer of W3 and W3b reads data, so it needs no gradient of its input. In the other
workloads the first layer is an embedding, which takes no product itself but needs that
gradient. Element-wise operations (activations, biases, norms, softmax), embedding
lookups and optimizers are not counted, so a limit computed from the products is a lower
bound.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np


class Product(NamedTuple):
    """A product that one training step computes `count` times.

    Attributes:
      op: "matmul", "conv" (stride 1, valid padding), or its gradients "conv_input" and
        "conv_kernel".
      shape: (batch, m, k, n) for a matmul of [batch, m, k] and [batch, k, n]. For a
        convolution of [batch, size, size, channels_in] and its gradients: (batch, size,
        size, channels_in, channels_out, kernel_size).
      count: how often per step.
    """

    op: str
    shape: tuple
    count: int = 1

    @property
    def flops(self):
        """FLOPs of all `count` products."""
        if self.op == "matmul":
            batch, m, k, n = self.shape
            return 2 * batch * m * k * n * self.count
        batch, height, width, channels_in, channels_out, kernel = self.shape
        positions = (height - kernel + 1) * (width - kernel + 1)
        return 2 * batch * positions * kernel**2 * channels_in * channels_out * self.count


class Workload(NamedTuple):
    """A model and a cohort.

    Attributes:
      name, about: for the table.
      make_model: () -> a Keras model, not compiled.
      learning_rate: of the clients' SGD.
      make_columns: (rng, n) -> n synthetic examples, name -> [n, ...].
      make_products: batch size -> the `Product`s of one training step.
      batch_size, num_clients, num_batches: the cohort; all batches are full.
      quick_clients: number of clients with `--quick`.
    """

    name: str
    about: str
    make_model: Callable
    learning_rate: float
    make_columns: Callable
    make_products: Callable
    batch_size: int
    num_clients: int
    num_batches: int
    quick_clients: int

    @property
    def products(self):
        return self.make_products(self.batch_size)

    @property
    def flops(self):
        """FLOPs of the products of a round."""
        return sum(product.flops for product in self.products) * self.num_batches * self.num_clients

    def client_ids(self):
        return [f"client_{k}" for k in range(self.num_clients)]

    def compiled_model(self):
        """Returns the compiled model."""
        import tensorflow as tf

        model = self.make_model()
        model.compile(
            optimizer=tf.keras.optimizers.SGD(self.learning_rate),
            loss=tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=[tf.keras.metrics.SparseCategoricalAccuracy(name="accuracy")],
        )
        return model

    def setting(self, seed):
        """Returns the `Setting` of the engines, which is the same in every process."""
        import tensorflow as tf

        from fedlab import aggregators, algorithms
        from fedlab.clients import Batching, ClientData
        from fedlab.engines.engine import Setting
        from fedlab.learner import clone

        tf.keras.utils.set_random_seed(seed)
        model = self.compiled_model()
        ids = {client_id: k for k, client_id in enumerate(self.client_ids())}

        def load(client_id):
            return self.make_columns(
                np.random.default_rng([seed, ids[client_id]]), self.batch_size * self.num_batches
            )

        clients = ClientData(list(ids), load)
        for client_id in ids:  # loads the client before any round is timed
            clients[client_id]
        batching = Batching(batch_size=self.batch_size)
        return Setting(
            model,
            lambda: clone(model),
            clients,
            algorithms.fed_avg(),
            aggregators.mean(),
            batching,
            seed,
        )


def dense(rows, inputs, outputs, input_gradient=True):
    """Returns the products of a dense layer on `rows` rows."""
    products = [
        Product("matmul", (1, rows, inputs, outputs)),
        Product("matmul", (1, inputs, rows, outputs)),
    ]
    return products + [Product("matmul", (1, rows, outputs, inputs))] * input_gradient


def recurrent(batch, length, inputs, units, gates):
    """Returns the products of a GRU (3 gates) or LSTM (4 gates).

    The inputs of all steps are projected at once, the states step by step. The gradients
    of the weights come from one product over all steps.
    """
    return [
        *dense(batch * length, inputs, gates * units),
        Product("matmul", (1, batch, units, gates * units), length),
        Product("matmul", (1, batch, gates * units, units), length),
        Product("matmul", (1, units, batch * length, gates * units)),
    ]


def conv(batch, size, channels_in, channels_out, kernel, input_gradient=True):
    """Returns the products of a convolution of [batch, size, size, channels_in]."""
    shape = (batch, size, size, channels_in, channels_out, kernel)
    return [
        Product(op, shape) for op in ("conv", "conv_kernel", "conv_input")[: 2 + input_gradient]
    ]


def attention(batch, length, width, heads):
    """Returns the products of self-attention.

    These are four projections, and the scores and the weighted values with the gradients
    of both factors.
    """
    size = width // heads
    narrow, wide = (batch * heads, length, length, size), (batch * heads, length, size, length)
    return [
        *dense(batch * length, width, width) * 4,
        Product("matmul", narrow, 4),
        Product("matmul", wide, 2),
    ]


def _text(rng, n, vocabulary_size, length):
    text = rng.integers(vocabulary_size, size=[n, length + 1], dtype=np.int32)
    return {"x": text[:, :-1], "y": text[:, 1:]}


def _features(rng, n, shape):
    return {"x": rng.random([n, *shape], np.float32), "y": rng.integers(62, size=n, dtype=np.int32)}


def _spans(rng, n):
    return {
        "x": rng.integers(8000, size=[n, 128], dtype=np.int32),
        "y": rng.integers(128, size=[n, 2], dtype=np.int32),
    }


def gru_model():
    import tensorflow as tf

    layers = tf.keras.layers
    return tf.keras.Sequential(
        [
            layers.Input([100], dtype="int32"),
            layers.Embedding(86, 256),
            layers.GRU(1024, return_sequences=True),
            layers.Dense(86),
        ]
    )


def gru_products(batch):
    return [*recurrent(batch, 100, 256, 1024, gates=3), *dense(batch * 100, 1024, 86)]


def lstm_model():
    import tensorflow as tf

    layers = tf.keras.layers
    return tf.keras.Sequential(
        [
            layers.Input([80], dtype="int32"),
            layers.Embedding(90, 8),
            layers.LSTM(256, return_sequences=True),
            layers.LSTM(256, return_sequences=True),
            layers.Dense(90),
        ]
    )


def lstm_products(batch):
    return [
        *recurrent(batch, 80, 8, 256, gates=4),
        *recurrent(batch, 80, 256, 256, gates=4),
        *dense(batch * 80, 256, 90),
    ]


def cnn_model():
    import tensorflow as tf

    layers = tf.keras.layers
    return tf.keras.Sequential(
        [
            layers.Input([28, 28, 1]),
            layers.Conv2D(32, 3, activation="relu"),
            layers.Conv2D(64, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(128, activation="relu"),
            layers.Dense(62),
        ]
    )


def cnn_products(batch):
    return [
        *conv(batch, 28, 1, 32, 3, input_gradient=False),
        *conv(batch, 26, 32, 64, 3),
        *dense(batch, 12 * 12 * 64, 128),
        *dense(batch, 128, 62),
    ]


def perceptron_model():
    import tensorflow as tf

    layers = tf.keras.layers
    return tf.keras.Sequential(
        [
            layers.Input([784]),
            layers.Dense(200, activation="relu"),
            layers.Dense(200, activation="relu"),
            layers.Dense(62),
        ]
    )


def perceptron_products(batch):
    return [
        *dense(batch, 784, 200, input_gradient=False),
        *dense(batch, 200, 200),
        *dense(batch, 200, 62),
    ]


def transformer_model():
    """Returns a span model: int32 [batch, 128] -> start and end logits [batch, 2, 128]."""
    import tensorflow as tf

    layers = tf.keras.layers
    tokens = layers.Input([128], dtype="int32")
    # 0 ... 127 in [1, 128]; computed from the input, as Keras would drop a constant.
    positions = layers.Lambda(lambda ids: tf.cumsum(tf.ones_like(ids[:1]), axis=1, exclusive=True))(
        tokens
    )
    x = layers.Embedding(8000, 128, name="tokens")(tokens) + layers.Embedding(
        128, 128, name="positions"
    )(positions)
    x = layers.LayerNormalization()(x)
    for _ in range(2):
        x = layers.LayerNormalization()(
            x + layers.MultiHeadAttention(num_heads=2, key_dim=64)(x, x)
        )
        x = layers.LayerNormalization()(
            x + layers.Dense(128)(layers.Dense(512, activation="gelu")(x))
        )
    logits = layers.Permute([2, 1])(layers.Dense(2, name="start_end")(x))
    return tf.keras.Model(tokens, logits)


def transformer_products(batch):
    rows = batch * 128
    layer = [*attention(batch, 128, 128, heads=2), *dense(rows, 128, 512), *dense(rows, 512, 128)]
    return [*layer * 2, *dense(rows, 128, 2)]


def tiny_model():
    import tensorflow as tf

    return tf.keras.Sequential([tf.keras.layers.Input([4]), tf.keras.layers.Dense(62)])


def tiny_products(batch):
    return dense(batch, 4, 62, input_gradient=False)


WORKLOADS = {
    workload.name: workload
    for workload in (
        Workload(
            "W1",
            "GRU(1024), length 100",
            gru_model,
            0.1,
            partial(_text, vocabulary_size=86, length=100),
            gru_products,
            8,
            10,
            5,
            2,
        ),
        Workload(
            "W2",
            "LSTM(256) x 2, length 80",
            lstm_model,
            0.1,
            partial(_text, vocabulary_size=90, length=80),
            lstm_products,
            4,
            10,
            25,
            2,
        ),
        Workload(
            "W3",
            "EMNIST CNN",
            cnn_model,
            0.01,
            partial(_features, shape=[28, 28, 1]),
            cnn_products,
            20,
            10,
            5,
            4,
        ),
        Workload(
            "W3b",
            "784-200-200-62 perceptron",
            perceptron_model,
            0.01,
            partial(_features, shape=[784]),
            perceptron_products,
            20,
            100,
            5,
            30,
        ),
        Workload(
            "W4",
            "transformer, 2 layers, d 128",
            transformer_model,
            0.01,
            _spans,
            transformer_products,
            8,
            10,
            4,
            4,
        ),
    )
}
# An almost empty client, to measure the overhead per client.
TINY = Workload(
    "tiny",
    "4-62 perceptron, one example",
    tiny_model,
    0.1,
    partial(_features, shape=[4]),
    tiny_products,
    1,
    100,
    1,
    100,
)
