"""docs/your-own-data.md: fifteen lines from a CSV file to a report."""

import contextlib
import io
import re
from pathlib import Path

import pytest

pytest.importorskip("pyarrow")
pytest.importorskip("jinja2")

PAGE = Path(__file__).resolve().parents[2] / "docs" / "your-own-data.md"


def blocks():
    """The code blocks of the page: (language, text)."""
    return re.findall(r"^```(\w*)\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)


def test_fifteen_lines_make_a_report(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    printed = io.StringIO()
    programs = [text for language, text in blocks() if language == "python"]
    with contextlib.redirect_stdout(printed):
        for text in programs:
            exec(compile(text, str(PAGE), "exec"), {})
    lines = [line for line in programs[1].splitlines() if line.strip()]
    assert len(lines) <= 15
    shown = [text for language, text in blocks() if not language]
    assert (tmp_path / "visits.csv").read_text().startswith(shown[0])
    accuracy, clients = printed.getvalue().splitlines()
    assert clients == "10 clients" and shown[2].strip() == clients
    # Keras 2 and Keras 3 draw different initial weights.
    found, expected = (float(re.search(r"[\d.]+", text)[0]) for text in (accuracy, shown[1]))
    assert found == pytest.approx(expected, abs=0.03)
    report = (tmp_path / "runs" / "visits" / "report.html").read_text()
    assert "test_accuracy" in report or "test accuracy" in report
