"""Bad input to the public functions: an error of one line, and no files left behind."""

import types

import numpy as np
import pytest
import tensorflow as tf

import fedlab as fl
from fedlab.cli._ending import MISTAKES
from tests.bad_input.telling import check_line, contents
from tests.quadratics import linear_model, points

layers, partitions = tf.keras.layers, fl.clients.partitioners
NAN, INF = float("nan"), float("inf")


class Given(types.SimpleNamespace):
    """What cases start from: files, and things that are right but for what a case changes."""


@pytest.fixture(scope="module")
def given(files, tmp_path_factory):
    tf.keras.utils.set_random_seed(0)
    classifier = tf.keras.Sequential([layers.Input([2]), layers.Dense(3)], name="classifier")
    classifier.compile(
        "sgd", tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"]
    )
    one_of_many = fl.models.clone(classifier)
    one_of_many.set_weights([np.full(w.shape, NAN) for w in one_of_many.get_weights()])
    train, test = fl.datasets.squad.synthetic_windows(num_clients=2)
    sizes = dict(vocab_size=len(train.vocabulary), hidden_size=8, intermediate_size=8, num_layers=1)
    return Given(
        f=files,
        work=tmp_path_factory.mktemp("work"),
        linear=linear_model(1, tf.keras.optimizers.SGD(0.125), 1.0),
        points=points([2, 4], [3, 1]),
        classifier=classifier,
        broken=one_of_many,
        uncompiled=tf.keras.Sequential([layers.Input([2]), layers.Dense(3)], name="uncompiled"),
        chars=fl.models.char_rnn(units=2, embedding_dim=2),
        answers=fl.models.bert.question_answering(length=48, **sizes),
        classes=fl.models.bert.classification(3, length=48, **sizes),
        windows=test,
        words=fl.datasets.squad.SYNTHETIC_VOCABULARY,
        questions=test.questions,
    )


def classified(**columns):
    """Clients for the classifier: "good", and "bad" with these columns."""
    good = {"x": np.zeros([4, 2], np.float32), "y": np.array([0, 1, 2, 0])}
    return fl.ClientData.from_dict({"good": good, "bad": {**good, **columns}})


def simulate(g, **options):
    arguments = {
        "model": g.linear,
        "clients": g.points,
        "rounds": 1,
        "clients_per_round": 2,
        "progress": False,
        "num_workers": 1,
        **options,
    }
    return fl.simulate(
        arguments.pop("model"),
        arguments.pop("clients"),
        arguments.pop("algorithm", None),
        **arguments,
    )


def bad_client(g, **columns):
    return simulate(
        g,
        model=g.classifier,
        clients=classified(**columns),
        cohort=["good", "bad"],
        clients_per_round=None,
    )


def one_client(g, model, **columns):
    return simulate(
        g, model=model, clients=fl.ClientData.from_dict({"ann": columns}), clients_per_round=1
    )


def bare(*columns):
    return fl.ClientData.from_dict({"ann": dict(columns)})["ann"]


