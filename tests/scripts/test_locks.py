"""The lock files of the two stacks, and the ranges of versions in setup.cfg."""

import configparser
import re
from pathlib import Path

import pytest
from packaging.markers import Marker
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
PYTHONS = {"": ["3.11", "3.12", "3.13"], "-tff": ["3.11"]}  # by the ending of the file's name
STACKS = list(PYTHONS)


def entries(stack):
    """Each entry of a lock: (requirement, hashes)."""
    text = (ROOT / f"requirements{stack}.lock").read_text()
    text = re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE)
    for entry in re.split(r"\n(?=\S)", text.strip()):
        requirement, *hashes = entry.replace("\\\n", "").split(" --hash=")
        yield Requirement(requirement), [each.strip() for each in hashes]


def environment(python):
    return {
        "python_version": python,
        "python_full_version": f"{python}.0",
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
        "platform_machine": "x86_64",
        "platform_system": "Linux",
        "sys_platform": "linux",
        "os_name": "posix",
    }


def locked(stack, python):
    """Package -> version."""
    found = {}
    for requirement, _ in entries(stack):
        if requirement.marker is None or requirement.marker.evaluate(environment(python)):
            assert requirement.name not in found, f"{requirement.name} is locked twice"
            found[requirement.name] = str(requirement.specifier).removeprefix("==")
    return found


def named(file):
    """The requirements of a file."""
    lines = (line.partition("#")[0].strip() for line in (ROOT / file).read_text().splitlines())
    return [Requirement(line) for line in lines if line]


ON = [(stack, python) for stack, pythons in PYTHONS.items() for python in pythons]


@pytest.mark.parametrize("stack", STACKS)
def test_lock_pins_and_hashes_every_requirement(stack):
    found = list(entries(stack))
    assert len(found) > 80
    for requirement, hashes in found:
        assert re.fullmatch(r"==[\w.]+", str(requirement.specifier)), requirement
        assert not requirement.extras and not requirement.url, requirement
        assert hashes, requirement
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", each) for each in hashes), requirement


@pytest.mark.parametrize("stack", STACKS)
def test_lock_has_no_address(stack):
    text = (ROOT / f"requirements{stack}.lock").read_text()
    assert not re.search(r"://|file:|index-url|find-links|/opt|/root|/tmp|/home", text)


@pytest.mark.parametrize("stack, python", ON)
def test_lock_has_every_requirement(stack, python):
    versions = locked(stack, python)
    for requirement in named(f"requirements{stack}.in"):
        assert requirement.specifier.contains(versions[requirement.name]), requirement


def test_the_modern_lock_is_for_linux_and_three_versions_of_python():
    assert not locked("", "3.14")
    with_windows = {**environment("3.13"), "sys_platform": "win32"}
    for requirement, _ in entries(""):
        assert requirement.marker is not None, requirement
        assert not requirement.marker.evaluate(with_windows), requirement


@pytest.mark.parametrize("stack, keras", [("", "3."), ("-tff", "2.14.")])
def test_the_stacks_differ_in_keras(stack, keras):
    for python in PYTHONS[stack]:
        assert locked(stack, python)["keras"].startswith(keras)


def test_both_stacks_format_alike():
    assert locked("", "3.13")["ruff"] == locked("-tff", "3.11")["ruff"]


def ranges():
    """The requirements in setup.cfg: (extra or "", requirement)."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    lists = {"": config["options"]["install_requires"], **config["options.extras_require"]}
    for extra, lines in lists.items():
        for line in filter(None, map(str.strip, lines.splitlines())):
            yield extra, Requirement(line)


@pytest.mark.parametrize("stack, python", ON)
def test_setup_cfg_allows_what_is_locked(stack, python):
    versions = locked(stack, python)
    for extra, requirement in ranges():
        needed = extra == "" or requirement.name in versions
        if needed and (not requirement.marker or requirement.marker.evaluate(environment(python))):
            assert requirement.specifier.contains(versions[requirement.name]), (extra, requirement)


def test_setup_cfg_has_a_tested_range_for_every_package():
    for extra, requirement in ranges():
        operators = {each.operator for each in requirement.specifier}
        assert operators == {"=="} or operators >= {">=", "<"}, (extra, requirement)
        versions = [locked(*on).get(requirement.name) for on in ON]
        assert any(versions), f"{requirement.name} is in no lock, so no test runs with it"


def test_tensorflow_datasets_and_tff_are_extras():
    found = {requirement.name: (extra, requirement) for extra, requirement in ranges()}
    assert found["tensorflow-datasets"][0] == "tfds"
    for name in ("tensorflow-federated", "nest-asyncio"):
        extra, requirement = found[name]
        assert extra == "tff"
        assert requirement.marker == Marker('python_version < "3.12"')


def test_no_version_of_tensorflow_or_keras_between_the_stacks():
    found = {requirement.name: requirement.specifier for _, requirement in ranges()}
    for name, allowed in {
        "tensorflow": ["2.14.0", "2.14.1", "2.21.0", "2.21.1"],
        "keras": ["2.14.0", "3.15.0", "3.15.1"],
    }.items():
        minors = [f"{major}.{minor}.0" for major in (2, 3) for minor in range(30)]
        tested = {version.rpartition(".")[0] for version in allowed}
        for version in minors:
            if version.startswith("3.") and name == "keras" and int(version.split(".")[1]) < 12:
                continue  # TensorFlow 2.21 itself excludes these
            if name == "keras" and version.startswith("2.") and version > "2.14.0":
                continue  # TensorFlow 2.14 and 2.21 exclude these
            is_tested = version.rpartition(".")[0] in tested
            assert found[name].contains(version) == is_tested, (name, version)
        assert all(found[name].contains(version) for version in allowed)
