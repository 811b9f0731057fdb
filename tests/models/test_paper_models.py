"""The models of the papers: their published sizes, their outputs, and that they learn."""

import doctest

import numpy as np
import pytest
import tensorflow as tf

import fedlab as fl
from fedlab import datasets
from fedlab.models import images, resnet, tabular, words

models = fl.models


@pytest.mark.parametrize(
    "make, num_parameters",
    [
        (models.two_nn, 199_210),  # McMahan et al. 2017, section 3
        (models.fedavg_cnn, 1_663_370),  # the same
        (models.lenet, 62_006),  # LeNet-5 for color images
        (models.emnist_cnn, 1_206_590),  # Reddi et al. 2020, table 6
        (lambda: models.emnist_cnn(10), 1_199_882),  # TFF's documentation
        (models.next_word_lstm, 4_050_748),  # Reddi et al. 2020, table 6
        (models.tag_regression, 5_000_500),  # the same
        (models.logistic_regression, 610),  # Li et al. 2018: 60 x 10 + 10
        (models.matrix_factorization, 3706 * 50 + 51),
        (models.celeba_cnn, (27 * 32 + 32) + 3 * (288 * 32 + 32) + 4 * 4 * 32 + 36 * 32 * 2 + 2),
        # The layers of TFF's ResNet-18, written out.
        (
            models.resnet18,
            49 * 3 * 64
            + 9 * (4 * 64 * 64 + 64 * 128 + 3 * 128 * 128 + 128 * 256 + 3 * 256 * 256)
            + 9 * (256 * 512 + 3 * 512 * 512)
            + (64 * 128 + 128 * 256 + 256 * 512)  # shortcuts
            # Scale and offset: the stem, blocks without the first, shortcuts, the end.
            + 2 * (64 + 3 * 64 + (64 + 3 * 128) + (128 + 3 * 256) + (256 + 3 * 512))
            + 2 * (128 + 256 + 512 + 512)
            + 512 * 100
            + 100,
        ),
    ],
)
def test_the_published_numbers_of_parameters(make, num_parameters):
    assert make().count_params() == num_parameters


@pytest.mark.parametrize("module", [images, resnet, tabular, words])
def test_examples_run(module):
    assert doctest.testmod(module).failed == 0


def test_shapes_of_outputs():
    pixels = np.zeros([2, 28, 28, 1], np.float32)
    assert models.two_nn()(pixels).shape == (2, 10)
    assert models.fedavg_cnn(62)(pixels).shape == (2, 62)
    assert models.emnist_cnn()(pixels).shape == (2, 62)
    assert models.resnet18()(np.zeros([2, 24, 24, 3], np.float32)).shape == (2, 100)
    assert models.celeba_cnn(input_shape=(20, 20, 3))(np.zeros([2, 20, 20, 3])).shape == (2, 2)
    words = np.zeros([2, 5], np.int32)
    small = dict(embedding_dim=2, units=3)
    assert models.next_word_lstm(11, **small)(words).shape == (2, 5, 11)
    assert models.sentiment_lstm(11, **small)(words).shape == (2, 2)
    assert models.matrix_factorization(7, 2)(np.zeros([2], np.int32)).shape == (2,)


def test_matrix_factorization_multiplies_the_factors():
    model = models.matrix_factorization(3, 2)
    items = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], np.float32)
    model.set_weights([items, np.array([[0.5], [-1.0]], np.float32), np.array([3.0], np.float32)])
    ratings = model(np.array([2, 0], np.int32)).numpy()
    assert ratings.tolist() == [5 * 0.5 - 6 + 3, 0.5 - 2 + 3]


def test_initial_losses():
    # Zero weights give every class the same probability.
    x, y = np.ones([4, 60], np.float32), np.arange(4)
    loss = models.logistic_regression().evaluate(x, y, verbose=0)[0]
    assert loss == pytest.approx(np.log(10), rel=1e-6)
    words = np.zeros([2, 3], np.int32)
    labels = np.array([[1, 2, -1], [3, -1, -1]])  # -1 is padding
    model = models.next_word_lstm(16, 2, 3)
    *others, bias = model.get_weights()
    zeros = [np.zeros_like(weights) for weights in others]
    model.set_weights([*zeros, np.log([13.0, 3, 1, 1, *[0.5] * 12]).astype(bias.dtype)])
    loss = model.evaluate(words, labels, verbose=0)[0]
    probabilities = np.array([3, 1, 1]) / 24
    # Keras 2 and 3 divide by the number of labels that count, or by all.
    assert loss == pytest.approx(-np.log(probabilities).mean(), rel=1e-5) or (
        loss == pytest.approx(-np.log(probabilities).sum() / 6, rel=1e-5)
    )


def test_the_models_of_tff_have_the_same_weights():
    tff = pytest.importorskip("tensorflow_federated")
    theirs = tff.simulation.models.resnet_models.create_resnet18((24, 24, 3), 100)
    shapes = [tuple(weight.shape) for weight in theirs.trainable_weights]
    assert sorted(shapes) == sorted(tuple(w.shape) for w in models.resnet18().trainable_weights)
    # The same weights give the same probabilities.
    ours = models.resnet18()
    ours.set_weights(theirs.get_weights())
    pixels = np.random.default_rng(0).normal(size=[2, 24, 24, 3]).astype(np.float32)
    np.testing.assert_allclose(
        tf.nn.softmax(ours(pixels)), theirs(pixels, training=False), rtol=1e-4, atol=1e-6
    )


def test_strides_shrink_the_images():
    wide, narrow = (
        models.resnet18(input_shape=(64, 64, 3), strides=strides).layers[-2].input
        for strides in (1, 2)
    )
    assert wide.shape[1:3] == (16, 16) and narrow.shape[1:3] == (2, 2)


@pytest.mark.parametrize(
    "make, options, message",
    [
        (models.two_nn, {"num_classes": 0}, "num_classes=0: expected an integer of at least 1"),
        (models.two_nn, {"hidden_units": 1.5}, "hidden_units=1.5"),
        (models.two_nn, {"learning_rate": -1}, "-1"),
        (models.emnist_cnn, {"input_shape": (5, 28, 1)}, "at least 6 x 6 pixels"),
        (models.emnist_cnn, {"input_shape": 28}, "input_shape=28: expected .height, width, chan"),
        (models.resnet18, {"groups": 3}, "groups=3: expected a divisor of 64"),
        (models.resnet18, {"strides": 3}, "strides=3"),
        (models.resnet18, {"weight_decay": -0.1}, "weight_decay=-0.1"),
        (models.next_word_lstm, {"units": 0}, "units=0"),
        (models.tag_regression, {"num_tags": "five"}, "num_tags='five'"),
        (models.matrix_factorization, {"mean_rating": float("nan")}, "mean_rating=nan"),
    ],
)
def test_mistakes(make, options, message):
    with pytest.raises(ValueError, match=message):
        make(**options)


def test_federated_training_on_synthetic_images():
    train, test = datasets.mnist.synthetic(num_clients=10)
    run = fl.simulate(
        models.two_nn(hidden_units=32),
        train,
        rounds=6,
        clients_per_round=10,
        batch_size=10,
        seed=0,
        progress=False,
    )
    assert run.model.evaluate(test.to_dataset(100), verbose=0)[1] > 0.8
