"""Loading models: shipped ones, files of every kind, and URLs.

Files that would run code are refused. Damaged files raise one-line errors.
"""

import contextlib
import http.server
import json
import logging
import pathlib
import pickle
import shutil
import socket
import threading
import zipfile

import h5py
import numpy as np
import pytest
import tensorflow as tf

import fedlab as fl
from fedlab import learner
from fedlab.models import shipped, trust
from tests.limits import files_of_at_most
from tests.stacks import IS_KERAS_3, keras_2, keras_3

layers = tf.keras.layers
X = np.arange(8, dtype=np.int32).reshape(2, 4)


def is_compiled(model):
    """Whether a model has been compiled: Keras 2 says so even of one that has no loss."""
    return getattr(model, "_compile_config", None) is not None


def same(model, other):
    return np.array_equal(model.predict(X, verbose=0), other.predict(X, verbose=0))


def save_hdf5(model, path):
    """Saves a model in the old format, of which Keras 2 warns."""
    with contextlib.nullcontext() if IS_KERAS_3 else pytest.warns(UserWarning):
        model.save(path)


# Keras 3 neither saves nor loads SavedModel folders as Keras models.
SAVED_MODEL = pytest.param("saved_model", marks=keras_2)


@pytest.fixture(scope="module")
def model():
    tf.keras.utils.set_random_seed(0)
    return fl.models.char_rnn(
        units=3, embedding_dim=2, stateful=True, batch_size=2, reset_after=False
    )


@pytest.fixture(scope="module")
def files(model, tmp_path_factory):
    """The model in every format, some under suffixes of another; and things that are no models."""
    folder = tmp_path_factory.mktemp("models")
    model.save(folder / "model.keras")
    save_hdf5(model, folder / "model.h5")
    if not IS_KERAS_3:
        model.save(folder / "saved_model")
    for source, copy in [
        ("model.h5", "rnn.batch2.kerasmodel"),
        ("model.h5", "hdf5.keras"),
        ("model.keras", "zip.model"),
        ("model.h5", "bare"),
    ]:
        shutil.copy(folder / source, folder / copy)
    return folder


FORMATS = [
    "model.keras",
    "model.h5",
    SAVED_MODEL,
    "rnn.batch2.kerasmodel",
    "hdf5.keras",
    "zip.model",
    "bare",
]


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_by_its_content(model, files, name):
    loaded = fl.models.load(files / name)
    learner.reset_states(model)
    assert same(loaded, model)
    assert loaded.loss.get_config()["ignore_class"] == -1
    assert isinstance(loaded.optimizer, tf.keras.optimizers.SGD)
    assert float(loaded.optimizer.learning_rate) == 0.5


def test_the_published_tutorials_way(files, model, tmp_path):
    copy = type(model).from_config(model.get_config())  # not compiled
    copy.set_weights(model.get_weights())
    save_hdf5(copy, tmp_path / "dickens_rnn.h5")
    loaded = fl.models.load(
        str((tmp_path / "dickens_rnn.h5").rename(tmp_path / "dickens_rnn.batch2.kerasmodel"))
    )
    assert not is_compiled(loaded)
    result = fl.models.compile_char_rnn(loaded).evaluate(
        X, np.where(X > 5, -1, X), batch_size=2, verbose=0
    )
    assert np.isfinite(result).all()
    assert loaded.input_shape == (2, None)


@keras_2  # which alone has legacy optimizers
@pytest.mark.parametrize("suffix", ["keras", "h5"])
def test_a_legacy_optimizer_becomes_new(tmp_path, suffix):
    old = tf.keras.optimizers.legacy.SGD(
        0.5, momentum=0.75, nesterov=True, decay=0.25, clipnorm=2.0
    )
    model = fl.models.char_rnn(units=1, embedding_dim=1)
    model.compile(
        old,
        loss=tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["sparse_categorical_accuracy"],
    )
    model.save(tmp_path / f"model.{suffix}")
    loaded = fl.models.load(tmp_path / f"model.{suffix}")
    assert type(loaded.optimizer) is tf.keras.optimizers.SGD
    config = loaded.optimizer.get_config()
    assert (config["momentum"], config["nesterov"], config["clipnorm"]) == (0.75, True, 2.0)
    rate = loaded.optimizer._learning_rate
    np.testing.assert_allclose([float(rate(0)), float(rate(4))], [0.5, 0.5 / (1 + 4 * 0.25)])
    loss, accuracy = loaded.evaluate(X, X, verbose=0)
    assert loss > 0 and 0 <= accuracy <= 1
    loaded.train_on_batch(X, X)


