"""`--help` of every script does not import TensorFlow, and presets hold known flags."""

import pathlib
import subprocess
import sys

import pytest

FOLDER = pathlib.Path(__file__).resolve().parents[2] / "experiments"
SCRIPTS = sorted(
    f"{file.parent.name}.{file.stem}"
    for file in FOLDER.glob("*/*.py")
    if "run_with_flags(" in file.read_text()
)
PRESETS = sorted(FOLDER.glob("*/*.flags"))

CODE = """
import runpy, sys
module, *sys.argv[1:] = sys.argv[1:]
try:
    runpy.run_module(module, run_name="__main__")
finally:
    assert "tensorflow" not in sys.modules
"""


def run(script, *arguments):
    return subprocess.run(
        [sys.executable, "-c", CODE, f"experiments.{script}", *arguments],
        cwd=FOLDER.parent,
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_does_not_import_tensorflow(script):
    result = run(script, "--help")
    assert "  --" in result.stdout and "AssertionError" not in result.stderr, result.stderr


@pytest.mark.parametrize("preset", PRESETS, ids=lambda file: f"{file.parent.name}/{file.stem}")
def test_presets_hold_known_flags(preset):
    result = run(f"{preset.parent.name}.run", f"--flagfile={preset}", "--help")
    assert "--rounds" in result.stdout and "FATAL" not in result.stderr, result.stderr
