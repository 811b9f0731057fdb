"""Metrics over several clients or parts of an evaluation set, against one stream in Keras."""

import numpy as np
import pytest
import tensorflow as tf

import fedlab as fl
from tests.stacks import IS_KERAS_3

rng = np.random.default_rng(0)
X = rng.normal(size=[66, 3]).astype(np.float32)
Y = rng.normal(size=[66, 1]).astype(np.float32)
CLIENTS = {f"c{i}": {"x": X[2 * i : 2 * i + 2], "y": Y[2 * i : 2 * i + 2]} for i in range(33)}


class Largest(tf.keras.metrics.Metric):
    def __init__(self, name="largest", **options):
        super().__init__(name=name, **options)
        self.value = self.add_weight(name="value", initializer="zeros")

    def update_state(self, y, predicted, sample_weight=None):
        self.value.assign(tf.maximum(self.value, tf.reduce_max(predicted)))

    def result(self):
        return self.value


class MergedLargest(Largest):
    def merge_state(self, metrics):
        for metric in metrics:
            self.value.assign(tf.maximum(self.value, metric.value))


class FBeta(tf.keras.metrics.Metric):
    """F-beta of the signs, with beta in a variable."""

    def __init__(self, beta, name="f_beta", **options):
        super().__init__(name=name, **options)
        self.beta = self.add_weight(name="beta", initializer=tf.keras.initializers.Constant(beta))
        self.counts = self.add_weight(name="counts", shape=[3], initializer="zeros")

    def update_state(self, y, predicted, sample_weight=None):
        real, found = tf.cast(y > 0, tf.float32), tf.cast(predicted > 0, tf.float32)
        self.counts.assign_add([tf.reduce_sum(values) for values in (real * found, real, found)])

    def result(self):
        hits, real, found = tf.unstack(self.counts)
        return (1 + self.beta**2) * hits / (self.beta**2 * real + found)

    def get_config(self):
        return {**super().get_config(), "beta": 3.0}


class Table(tf.keras.metrics.Metric):
    """How often each pair of signs occurs, and, as a dict, how often each sign of y does."""

    def __init__(self, as_dict=False, name="table", **options):
        super().__init__(name=name, **options)
        self.as_dict = as_dict
        self.table = self.add_weight(name="counts", shape=[2, 2], initializer="zeros")

    def update_state(self, y, predicted, sample_weight=None):
        signs = [tf.reshape(tf.cast(values > 0, tf.int32), [-1]) for values in (y, predicted)]
        self.table.assign_add(tf.math.confusion_matrix(*signs, num_classes=2, dtype=tf.float32))

    def result(self):
        rows = tf.reduce_sum(self.table, axis=1)
        return (
            {"negative": rows[0], "share": rows / tf.reduce_sum(rows)}
            if self.as_dict
            else self.table
        )

    def get_config(self):
        return {**super().get_config(), "as_dict": self.as_dict}


def metrics():
    return [
        "mae",
        Largest(),
        MergedLargest(name="merged"),
        FBeta(3.0),
        Table(),
        Table(True, name="parts"),
    ]


def linear(given=None):
    """A model that training leaves as it is, with updates that are NaN where the data are."""
    tf.keras.utils.set_random_seed(1)
    model = tf.keras.Sequential([tf.keras.Input([3]), tf.keras.layers.Dense(1)])
    model.compile(
        tf.keras.optimizers.SGD(1e-30), "mse", metrics=metrics() if given is None else given
    )
    return model


def in_keras(x, y):
    """What `evaluate` of a fresh model gives in one stream, arrays taken apart by hand."""
    model = linear()
    model.run_eagerly = True  # quicker than tracing a small model
    logs = model.evaluate(x, y, batch_size=2, verbose=0, return_dict=True)
    table, share = logs.pop("table"), logs.pop("share")
    logs |= {f"table_{i}_{j}": table[i, j] for i in range(2) for j in range(2)}
    return logs | {f"share_{i}": share[i] for i in range(2)}


def run(clients, **options):
    options = {
        "rounds": 1,
        "cohort": list(clients),
        "batch_size": 2,
        "evaluation_batch_size": 2,
        "progress": False,
        **options,
    }
    return fl.simulate(linear(options.pop("given", None)), clients, **options)


