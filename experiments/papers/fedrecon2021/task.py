"""The MovieLens task of Singhal et al. 2021: data, models, and the clients' passes.

The details follow the authors' code, google-research/federated, folder `reconstruction`.
"""

import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

USER = "user"  # the layer that holds the factors of one user
BATCH_SIZE = 5
RECONSTRUCTION_EPOCHS = 5
MAX_STEPS = 50  # of reconstruction, and of what follows it
ACCURACY_THRESHOLD = 0.5

Columns = dict[str, np.ndarray]


class Parts(NamedTuple):
    """The users to train on, to choose settings on, and to test on, as `ClientData`."""

    train: Any
    validation: Any
    test: Any
    num_items: int


def load(version: str, path: pathlib.Path | None, seed: int) -> Parts:
    """Loads the ratings of each user, with x: [n] int32 and y: [n] float32, in order of time.

    Args:
      version: "100k", "1m" or "synthetic".
      path: the folder of the data's files, or None.
      seed: determines who is in which part, 80 %, 10 % and 10 % of the users, and which 300
        ratings of a user with more are kept.
    """
    from fedlab.datasets import movielens

    if version == "synthetic":
        train, test = movielens.synthetic(12, seed)
        num_items = 60
    else:
        train, test = movielens.load(path=path, version=version, max_ratings=300, seed=seed)
        num_items = movielens.NUM_ITEMS[version]
    return Parts(*train.split_clients(1 / 9, seed), test, num_items)


