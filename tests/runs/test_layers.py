"""Code that reads run folders and code that writes them do not import each other."""

import pathlib
import re
import subprocess
import sys

import pytest

import fedlab

RUNS = pathlib.Path(fedlab.__file__).parent / "runs"


@pytest.mark.parametrize("package, other", [("read", "write"), ("write", "read")])
def test_reading_and_writing_do_not_import_each_other(package, other):
    files = [*(RUNS / package).glob("*.py")]
    assert files
    imported = re.compile(
        rf"^\s*(from|import) fedlab\.runs(\.| import .*\b){other}\b", re.MULTILINE
    )
    assert not [file.name for file in files if imported.search(file.read_text())]


def test_only_one_module_of_read_opens_sqlite():
    assert [f.name for f in (RUNS / "read").glob("*.py") if "sqlite3" in f.read_text()] == [
        "tables.py"
    ]


def test_reading_runs_imports_no_tensorflow():
    modules = ", ".join(
        f"fedlab.runs.read.{file.stem}"
        for file in (RUNS / "read").glob("*.py")
        if file.stem[0] != "_"
    )
    program = f"import sys, {modules}; print('tensorflow' in sys.modules)"
    found = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert found.stdout.split() == ["False"]
