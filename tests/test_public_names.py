"""Public functions, classes and methods: annotated, documented, and with examples that run."""

import ast
import doctest
import importlib.util
import pathlib
import re

import pytest

import fedlab
from tests.stacks import KERAS

ROOT = pathlib.Path(fedlab.__file__).parent
# Modules whose owners still have to annotate or document something.
NOT_YET = {
    "ops.py",  # its functions are those of keras.ops
}


def public_definitions(path):
    """The public functions, classes and methods of public classes: (name, node)."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    functions = ast.FunctionDef | ast.AsyncFunctionDef
    for node in tree.body:
        if not isinstance(node, functions | ast.ClassDef) or node.name.startswith("_"):
            continue
        yield node.name, node
        if isinstance(node, ast.ClassDef):
            for method in node.body:
                if isinstance(method, functions) and not method.name.startswith("_"):
                    yield f"{node.name}.{method.name}", method


def missing(path):
    """What public definitions of a module lack."""
    for name, node in public_definitions(path):
        if not ast.get_docstring(node):
            yield f"{name} has no docstring"
        if isinstance(node, ast.ClassDef):
            continue
        arguments = [
            *node.args.posonlyargs,
            *node.args.args,
            *node.args.kwonlyargs,
            *(each for each in (node.args.vararg, node.args.kwarg) if each),
        ]
        for argument in arguments:
            if argument.annotation is None and argument.arg not in ("self", "cls"):
                yield f"{name} has no annotation of {argument.arg}"
        if node.returns is None:
            yield f"{name} has no annotation of what it returns"
        for unknown in documented(node) - {argument.arg for argument in arguments}:
            yield f"{name} documents {unknown}, which is not an argument"


def documented(function):
    """The names in the section Args of a docstring, such as "beta_1, beta_2: ..."."""
    section = re.search(
        r"^Args:\n(.*?)(?=^\S|\Z)", ast.get_docstring(function) or "", re.DOTALL | re.MULTILINE
    )
    # "Running:" is the heading of a group.
    entries = re.findall(
        r"^  (\*{0,2}[a-z_]\w*(?:, [a-z_]\w*)*):(?: |$)",
        section[1] if section else "",
        re.MULTILINE,
    )
    return {name.lstrip("*") for entry in entries for name in entry.split(", ")}


MODULES = sorted(
    str(path.relative_to(ROOT))
    for path in ROOT.rglob("[!_]*.py")
    if not any(part.startswith("_") for part in path.relative_to(ROOT).parts)
)


@pytest.mark.parametrize("module", [module for module in MODULES if module not in NOT_YET])
def test_public_names_are_annotated_and_documented(module):
    assert not list(missing(ROOT / module))


@pytest.mark.parametrize(
    "name",
    [
        "fedlab._checks",
        "fedlab._fingerprint",
        "fedlab._text",
        "fedlab._wording",
        "fedlab.cli",
        f"{KERAS}.freezing",
        f"{KERAS}.identity",
        *(f"fedlab.clients.{path.stem}" for path in sorted((ROOT / "clients").glob("[!_]*.py"))),
        *(
            f"fedlab.clients.arrow.{path.stem}"
            for path in sorted((ROOT / "clients" / "arrow").glob("[!_]*.py"))
        ),
        *(
            f"fedlab.clients.partitioners.{path.stem}"
            for path in sorted((ROOT / "clients" / "partitioners").glob("*[!_].py"))
        ),
    ],
)
def test_examples_run(name):
    runner = doctest.DocTestRunner()
    for example in doctest.DocTestFinder().find(importlib.import_module(name)):
        if importlib.util.find_spec("tensorflow_federated") or "to_tff" not in example.name:
            runner.run(example)
    assert not runner.failures