def of_part(row, part):
    return {
        name.removeprefix(f"{part}_"): value
        for name, value in row.items()
        if name.startswith(f"{part}_")
    }


@pytest.mark.slow
def test_metrics_are_those_of_one_stream(caplog):
    nan = {"x": np.full([2, 3], np.nan, np.float32), "y": np.ones([2, 1], np.float32)}
    clients = fl.ClientData.from_dict({"bad": nan, **CLIENTS})
    test = fl.ClientData.from_dict(CLIENTS)
    runs = [run(clients, evaluate_on=test, num_workers=num_workers) for num_workers in (1, 3)]
    rows = [{**result.history[-1], "seconds": 0} for result in runs]
    assert rows[0] == rows[1] and rows[0]["clients_dropped"] == 1
    expected = in_keras(X, Y)
    assert of_part(rows[0], "test") == pytest.approx(expected, rel=1e-5)
    assert expected["largest"] == pytest.approx(linear().predict(X, verbose=0).max())
    trained = of_part(rows[0], "train")
    del expected["largest"]
    assert trained == pytest.approx(expected, rel=1e-5)
    left_out = [
        record.getMessage()
        for record in caplog.records
        if "do not report the training metric" in record.getMessage()
    ]
    assert len(left_out) == 2 and all(
        "'largest'" in message for message in left_out
    )  # one for each run


@pytest.mark.slow
def test_clients_one_by_one_and_with_their_own_models():
    clients = fl.ClientData.from_dict(CLIENTS)
    found = fl.evaluate_federated(linear(), clients, local=clients, evaluation_batch_size=1)
    for i in (0, 32):
        expected = in_keras(X[2 * i : 2 * i + 2], Y[2 * i : 2 * i + 2])
        for prefix in ("", "personal_"):
            given = {name: found.clients[i][prefix + name] for name in expected}
            assert given == pytest.approx(expected, rel=1e-5, nan_ok=True)  # f_beta of no sign
    together = fl.evaluate_personalized(linear(), clients, clients, evaluation_batch_size=2)
    assert together == pytest.approx(in_keras(X, Y), rel=1e-5)


@pytest.mark.slow
def test_tff_adds_only_what_adds_up(caplog):
    pytest.importorskip("tensorflow_federated")
    nan = {"x": np.full([2, 3], np.nan, np.float32), "y": np.ones([2, 1], np.float32)}
    clients = fl.ClientData.from_dict({"bad": nan, **dict([*CLIENTS.items()][:3])})
    row = run(clients, engine="tff").history[-1]
    expected = in_keras(X[:6], Y[:6])
    del expected["largest"], expected["merged"]
    assert of_part(row, "train") == pytest.approx(expected, rel=1e-5)
    assert "'largest', 'merged'" in caplog.text


@pytest.mark.parametrize("names", [["t", "t_a"], ["train_a"]])
def test_sets_whose_columns_have_the_same_name_are_refused(names):
    model = tf.keras.Sequential([tf.keras.layers.Input([3]), tf.keras.layers.Dense(1)])
    model.compile("sgd", "mse", metrics=[tf.keras.metrics.MeanAbsoluteError(name="a_loss")])
    data = fl.ClientData.from_dict(CLIENTS)
    with pytest.raises(
        ValueError,
        match=rf"^evaluate_on\['{names[-1]}'\] has a metric '{names[-1]}_loss'[^\n]*; "
        "rename the set$",
    ):
        fl.simulate(
            model,
            data,
            rounds=1,
            clients_per_round=2,
            evaluate_on=dict.fromkeys(names, data),
            progress=False,
        )


class InPython(tf.keras.metrics.Metric):
    def update_state(self, y, predicted, sample_weight=None):
        self.count = 1

    def result(self):
        return 1.0


class Text(Largest):
    def result(self):
        return {"best": "text"}


class Loss(Largest):
    def result(self):
        return {"loss": self.value}


class Unmerged(Largest):
    def merge_state(self, metrics):
        raise NotImplementedError("later")


