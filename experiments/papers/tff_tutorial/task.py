"""The tutorial's models and text, and the weights that its published code loses."""

import math
import os
import pathlib

import numpy as np

from fedlab.clients import seeding
from fedlab.tasks.generation.text import CHAR_VOCABULARY

VOCABULARY_SIZE = len(CHAR_VOCABULARY)
CHANCE = 1 / VOCABULARY_SIZE
SEQUENCE_LENGTH = 100
PRETRAINED = "dickens_char_rnn"


def text(settings, path: pathlib.Path | None, drop_remainder: bool):
    """Returns (train, test), sequences of 100 characters of each role."""
    from fedlab.datasets import shakespeare

    return shakespeare.load(settings["source"], path=path, drop_remainder=drop_remainder)


def random_text(num_sequences: int, seed: int) -> dict[str, np.ndarray]:
    """Draws every character uniformly from the vocabulary, as the tutorial's check does.

    Returns:
      x: int32 [num_sequences, 100]; y: the next characters.

    Example:
      >>> columns = random_text(2, seed=0)
      >>> columns["x"].shape, bool((columns["x"][:, 1:] == columns["y"][:, :-1]).all())
      ((2, 100), True)
    """
    rng = seeding.generator(seed, "random text")
    ids = rng.integers(VOCABULARY_SIZE, size=[num_sequences, SEQUENCE_LENGTH + 1], dtype=np.int32)
    return {"x": ids[:, :-1], "y": ids[:, 1:]}


def deviations(accuracy: float, num_characters: int) -> float:
    """Returns by how many standard deviations an accuracy on random text differs from chance.

    A prediction does not depend on the character that follows it. The number of correct
    ones is therefore binomial with probability 1/86, whatever the model.

    Example: the tutorial's .011 of 800 characters.
      >>> round(deviations(0.011, 800), 2)
      -0.17
    """
    return (accuracy - CHANCE) / math.sqrt(CHANCE * (1 - CHANCE) / num_characters)


def draw(clients, size: int, seed: int) -> dict[str, np.ndarray]:
    """Draws at most `size` sequences of all clients together, as columns."""
    columns = clients.to_arrays()
    rows = seeding.generator(seed, "evaluation").permutation(len(columns["x"]))[:size]
    return {name: column[np.sort(rows)] for name, column in columns.items()}


def tutorial_model(settings):
    """Returns the tutorial's compiled model: fedlab's own, or with `units` an untrained one."""
    import fedlab as fl

    if settings["units"] is None:
        return fl.models.compile_char_rnn(fl.models.load(PRETRAINED), settings["rate"])
    return _fresh(settings["units"], settings["rate"], seed=0)


def untrained_model(settings, seed: int):
    """Returns the published model, of 4,045,398 parameters, with random weights."""
    if settings["units"] is not None:
        return _fresh(settings["units"], settings["rate"], seed)
    return _fresh(1024, settings["rate"], seed, embedding_dim=256, reset_after=False)


def extension_model(settings, pretraining, folder: pathlib.Path):
    """Returns the model that the extensions start from.

    With `extension_units`, it is a smaller one that is pretrained here, once, in `folder`.

    Args:
      settings: of the study.
      pretraining: the roles to pretrain it on, as `ClientData`.
      folder: where its weights are kept.
    """
    if settings["extension_units"] is None:
        return tutorial_model(settings)
    model = _fresh(settings["extension_units"], settings["rate"], seed=0)
    file = folder / "pretrained.npz"
    if not file.exists():
        made = pretrain(settings, pretraining)
        folder.mkdir(parents=True, exist_ok=True)
        temporary = folder / f"pretrained.{os.getpid()}.tmp.npz"
        np.savez(temporary, *made.get_weights())
        os.replace(temporary, file)
    with np.load(file) as arrays:
        model.set_weights([arrays[name] for name in arrays.files])
    return model


