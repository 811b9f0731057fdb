"""The examples in docs run and print what the page shows, and links lead to files."""

import contextlib
import io
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = ["README.md", *(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]


def blocks(page):
    """The code blocks of a page: (language, text)."""
    return re.findall(r"^```(\w*)\n(.*?)^```$", (ROOT / page).read_text(), re.DOTALL | re.MULTILINE)


def figures(text):
    found = re.findall(r"^(.+): loss (\S+), accuracy (\S+)$", text, re.MULTILINE)
    return {name: [float(loss), float(accuracy)] for name, loss, accuracy in found}


@pytest.mark.slow
def test_your_own_model_becomes_better(tmp_path, monkeypatch):
    page = "docs/your-own-model.md"
    monkeypatch.chdir(tmp_path)
    printed = io.StringIO()
    for language, text in blocks(page):
        if language == "python":
            with contextlib.redirect_stdout(printed):
                exec(compile(text, page, "exec"), {})
    found = figures(printed.getvalue())
    assert list(found) == ["model.keras", "better.keras"]
    assert found["better.keras"][1] > found["model.keras"][1] + 0.1
    # Keras 2 and Keras 3 draw different initial weights.
    shown = figures(blocks(page)[-1][1])
    for name, numbers in found.items():
        assert numbers == pytest.approx(shown[name], abs=0.05), name


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_files(page):
    targets = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", (ROOT / page).read_text())
    assert targets or page != "README.md"
    for target in targets:
        assert ((ROOT / page).parent / target).exists(), target
