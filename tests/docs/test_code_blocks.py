"""The code of the documentation runs and prints what the pages show; its commands exist."""

import argparse
import collections
import contextlib
import functools
import importlib.util
import io
import json
import os
import re
import shlex
import subprocess
import sys

import pytest

from fedlab import cli
from tests.docs import pages
from tests.docs.pages import LANGUAGES, PAGES, ROOT, read, same_output
from tests.stacks import KERAS

KERAS_VERSION = KERAS[-1]
# The blocks that are not executed, and why. They say so in a comment before the block.
NOT_EXECUTED = {
    "docs/datasets.md": ["needs the files of a data set"],
    "docs/kerashub.md": ["downloads weights"] * 4,
    "docs/migrating-from-flower.md": ["needs Flower"],
    "docs/migrating-from-tff.md": ["needs --stack=tff"] * 2,
    "docs/performance.md": ["must be called before TensorFlow computes anything"],
    "experiments/shakespeare/README.md": ["needs --stack=tff"],
}
# Scripts that pass their flags to an experiment.
SCRIPTS = {
    "scripts/bench": "experiments.bench.run",
    "scripts/demo": "experiments.shakespeare.run",
    "scripts/pretrain": "experiments.dickens.run",
}
OTHER_COMMANDS = {
    "cat",
    "cd",
    "git",
    "head",
    "ls",
    "mlflow",
    "pip",
    "python",
    "source",
    "tensorboard",
}


def parameters():
    for name in PAGES:
        page = read(name)
        if any(block.language == "python" or block.run for block in page.blocks):
            yield pytest.param(name, marks=[pytest.mark.slow] if page.slow else [])


@pytest.mark.parametrize("name", parameters())
def test_the_code_runs_and_prints_what_the_page_shows(name, tmp_path, monkeypatch):
    page = read(name)
    for module in page.modules:
        pytest.importorskip(module)
    if page.keras not in ("", KERAS_VERSION):
        pytest.skip(f"needs Keras {page.keras}")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "agg")
    names, printed = {"__name__": "__main__"}, None
    for block in page.blocks:
        where = f"{name}:{block.line}"
        if block.skip:
            printed = None
        elif block.language == "python":
            printed = executed(block, where, names)
        elif block.language == "sh":
            printed = "".join(map(output_of, pages.commands(block.code))) if block.run else None
        elif block.language == "text" and printed is not None:
            # Keras 2 draws other initial weights.
            if KERAS_VERSION == "3" and not same_output(block.code, printed, page.within):
                pytest.fail(f"{where}: shown:\n{block.code}\nprinted:\n{printed}", pytrace=False)
            printed = None


def executed(block, where, names):
    # Empty lines, so that a traceback has the page's line numbers.
    code = compile("\n" * (block.line - 1) + block.code, where, "exec")
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        exec(code, names)
    return output.getvalue()


def output_of(command):
    """Runs a command with `python` and `fedlab` of this environment; returns its output."""
    python = shlex.quote(sys.executable)
    script = f'python() {{ {python} "$@"; }}; fedlab() {{ {python} -m fedlab "$@"; }}; {command}'
    done = subprocess.run(
        ["bash", "-c", script],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, f"{command}\n{done.stderr}"
    return done.stdout


@pytest.mark.parametrize("name", PAGES)
def test_blocks_have_a_language(name):
    wrong = [b.line - 1 for b in read(name).blocks if b.language not in LANGUAGES]
    assert not wrong, f"lines {wrong}: expected one of {sorted(LANGUAGES)} after ```"


def test_blocks_that_are_not_executed_are_known():
    found = {name: [block.skip for block in read(name).blocks if block.skip] for name in PAGES}
    assert {name: reasons for name, reasons in found.items() if reasons} == NOT_EXECUTED


def shown_commands():
    """The commands of all pages, as (page and line, words)."""
    for name in PAGES:
        for block in read(name).blocks:
            for command in pages.commands(block.code) if block.language == "sh" else ():
                command = re.sub(r"^(\w+=\S* )*", "", command)  # KERAS_BACKEND=jax python ...
                command = re.sub(r"^\.venv(-tff)?/bin/", "", command)
                for part in re.split(r" && | \| ", command):
                    yield f"{name}:{block.line}", shlex.split(part.partition(" > ")[0])


@functools.cache
def parser():
    parser = argparse.ArgumentParser()
    parser.add_argument("--version", action="store_true")
    cli.add_commands(parser, cli._commands())
    return parser


def test_commands_exist():
    checked = 0
    for where, words in shown_commands():
        if words[0] == "fedlab":
            errors = io.StringIO()
            with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(io.StringIO()):
                try:
                    parser().parse_args(words[1:])
                except SystemExit as end:
                    assert not end.code, f"{where}: {shlex.join(words)}: {errors.getvalue()}"
            checked += 1
        elif words[0].startswith(("scripts/", ".ci/")):
            assert os.access(ROOT / words[0], os.X_OK), f"{where}: {words[0]}"
        else:
            assert words[0] in OTHER_COMMANDS, f"{where}: {words[0]}: expected {OTHER_COMMANDS}"
    assert checked > 10


CODE = """
import importlib, json, sys
from absl import flags

module, commands = sys.argv[1], json.loads(sys.argv[2])
importlib.import_module(module)
for where, words in commands:
    flags.FLAGS.unparse_flags()
    try:
        flags.FLAGS(["program", *words])
    except flags.Error as error:
        sys.exit(f"{where}: {error}")
"""


def test_flags_of_experiments_exist():
    by_module = collections.defaultdict(list)
    for where, words in shown_commands():
        words = [word for word in words if not re.match("--(stacks?=|help$)", word)]
        if words[0] in SCRIPTS:
            by_module[SCRIPTS[words[0]]].append((where, words[1:]))
        elif words[:2] == ["python", "-m"] and words[2].startswith("experiments."):
            by_module[words[2]].append((where, words[3:]))
    assert len(by_module) > 4
    for module, commands in by_module.items():
        spec = importlib.util.find_spec(module)
        assert spec, f"{commands[0][0]}: {module}"
        if spec.submodule_search_locations:  # a package: python -m runs this module of it
            module += ".__main__"
        done = subprocess.run(
            [sys.executable, "-c", CODE, module, json.dumps(commands)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "shown, printed, same",
    [
        ("loss 0.50\n", "loss 0.51\n", True),
        ("loss 0.50\n", "loss 0.53\n", False),
        ("3 clients\n", "4 clients\n", False),
        (
            "round 1: ...\n...\nround 3: loss 0.1\n",
            "round 1: x\nround 2: y\nround 3: loss 0.1\n",
            True,
        ),
        ("a\n...\n", "b\nc\n", False),
        ("a  b\n", "a b\n", True),
        ("100.0 s\n", "101.0 s\n", True),
        ("a\n", "a\nb\n", False),
    ],
)
def test_output_is_compared(shown, printed, same):
    assert same_output(shown, printed, within=0.02) == same
