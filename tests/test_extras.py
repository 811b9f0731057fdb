"""Without an optional package, a message says what is left out and how to install it."""

import configparser
import pathlib
import re
import subprocess
import sys

import pytest

from fedlab import _extras

ROOT = pathlib.Path(__file__).resolve().parents[1]

# Packages that cannot be imported in the process, as if they were not installed.
BLOCKED = """
import sys

class Blocked:
    def find_spec(self, fullname, path=None, target=None):
        if fullname.partition(".")[0] in {packages!r}:
            raise ModuleNotFoundError(f"No module named {{fullname!r}}", name=fullname)

sys.meta_path.insert(0, Blocked())
"""


def run_without(packages, code, timeout=300):
    """What a script prints in a process without some packages: (output, lines of errors)."""
    done = subprocess.run(
        [sys.executable, "-c", BLOCKED.format(packages=packages) + code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr.splitlines()


def test_extras_are_those_of_the_package():
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    extras = {
        extra: re.findall(r"^([\w.-]+)", requirements, re.MULTILINE)
        for extra, requirements in config["options.extras_require"].items()
    }
    distributions = {"PIL": "pillow", "sklearn": "scikit-learn", "mlflow": "mlflow-skinny"}
    for package, extra in _extras._EXTRAS.items():
        assert distributions.get(package, package.replace("_", "-")) in extras[extra], package


ERRORS = """
import pathlib
from fedlab import _extras, _figure
from fedlab.clients import ClientData
from fedlab.clients.partitioners import clusters
from fedlab.datasets import _pictures
from fedlab.runs.read import report

for call in (
    lambda: _figure.new(1, 1),
    lambda: report.write_report("no_run"),
    lambda: ClientData.open("no_clients"),
    lambda: _pictures.read(pathlib.Path("no_picture"), 8),
):
    try:
        call()
    except ModuleNotFoundError as error:
        print(error)
for i in range(3):
    _extras.skipped("a thing is not done", "jinja2")
assert "tensorflow" not in sys.modules
"""


def test_errors_name_the_extra():
    out, err = run_without(("matplotlib", "jinja2", "pyarrow", "PIL"), ERRORS)
    assert out.splitlines() == [
        "plots need matplotlib, which is not installed: pip install 'fedlab-keras[report]'",
        "reports need jinja2, which is not installed: pip install 'fedlab-keras[report]'",
        "ClientData.save and ClientData.open need pyarrow, which is not installed: "
        "pip install 'fedlab-keras[data]'",
        "pictures need Pillow, which is not installed: pip install 'fedlab-keras[data]'",
    ]
    assert err == [
        "a thing is not done: jinja2 is not installed; pip install 'fedlab-keras[report]'"
    ]


RUN = """
import tempfile
import fedlab as fl

train, test = fl.datasets.shakespeare.synthetic(num_clients=3)
private = fl.aggregators.differentially_private(1.0, 2, 3, sampling="uniform", norm=1.0)
algorithm = fl.algorithms.fed_avg(client_weighting="uniform")
for i in range(2):
    with tempfile.TemporaryDirectory() as folder:
        run = fl.simulate(
            fl.models.char_rnn(units=4, embedding_dim=4), train, algorithm, aggregator=private,
            rounds=2, clients_per_round=2, max_batches=1, run_dir=folder + "/run", progress=False,
        )
        print(sorted(each.name for each in run.path.iterdir() if each.suffix == ".html"))
assert not any("epsilon" in name for row in run.history for name in row)
"""


@pytest.mark.slow
def test_a_run_says_once_what_it_leaves_out():
    out, err = run_without(("jinja2", "numba", "dp_accounting"), RUN)
    assert out == "[]\n[]\n"
    assert [line for line in err if "not installed" in line] == [
        "LSTM and GRU layers train in TensorFlow's slower loops: numba is not installed; "
        "pip install 'fedlab-keras[fast]'",
        "epsilon, the privacy spent, is not computed: dp-accounting is not installed; "
        "pip install 'fedlab-keras[privacy]'",
        "report.html is not written: jinja2 is not installed; "
        "pip install 'fedlab-keras[report]'",
    ]