# What is called with a `Given`, and what the line has to name.
SIMULATE = {
    "model None": (lambda g: simulate(g, model=None), "NoneType"),
    "model a path": (lambda g: simulate(g, model="model.keras"), "str"),
    "model a function of nothing": (lambda g: simulate(g, model=lambda: None), "NoneType"),
    "model not compiled": (lambda g: simulate(g, model=g.uncompiled), "'uncompiled'"),
    "model of weights nan": (lambda g: simulate(g, model=g.broken, clients=classified()), "nan"),
    "clients a dict": (lambda g: simulate(g, clients={"ann": {"x": [1.0]}}), "dict"),
    "clients None": (lambda g: simulate(g, clients=None), "NoneType"),
    "clients all empty": (lambda g: simulate(g, clients=points([2, 4], [0, 0])), "round 1"),
    "algorithm not called": (lambda g: simulate(g, algorithm=fl.algorithms.fed_avg), "fed_avg"),
    "algorithm a name": (lambda g: simulate(g, algorithm="fed_avg"), "str"),
    "aggregator not called": (lambda g: simulate(g, aggregator=fl.aggregators.mean), "mean"),
    "rounds 0": (lambda g: simulate(g, rounds=0), "rounds=0"),
    "rounds a float": (lambda g: simulate(g, rounds=1.5), "rounds=1.5"),
    "rounds a bool": (lambda g: simulate(g, rounds=True), "rounds=True"),
    "clients_per_round too many": (
        lambda g: simulate(g, clients_per_round=3),
        "clients_per_round=3",
    ),
    "clients_per_round a float": (
        lambda g: simulate(g, clients_per_round=1.5),
        "clients_per_round=1.5",
    ),
    "clients_per_round a text": (
        lambda g: simulate(g, clients_per_round="2"),
        "clients_per_round='2'",
    ),
    "neither cohort nor number": (
        lambda g: simulate(g, clients_per_round=None),
        "clients_per_round",
    ),
    "cohort empty": (lambda g: simulate(g, clients_per_round=None, cohort=[]), "[]"),
    "cohort a text": (lambda g: simulate(g, clients_per_round=None, cohort="c0"), "'c0'"),
    "cohort a number": (lambda g: simulate(g, clients_per_round=None, cohort=2), "2"),
    "cohort of strangers": (lambda g: simulate(g, clients_per_round=None, cohort=["zoë"]), "zoë"),
    "cohort twice": (lambda g: simulate(g, clients_per_round=None, cohort=["c0", "c0"]), "'c0'"),
    "sampler of nothing": (
        lambda g: simulate(g, clients_per_round=None, cohort=lambda *_: []),
        "round 1",
    ),
    "sampler of None": (
        lambda g: simulate(g, clients_per_round=None, cohort=lambda *_: None),
        "None",
    ),
    "sampler of strangers": (
        lambda g: simulate(g, clients_per_round=None, cohort=lambda *_: ["zoë"]),
        "zoë",
    ),
    "seed negative": (lambda g: simulate(g, seed=-1), "seed=-1"),
    "seed a float": (lambda g: simulate(g, seed=0.5), "seed=0.5"),
    "engine unknown": (lambda g: simulate(g, engine="spark"), "'spark'"),
    "batch_size 0": (lambda g: simulate(g, batch_size=0), "batch_size=0"),
    "batch_size huge": (
        lambda g: simulate(g, batch_size=10**30),
        "batch_size=1000000000000000000000000000000",
    ),
    "local_epochs negative": (lambda g: simulate(g, local_epochs=-1), "epochs=-1"),
    "max_batches 0": (lambda g: simulate(g, max_batches=0), "max_batches=0"),
    "shuffle a text": (lambda g: simulate(g, shuffle="no"), "'no'"),
    "every batch dropped": (lambda g: simulate(g, drop_remainder=True), "batch of 8"),
    "client_learning_rate a number": (lambda g: simulate(g, client_learning_rate=0.1), "0.1"),
    "non_trainable unknown": (lambda g: simulate(g, non_trainable="drop"), "'drop'"),
    "precision unknown": (lambda g: simulate(g, precision="float8"), "'float8'"),
    "conditions a number": (lambda g: simulate(g, conditions=0.5), "0.5"),
    "conditions a list of numbers": (lambda g: simulate(g, conditions=[0.5]), "0.5"),
    "a condition of nothing": (lambda g: simulate(g, conditions=lambda *_: None), "None"),
    "a condition of share nan": (
        lambda g: simulate(g, conditions=lambda *_: fl.clients.Participation(share=NAN)),
        "nan",
    ),
    "a condition of share 0": (
        lambda g: simulate(g, conditions=lambda *_: fl.clients.Participation(share=0.0)),
        "0.0",
    ),
    "evaluate_on a number": (lambda g: simulate(g, evaluate_on=5), "5"),
    "evaluate_on None by name": (lambda g: simulate(g, evaluate_on={"test": None}), "NoneType"),
    "evaluate_on by a number": (lambda g: simulate(g, evaluate_on={5: g.points}), "5"),
    "evaluate_on called train": (lambda g: simulate(g, evaluate_on={"train": g.points}), "'train'"),
    "evaluate_on one of a pair": (
        lambda g: simulate(g, evaluate_on=(g.points,)),
        "a tuple of ClientData",
    ),
    "evaluate_on a pair of numbers": (lambda g: simulate(g, evaluate_on=(1, 2)), "int"),
    "evaluate_on empty clients": (
        lambda g: simulate(g, evaluate_on=points([1], [0])),
        "every client is empty",
    ),
    "evaluate_on a function of text": (
        lambda g: simulate(g, evaluate_on=lambda model, round_num: {"a": "b"}),
        "'b'",
    ),
    "evaluate_every 0": (lambda g: simulate(g, evaluate_every=0), "evaluate_every=0"),
    "evaluation_batch_size a text": (lambda g: simulate(g, evaluation_batch_size="8"), "'8'"),
    "num_workers negative": (lambda g: simulate(g, num_workers=-1), "num_workers=-1"),
    "num_workers 0": (lambda g: simulate(g, num_workers=0), "num_workers=0"),
    "num_workers a float": (lambda g: simulate(g, num_workers=1.5), "num_workers=1.5"),
    "run_dir a number": (lambda g: simulate(g, run_dir=5), "5"),
    "run_dir a file": (lambda g: simulate(g, run_dir=g.f / "text.txt"), "text.txt"),
    "run_dir below a file": (lambda g: simulate(g, run_dir=g.f / "text.txt" / "run"), "text.txt"),
    "run_dir of something else": (lambda g: simulate(g, run_dir=g.f / "plays"), "plays"),
    "run_dir too long": (lambda g: simulate(g, run_dir="x" * 5000), "xxx"),
    "run_dir without permission": (lambda g: simulate(g, run_dir="/sys/run"), "/sys/run"),
    "run_dir of other settings": (
        lambda g: simulate(g, run_dir=g.f / "runs" / "good", seed=7),
        "seed is 7",
    ),
    "run_dir of another version": (
        lambda g: simulate(g, run_dir=g.f / "runs" / "version9"),
        "version 9",
    ),
    # What clients hold
    "no targets": (
        lambda g: one_client(g, g.classifier, x=np.zeros([2, 2])),
        "'x'",
    ),
    "rows of another width": (lambda g: bad_client(g, x=np.zeros([4, 3])), "'bad'"),
    "rows of another rank": (lambda g: bad_client(g, x=np.zeros([4, 2, 2, 2])), "'bad'"),
    "a column of None": (
        lambda g: bad_client(g, x=np.array([[None, 1.0]] * 4, object)),
        "other objects",
    ),
    "a column of None in every client": (
        lambda g: one_client(g, g.classifier, x=np.array([[None, 1.0]] * 2, object), y=[0, 1]),
        "None",
    ),
    "a column of dates": (
        lambda g: bad_client(g, x=np.zeros([4, 2], "datetime64[s]")),
        "datetime64",
    ),
    "a column of texts": (lambda g: bad_client(g, x=np.array([["a", "b"]] * 4)), "'x'"),
    "labels too large": (lambda g: bad_client(g, y=np.array([0, 1, 2, 3])), "3"),
    "labels negative": (lambda g: bad_client(g, y=np.array([0, 1, 2, -1])), "-1"),
    "labels of another shape": (lambda g: bad_client(g, y=np.zeros([4, 5], np.int64)), "[5]"),
    "labels in fractions": (
        lambda g: one_client(g, g.classifier, x=np.zeros([2, 2]), y=[0.0, 0.5]),
        "0.5",
    ),
    "other columns": (
        lambda g: bad_client(g, z=[1, 2, 3, 4]),
        "'z'",
    ),
    "an id without embedding": (
        lambda g: one_client(g, g.chars, x=[[86]], y=[[1]]),
        "86",
    ),
    # Evaluation
    "Run: an unknown table": (
        lambda g: fl.Run(None, [], [], None, []).to_dataframe("rounds"),
        "table='rounds'",
    ),
    "Run: a report without a place": (
        lambda g: fl.Run(None, [{"round": 0}], [], None, []).report(),
        "path=None",
    ),
    "Run: nothing to plot": (
        lambda g: fl.Run(None, [{"round": 0}], [], None, []).plot(),
        "no metrics",
    ),
    "evaluate: no model": (lambda g: fl.evaluate(None, g.points), "NoneType"),
    "evaluate: not compiled": (lambda g: fl.evaluate(g.uncompiled, classified()), "'uncompiled'"),
    "evaluate: no data": (lambda g: fl.evaluate(g.linear, None), "NoneType"),
    "evaluate: batch_size 0": (
        lambda g: fl.evaluate(g.linear, g.points, batch_size=0),
        "batch_size=0",
    ),
    "evaluate: batch_size a float": (
        lambda g: fl.evaluate(g.linear, g.points, batch_size=2.5),
        "batch_size=2.5",
    ),
    "evaluate: columns of other lengths": (
        lambda g: fl.evaluate(g.linear, {"x": np.ones([3, 1]), "y": np.ones([2, 1])}),
        "2",
    ),
    "evaluate: num_workers": (
        lambda g: fl.evaluate(g.linear, g.points, num_workers="two"),
        "'two'",
    ),
    "evaluate_federated: no model": (lambda g: fl.evaluate_federated(None, g.points), "NoneType"),
    "evaluate_federated: a dict": (lambda g: fl.evaluate_federated(g.linear, {}), "dict"),
    "evaluate_federated: nothing of their own": (
        lambda g: fl.evaluate_federated(g.linear, g.points, points([1], [1])),
        "c1",
    ),
    "evaluate_federated: batch_size": (
        lambda g: fl.evaluate_federated(g.linear, g.points, g.points, batch_size=0),
        "batch_size=0",
    ),
    "evaluate_federated: evaluation_batch_size": (
        lambda g: fl.evaluate_federated(g.linear, g.points, evaluation_batch_size=0),
        "0",
    ),
    "evaluate_federated: algorithm": (
        lambda g: fl.evaluate_federated(g.linear, g.points, g.points, fl.algorithms.fed_avg()),
        "'fed_avg'",
    ),
    "evaluate_personalized: own": (
        lambda g: fl.evaluate_personalized(g.linear, None, g.points),
        "NoneType",
    ),
    "evaluate_personalized: seed": (
        lambda g: fl.evaluate_personalized(g.linear, g.points, g.points, seed="a"),
        "'a'",
    ),
    "per_client: a dict": (lambda g: fl.per_client({"ann": {}}), "dict"),
    "per_client: empty": (lambda g: fl.per_client(points([1], [0])), "every client is empty"),
}

