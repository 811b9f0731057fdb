"""Progress of a run: a bar on a terminal, a line per round elsewhere, once."""

import logging
import os
import pathlib
import re
import subprocess
import sys

import pytest

from fedlab import _progress
from tests import terminal

ROWS = [
    {"round": 0, "new_clients_loss": 2.0, "new_clients_sparse_categorical_accuracy": 0.25},
    *(
        {
            "round": i,
            "train_loss": 1.5 / i,
            "train_sparse_categorical_accuracy": 0.25,
            "clients_asked": 10,
            "clients_finished": 9,
            "clients_dropped": 1,
            "epsilon": 1.0,
            "seconds": 0.5,
            "new_clients_loss": 1.0 / i,
            "new_clients_loss_p10": 0.5,
            "new_clients_sparse_categorical_accuracy": 0.5,
        }
        for i in range(1, 4)
    ),
]

LINES = [
    "round 0 of 3: new clients accuracy 0.2500, new clients loss 2.0000",
    "round 1 of 3: new clients accuracy 0.5000, train loss 1.5000, new clients loss 1.0000, "
    "train accuracy 0.2500, epsilon 1.0000, 1 of 10 clients dropped",
    "round 2 of 3: new clients accuracy 0.5000, train loss 0.7500, new clients loss 0.5000, "
    "train accuracy 0.2500, epsilon 1.0000, 1 of 10 clients dropped, 1 s left",
    "round 3 of 3: new clients accuracy 0.5000, train loss 0.5000, new clients loss 0.3333, "
    "train accuracy 0.2500, epsilon 1.0000, 1 of 10 clients dropped",
]


def show(progress, rows=ROWS, rounds=3, history=()):
    with _progress.reporter(progress, rounds, history) as report:
        for row in rows:
            report(row)


def test_a_line_per_round_on_stderr_without_a_terminal(capsys):
    show(None)
    assert capsys.readouterr() == ("", "".join(f"{line}\n" for line in LINES))


def test_no_output(capsys, caplog):
    with caplog.at_level(logging.INFO, "fedlab"):
        show(False)
    assert capsys.readouterr() == ("", "") and not caplog.records


def test_lines_are_log_records_if_logging_shows_them_and_never_both(capsys, caplog):
    with caplog.at_level(logging.INFO, "fedlab"):
        show(None)
    assert [record.getMessage() for record in caplog.records] == LINES
    assert capsys.readouterr() == ("", "")
    caplog.clear()
    with caplog.at_level(logging.WARNING, "fedlab"):
        show(None)
    assert not caplog.records and capsys.readouterr().err.splitlines() == LINES


def test_a_resumed_run_knows_which_metrics_are_evaluations(capsys):
    show(None, ROWS[2:3], history=ROWS[:2])
    assert capsys.readouterr().err.splitlines() == [LINES[2].removesuffix(", 1 s left")]


SCRIPT = """
import logging, sys, time, warnings
from fedlab import _progress
from tests.test_progress import ROWS

if "configured" in sys.argv:
    logging.basicConfig(level=logging.INFO)
with _progress.reporter(None, 3, []) as report:
    for row in ROWS:
        report(row)
        time.sleep(0.3)
        if row["round"] == 1:
            print("printed")
            logging.getLogger("fedlab").warning("warned")
assert "tensorflow" not in sys.modules
"""
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def on_a_terminal(columns, *arguments, **environment):
    """What the script writes to a pseudo-terminal, as it is and as lines."""
    code, written = terminal.run(
        [sys.executable, "-c", SCRIPT, *arguments],
        columns,
        cwd=pathlib.Path(__file__).parents[1],
        env={**os.environ, "TERM": "xterm", **environment},
    )
    assert code == 0, written
    return written, [line for line in re.split(r"[\r\n]+", _CONTROL.sub("", written)) if line]


@pytest.mark.parametrize("columns", [100, 80, 40, 20])
def test_the_bar_fits_the_terminal(columns):
    written, lines = on_a_terminal(columns)
    bars = [line for line in lines if re.match("[0-3]/3 ", line)]
    assert bars and all(len(line.rstrip()) <= columns for line in bars), lines
    # A line that is longer would be wrapped, and rich would move the cursor up.
    assert "\x1b[1A" not in written
    assert "━" in bars[-1] or columns < 80
    if columns >= 40:
        assert "3/3" in bars[-1] and "new clients acc 0.5000" in bars[-1]
    if columns >= 80:
        assert "acc 0.5000, train loss 0.5000" in bars[-1]
        assert any("0:01 left" in bar for bar in bars)
    assert lines.count("printed") == lines.count("warned") == 1


def test_log_records_are_above_the_bar():
    _, lines = on_a_terminal(80, "configured")
    assert [line for line in lines if "warned" in line] == ["WARNING:fedlab:warned"]
    assert not any(line.startswith("round ") for line in lines)


def test_lines_in_a_terminal_that_cannot_move_its_cursor():
    written, lines = on_a_terminal(200, TERM="dumb")
    assert "\x1b" not in written and [line for line in lines if line[:6] == "round "] == LINES


NOTEBOOK = """
import IPython
from IPython.core.interactiveshell import InteractiveShell

shell = InteractiveShell.instance()
shell.kernel = "a kernel"
shown = []
shell.display_pub.publish = lambda data, metadata=None, **more: shown.append((data, more))
from fedlab import _progress
from tests.test_progress import LINES, ROWS

with _progress.reporter(None, 3, []) as report:
    for row in ROWS:
        report(row)
assert [data["text/plain"] for data, _ in shown] == [LINES[0], LINES[3]], shown
assert shown[1][0]["text/html"] == f'<progress value="3" max="3"></progress> {LINES[3]}'
assert shown[0][1]["transient"] == shown[1][1]["transient"] and shown[1][1]["update"]
"""


def test_a_notebook_has_one_bar():
    pytest.importorskip("IPython")
    done = subprocess.run(
        [sys.executable, "-c", NOTEBOOK],
        cwd=pathlib.Path(__file__).parents[1],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (0, "")