@keras_2
def test_a_legacy_schedule_and_adam(tmp_path):
    schedule = tf.keras.optimizers.schedules.ExponentialDecay(0.5, 10, 0.5)
    model = tf.keras.Sequential([layers.Input([2]), layers.Dense(1)])
    model.compile(tf.keras.optimizers.legacy.Adam(schedule, beta_1=0.5, amsgrad=True), "mse")
    model.save(tmp_path / "model.h5")
    optimizer = fl.models.load(tmp_path / "model.h5").optimizer
    assert type(optimizer) is tf.keras.optimizers.Adam
    assert (optimizer.get_config()["beta_1"], optimizer.get_config()["amsgrad"]) == (0.5, True)
    assert float(optimizer._learning_rate(10)) == 0.25


# ---- Files that would run code ----


def lambda_models():
    x = layers.Input([4])
    touch = layers.Lambda(lambda x: x * 2.0, name="double")
    wrapped = layers.TimeDistributed(layers.Lambda(lambda x: x * 2.0, name="double"))
    inner = tf.keras.Sequential([layers.Input([4]), touch])
    return {
        "plain": tf.keras.Sequential(
            [layers.Input([4]), layers.Lambda(lambda x: x * 2.0, name="double")]
        ),
        "nested": tf.keras.Model(x, tf.keras.Sequential([inner, layers.Dense(1)])(x)),
        "wrapped": tf.keras.Sequential([layers.Input([3, 4]), wrapped]),
    }


@pytest.mark.parametrize("name", ["model.keras", "model.h5", SAVED_MODEL])
@pytest.mark.parametrize("kind", ["plain", "nested", "wrapped"])
def test_lambda_layers_are_refused(tmp_path, name, kind):
    model = lambda_models()[kind]
    model.save(tmp_path / name)
    with pytest.raises(ValueError, match="Lambda layer 'double'.*trust_model=True"):
        fl.models.load(tmp_path / name)
    if kind == "plain":
        x = np.ones([1, 4], np.float32)
        np.testing.assert_array_equal(
            fl.models.load(tmp_path / name, trust_model=True).predict(x, verbose=0), x * 2
        )


def rewritten(files, folder, change):
    """A .keras archive with its configuration changed."""
    with (
        zipfile.ZipFile(files / "model.keras") as source,
        zipfile.ZipFile(folder / "changed.keras", "w") as target,
    ):
        for name in source.namelist():
            data = source.read(name)
            if name == "config.json":
                config = json.loads(data)
                change(config)
                data = json.dumps(config).encode()
            target.writestr(name, data)
    return folder / "changed.keras"


def dense_of(config):
    return config["config"]["layers"][-1]


