"""Lists what a room's modules define, from their docstrings. Nothing is imported: a module may need TensorFlow, which takes seconds."""

import ast
import pathlib


def listing(room):
    """A line and the papers of each method of a room of the package: its name, what its module's docstring opens with, title and address.

    A method is a module that defines a function of its own name. A paper is a line that ends with an address, after the line of its title.
    """
    methods = {}
    for file in sorted((pathlib.Path(__file__).parent.parent / room).glob("[!_]*.py")):
        module = ast.parse(file.read_text(encoding="utf-8"))
        if any(
            isinstance(node, ast.FunctionDef) and node.name == file.stem for node in module.body
        ):
            methods[file.stem] = (ast.get_docstring(module) or "").splitlines()
    width = max(map(len, methods))
    lines = []
    for name, docstring in methods.items():
        lines.append(f"{name:<{width}}  {docstring[0] if docstring else ''}")
        lines += [f"{'':<{width}}    {paper}" for paper in _papers(docstring)]
    return "\n".join(lines)


def _papers(docstring):
    for i, line in enumerate(docstring):
        _, address, rest = line.rpartition("https://")
        if address and i:
            yield f"{docstring[i - 1].strip()} {address}{rest}"