def pretrain(settings, clients):
    """Trains the smaller model centrally: Adam, batches of 64, the gradient's norm at most 1."""
    import tensorflow as tf

    from fedlab.learner import accelerated

    model = _fresh(settings["extension_units"], settings["rate"], seed=0)
    model.optimizer = tf.keras.optimizers.Adam(2e-3, global_clipnorm=1.0)
    columns = clients.to_arrays()
    rng = seeding.generator(0, "pretraining")
    with accelerated(model):
        for _ in range(settings["pretraining_epochs"]):
            order = rng.permutation(len(columns["x"]))
            data = [columns[name][order] for name in ("x", "y", "sample_weight")]
            model.fit(*data[:2], 64, sample_weight=data[2], shuffle=False, verbose=0)
    return model


def _fresh(units: int, rate: float, seed: int, embedding_dim: int | None = None, **options):
    """Returns an untrained model. Its recurrent kernel is Glorot-uniform, as in the tutorial."""
    import tensorflow as tf

    import fedlab as fl

    tf.keras.utils.set_random_seed(seed)
    model = fl.models.char_rnn(
        units=units, embedding_dim=embedding_dim or units // 4, learning_rate=rate, **options
    )
    rng = seeding.generator(seed, "recurrent kernel")
    for layer in model.layers:
        if isinstance(layer, tf.keras.layers.GRU):
            kernel, recurrent, *bias = layer.get_weights()
            limit = glorot_limit(recurrent.shape)
            drawn = rng.uniform(-limit, limit, recurrent.shape).astype(recurrent.dtype)
            layer.set_weights([kernel, drawn, *bias])
    return model


def glorot_limit(shape) -> float:
    """Returns the bound of Glorot's uniform initializer for a kernel."""
    return math.sqrt(6 / sum(shape))


def recurrent_weights(model) -> dict[int, float]:
    """Returns the recurrent layers' weights: position among the trainable ones -> bound.

    A layer that is made anew draws a weight uniformly from (-bound, bound). Biases are 0.
    """
    import tensorflow as tf

    layers = [layer for layer in model.layers if isinstance(layer, tf.keras.layers.RNN)]
    recurrent = {id(weight) for layer in layers for weight in layer.trainable_weights}
    return {
        i: 0.0 if "bias" in weight.name else glorot_limit(weight.shape)
        for i, weight in enumerate(model.trainable_weights)
        if id(weight) in recurrent
    }


def losing_recurrent_weights(algorithm, bounds):
    """What the tutorial's published code does instead of `algorithm`.

    Its clients rebuild the model with `clone_model`, inside TFF's graph. There, the recurrent
    layers compute with their initial values, whatever the server sends, and get no gradient.
    The server takes these values for the result of training. See
    experiments/shakespeare/README.md, "The root cause". Here, therefore, each client in each
    round

    - draws its recurrent weights anew,
    - trains the other weights only,
    - reports what the server has sent, minus what it has.

    Args:
      algorithm: an `Algorithm` of the FedAvg family.
      bounds: of the recurrent weights; see `recurrent_weights`.
    """
    from fedlab import ops

    def drawn(seed, i, weight):
        return bounds[i] * (2 * ops.uniform(weight.shape, seed=ops.fold_in(seed, i)) - 1)

    def client_init(task, weights):
        have = [
            drawn(task.client.seed, i, weight) if i in bounds else weight
            for i, weight in enumerate(weights)
        ]
        return algorithm.client_init(task, have)

    def client_step(task, weights, state, batch):
        def gradients(*arguments, **options):
            found = task.gradients(*arguments, **options)
            return [ops.zeros_like(each) if i in bounds else each for i, each in enumerate(found)]

        return algorithm.client_step(task._replace(gradients=gradients), weights, state, batch)

    return algorithm._replace(
        name="losing_recurrent_weights",
        settings={**algorithm.settings, "bounds": [[i, bounds[i]] for i in sorted(bounds)]},
        client_init=client_init,
        client_step=client_step,
    )
