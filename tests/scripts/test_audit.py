"""SECURITY.md and the security fixes describe the locked versions of the tff stack."""

import os
import pathlib
import re

import pytest
from packaging.requirements import Requirement

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def locked():
    return dict(
        re.findall(
            r"^([a-z0-9.-]+)==([^ ;\\]+)",
            (ROOT / "requirements-tff.lock").read_text(),
            re.MULTILINE,
        )
    )


def test_the_lock_has_every_security_fix(locked):
    lines = [
        line
        for line in (ROOT / "requirements-tff-fixes.txt").read_text().splitlines()
        if not line.startswith("#")
    ]
    assert len(lines) > 5
    for fix in map(Requirement, lines):
        assert fix.specifier.contains(
            locked[fix.name]
        ), f"{fix}, locked: {locked[fix.name]}; run scripts/lock --stack=tff"


def test_what_security_md_says_of_versions_is_so(locked):
    rows = re.findall(
        r"^\| ([a-z, -]+) \| ([0-9.]*) \|", (ROOT / "SECURITY.md").read_text(), re.MULTILINE
    )
    assert len(rows) > 5
    for names, version in rows:
        for name in names.split(", "):
            assert name in locked and version in (
                "",
                locked[name],
            ), f"SECURITY.md says {name} {version}, the lock has {locked.get(name)}"


def test_the_script_is_executable():
    assert os.access(ROOT / "scripts" / "audit", os.X_OK)
