"""MLflow and Weights & Biases: what they store of a run, and of one that is interrupted."""

import json
import os
import struct
import sys

import pytest
import tensorflow as tf

import fedlab as fl
from fedlab.callbacks import MLflow, WandB
from tests.quadratics import linear_model, regressions

CLIENTS, _, _ = regressions()


class Interrupted(Exception):
    pass


def interrupt_in(round_num):
    """A callback that ends the run after the tracker has seen a round, before it is written."""

    def interrupt(round):
        if round.round_num == round_num:
            raise Interrupted

    return interrupt


def run(callbacks=(), rounds=3, **options):
    model = linear_model(3, tf.keras.optimizers.SGD(0.05))
    options = {"clients_per_round": 3, "num_workers": 1, "progress": False, **options}
    return fl.simulate(
        model,
        CLIENTS,
        rounds=rounds,
        evaluate_on={"test": CLIENTS.select(["c4"])},
        callbacks=list(callbacks),
        **options,
    )


def interrupted_and_resumed(make, folder):
    """The run, the tracker's run id before and after, and the weights of a run without one."""
    never = interrupt_in(-1)
    first, second = make(), make()
    with pytest.raises(Interrupted):
        run([first, interrupt_in(2)], run_dir=folder)
    found = run([second, never], run_dir=folder)
    plain = run([never])
    for one, other in zip(found.model.get_weights(), plain.model.get_weights()):
        assert one.tobytes() == other.tobytes()
    assert first.run_id == second.run_id is not None
    return found, second.run_id


@pytest.fixture
def offline(monkeypatch, tmp_path):
    """Fails what connects to anything but this machine, and forgets the environment afterwards."""
    import socket

    connect = socket.socket.connect

    def refuse(self, address):
        assert self.family == socket.AF_UNIX, f"connects to {address}"
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.chdir(tmp_path)
    for name in ("MLFLOW_ALLOW_FILE_STORE", "MLFLOW_DISABLE_TELEMETRY", "DO_NOT_TRACK"):
        monkeypatch.setenv(name, "true")
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")