def test_no_room_to_unpack_weights(files):
    expected = fl.models.load(files / "model.keras").get_weights()
    with files_of_at_most(1000):
        loaded = fl.models.load(files / "model.keras").get_weights()
    for ours, theirs in zip(loaded, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_an_archive_is_what_keras_makes_of_it(tmp_path):
    """Weights, the optimizer's moments, and layers that are used twice."""
    inner = tf.keras.Sequential([tf.keras.Input([3]), tf.keras.layers.Dense(3)])
    x = tf.keras.Input([3])
    model = tf.keras.Model(x, inner(inner(x)) + x)
    model.compile(tf.keras.optimizers.Adam(0.1), "mse", metrics=["mae"])
    data = np.ones([2, 3], np.float32), np.zeros([2, 3], np.float32)
    model.fit(*data, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded, expected = (
        fl.models.load(tmp_path / "model.keras"),
        tf.keras.models.load_model(tmp_path / "model.keras"),
    )
    assert len(loaded.weights) == len(expected.weights) == 2
    for each in (loaded, expected):
        each.fit(*data, verbose=0)  # with what the optimizer knew
    for ours, theirs in zip(
        loaded.get_weights() + loaded.evaluate(*data, verbose=0),
        expected.get_weights() + expected.evaluate(*data, verbose=0),
    ):
        np.testing.assert_array_equal(ours, theirs)


CHANGES = {
    "a class of another module": (
        lambda config: dense_of(config).update(module="os.path"),
        "custom class 'Dense' of module 'os.path'",
    ),
    "an unknown class": (
        lambda config: dense_of(config).update(class_name="Attack"),
        "custom class 'Attack'",
    ),
    "a built-in function": (
        lambda config: dense_of(config)["config"].update(
            activation={
                "module": "builtins",
                "class_name": "function",
                "config": "exec",
                "registered_name": "function",
            }
        ),
        "custom function 'exec'",
    ),
    "a lambda": (
        lambda config: dense_of(config)["config"].update(
            activation={"class_name": "__lambda__", "config": {"value": ["4wE=", None, None]}}
        ),
        "lambda function",
    ),
    "an operation on files": (
        lambda config: dense_of(config).update(
            class_name="TFOpLambda", config={"name": "write", "function": "io.write_file"}
        ),
        "'TFOpLambda'" if IS_KERAS_3 else "'io.write_file'",
    ),
    "a nested model's compilation": (
        lambda config: dense_of(config).update(
            compile_config={"loss": {"module": "os", "class_name": "function", "config": "system"}}
        ),
        "custom function 'system'",
    ),
}


@pytest.mark.parametrize("kind", CHANGES)
def test_what_keras_would_import_is_refused(files, tmp_path, kind):
    change, message = CHANGES[kind]
    with pytest.raises(ValueError, match=message) as raised:
        fl.models.load(rewritten(files, tmp_path, change))
    assert "\n" not in str(raised.value)


def test_code_in_the_training_settings_leaves_these_out(files, tmp_path, caplog):
    def change(config):
        config["compile_config"]["loss"] = {
            "module": "os",
            "class_name": "function",
            "config": "system",
            "registered_name": "system",
        }

    loaded = fl.models.load(rewritten(files, tmp_path, change))
    assert not is_compiled(loaded)
    assert "custom function 'system'" in caplog.text and "compile" in caplog.text


def test_a_custom_loss_leaves_the_training_settings_out(tmp_path, caplog):
    def my_loss(y, predicted):
        return tf.reduce_mean(tf.square(y - predicted))

    model = tf.keras.Sequential([layers.Input([2]), layers.Dense(1)])
    model.compile("sgd", my_loss)
    model.save(tmp_path / "model.h5")
    with caplog.at_level(logging.WARNING):
        loaded = fl.models.load(tmp_path / "model.h5")
    np.testing.assert_array_equal(loaded.get_weights()[0], model.get_weights()[0])
    (message,) = (r.getMessage() for r in caplog.records if r.name.startswith("fedlab"))
    assert "my_loss" in message and "\n" not in message


class Doubling(layers.Layer):
    def call(self, x):
        return 2.0 * x


class Subclassed(tf.keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(1)

    def call(self, x):
        return self.dense(x)


@pytest.mark.parametrize("name", ["model.keras", "model.h5", SAVED_MODEL])
def test_custom_classes(tmp_path, name):
    tf.keras.Sequential([layers.Input([2]), Doubling()]).save(tmp_path / name)
    with pytest.raises(
        ValueError, match="custom class 'Doubling'.*register_keras_serializable"
    ) as raised:
        fl.models.load(tmp_path / name)
    assert "\n" not in str(raised.value)
    with tf.keras.utils.custom_object_scope({"Doubling": Doubling}):  # the program's own class
        assert fl.models.load(tmp_path / name).predict(np.ones([1, 2]), verbose=0).tolist() == [
            [2.0, 2.0]
        ]


@keras_2
def test_a_subclassed_saved_model(tmp_path):
    model = Subclassed()
    model.predict(np.ones([1, 2]), verbose=0)
    model.save(tmp_path / "model")
    with pytest.raises(ValueError, match="custom class 'Subclassed'"):
        fl.models.load(tmp_path / "model")


@keras_2
def test_a_graph_that_writes_files():
    from tensorflow.core.protobuf import saved_model_pb2

    graphs = saved_model_pb2.SavedModel()
    function = graphs.meta_graphs.add().graph_def.library.function.add()
    function.node_def.add(op="MatMul")
    assert trust.find_graph_code(graphs) is None
    function.node_def.add(op="WriteFile")
    assert "WriteFile" in trust.find_graph_code(graphs)


@pytest.mark.slow
def test_keras_own_layers_are_harmless(tmp_path):
    x = layers.Input([6, 4])
    h = layers.Bidirectional(layers.SimpleRNN(2, return_sequences=True, kernel_regularizer="l2"))(
        x * 2.0 + 1.0
    )
    h = layers.TimeDistributed(layers.Dense(3, activation="relu"))(layers.BatchNormalization()(h))
    pooled = layers.GlobalAveragePooling1D()(h)
    h = layers.Concatenate()([pooled, h[:, 0] if IS_KERAS_3 else tf.squeeze(h[:, :1], 1)])
    model = tf.keras.Model(
        x, tf.keras.Sequential([layers.Input([6]), layers.Dropout(0.5), layers.Dense(2)])(h)
    )
    schedule = tf.keras.optimizers.schedules.CosineDecay(0.1, 10)
    model.compile(
        tf.keras.optimizers.AdamW(schedule),
        tf.keras.losses.Huber(),
        metrics=["mae", tf.keras.metrics.CosineSimilarity()],
    )
    values = np.random.default_rng(0).normal(size=[2, 6, 4])
    model.train_on_batch(values, np.ones([2, 2]))
    # Keras 3 does not read operations in HDF5 files.
    for name in ("model.keras", *(() if IS_KERAS_3 else ("model.h5",))):
        model.save(tmp_path / name)
        loaded = fl.models.load(tmp_path / name)
        np.testing.assert_allclose(
            loaded.predict(values, verbose=0), model.predict(values, verbose=0), rtol=1e-5
        )
        assert isinstance(loaded.optimizer, tf.keras.optimizers.AdamW)


def image_model():
    """Convolutions, pooling, normalization and augmentation."""
    x = layers.Input([8, 8, 3])
    h = layers.Rescaling(0.5)(x)
    for layer in (
        layers.RandomFlip(),
        layers.RandomZoom(0.1),
        layers.RandomContrast(0.1),
        layers.RandomCrop(6, 6),
        layers.Resizing(8, 8),
    ):
        h = layer(h)
    for layer in (
        layers.Conv2D(2, 2),
        layers.DepthwiseConv2D(2),
        layers.SeparableConv2D(2, 2),
        layers.Conv2DTranspose(2, 2),
    ):
        h = layer(h)
    for layer in (
        layers.BatchNormalization(),
        layers.LayerNormalization(),
        layers.GroupNormalization(2),
        layers.UnitNormalization(),
    ):
        h = layer(h)
    for layer in (
        layers.UpSampling2D(interpolation="bilinear"),
        layers.MaxPooling2D(),
        layers.AveragePooling2D(2),
        layers.PReLU(),
    ):
        h = layer(h)
    h = layers.Conv3D(2, 1)(layers.Reshape([3, 3, 2, 1])(layers.ZeroPadding2D(0)(h)))
    h = layers.GlobalAveragePooling3D()(layers.MaxPooling3D(1)(layers.Conv3DTranspose(2, 1)(h)))
    return tf.keras.Model(
        x,
        layers.Dense(2, "softmax", kernel_regularizer="l2", activity_regularizer="l1")(
            layers.Dropout(0.1)(h)
        ),
    )


def sequence_model():
    """Recurrent layers, attention and merging."""
    x = layers.Input([5, 3])
    h = layers.GRU(2, return_sequences=True)(
        layers.LSTM(2, return_sequences=True)(layers.Masking()(x))
    )
    h = layers.Add()(
        [
            layers.Attention()([h, h]),
            layers.AdditiveAttention()([h, h]),
            layers.MultiHeadAttention(1, 2)(h, h),
        ]
    )
    h = layers.Concatenate()(
        [
            layers.Dot(2)([h, h]),
            layers.Multiply()([h, h]),
            layers.TimeDistributed(layers.Dense(1))(h),
        ]
    )
    h = layers.Conv1D(2, 3, padding="causal")(layers.EinsumDense("abc,cd->abd", [None, 2])(h))
    h = layers.ConvLSTM1D(1, 2)(layers.Reshape([5, 2, 1])(layers.GaussianNoise(0.1)(h)))
    return tf.keras.Model(x, layers.Dense(1, "gelu")(layers.Flatten()(h)))


def word_model():
    """Words, integers, and numbers in bins."""
    words, number = layers.Input([1], dtype="string"), layers.Input([1], dtype="int64")
    text = layers.TextVectorization(output_sequence_length=3)
    text.adapt(["a b", "b c"])
    adapted = layers.StringLookup(output_mode="multi_hot")
    adapted.adapt(["a", "b"])
    parts = [adapted(words), layers.StringLookup(vocabulary=["a"], output_mode="count")(words)]
    parts += [
        layers.IntegerLookup(vocabulary=[1, 2], output_mode="one_hot")(number),
        layers.Hashing(4, output_mode="one_hot")(words),
    ]
    parts += [
        layers.Flatten()(layers.Embedding(9, 2)(text(words))),
        layers.CategoryEncoding(9)(layers.Discretization([0.0, 1.0])(number)),
    ]
    parts += [
        layers.HashedCrossing(4, output_mode="one_hot")([words, number]),
        layers.Normalization(mean=0.0, variance=2.0)(number),
    ]
    return tf.keras.Model([words, number], layers.Dense(1)(layers.Concatenate()(parts)))


@keras_2
@pytest.mark.parametrize(
    "build", [image_model, pytest.param(sequence_model, marks=pytest.mark.slow), word_model]
)
def test_saved_models_of_ordinary_layers_need_no_trust(tmp_path, build):
    model = build()
    model.compile(tf.keras.optimizers.AdamW(), "mse", metrics=["mae"])
    draw = np.random.default_rng(0).normal(size=[2, *model.inputs[0].shape[1:]]).astype(np.float32)
    x = (
        [tf.constant([["a b"], ["c"]]), tf.constant([[1], [5]], tf.int64)]
        if build is word_model
        else draw
    )
    model.optimizer.build(model.trainable_variables)
    model.save(tmp_path / "model")
    loaded = fl.models.load(tmp_path / "model")
    np.testing.assert_allclose(loaded(x), model(x), rtol=1e-5)


# ---- Things that are no models ----


@keras_2
def test_an_hdf5_file_of_keras_3(files, tmp_path):
    shutil.copy(files / "model.h5", tmp_path / "model.h5")
    with h5py.File(tmp_path / "model.h5", "r+") as file:
        file.attrs["keras_version"] = "3.15.1"
    with pytest.raises(
        ValueError, match="run `fedlab convert --to=keras2 .* with Keras 3"
    ) as error:
        fl.models.load(tmp_path / "model.h5")
    assert "\n" not in str(error.value)


@keras_3
@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize(
    "operation, name",
    [
        (lambda x: tf.keras.ops.relu(x), "Relu"),
        (lambda x: x * 2, "Multiply"),  # there is a layer of this name as well
    ],
)
def test_operations_in_hdf5_files_are_refused(tmp_path, operation, name, nested):
    """Plain Keras cannot load them either."""
    x = tf.keras.Input([2])
    model = tf.keras.Model(x, operation(tf.keras.layers.Dense(2)(x)))
    if nested:
        model = tf.keras.Sequential([x, tf.keras.layers.Dense(2), model])
    model.compile("sgd", "mse")
    model.save(tmp_path / "model.h5")
    with pytest.raises((ValueError, TypeError)):
        tf.keras.models.load_model(tmp_path / "model.h5")
    for trust_model in (False, True):
        with pytest.raises(ValueError, match=f"the operation '{name}'.*: save .* .keras archive$"):
            fl.models.load(tmp_path / "model.h5", trust_model=trust_model)


@keras_3
@pytest.mark.parametrize(
    "build, name",
    [
        (image_model, "model.keras"),
        (image_model, "model.h5"),
        (sequence_model, "model.keras"),
        (word_model, "model.keras"),
    ],
)
def test_files_of_ordinary_layers_need_no_trust(tmp_path, build, name):
    tf.keras.backend.clear_session()
    model = build()
    model.compile(tf.keras.optimizers.AdamW(), "mse", metrics=["mae"])
    draw = np.random.default_rng(0).normal(size=[2, *model.inputs[0].shape[1:]]).astype(np.float32)
    words = [tf.constant([["a b"], ["c"]]), tf.constant([[1], [5]], tf.int64)]
    x = words if build is word_model else draw
    model.save(tmp_path / name)
    loaded = fl.models.load(tmp_path / name)
    np.testing.assert_allclose(loaded(x, training=False), model(x, training=False), rtol=1e-5)
    assert isinstance(loaded.optimizer, tf.keras.optimizers.AdamW)


@keras_3
@pytest.mark.parametrize(
    "build, message",
    [(sequence_model, "the operation 'NotEqual'"), (word_model, "layer '[a-z_0-9]*' has no words")],
)
def test_hdf5_files_that_keras_cannot_read(tmp_path, build, message):
    """Keras saves operations in HDF5 files, but does not read them, and no words of adapt()."""
    build().save(tmp_path / "model.h5")
    with pytest.raises(ValueError, match=message) as raised:
        fl.models.load(tmp_path / "model.h5")
    assert "\n" not in str(raised.value)


def truncated(path, target, share):
    data = path.read_bytes()
    target.write_bytes(data[: int(len(data) * share)])
    return target


@pytest.mark.parametrize("name", ["model.keras", "model.h5"])
@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.9])
def test_truncated_files(files, tmp_path, name, share):
    with pytest.raises(ValueError) as raised:
        fl.models.load(truncated(files / name, tmp_path / name, share))
    assert "\n" not in str(raised.value) and name in str(raised.value)
    assert raised.value.__suppress_context__ or raised.value.__context__ is None


@keras_2
@pytest.mark.parametrize(
    "name",
    [
        "saved_model.pb",
        "keras_metadata.pb",
        "variables/variables.index",
        "variables/variables.data-00000-of-00001",
    ],
)
def test_damaged_saved_models(files, tmp_path, name):
    shutil.copytree(files / "saved_model", tmp_path / "model")
    (tmp_path / "model" / name).write_bytes((tmp_path / "model" / name).read_bytes()[:37])
    with pytest.raises(ValueError) as raised:
        fl.models.load(tmp_path / "model")
    assert "\n" not in str(raised.value)


def write_pickle(folder):
    (folder / "file").write_bytes(pickle.dumps({"weights": [1.0]}))


def write_text(folder):
    (folder / "file").write_text("hello")


def write_weights_only(folder):
    model = fl.models.char_rnn(units=1, embedding_dim=1)
    model.save_weights(folder / "my.weights.h5")
    (folder / "my.weights.h5").rename(folder / "file")


def write_zip(folder):
    with zipfile.ZipFile(folder / "file", "w") as archive:
        archive.writestr("readme.txt", "no model")


def write_numbers(folder):
    with h5py.File(folder / "file", "w") as opened:
        opened["x"] = [1, 2]


def write_keras_4(folder):
    with zipfile.ZipFile(folder / "file", "w") as archive:
        archive.writestr("config.json", '{"class_name": "Sequential"}')
        archive.writestr("metadata.json", '{"keras_version": "4.0.0"}')
        with h5py.File(folder / "model.weights.h5", "w"):
            pass
        archive.write(folder / "model.weights.h5", "model.weights.h5")


def make_tf_saved_model(folder):
    tf.saved_model.save(tf.Module(), str(folder / "file"))


def make_folder(folder):
    (folder / "file").mkdir()


def make_folder_with_model(folder):
    (folder / "file").mkdir()
    (folder / "file" / "model.keras").touch()


NO_MODELS = [
    (write_pickle, ValueError, "pickled object, which is never loaded"),
    (write_text, ValueError, "not a Keras model: expected a .keras archive"),
    (write_weights_only, ValueError, "weights only"),
    (write_zip, ValueError, "config.json"),
    (write_numbers, ValueError, "without a model"),
    (write_keras_4, ValueError, "saved by Keras 4.0.0: expected Keras 2 or 3"),
    (make_tf_saved_model, ValueError, r"model\.save"),
    (make_folder, FileNotFoundError, "folder without a SavedModel: expected"),
    (make_folder_with_model, FileNotFoundError, r"it holds model\.keras: pass that path"),
]


@pytest.mark.parametrize("make, kind, message", NO_MODELS)
def test_no_models(tmp_path, make, kind, message):
    make(tmp_path)
    with pytest.raises(kind, match=message) as raised:
        fl.models.load(tmp_path / "file")
    assert "\n" not in str(raised.value)


def test_mistaken_sources(files, tmp_path):
    with pytest.raises(
        FileNotFoundError,
        match="there is no model at '/nowhere/model.keras': expected a .keras",
    ):
        fl.models.load("/nowhere/model.keras")
    with pytest.raises(TypeError, match="source: expected a model's name, path or URL, got int 3"):
        fl.models.load(3)
    with pytest.raises(ValueError, match="expected http://"):
        fl.models.load("gs://bucket/model.keras")
    with pytest.raises(ValueError, match="batch_size with source=.*shipped models .* only"):
        fl.models.load(files / "model.keras", batch_size=2)


# ---- Shipped models ----


@pytest.fixture(scope="module")
def saved_pretrained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pretrained")
    model = fl.models.char_rnn(units=3, embedding_dim=2, num_layers=2)
    model.set_weights(
        [np.random.default_rng(0).normal(size=weight.shape) for weight in model.get_weights()]
    )
    path = shipped.save_pretrained(
        model, "small_rnn", "char_rnn", {"units": 3, "embedding_dim": 2, "num_layers": 2}, folder
    )
    assert path == folder / "small_rnn.safetensors"
    return model, folder


@pytest.fixture
def shipped_model(saved_pretrained, tmp_path, monkeypatch):
    """A small model in the place of those that the package ships."""
    model, folder = saved_pretrained
    shutil.copytree(folder, tmp_path / "pretrained")
    monkeypatch.setattr(shipped, "FOLDER", tmp_path / "pretrained")
    return model


def test_a_shipped_model_comes_back(shipped_model):
    assert fl.models.names() == ("small_rnn",)
    for overrides in ({}, {"stateful": True, "batch_size": 8, "learning_rate": 0.125}):
        loaded = fl.models.load("small_rnn", **overrides)
        for weight, original in zip(loaded.weights, shipped_model.get_weights(), strict=True):
            assert weight.dtype == tf.float32
            np.testing.assert_array_equal(
                weight.numpy(), original.astype(np.float16).astype(np.float32)
            )
    assert (
        loaded.input_shape[0] == 8
        and loaded.layers[1].stateful
        and float(loaded.optimizer.learning_rate) == 0.125
    )


def test_shipped_files_hold_half_floats_by_position_and_name(shipped_model):
    from safetensors.numpy import load_file

    stored = load_file(shipped.FOLDER / "small_rnn.safetensors")
    assert {array.dtype for array in stored.values()} == {np.dtype(np.float16)}
    assert sorted(stored)[:2] == ["0000:embedding/embeddings", "0001:gru/gru_cell/kernel"]
    assert (
        sorted(stored)[4] == "0004:gru/gru_cell/kernel"
    )  # the second layer: by position, not by name


@pytest.mark.parametrize(
    "overrides, message",
    [
        (
            {"units": 4},
            r"expects weight 0001:gru/gru_cell/kernel \(2, 12\), its file has .* \(2, 9\)",
        ),
        ({"cell": "lstm"}, "expects weight 0001:lstm/lstm_cell/kernel"),
        ({"num_layers": 1}, "has 6 weights, its file has 9"),
        ({"dropout": 0.1}, "no argument 'dropout': expected vocabulary_size"),
        ({"stateful": True}, "batch_size"),
    ],
)
def test_overrides_that_do_not_fit(shipped_model, overrides, message):
    with pytest.raises(ValueError, match=message) as raised:
        fl.models.load("small_rnn", **overrides)
    assert "\n" not in str(raised.value)


def test_unknown_names(shipped_model):
    with pytest.raises(ValueError, match="expected a path, or small_rnn; did you mean small_rnn"):
        fl.models.load("smal_rnn")


def test_damaged_shipped_weights(shipped_model):
    file = shipped.FOLDER / "small_rnn.safetensors"
    truncated(file, file, 0.5)
    with pytest.raises(ValueError, match="damaged.*install the package again"):
        fl.models.load("small_rnn")


def test_what_cannot_be_shipped(tmp_path):
    model = fl.models.char_rnn(units=1, embedding_dim=1)
    arguments = {"units": 1, "embedding_dim": 1}
    with pytest.raises(ValueError, match="identifier"):
        shipped.save_pretrained(model, "a/b", "char_rnn", arguments, tmp_path)
    with pytest.raises(ValueError, match="not one of the models"):
        shipped.save_pretrained(model, "small", "big_rnn", arguments, tmp_path)
    with pytest.raises(ValueError, match="expects weight"):
        shipped.save_pretrained(model, "small", "char_rnn", {**arguments, "units": 2}, tmp_path)
    model.set_weights([np.full_like(weight, 1e6) for weight in model.get_weights()])
    with pytest.raises(ValueError, match="not finite in float16"):
        shipped.save_pretrained(model, "small", "char_rnn", arguments, tmp_path)
    assert not list(tmp_path.iterdir())


def test_models_of_the_package_load():
    assert fl.models.names() == tuple(
        sorted(path.stem for path in shipped.FOLDER.glob("*.safetensors"))
    )
    for name in fl.models.names():
        assert (shipped.FOLDER / f"{name}.md").is_file()
        assert fl.models.load(name).optimizer is not None


# ---- Addresses ----


class Handler(http.server.SimpleHTTPRequestHandler):
    requests = []

    def do_GET(self):
        self.requests.append(self.path)
        if self.path.startswith("/short"):
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b"PK\x03\x04")
        else:
            super().do_GET()

    def log_message(self, *args):
        pass


