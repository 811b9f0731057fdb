"""The README and the programs of the first pages are as short as promised."""

import pytest

from tests.docs.pages import ROOT, read


@pytest.mark.parametrize(
    "page, most", [("README.md", 10), ("docs/getting-started.md", 15)], ids=["README", "docs"]
)
def test_a_csv_file_becomes_a_report_in_few_lines(page, most):
    programs = [block.code for block in read(page).blocks if "run_dir=" in block.code]
    program = next(code for code in programs if "fl.simulate(" in code)
    assert "from_csv(" in program and "import fedlab as fl" in program
    assert len([line for line in program.splitlines() if line.strip()]) <= most


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 120