class Lost(FBeta):
    def __init__(self, beta=2.0, name="lost", **options):
        super().__init__(beta, name=name, **options)

    get_config = tf.keras.metrics.Metric.get_config


class Written(tf.keras.metrics.Metric):
    """A number that `write(variable, rows, error)` updates."""

    def __init__(self, write, name="written", **options):
        super().__init__(name=name, **options)
        self.write = write
        self.value = self.add_weight(name="value", initializer="zeros")

    def update_state(self, y, predicted, sample_weight=None):
        self.write(
            self.value, tf.cast(tf.shape(y)[0], tf.float32), tf.reduce_sum(tf.abs(y - predicted))
        )

    def result(self):
        return self.value + 0.0

    def get_config(self):
        return {**super().get_config(), "write": self.write}


def add_for_each_row(value, rows, error):
    def body(i):
        value.assign_add(error)
        return [i + 1]

    tf.while_loop(lambda i: i < rows, body, [0.0])


ADDING = {
    "assign_add": lambda value, rows, error: value.assign_add(error),
    "assign of a sum": lambda value, rows, error: value.assign(error + value),
    "assign of a difference": lambda value, rows, error: value.assign(tf.identity(value) - error),
    "where the batch is bad": lambda value, rows, error: tf.cond(
        error > 1, lambda: value.assign_add(1.0), lambda: value.assign_add(0.0)
    ),
    "in a loop": add_for_each_row,
}
NOT_ADDING = {
    "a count that stops": lambda value, rows, error: value.assign(tf.minimum(value + rows, 60.0)),
    "adding until it is enough": lambda value, rows, error: value.assign_add(
        tf.where(value < 60.0, rows, 0.0)
    ),
    "a branch on the state": lambda value, rows, error: tf.cond(
        value < 60.0, lambda: value.assign_add(rows), lambda: value.assign_add(0.0)
    ),
    "the last batch": lambda value, rows, error: value.assign(error),
}


@pytest.mark.slow
def test_only_metrics_that_are_sums_are_added_over_clients():
    """Batches of the trials have 27 rows; the set has 66."""
    tf.keras.utils.set_random_seed(1)
    model = tf.keras.Sequential([tf.keras.layers.Input([3]), tf.keras.layers.Dense(1)])
    kinds = {name.replace(" ", "_"): write for name, write in (ADDING | NOT_ADDING).items()}
    model.compile("sgd", "mse", metrics=[Written(write, name) for name, write in kinds.items()])
    data = fl.ClientData.from_dict({"all": {"x": X, "y": Y}})
    plain = model.evaluate(X, Y, batch_size=1, verbose=0, return_dict=True)
    assert fl.evaluate(model, data, batch_size=1) == pytest.approx(plain, rel=1e-5)
    row = fl.simulate(
        model,
        fl.ClientData.from_dict(CLIENTS),
        rounds=1,
        clients_per_round=33,
        batch_size=2,
        progress=False,
    ).history[-1]
    trained = {name for name in kinds if f"train_{name}" in row}
    known = {name.replace(" ", "_") for name in ADDING}
    # Keras 3 adds by reading and assigning, which is not recognized inside of a loop.
    assert trained == known - ({"in_a_loop"} if IS_KERAS_3 else set())


@pytest.mark.parametrize(
    "metric, message",
    [
        (
            lambda: InPython(name="python"),
            "metric 'python' of class InPython has no variables: expected",
        ),
        (lambda: Text(name="text"), "'text' as 'best': expected a number"),
        (
            lambda: Loss(name="other"),
            "two metrics of the model have results named 'loss': expected",
        ),
        (
            lambda: Unmerged(name="own"),
            "metric 'own' of class Unmerged cannot be merged by its merge_state (later",
        ),
        (
            lambda: Lost(3.0),
            "a copy of metric 'lost' of class Lost has another 'beta': add it to get_config",
        ),
    ],
)
def test_unusable_metrics_are_refused_before_the_first_round(metric, message):
    with pytest.raises(ValueError) as error:
        run(
            fl.ClientData.from_dict(CLIENTS),
            given=[metric()],
            evaluate_on={"fail": lambda model, round_num: 1 / 0},
        )
    assert message in str(error.value) and "\n" not in str(error.value)