@pytest.fixture
def server(files, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    (files / "page.keras").write_text("<!doctype html>Not here.")
    Handler.requests = []
    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), lambda *args: Handler(*args, directory=str(files))
    ) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


@pytest.mark.parametrize("name", ["model.keras", "rnn.batch2.kerasmodel"])
def test_an_address_is_downloaded_once(model, server, tmp_path, name):
    for _ in range(2):
        loaded = fl.models.load(f"{server}/{name}?version=1", cache_dir=tmp_path / "cache")
        learner.reset_states(model)
        assert same(loaded, model)
    assert len(Handler.requests) == 1
    (kept,) = (tmp_path / "cache" / "models").glob("[!.]*")
    assert kept.name.endswith(name)


def test_the_cache_of_the_environment(server, tmp_path, monkeypatch):
    monkeypatch.setenv("FEDLAB_CACHE", str(tmp_path / "own"))
    fl.models.load(f"{server}/model.keras")
    monkeypatch.delenv("FEDLAB_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    fl.models.load(f"{server}/model.keras")
    assert (
        len(list((tmp_path / "own" / "models").glob("[!.]*")))
        == len(list((tmp_path / "xdg" / "fedlab" / "models").glob("[!.]*")))
        == 1
    )


@pytest.mark.parametrize(
    "path, kind, message",
    [
        ("/nothing.keras", ConnectionError, "404"),
        ("/short.keras", ConnectionError, "closed the connection after 4 of 1000 bytes"),
        ("/page.keras", ValueError, "not a Keras model"),
    ],
)
def test_failed_downloads_leave_nothing(server, tmp_path, path, kind, message):
    with pytest.raises(kind, match=message) as raised:
        fl.models.load(server + path, cache_dir=tmp_path)
    assert "\n" not in str(raised.value)
    assert not list((tmp_path / "models").glob("[!.]*"))


def test_no_network(shipped_model, tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(
        ConnectionError, match=r"refused.*or use a shipped model \(small_rnn"
    ) as raised:
        fl.models.load(f"http://127.0.0.1:{port}/model.keras", cache_dir=tmp_path / "cache")
    assert "\n" not in str(raised.value)


def test_a_cache_that_cannot_be_written_to(server, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="pass cache_dir"):
        fl.models.load(f"{server}/model.keras", cache_dir=pathlib.Path(tmp_path / "file"))
