"""Runs on a small disk that fills up and is then enlarged."""

import re
import subprocess

import pytest
import tensorflow as tf

import fedlab as fl
from fedlab.runs.write.checkpoints import Checkpoints
from tests.runs import killable
from tests.runs.test_kill import outcome, scalars
from tests.runs.test_run_folder import start

PAGE = 4096


class Disk:
    """A file system in memory (tmpfs) of a size that can be changed."""

    def __init__(self, path):
        self.path = path
        path.mkdir()
        self._mount("-t", "tmpfs", "-o", f"size={PAGE}", "fedlab-test")

    def resize(self, num_pages):
        self._mount("-o", f"remount,size={num_pages * PAGE}")

    def close(self):
        subprocess.run(["umount", "--lazy", self.path], check=True)

    def _mount(self, *arguments):
        subprocess.run(["mount", *arguments, self.path], check=True, capture_output=True, text=True)


@pytest.fixture
def disk(tmp_path):
    try:
        disk = Disk(tmp_path / "disk")
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(
            f"no small file system can be mounted here: {getattr(error, 'stderr', None) or error}"
        )
    yield disk
    disk.close()


@pytest.mark.slow
def test_a_run_goes_on_whenever_there_is_more_room(disk, tmp_path):
    """It stops at every file that does not fit, and what is on disk stays intact every time."""
    killable.run("local", tmp_path / "whole")
    folder, rounds, stopped = disk.path / "run", [], 0
    for num_pages in range(2, 1000, 3):
        disk.resize(num_pages)
        try:
            killable.run("local", folder)
            break
        except OSError as error:
            assert re.fullmatch(
                r".*/run.* cannot be written \(.+\): make room .* the last checkpoint is intact",
                str(error),
            )  # a line
            stopped += 1
        if (checkpoint := Checkpoints(folder / "checkpoints").last()) is not None:
            rounds.append(checkpoint.about["round"])
    assert stopped > 10 and rounds == sorted(rounds) and {0, killable.ROUNDS} <= set(rounds)
    assert outcome(folder) == outcome(tmp_path / "whole")


@pytest.mark.slow
def test_a_command_ends_with_a_line_in_the_middle_and_goes_on(disk, tmp_path):
    model, whole, folder = tmp_path / "small.keras", tmp_path / "whole", disk.path / "run"
    fl.models.char_rnn(units=8, embedding_dim=4).save(model)

    def command(run_dir):
        process = start(model, run_dir, "--rounds=60")
        _, err = process.communicate(timeout=300)
        return process.returncode, err

    assert command(whole)[0] == 0
    at_the_end = {"model.keras", "report.html"}
    used = sum(
        -(-file.stat().st_size // PAGE)
        for file in whole.rglob("*")
        if file.is_file() and file.name not in at_the_end
    )
    disk.resize(used - 2)
    code, err = command(folder)
    assert code == 1 and "Traceback" not in err, err
    (line,) = (line for line in err.splitlines() if line.startswith("fedlab: error:"))
    assert re.search(
        r"/run.* cannot be written \(.+\): make room .* the last checkpoint is intact", line
    )
    assert 1 < Checkpoints(folder / "checkpoints").last().about["round"] < 60
    disk.resize(used + 1000)
    assert command(folder)[0] == 0
    for read in (weights_of, scalars):
        assert read(folder) == read(whole)


def weights_of(run):
    return [
        w.tobytes()
        for w in tf.keras.models.load_model(run / "model.keras", compile=False).get_weights()
    ]
