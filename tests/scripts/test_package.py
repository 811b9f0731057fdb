"""The sdist and the wheel: their files, their metadata, and the versions of Python they accept."""

import email
import pathlib
import shutil
import subprocess
import sys
import tarfile
import zipfile
from importlib.metadata import version

import pytest
from packaging.requirements import Requirement

import fedlab

ROOT = pathlib.Path(__file__).resolve().parents[2]
FILES = ["README.md", "LICENSE", "CHANGELOG.md", "SECURITY.md"]
FILES += ["MANIFEST.in", "setup.cfg", "pyproject.toml"]
BUILD = """
import sys
from setuptools import build_meta
print(getattr(build_meta, sys.argv[1])(sys.argv[2]))
"""


def build(kind, source, out):
    command = [sys.executable, "-c", BUILD, f"build_{kind}", str(out)]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "Deprecat" not in done.stderr, done.stderr
    return out / done.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def sdist(tmp_path_factory):
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    shutil.copytree(ROOT / "fedlab", source / "fedlab", ignore=lambda *_: ["__pycache__"])
    shutil.copytree(ROOT / "docs", source / "docs")
    for name in FILES:
        shutil.copy2(ROOT / name, source / name)
    return build("sdist", source, out)


@pytest.fixture(scope="module")
def wheel(sdist, tmp_path_factory):
    """Built from the sdist, as pip does."""
    folder = tmp_path_factory.mktemp("unpacked")
    # tarfile's extractall warns without a filter, which Python 3.11.2 of Debian 12 does not have.
    subprocess.run(["tar", "-xzf", sdist, "-C", folder], check=True)
    (source,) = folder.iterdir()
    return build("wheel", source, sdist.parent)


@pytest.fixture(scope="module")
def metadata(wheel):
    with zipfile.ZipFile(wheel) as archive:
        name = f"fedlab_keras-{fedlab.__version__}.dist-info/METADATA"
        return email.message_from_bytes(archive.read(name))


def test_names(sdist, wheel):
    assert sdist.name == f"fedlab_keras-{fedlab.__version__}.tar.gz"
    assert wheel.name == f"fedlab_keras-{fedlab.__version__}-py3-none-any.whl"


def test_sdist_has_what_is_read(sdist):
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    pages = {str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md")}
    assert {*FILES, *pages, "fedlab/py.typed"} <= names


def test_wheel_has_every_file_of_the_package(wheel):
    info = f"fedlab_keras-{fedlab.__version__}.dist-info"
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        entry_points = archive.read(f"{info}/entry_points.txt").decode()
    files = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "fedlab").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert "fedlab/py.typed" in files
    assert {name for name in names if not name.startswith(info)} == files
    assert f"{info}/licenses/LICENSE" in names
    assert "fedlab = fedlab.cli:main" in entry_points


def test_metadata(metadata):
    assert metadata["Name"] == "fedlab-keras"
    assert metadata["Version"] == fedlab.__version__
    assert metadata["Requires-Python"] == "<3.14,>=3.11"
    assert metadata["License"] == "Apache-2.0"
    assert metadata.get_all("License-File") == ["LICENSE"]
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert metadata.get_payload().startswith("# fedlab")
    assert all(metadata[name] for name in ("Summary", "Author", "Keywords"))
    classifiers = metadata.get_all("Classifier")
    for python in ("3.11", "3.12", "3.13"):
        assert f"Programming Language :: Python :: {python}" in classifiers


def test_every_extra_installs_something(metadata):
    required = [Requirement(line) for line in metadata.get_all("Requires-Dist")]
    for extra in metadata.get_all("Provides-Extra"):
        environment = {"extra": extra, "python_version": "3.11", "python_full_version": "3.11.9"}
        assert any(
            requirement.marker and requirement.marker.evaluate(environment)
            for requirement in required
        ), extra


@pytest.mark.parametrize("python, is_required", [("3.9", False), ("3.10", False), ("3.11", True)])
def test_nothing_is_required_on_older_pythons(metadata, python, is_required):
    """Or pip would fail at the first requirement, and not name the supported versions."""
    required = [Requirement(line) for line in metadata.get_all("Requires-Dist")]
    environment = {"extra": "", "python_version": python, "python_full_version": f"{python}.9"}
    packages = [each for each in required if "extra" not in str(each.marker)]
    assert len(packages) > 5
    for requirement in packages:
        assert requirement.marker.evaluate(environment) == is_required, requirement


def pip_install(wheel, python, folder):
    """Runs pip as if on another Python, without network."""
    command = [sys.executable, "-m", "pip", "install", "--no-deps", "--only-binary=:all:"]
    command += ["--no-index", f"--find-links={wheel.parent}", "fedlab-keras"]
    command += [f"--python-version={python}", f"--target={folder}"]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("python", ["3.10", "3.14"])
def test_pip_names_the_supported_versions_of_python(wheel, tmp_path, python):
    if version("pip").startswith("23."):
        pytest.skip("this pip applies Requires-Python only to the Python that it runs on")
    done = pip_install(wheel, python, tmp_path)
    assert done.returncode != 0
    assert "<3.14,>=3.11" in done.stderr


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
def test_pip_installs_the_wheel(wheel, tmp_path, python):
    done = pip_install(wheel, python, tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "fedlab" / "py.typed").is_file()