def shuffled(columns: Columns, seed: int) -> Columns:
    """Returns a user's ratings in the order in which every round reads them, in whole batches.

    As in the authors' code, the order is drawn once, and depends only on the seed and the
    number of ratings. Up to four ratings that do not fill a batch are left out.
    """
    num_ratings = len(columns["y"])
    order = np.random.default_rng(seed).permutation(num_ratings)
    order = order[: num_ratings // BATCH_SIZE * BATCH_SIZE]
    return {name: column[order] for name, column in columns.items()}


def halves(columns: Columns) -> tuple[Columns, Columns]:
    """Returns the rows of the batches 0, 2, 4, ... and those of the batches 1, 3, 5, ..."""
    is_odd = np.arange(len(columns["y"])) // BATCH_SIZE % 2 == 1
    even = {name: column[~is_odd] for name, column in columns.items()}
    return even, {name: column[is_odd] for name, column in columns.items()}


def passes(columns: Columns) -> tuple[Columns, Columns]:
    """Returns the rows that reconstruct, and those that are trained or tested on.

    The first half is read in 5 epochs, in at most 50 batches; the second half once, in at most
    50 batches.
    """
    even, odd = halves(columns)
    most = MAX_STEPS * BATCH_SIZE
    repeated = {
        name: np.tile(column, RECONSTRUCTION_EPOCHS)[:most] for name, column in even.items()
    }
    return repeated, {name: column[:most] for name, column in odd.items()}


def joined(columns: Columns) -> Columns:
    """Returns all rows that a FedRecon client reads in a round, in their order."""
    first, second = passes(columns)
    return {name: np.concatenate([first[name], second[name]]) for name in first}


def reconstruction_steps(num_steps: Any, minimum: Callable = min) -> Any:
    """Returns how many of the batches of `joined` reconstruct.

    A client of 2 m or 2 m + 1 batches reconstructs with 5 m or 5 (m + 1) batches, but at most
    50, and trains on m. So both numbers follow from their sum.

    Args:
      num_steps: all batches, a number or a tensor.
      minimum: of two of these.

    Example:
      >>> [reconstruction_steps(n) for n in (12, 17, 60, 80)]
      [10, 15, 50, 50]
    """
    return minimum(num_steps - num_steps // (RECONSTRUCTION_EPOCHS + 1), MAX_STEPS)


def pooled(clients: Any) -> list[Any]:
    """Returns all users' ratings as one client "server", with item, user_id and y.

    Returns:
      Three `ClientData`. Of each user's ratings, the first 80 % in time are to train on, the
      next 10 % to choose settings on, and the last 10 % to test on.
    """
    from fedlab import ClientData

    parts = []
    for begin, end in ((0, 8), (8, 9), (9, 10)):
        columns: dict[str, list] = {"item": [], "user_id": [], "y": []}
        for user, client_id in enumerate(clients):
            ratings = clients[client_id]
            num_ratings = len(ratings["y"])
            rows = slice(num_ratings * begin // 10, num_ratings * end // 10)
            columns["item"].append(ratings["x"][rows])
            columns["y"].append(ratings["y"][rows])
            columns["user_id"].append(np.full(len(columns["y"][-1]), user, np.int32))
        one = {name: np.concatenate(column) for name, column in columns.items()}
        parts.append(ClientData.from_dict({"server": one}))
    return parts


def make_model(num_items: int, num_factors: int, learning_rate: float, seed: int) -> Any:
    """Builds the compiled model of one user: rating = item_factors . user_factors.

    It has no biases, and all factors are drawn from U(-0.05, 0.05).
    """
    import tensorflow as tf

    layers, uniform = tf.keras.layers, "random_uniform"
    tf.keras.utils.set_random_seed(seed)
    model = tf.keras.Sequential(
        [
            layers.Input([], dtype="int32", name="item"),
            layers.Embedding(num_items, num_factors, embeddings_initializer=uniform, name="items"),
            layers.Dense(1, use_bias=False, kernel_initializer=uniform, name=USER),
            layers.Reshape([], name="rating"),
        ],
        name="one_user",
    )
    return _compiled(model, learning_rate)


def make_central_model(
    num_users: int, num_items: int, num_factors: int, learning_rate: float, seed: int
) -> Any:
    """Builds the compiled model of all users, whose factors are a table on the server."""
    import tensorflow as tf

    layers, uniform = tf.keras.layers, "random_uniform"
    tf.keras.utils.set_random_seed(seed)
    item = layers.Input([], dtype="int32", name="item")
    user = layers.Input([], dtype="int32", name="user_id")
    tables = [
        layers.Embedding(number, num_factors, embeddings_initializer=uniform, name=name)
        for number, name in ((num_items, "items"), (num_users, "users"))
    ]
    rating = layers.Dot(1, name="rating")([tables[0](item), tables[1](user)])
    rating = layers.Reshape([])(rating)
    model = tf.keras.Model({"item": item, "user_id": user}, rating, name="all_users")
    return _compiled(model, learning_rate)


def _compiled(model: Any, learning_rate: float) -> Any:
    import tensorflow as tf

    @tf.keras.utils.register_keras_serializable("experiments.papers")
    class AccuracyOfRatings(tf.keras.metrics.Mean):
        """Share of predictions that are at most 0.5 from the rating."""

        def update_state(self, y_true, y_pred, sample_weight=None):
            error = tf.abs(tf.cast(y_true, tf.float32) - tf.cast(y_pred, tf.float32))
            correct = tf.cast(error <= ACCURACY_THRESHOLD, tf.float32)
            return super().update_state(correct, sample_weight)

    model.compile(
        tf.keras.optimizers.SGD(learning_rate),
        tf.keras.losses.MeanSquaredError(),
        metrics=[
            tf.keras.metrics.RootMeanSquaredError(name="rmse"),
            AccuracyOfRatings(name="accuracy"),
        ],
    )
    return model


def fed_recon(reconstruction_rate: float) -> Any:
    """FedRecon whose clients read the rows of `joined`, in their order."""
    import fedlab as fl
    from fedlab import ops

    def change(base):
        def client_step(task, weights, state, batch):
            # fed_recon divides a client's batches by their share. Here the number of batches
            # that reconstruct is not the same share for all clients.
            num_steps = ops.cast(task.counts.num_steps, "int32")
            here, first = state.step, reconstruction_steps(num_steps, ops.minimum)
            pretended = ops.where(here < first, ops.zeros_like(here), num_steps)
            state = base.client_step(task, weights, state._replace(step=pretended), batch)
            return state._replace(step=here + 1)

        return base._replace(client_step=client_step)

    return fl.algorithms.algorithm.wrap(_recon(reconstruction_rate), change)


def fed_avg(reconstruction_rate: float) -> Any:
    """FedAvg of all factors, those of the user too, which are reconstructed at evaluation.

    As in the authors' code, the reconstruction starts from initial values, not from what was
    trained.
    """
    import fedlab as fl
    from fedlab import ops

    base = fl.algorithms.fed_avg()

    def prepare(model, schedule):
        recon = _recon(reconstruction_rate).prepare(model, schedule)
        initial = [weight.numpy() for weight in model.trainable_weights]

        def init(task, weights):
            return recon.personalize.init(
                task,
                [
                    ops.convert_to_tensor(initial[i]) if i in recon.local_weights else weight
                    for i, weight in enumerate(weights)
                ],
            )

        return base._replace(personalize=recon.personalize._replace(init=init))

    settings = {**base.settings, "reconstruction_rate": reconstruction_rate}
    return base._replace(prepare=prepare, settings=settings)


def evaluate(model: Any, clients: Any, reconstruction_rate: float, **options: Any) -> dict:
    """Returns loss, rmse and accuracy of users who reconstruct their factors.

    Args:
      model: of `make_model`. Users start from its factors.
      clients: with the columns of `shuffled`.
      reconstruction_rate: of their SGD.
      **options: seed and num_workers of `fedlab.evaluate_personalized`. The seed determines the
        order in which a user reads the half that reconstructs.
    """
    import fedlab as fl

    local, test = (clients.map(lambda columns, i=i: halves(columns)[i]) for i in (0, 1))
    return fl.evaluate_personalized(
        model,
        local,
        test.map(lambda columns: {k: v[: MAX_STEPS * BATCH_SIZE] for k, v in columns.items()}),
        _recon(reconstruction_rate),
        batch_size=BATCH_SIZE,
        local_epochs=RECONSTRUCTION_EPOCHS,
        max_batches=MAX_STEPS,
        **options,
    )


def _recon(rate):
    import fedlab as fl

    return fl.algorithms.fed_recon([USER], reconstruction_optimizer=fl.optimizers.sgd(rate))
