"""Packages that must not import certain modules, not even inside of a function."""

import ast
import pathlib

import pytest

import fedlab

ROOT = pathlib.Path(fedlab.__file__).parent

# Package or module -> modules that its files must not import.
FORBIDDEN = {
    "algorithms": ("tensorflow", "keras", "fedlab.learner", "fedlab.engines"),
    "aggregators": ("tensorflow", "keras", "fedlab.learner", "fedlab.engines"),
    "optimizers": ("tensorflow", "keras", "fedlab.learner", "fedlab.engines"),
    "learner/keras2": ("fedlab.learner.keras3",),
    "learner/keras3": ("fedlab.learner.keras2",),
}


def files(package):
    path = ROOT / package
    return sorted(path.rglob("*.py")) if path.is_dir() else [path.with_suffix(".py")]


def imports(path):
    """The full names of the modules that a file imports, and of what it imports from them."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("package", FORBIDDEN)
def test_forbidden_imports(package):
    assert files(package), package
    found = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in files(package)
        for name in imports(path)
        if any(f"{name}.".startswith(f"{module}.") for module in FORBIDDEN[package])
    ]
    assert not found


def test_a_forbidden_import_is_found(tmp_path):
    file = tmp_path / "module.py"
    file.write_text("def f():\n    import tensorflow as tf\n    from keras.src import backend\n")
    assert list(imports(file)) == ["tensorflow", "keras.src.backend"]


def test_only_learner_and_tff_depend_on_a_version_of_keras():
    found = {
        str(path.relative_to(ROOT).parent)
        for path in ROOT.rglob("*.py")
        if "learner.keras" in path.read_text()
    }
    assert found == {"engines/tff", "learner", "learner/keras2", "learner/keras3"}
