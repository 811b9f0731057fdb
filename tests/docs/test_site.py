"""Links lead to files, every page is in the navigation, and the site builds without warnings."""

import configparser
import re
import subprocess
import sys

import pytest
import yaml

from fedlab import cli
from tests.docs.pages import PAGES, ROOT


@pytest.mark.parametrize("page", [*PAGES, "CHANGELOG.md", "SECURITY.md"])
def test_links_lead_to_files(page):
    text = re.sub(r"^```.*?^```$", "", (ROOT / page).read_text(), flags=re.DOTALL | re.MULTILINE)
    targets = re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", text)
    assert targets or page != "README.md"
    for target in targets:
        assert ((ROOT / page).parent / target).exists(), target


def in_navigation(entry):
    if isinstance(entry, str):
        yield entry
    for each in (
        entry.values() if isinstance(entry, dict) else entry if isinstance(entry, list) else ()
    ):
        yield from in_navigation(each)


def test_every_page_is_in_the_navigation():
    settings = yaml.safe_load((ROOT / "mkdocs.yml").read_text())
    shown = set(in_navigation(settings["nav"]))
    assert {page.removeprefix("docs/") for page in PAGES} - {"README.md"} <= shown


def test_the_page_on_installing_lists_the_extras():
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg")
    # The page gives a script and a command in place of these.
    extras = set(settings["options.extras_require"]) - {"tff", "shakespeare"}
    page = (ROOT / "docs" / "installation.md").read_text()
    table = [line.partition(" | ")[0] for line in page.splitlines() if line.startswith("| `")]
    assert extras == set(re.findall(r"`(\w+)`", "".join(table)))


def test_the_page_on_the_command_line_shows_every_command():
    page = (ROOT / "docs" / "command-line.md").read_text()
    assert not [name for name in cli.command_names() if f"fedlab {name}" not in page]


@pytest.mark.slow
def test_the_site_builds_without_warnings(tmp_path):
    pytest.importorskip("mkdocs")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", tmp_path],
        cwd=ROOT,
        env={"PATH": "", "NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "api" / "algorithms.html").read_text()
    assert "FedAvg" in page and 'id="fedlab.algorithms.scaffold.scaffold"' in page
    # Examples are code. Without the extension of griffe, `>>>` would become quotations.
    pages = "".join(path.read_text() for path in (tmp_path / "api").glob("*.html"))
    assert "<blockquote>" not in pages
    # Nothing is loaded from another address.
    for page in tmp_path.rglob("*.html"):
        loaded = re.findall(
            r'<(?:script|link|img)[^>]*(?:src|href)="?(https?:[^" >]+)', page.read_text()
        )
        assert not loaded, (page.name, loaded)
