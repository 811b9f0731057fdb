"""What `fedlab.Run` and recorded runs show: a short table, curves and data frames."""

import subprocess
import sys

import pytest

import fedlab as fl
from tests.runs.test_damage import write_run

HISTORY = [
    {"round": 0, "test_loss": 2.0, "test_accuracy": 0.25, "each_loss": 2.0, "each_loss_p10": 1.0},
    {
        "round": 1,
        "train_loss": 1.5,
        "train_accuracy": 0.5,
        "clients_asked": 10,
        "clients_dropped": 0,
        "seconds": 60.0,
        "test_loss": 1.0,
        "test_accuracy": 0.75,
        "each_loss": float("nan"),
        "each_loss_p10": 0.5,
    },
    {
        "round": 2,
        "train_loss": None,
        "train_accuracy": None,
        "clients_asked": 11,
        "clients_dropped": 11,
        "seconds": 30.5,
        "test_loss": 1.25,
        "test_accuracy": 0.5,
        "each_loss": 1.5,
        "each_loss_p10": 0.5,
    },
]
CLIENTS = [
    {"round": 1, "client_id": f"c{i}", "num_examples": 2, "metrics": {"accuracy": i / 4}}
    for i in range(2000)
]
TABLE = """\
Run: fed_avg, 2 rounds, 10.5 clients per round, 11 dropped, 1 min 30 s of training
                first   last    best
test accuracy   0.2500  0.5000  0.7500 in round 1
test loss       2       1.250   1 in round 1
each loss       2       1.500   1.500 in round 2
train loss      1.500   1.500   1.500 in round 1
train accuracy  0.5000  0.5000  0.5000 in round 1
"""


@pytest.fixture
def run():
    return fl.Run(None, HISTORY, CLIENTS, None, [], settings={"algorithm": "fed_avg"})


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    return fl.runs.read_run(write_run(tmp_path_factory.mktemp("runs") / "run"))


def test_it_prints_as_a_short_table(run, tmp_path):
    assert f"{run}\n" == f"{run!r}\n" == TABLE
    stopped = run._replace(stopped="no improvement", path=tmp_path)
    first, second, *_, last = str(stopped).splitlines()
    assert (second, last) == ("stopped: no improvement", f"in {tmp_path}")
    assert str(run._replace(history=[{"round": 0}], settings={})) == "Run: 0 rounds"


def test_a_recorded_run_prints_as_a_short_table(recorded):
    lines = str(recorded).splitlines()
    assert lines[:2] == [
        "Run: 3 rounds, 3 clients per round, 3 dropped, 4.5 s of training",
        "not finished",
    ]
    assert lines[3].split() == ["test", "loss", "0.5000", "0.3333", "0.1250", "in", "round", "2"]
    assert lines[-1] == f"in {recorded.path}"


def test_curves(run, recorded, tmp_path):
    pytest.importorskip("matplotlib")
    figure = run.plot(tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    panels = {axis.get_ylabel(): axis for axis in figure.axes}
    assert list(panels) == ["loss", "accuracy"]
    curves = {
        (panel, line.get_label()): [*zip(*line.get_data())]
        for panel, axis in panels.items()
        for line in axis.lines
    }
    assert curves == {
        ("loss", "test"): [(0, 2.0), (1, 1.0), (2, 1.25)],
        ("loss", "each"): [(0, 2.0), (2, 1.5)],
        ("loss", "train"): [(1, 1.5)],
        ("accuracy", "test"): [(0, 0.25), (1, 0.75), (2, 0.5)],
        ("accuracy", "train"): [(1, 0.5)],
    }
    assert [axis.get_ylabel() for axis in recorded.plot().axes] == ["test loss", "each loss"]
    with pytest.raises(ValueError, match="no metrics to plot: expected at least one"):
        run._replace(history=[{"round": 0}]).plot()


def test_data_frames(run, recorded):
    pytest.importorskip("pandas")
    frame = run.to_dataframe()
    assert frame["test_accuracy"].tolist() == [0.25, 0.75, 0.5]
    assert frame["train_loss"].isna().tolist() == [True, False, True]
    clients = run.to_dataframe("clients")
    assert clients.shape == (2000, 4) and clients["train_accuracy"].iloc[3] == 0.75
    assert run.to_dataframe("evaluations").empty
    assert recorded.to_dataframe("clients")["train_accuracy"].iloc[0] == 0.25
    assert len(recorded.to_dataframe("evaluations")) == 12 and len(recorded.to_dataframe()) == 4
    for each in (run, recorded):
        with pytest.raises(ValueError, match="table='rounds': expected 'history', 'clients' or"):
            each.to_dataframe("rounds")


def test_a_report_without_a_run_folder_needs_a_path(run):
    with pytest.raises(ValueError, match="path=None: expected the file to write.*'report.html'"):
        run.report()


def test_importing_fedlab_is_light():
    code = (
        "import sys, fedlab; fedlab.Run; "
        "heavy = {'tensorflow', 'keras', 'pandas', 'pyarrow', 'rich', 'matplotlib', 'numpy'}; "
        "print(heavy & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "set()\n", done.stderr
