"""What .ci/run and .ci/commands cover."""

import argparse
import shutil
import subprocess
from pathlib import Path

import pytest

from fedlab import cli
from tests.scripts.test_setup import write_script

ROOT = Path(__file__).resolve().parents[2]
CALLED = [
    "scripts/setup",
    "scripts/lint",
    "scripts/docs",
    "scripts/test",
    ".ci/wheel",
    ".ci/commands",
]


def run(tmp_path, failing=None):
    """Runs .ci/run, with scripts that print their arguments."""
    (tmp_path / ".ci").mkdir()
    shutil.copy2(ROOT / ".ci" / "run", tmp_path / ".ci" / "run")
    for name in CALLED:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        status = int(name == failing)
        write_script(tmp_path / name, f'#!/bin/bash\necho "{name} $*"; exit {status}\n')
    for name, imports in {"test_a.py": "tensorflow_federated", "test_b.py": "numpy"}.items():
        (tmp_path / "tests").mkdir(exist_ok=True)
        (tmp_path / "tests" / name).write_text(f"import {imports}\n")
    command = [shutil.which("bash"), str(tmp_path / ".ci" / "run")]
    return subprocess.run(command, capture_output=True, text=True, timeout=30)


def test_everything_runs_on_the_modern_stack_and_the_reference_on_tff(tmp_path):
    done = run(tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    reference = lines.pop(3)
    assert reference.startswith("scripts/test --stack=tff -m not slow and not alone ")
    assert reference.endswith(" tests/test_a.py")
    assert lines == [
        "scripts/setup --stack=modern",
        "scripts/setup --stack=tff",
        "scripts/test --all",
        ".ci/commands --stack=tff",
        ".ci/wheel ",
        # This part runs beside the one above, and is shown after it.
        ".ci/commands --stack=modern",
        "scripts/lint ",
        "scripts/lint --stack=tff",
        "scripts/docs ",
    ]


@pytest.mark.parametrize("failing", CALLED)
def test_one_failure_fails_the_run_after_everything_ran(tmp_path, failing):
    done = run(tmp_path, failing)
    assert done.returncode == 1
    assert len(done.stdout.splitlines()) == 10


def names_of(parser, before=()):
    """The names of the commands, as tuples."""
    actions = [each for each in parser._actions if isinstance(each, argparse._SubParsersAction)]
    if not actions:
        yield before
    for action in actions:
        for name, each in action.choices.items():
            yield from names_of(each, (*before, name))


def test_every_command_and_experiment_is_started():
    text = (ROOT / ".ci" / "commands").read_text()
    parser = argparse.ArgumentParser()
    cli.add_commands(parser, cli._commands())
    commands = sorted(names_of(parser))
    assert ("squad", "probe") in commands and ("evaluate",) in commands
    missing = [" ".join(name) for name in commands if f"  fedlab {' '.join(name)}" not in text]
    experiments = [path.parent.name for path in (ROOT / "experiments").glob("*/run.py")]
    assert len(experiments) > 4
    missing += [name for name in experiments if f"  experiment {name}.run " not in text]
    assert not missing