DATA = {
    "no clients": (lambda g: fl.ClientData.from_dict({}), "client_ids is empty"),
    "a list of clients": (lambda g: fl.ClientData.from_dict([{"x": [1]}]), "list"),
    "no mapping": (lambda g: fl.ClientData.from_dict(None), "NoneType"),
    "a client by number": (lambda g: fl.ClientData.from_dict({1: {"x": [1]}}), "1"),
    "a client twice": (lambda g: fl.ClientData(["zoë", "zoë"], dict), "'zoë'"),
    "an id of half a character": (lambda g: fl.ClientData(["a\ud800"], dict), "\\ud800"),
    "ids a text": (lambda g: fl.ClientData("ann", dict), "'ann'"),
    "ids a number": (lambda g: fl.ClientData(5, dict), "5"),
    "load no function": (lambda g: fl.ClientData(["ann"], {"ann": {"x": [1]}}), "dict"),
    "an unknown client": (lambda g: g.points["zoë"], "'zoë'"),
    "columns of other lengths": (lambda g: bare(("x", [1, 2]), ("y", [1])), "'y': 1"),
    "a ragged column": (lambda g: bare(("x", [[1, 2], [3]])), "'x'"),
    "a single value": (lambda g: bare(("x", 5)), "'x'"),
    "no columns": (lambda g: bare(), "'ann'"),
    "a column by number": (lambda g: bare((5, [1])), "5"),
    "columns a list": (lambda g: fl.ClientData.from_dict({"ann": [1, 2]})["ann"], "list"),
    "map no function": (lambda g: g.points.map({"x": "y"}), "dict"),
    "map to nothing": (lambda g: g.points.map(lambda columns: None)["c0"], "'c0'"),
    "select nobody": (lambda g: g.points.select([]), "client_ids is empty"),
    "select twice": (lambda g: g.points.select(["c0", "c0"]), "'c0'"),
    "select a stranger": (lambda g: g.points.select(["c9"]), "'c9'"),
    "split nan": (lambda g: g.points.split_clients(NAN, 0), "nan"),
    "split a text": (lambda g: g.points.split_clients("a fifth", 0), "'a fifth'"),
    "split everything": (lambda g: g.points.split_clients(1, 0), "1"),
    "split one client": (lambda g: points([1], [1]).split_clients(0.5, 0), "1 client"),
    "split by a text": (lambda g: g.points.split_clients(0.5, "zero"), "'zero'"),
    "arrays of nobody": (lambda g: g.points.to_arrays([]), "client_ids is empty"),
    "arrays of differing clients": (lambda g: classified(x=np.zeros([4, 3])).to_arrays(), "'bad'"),
    "dataset of batches of 0": (lambda g: g.points.to_dataset(0), "batch_size=0"),
    "dataset of half batches": (lambda g: g.points.to_dataset(1.5), "batch_size=1.5"),
    "from_dataset: a number": (lambda g: fl.ClientData.from_dataset(5), "int"),
    "from_dataset: a list": (lambda g: fl.ClientData.from_dataset({"ann": [1, 2]})["ann"], "list"),
    "from_dataset: without an end": (
        lambda g: fl.ClientData.from_dataset({"ann": tf.data.Dataset.range(3).repeat()})["ann"],
        "'ann'",
    ),
    "from_dataset: a function alone": (
        lambda g: fl.ClientData.from_dataset(lambda _: None),
        "client_ids",
    ),
    "from_tff: a dict": (lambda g: fl.ClientData.from_tff({}), "dict"),
    "batching": (lambda g: fl.clients.Batching(batch_size="8").check(), "'8'"),
    "batching: shuffle": (lambda g: fl.clients.Batching(shuffle=None).check(), "None"),
    "uniform: a text": (lambda g: fl.clients.uniform("3")(["a"], 1, 0), "'3'"),
    "uniform: a bool": (lambda g: fl.clients.uniform(True)(["a"], 1, 0), "True"),
    "weighted: no weights": (lambda g: fl.clients.weighted(1, None), "None"),
    "weighted: nan": (lambda g: fl.clients.weighted(1, {"a": NAN})(["a"], 1, 0), "nan"),
    "weighted: a text": (lambda g: fl.clients.weighted(1, {"a": "heavy"})(["a"], 1, 0), "'heavy'"),
    "weighted: a client without": (
        lambda g: fl.clients.weighted(1, {"a": 1})(["a", "b"], 1, 0),
        "'b'",
    ),
    "weighted: all 0": (
        lambda g: fl.clients.weighted(1, {"a": 0})(["a"], 1, 0),
        "clients_per_round=1",
    ),
    "poisson: a text": (lambda g: fl.clients.poisson("3")(["a"], 1, 0), "'3'"),
    "poisson: nan": (lambda g: fl.clients.poisson(NAN)(["a"], 1, 0), "nan"),
    "fixed: a text": (lambda g: fl.clients.fixed("ann"), "'ann'"),
    "fixed: nobody": (lambda g: fl.clients.fixed([]), "[]"),
    "dropouts: 2": (lambda g: fl.clients.dropouts(2), "2"),
    "stragglers: nan": (lambda g: fl.clients.stragglers(NAN), "nan"),
    "partitions.natural: none": (lambda g: partitions.natural([]), "[0]"),
    "partitions.natural: nan": (lambda g: partitions.natural([1.0, NAN]), "nan"),
    "partitions.natural: ragged": (lambda g: partitions.natural([[1], [2, 3]]), "labels"),
    "partitions.uniform: a text": (lambda g: partitions.uniform("7", 3, seed=0), "'7'"),
    "partitions.uniform: negative": (lambda g: partitions.uniform(-7, 3, seed=0), "-7"),
    "partitions.uniform: too many clients": (
        lambda g: partitions.uniform(7, 8, seed=0),
        "num_clients=8",
    ),
    "partitions.uniform: seed": (lambda g: partitions.uniform(7, 3, seed=None), "None"),
    "partitions.dirichlet: alpha 0": (
        lambda g: partitions.dirichlet([0, 1], 2, 0, seed=0),
        "alpha=0",
    ),
    "partitions.dirichlet: alpha inf": (
        lambda g: partitions.dirichlet([0, 1], 2, INF, seed=0),
        "inf",
    ),
    "partitions.dirichlet: nan": (
        lambda g: partitions.dirichlet([0, NAN, 1, 1], 2, 1.0, seed=0),
        "nan",
    ),
    "partitions.dirichlet: min_examples": (
        lambda g: partitions.dirichlet([0, 1], 2, 1.0, seed=0, min_examples=5),
        "5",
    ),
    "partitions.dirichlet: mixed labels": (
        lambda g: fl.clients.partitioners.dirichlet(
            np.array([0, None, "a"], object), 2, 1.0, seed=0
        ),
        "None",
    ),
    "partitions.shards: too many": (lambda g: partitions.shards([0, 1], 2, seed=0), "2"),
    "partitions.quantity_skew: alpha": (
        lambda g: partitions.quantity_skew(9, 2, "1", seed=0),
        "'1'",
    ),
    "partitions.clients: no such row": (
        lambda g: partitions.clients({"x": [1, 2]}, {"a": [2]}),
        "2",
    ),
    "partitions.clients: negative row": (
        lambda g: partitions.clients({"x": [1, 2]}, {"a": [-1]}),
        "-1",
    ),
    "partitions.clients: half a row": (
        lambda g: partitions.clients({"x": [1, 2]}, {"a": [0.5]}),
        "'a'",
    ),
    "partitions.clients: lengths": (
        lambda g: partitions.clients({"x": [1, 2], "y": [1]}, {"a": [0]}),
        "'y': 1",
    ),
    # Data sets
    "datasets.get": (lambda g: fl.datasets.get("mnits"), "'mnits'"),
    "shakespeare: source": (lambda g: fl.datasets.shakespeare.load("folio"), "'folio'"),
    "shakespeare: sequence_length 0": (
        lambda g: fl.datasets.shakespeare.synthetic(sequence_length=0),
        "0",
    ),
    "shakespeare: sequence_length a float": (
        lambda g: fl.datasets.shakespeare.synthetic(sequence_length=2.5),
        "2.5",
    ),
    "shakespeare: sequence_length huge": (
        lambda g: fl.datasets.shakespeare.synthetic(sequence_length=10**6, drop_remainder=True),
        "1000000",
    ),
    "shakespeare: num_clients": (lambda g: fl.datasets.shakespeare.synthetic("3"), "'3'"),
    "shakespeare: seed": (lambda g: fl.datasets.shakespeare.synthetic(seed=-1), "-1"),
    "shakespeare: no snippets": (
        lambda g: fl.datasets.shakespeare.preprocess(g.points),
        "'x', 'y'",
    ),
    "shakespeare: numbers": (
        lambda g: fl.datasets.shakespeare.preprocess(
            fl.ClientData.from_dict({"a": {"snippets": [1, 2]}})
        ),
        "1",
    ),
    "shakespeare: plays": (lambda g: fl.datasets.shakespeare.load(path=g.f / "plays"), "hamlet.md"),
    "squad: version": (
        lambda g: fl.datasets.squad.load(path=g.f / "squad_good", version="3"),
        "'3'",
    ),
    "squad: no path": (lambda g: fl.datasets.squad.load(), "path="),
    "squad: partition": (
        lambda g: fl.datasets.squad.load("synthetic", partition="plays"),
        "'plays'",
    ),
    "squad: partition option": (
        lambda g: fl.datasets.squad.load("synthetic", partition_options={"alpha": 1}),
        "'alpha'",
    ),
    "squad: num_clients": (lambda g: fl.datasets.squad.synthetic("3"), "'3'"),
    "squad: unanswerable": (lambda g: fl.datasets.squad.synthetic(unanswerable=NAN), "nan"),
    "squad: unanswerable a text": (
        lambda g: fl.datasets.squad.synthetic(unanswerable="some"),
        "'some'",
    ),
    "squad.read: nested": (lambda g: fl.datasets.squad.read(g.f / "nested.json"), "nested.json"),
    "squad.read: a folder": (lambda g: fl.datasets.squad.read(g.f), str),
    "squad.make_windows: none": (
        lambda g: fl.datasets.squad.make_windows([], g.words, cache=False),
        "0 questions",
    ),
    "squad.make_windows: stride": (
        lambda g: fl.datasets.squad.make_windows(g.questions, g.words, max_length=32, stride=32),
        "32",
    ),
    "squad.make_windows: vocabulary": (
        lambda g: fl.datasets.squad.make_windows(g.questions, 5),
        "5",
    ),
}

