"""docs/larger-than-memory.md: its programs print what it says."""

import contextlib
import io
import re
from pathlib import Path

import pytest

pytest.importorskip("pyarrow")

PAGE = Path(__file__).resolve().parents[2] / "docs" / "larger-than-memory.md"


def test_the_programs_of_the_page(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    programs = [text for language, text in blocks if language == "python"]
    shown = [text for language, text in blocks if not language]
    printed, names = io.StringIO(), {}
    with contextlib.redirect_stdout(printed):
        for text in programs:
            names = {}
            exec(compile(text, str(PAGE), "exec"), names)
    assert len(programs) == 4 and printed.getvalue() == "".join(shown)
    for before, since in ((names["before"], names["since"]), (names["train"], names["test"])):
        assert sum(map(before.num_examples, before)) + sum(map(since.num_examples, since)) == 300