@pytest.mark.slow
def test_mlflow_has_every_round_once(tmp_path, offline, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://localhost:9")  # is not read
    found, run_id = interrupted_and_resumed(
        lambda: MLflow("tests", artifacts=True), tmp_path / "first"
    )
    client = mlflow.MlflowClient((tmp_path / "mlruns").as_uri())
    experiment = client.get_experiment_by_name("tests").experiment_id
    (stored,) = client.search_runs([experiment])
    assert (stored.info.run_id, stored.info.status) == (run_id, "FINISHED")
    assert stored.info.run_name == "first"
    assert stored.data.params["algorithm"] == "fed_avg"
    assert float(stored.data.params["optimizer.learning_rate"]) == pytest.approx(0.05)
    assert stored.data.params["rounds"] == "3"
    names = {name for row in found.history for name in row} - {"round", "seconds"}
    assert {"test_loss", "train_loss", "bytes_up"} <= names
    for name in names:
        points = [(each.step, each.value) for each in client.get_metric_history(run_id, name)]
        assert points == [(row["round"], row[name]) for row in found.history if name in row]
    files = {each.path: each for each in client.list_artifacts(run_id)}
    assert {"report.html", "model.keras", "config.json", "metrics.csv"} <= files.keys()
    assert files["model.keras"].file_size == (tmp_path / "first" / "model.keras").stat().st_size

    # More rounds continue the same run. With another address it is not found.
    with pytest.raises(ValueError, match=f"expected the MLflow run {run_id}"):
        tracker = MLflow("tests", artifacts=True, tracking_uri=tmp_path / "other")
        run([tracker, interrupt_in(-1)], 4, run_dir=tmp_path / "first")
    run([MLflow("tests", artifacts=True), interrupt_in(-1)], 4, run_dir=tmp_path / "first")
    steps = [each.step for each in client.get_metric_history(run_id, "test_loss")]
    assert steps == [0, 1, 2, 3, 4]
    assert len(client.search_runs([experiment])) == 1


def test_mlflow_without_a_run_folder(offline, tmp_path):
    mlflow = pytest.importorskip("mlflow")
    tracker = MLflow(run_name="named", tracking_uri=tmp_path / "elsewhere")
    run([tracker, lambda round: round.stop("enough") if round.round_num == 1 else None])
    stored = mlflow.MlflowClient((tmp_path / "elsewhere").as_uri()).get_run(tracker.run_id)
    assert (stored.info.run_name, stored.data.tags["fedlab.stopped"]) == ("named", "enough")
    assert not (tmp_path / "mlruns").exists()


def records(folder):
    """The records of a W&B file, which is a log of LevelDB: blocks of 32 KiB."""
    from wandb.proto import wandb_internal_pb2

    (file,) = folder.glob("run-*.wandb")
    data, position, record = file.read_bytes(), 7, b""
    assert data[:4] == b":W&B"
    while position + 7 <= len(data):
        if 32768 - position % 32768 < 7:
            position += 32768 - position % 32768
            continue
        length, kind = struct.unpack_from("<HB", data, position + 4)
        position += 7
        record += data[position : position + length]
        position += length
        if kind in (1, 4):  # complete, or the last part
            yield wandb_internal_pb2.Record.FromString(record)
            record = b""


@pytest.mark.slow
def test_wandb_has_every_round(tmp_path, offline):
    pytest.importorskip("wandb")
    found, run_id = interrupted_and_resumed(
        lambda: WandB("tests", artifacts=True), tmp_path / "first"
    )
    folders = sorted((tmp_path / "wandb").glob("offline-run-*"), key=os.path.getctime)
    assert [each.name.rpartition("-")[2] for each in folders] == [run_id, run_id]
    rounds, files = {}, set()
    for folder in folders:
        for record in records(folder):
            if record.HasField("run"):
                assert (record.run.run_id, record.run.project) == (run_id, "tests")
                assert record.run.display_name == "first"
                settings = {
                    each.key: json.loads(each.value_json) for each in record.run.config.update
                }
                assert settings["algorithm"] == "fed_avg" and settings["rounds"] == "3"
            elif record.HasField("history"):
                row = {
                    each.key or "/".join(each.nested_key): json.loads(each.value_json)
                    for each in record.history.item
                }
                rounds[row["round"]] = row
            elif record.HasField("request") or record.HasField("artifact"):
                files |= {each.path for each in record.artifact.manifest.contents}
    assert sorted(rounds) == [0, 1, 2, 3]
    for row in found.history:
        assert {name: rounds[row["round"]][name] for name in row if name != "seconds"} == {
            name: value for name, value in row.items() if name != "seconds"
        }
        assert rounds[row["round"]]["_step"] == row["round"]
    assert {"report.html", "model.keras"} <= files


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: MLflow(""), "experiment=''"),
        (lambda: MLflow("a", run_name=3), "run_name: expected a text or None, got int 3"),
        (lambda: MLflow("a", artifacts="yes"), "artifacts: expected True or False"),
        (lambda: WandB("a", mode="disabled"), "mode='disabled': expected one of 'offline', "),
        (lambda: WandB(project=None), "project: expected a text"),
        (lambda: run([MLflow(artifacts=True)]), "MLflow(artifacts=True): expected a simulation"),
        (lambda: run([WandB(artifacts=True)]), "WandB(artifacts=True): expected a simulation"),
    ],
)
def test_mistakes(make, message):
    pytest.importorskip("mlflow")
    pytest.importorskip("wandb")
    with pytest.raises((TypeError, ValueError)) as raised:
        make()
    assert message in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.parametrize("tracker, extra", [(MLflow, "mlflow"), (WandB, "wandb")])
def test_a_missing_package_is_named(monkeypatch, tracker, extra):
    monkeypatch.setitem(sys.modules, extra, None)
    with pytest.raises(ModuleNotFoundError) as raised:
        tracker()
    assert str(raised.value).endswith(f"is not installed: pip install 'fedlab-keras[{extra}]'")
