"""What .ci/run and .ci/commands cover."""

import argparse
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from fedlab import cli
from tests.scripts.test_setup import write_script

ROOT = Path(__file__).resolve().parents[2]
CALLED = ["scripts/lint", "scripts/test", ".ci/wheel", ".ci/commands"]


def run(tmp_path, stack, failing=None):
    """Runs .ci/run, with scripts that record their arguments, for a default stack."""
    for name in (".ci/run", "scripts/stack.sh"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy2(ROOT / name, tmp_path / name)
    shared = tmp_path / "scripts" / "stack.sh"
    text = re.sub("default_stack=.*", f"default_stack={stack}", shared.read_text())
    shared.write_text(text)
    for name in CALLED:
        status = int(name == failing)
        write_script(tmp_path / name, f'#!/bin/bash\necho "{name} $*"; exit {status}\n')
    for name, imports in {"test_a.py": "tensorflow_federated", "test_b.py": "numpy"}.items():
        (tmp_path / "tests").mkdir(exist_ok=True)
        (tmp_path / "tests" / name).write_text(f"import {imports}\n")
    command = [shutil.which("bash"), str(tmp_path / ".ci" / "run")]
    return subprocess.run(command, capture_output=True, text=True, timeout=30)


def test_everything_runs_on_the_default_stack_and_the_reference_on_tff(tmp_path):
    done = run(tmp_path, "modern")
    assert (done.returncode, done.stderr) == (0, "")
    *first, last = done.stdout.splitlines()
    assert first == [
        "scripts/lint ",
        "scripts/test --all",
        ".ci/wheel ",
        ".ci/commands --stack=tff",
        ".ci/commands --stack=modern",
        "scripts/lint --stack=tff",
    ]
    assert last.startswith("scripts/test --stack=tff -m not slow and not alone ")
    assert last.endswith(" tests/test_a.py")


def test_nothing_runs_twice_where_tff_is_the_default(tmp_path):
    done = run(tmp_path, "tff")
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) == 4


@pytest.mark.parametrize("failing", CALLED)
def test_one_failure_fails_the_run_after_everything_ran(tmp_path, failing):
    done = run(tmp_path, "modern", failing)
    assert done.returncode == 1
    assert len(done.stdout.splitlines()) == 7


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