METHODS = {
    "fed_avg: client_weighting": (
        lambda g: fl.algorithms.fed_avg(client_weighting="size"),
        "'size'",
    ),
    "fed_avg: client_weighting a list": (
        lambda g: fl.algorithms.fed_avg(client_weighting=[1, 2]),
        "[1, 2]",
    ),
    "fed_avg: negative weights": (
        lambda g: simulate(
            g, algorithm=fl.algorithms.fed_avg(client_weighting=lambda c: -c.num_examples)
        ),
        "-3",
    ),
    "fed_avg: rate nan": (lambda g: fl.algorithms.fed_avg(server_learning_rate=NAN), "nan"),
    "fed_avg: rate inf": (lambda g: fl.algorithms.fed_avg(server_learning_rate=INF), "inf"),
    "fed_avg: rate a text": (lambda g: fl.algorithms.fed_avg(server_learning_rate="1"), "'1'"),
    "fed_avg: momentum 1": (lambda g: fl.algorithms.fed_avg(server_momentum=1), "momentum=1"),
    "fed_prox: mu nan": (lambda g: fl.algorithms.fed_prox(NAN), "nan"),
    "fed_prox: mu a text": (lambda g: fl.algorithms.fed_prox("0.1"), "'0.1'"),
    "fed_prox: mu inf": (lambda g: fl.algorithms.fed_prox(INF), "inf"),
    "fed_dyn: alpha 0": (lambda g: fl.algorithms.fed_dyn(0), "alpha=0"),
    "fed_dyn: alpha None": (lambda g: fl.algorithms.fed_dyn(None), "None"),
    "fed_recon: one name": (lambda g: fl.algorithms.fed_recon("head"), "'head'"),
    "fed_recon: share": (
        lambda g: fl.algorithms.fed_recon(["head"], reconstruction_share="half"),
        "'half'",
    ),
    "fed_recon: unknown layer": (
        lambda g: simulate(g, algorithm=fl.algorithms.fed_recon(["user"])),
        "'user'",
    ),
    "fed_recon: optimizer": (
        lambda g: fl.algorithms.fed_recon(["head"], reconstruction_optimizer="sgd"),
        "'sgd'",
    ),
    "fed_opt: optimizer": (lambda g: fl.algorithms.fed_opt("adam"), "'adam'"),
    "fed_sgd: optimizer": (lambda g: fl.algorithms.fed_sgd(tf.keras.optimizers.SGD()), "SGD"),
    "fed_adam: beta": (lambda g: fl.algorithms.fed_adam(0.1, beta_1=1.5), "1.5"),
    "fed_yogi: epsilon": (lambda g: fl.algorithms.fed_yogi(0.1, epsilon=-1), "-1"),
    "fed_avgm: momentum": (lambda g: fl.algorithms.fed_avgm(1.0, momentum="0.9"), "'0.9'"),
    "fed_nova: Adam": (
        lambda g: simulate(g, model=linear_model(1, "adam"), algorithm=fl.algorithms.fed_nova()),
        "Adam",
    ),
    "fine_tuning: a name": (lambda g: fl.algorithms.fine_tuning("fed_avg"), "'fed_avg'"),
    "attacks: a share of 2": (
        lambda g: fl.algorithms.attacks.sign_flipping(fl.algorithms.fed_avg(), 2),
        "2",
    ),
    "attacks: scale inf": (
        lambda g: fl.algorithms.attacks.sign_flipping(fl.algorithms.fed_avg(), 0.1, INF),
        "inf",
    ),
    "attacks: no algorithm": (lambda g: fl.algorithms.attacks.noise("fed_avg", 0.1), "'fed_avg'"),
    "attacks: num_classes": (
        lambda g: fl.algorithms.attacks.label_flipping(fl.algorithms.fed_avg(), 0.1, 1),
        "1",
    ),
    "schedules: rate": (lambda g: fl.optimizers.schedules.constant(-1), "-1"),
    "schedules: every": (lambda g: fl.optimizers.schedules.step(1.0, every=0), "0"),
    "schedules: factor": (
        lambda g: fl.optimizers.schedules.exponential(1.0, factor="half"),
        "'half'",
    ),
    "schedules: final": (lambda g: fl.optimizers.schedules.cosine(1.0, rounds=9, final=NAN), "nan"),
    "optimizers: rate": (lambda g: fl.optimizers.adam(NAN), "nan"),
    "optimizers: epsilon": (lambda g: fl.optimizers.rmsprop(0.1, epsilon="tiny"), "'tiny'"),
    "clipped: norm 0": (lambda g: fl.aggregators.clipped(norm=0), "0"),
    "clipped: norm nan": (lambda g: fl.aggregators.clipped(norm=NAN), "nan"),
    "clipped: inner not called": (lambda g: fl.aggregators.clipped(fl.aggregators.mean), "mean"),
    "zeroed: inner a name": (lambda g: fl.aggregators.zeroed("mean"), "str"),
    "quantized: bits": (lambda g: fl.aggregators.quantized(bits=17), "17"),
    "quantized: inner a norm": (lambda g: fl.aggregators.quantized(1.0), "float"),
    "adaptive: quantile": (lambda g: fl.aggregators.adaptive(1.0, quantile=NAN), "nan"),
    "adaptive: initial a text": (lambda g: fl.aggregators.adaptive("1"), "'1'"),
    "trimmed_mean: half": (lambda g: fl.aggregators.trimmed_mean(0.5), "0.5"),
    "trimmed_mean: a text": (lambda g: fl.aggregators.trimmed_mean("0.1"), "'0.1'"),
    "krum: attackers a text": (lambda g: fl.aggregators.krum("all"), "'all'"),
    "krum: too few clients": (lambda g: simulate(g, aggregator=fl.aggregators.krum()), "2 clients"),
    "private: noise inf": (
        lambda g: fl.aggregators.differentially_private(INF, 1, 2, norm=1.0),
        "inf",
    ),
    "private: noise a text": (
        lambda g: fl.aggregators.differentially_private("1", 1, 2, norm=1.0),
        "'1'",
    ),
    "private: delta": (
        lambda g: fl.aggregators.differentially_private(1.0, 1, 2, norm=1.0, delta=0),
        "delta=0",
    ),
    "private: other cohorts": (
        lambda g: simulate(
            g, aggregator=fl.aggregators.differentially_private(1.0, 1, 2, norm=1.0)
        ),
        "poisson",
    ),
    "check_algorithm: a name": (lambda g: fl.testing.check_algorithm("fed_avg"), "str"),
    "check_aggregator: a function": (
        lambda g: fl.testing.check_aggregator(fl.aggregators.mean),
        "mean",
    ),
}

MODELS = {
    "load: a number": (lambda g: fl.models.load(5), "int"),
    "load: empty": (lambda g: fl.models.load(g.f / "empty"), "empty"),
    "load: a pickle": (lambda g: fl.models.load(g.f / "pickle"), "pickle"),
    "load: Keras 3": (
        lambda g: fl.models.load(g.f / "keras3.keras"),
        "3.3.3",
    ),
    "load: nested": (lambda g: fl.models.load(g.f / "nested.keras"), "nested.keras"),
    "load: Lambda": (lambda g: fl.models.load(g.f / "lambda.keras"), "lambda.keras"),
    "load: options": (lambda g: fl.models.load(g.f / "chars.keras", units=3), "units"),
    "load: too long": (lambda g: fl.models.load("x/" * 5000), "x/x"),
    "char_rnn: units 0": (lambda g: fl.models.char_rnn(units=0), "0"),
    "char_rnn: units a float": (lambda g: fl.models.char_rnn(units=2.5), "2.5"),
    "char_rnn: cell": (lambda g: fl.models.char_rnn(cell="rnn"), "'rnn'"),
    "char_rnn: num_layers": (lambda g: fl.models.char_rnn(num_layers=0), "0"),
    "char_rnn: learning_rate": (lambda g: fl.models.char_rnn(learning_rate=NAN), "nan"),
    "char_rnn: stateful": (lambda g: fl.models.char_rnn(stateful=True), "stateful=True"),
    "compile_char_rnn: None": (lambda g: fl.models.compile_char_rnn(None), "NoneType"),
    "bert: a size": (lambda g: fl.models.bert.encoder(hidden_size=0), "hidden_size=0"),
    "bert: an unknown size": (lambda g: fl.models.bert.encoder(depth=3), "depth=3"),
    "bert: heads": (lambda g: fl.models.bert.encoder(hidden_size=8, num_heads=3), "8"),
    "bert: epsilon": (lambda g: fl.models.bert.encoder(epsilon="small"), "'small'"),
    "bert: rate": (
        lambda g: fl.models.bert.question_answering(hidden_size=8, learning_rate=-1),
        "-1",
    ),
    "bert: classes": (lambda g: fl.models.bert.classification(1), "num_classes=1"),
    "bert: checkpoint": (lambda g: fl.models.bert.encoder(g.f / "folder"), "folder"),
    "bert: up_to": (lambda g: fl.models.bert.up_to("two"), "'two'"),
    "clone: None": (lambda g: fl.models.clone(None), "NoneType"),
    "freeze: None": (lambda g: fl.models.freeze(None), "NoneType"),
    "freeze: unknown": (lambda g: fl.models.freeze(g.linear, "head"), "'head'"),
    "freeze: a number": (lambda g: fl.models.freeze(g.linear, 5), "5"),
    "generate: prompt": (lambda g: fl.generate(g.chars, b"To be"), "b'To be'"),
    "generate: temperature": (lambda g: fl.generate(g.chars, "a", temperature=NAN), "nan"),
    "generate: model": (lambda g: fl.generate(g.answers, "a"), "bert_question_answering"),
    "answer: no model": (lambda g: fl.answer(None, "Who?", "Ann.", g.words), "NoneType"),
    "answer: question": (lambda g: fl.answer(g.answers, None, "Ann.", g.words), "None"),
    "answer: no words": (lambda g: fl.answer(g.answers, "Who?", "\u200b", g.words), "1 questions"),
    "answer: max_answer_length": (
        lambda g: fl.answer(g.answers, "Who?", "Anna.", g.words, max_answer_length=0),
        "0",
    ),
    "answer: vocabulary": (lambda g: fl.answer(g.answers, "Who?", "Ann.", ["[PAD]"]), "[UNK]"),
}

LOOKING = {
    "read_run: missing": (lambda g: fl.runs.read_run(g.f / "missing"), "missing"),
    "read_run: a file": (lambda g: fl.runs.read_run(g.f / "empty"), "empty"),
    "read_run: None": (lambda g: fl.runs.read_run(None), "None"),
    "read_run: version": (lambda g: fl.runs.read_run(g.f / "runs" / "version9"), "version 9"),
    "write_report: missing": (lambda g: fl.write_report(g.f / "missing"), "missing"),
    "write_report: below a file": (
        lambda g: fl.write_report(g.f / "runs" / "good", g.f / "empty" / "r.html"),
        "empty",
    ),
    "write_samples: missing": (lambda g: fl.write_samples(g.f / "missing", []), "missing"),
    "write_samples: a text": (lambda g: fl.write_samples(g.f / "runs" / "good", "text"), "'text'"),
    "write_samples: half a character": (
        lambda g: fl.write_samples(g.f / "runs" / "good", [{"title": "a", "text": "\ud800"}]),
        "\\ud800",
    ),
    "Probe: no columns": (lambda g: fl.question_answering.Probe({}, "probe.npz"), "{}"),
    "Probe: None": (lambda g: fl.question_answering.Probe(None, "probe.npz"), "NoneType"),
    "Probe: lengths": (
        lambda g: fl.question_answering.Probe({"x": [1, 2], "y": [1]}, "probe.npz"),
        "'y': 1",
    ),
    "Probe: titles": (
        lambda g: fl.question_answering.Probe({"x": [1], "y": [1]}, "probe.npz", titles=["a", "b"]),
        "2",
    ),
    "probe.read: cut": (
        lambda g: fl.question_answering.probe.read(g.f / "runs" / "cut_probe"),
        "probe.npz",
    ),
    "probe.read: pickled": (
        lambda g: fl.question_answering.probe.read(g.f / "runs" / "pickled_probe"),
        "probe.npz",
    ),
    "probe.of_windows: number": (
        lambda g: fl.question_answering.probe.of_windows(g.windows, "probe.npz", num_examples=0),
        "0",
    ),
    "Evaluator: None": (lambda g: fl.question_answering.Evaluator(None), "NoneType"),
    "Evaluator: batch_size": (
        lambda g: fl.question_answering.Evaluator(g.windows, batch_size=0),
        "0",
    ),
    "spans.answers: shape": (
        lambda g: fl.question_answering.spans.answers(g.windows, np.zeros([2, 2])),
        "[2, 2]",
    ),
    "spans.answers: nan": (
        lambda g: fl.question_answering.spans.answers(
            g.windows, np.full([g.windows.num_windows, 2, 48], NAN)
        ),
        "not finite",
    ),
    "spans.logits: batch_size": (
        lambda g: fl.question_answering.spans.logits(g.answers, g.windows, 0),
        "0",
    ),
    "squad.scores: none": (lambda g: fl.question_answering.scores.scores([], {}), "no questions"),
    "squad.scores: version": (
        lambda g: fl.question_answering.scores.scores(g.questions, {}, "3"),
        "'3'",
    ),
    "efficacy.draw: seed": (lambda g: fl.question_answering.efficacy.draw(5, 5, seed=-1), "-1"),
    "efficacy.draw: huge": (
        lambda g: fl.question_answering.efficacy.draw(5, 10**30),
        "1" + "0" * 30,
    ),
    "efficacy.measure: number": (
        lambda g: fl.question_answering.efficacy.measure(g.answers, g.windows, num_correct=0),
        "0",
    ),
    "efficacy.replay: number": (
        lambda g: fl.question_answering.efficacy.replay(g.answers, g.windows, [10**6]),
        "1000000",
    ),
    "wordpiece: a text": (lambda g: g.windows.vocabulary.encode("one text"), "'one text'"),
    "an unknown name": (lambda g: fl.federate, "'federate'"),
}

CASES = {
    f"{room}: {name}": case
    for room in ("SIMULATE", "DATA", "METHODS", "MODELS", "LOOKING")
    for name, case in globals()[room].items()
}


@pytest.mark.parametrize("name", CASES)
def test_functions(given, name, monkeypatch):
    monkeypatch.chdir(given.work)
    call, received = CASES[name]
    before = contents(given.f, given.work)
    with pytest.raises(
        (*MISTAKES, AttributeError) if name == "LOOKING: an unknown name" else MISTAKES
    ) as raised:
        call(given)
    message = raised.value.args[0] if isinstance(raised.value, KeyError) else str(raised.value)
    check_line(message, str(given.f) if received is str else received)
    assert contents(given.f, given.work) == before
