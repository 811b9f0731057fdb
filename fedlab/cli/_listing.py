"""Lists the methods that a subpackage defines, from their docstrings.

Modules are not imported, since they may need TensorFlow, which takes seconds to import.
"""

import ast
import pathlib
import shutil
import sys
import textwrap
from collections.abc import Iterator, Sequence


def show(lines: str) -> None:
    """Prints lines of a name and a description: folded on a terminal, as they are elsewhere."""
    if not sys.stdout.isatty():
        print(lines)
        return
    from rich.console import Console
    from rich.text import Text

    width = max(40, shutil.get_terminal_size().columns - 1)
    console = Console(width=width, highlight=False, soft_wrap=True)
    for line in lines.splitlines():
        name, gap, _ = line.partition("  ")
        start = len(line) - len(line[len(name) :].lstrip())
        folded = Text(textwrap.fill(line, width, subsequent_indent=" " * min(start, width // 2)))
        folded.stylize("bold", 0, len(name) if gap else 0)
        console.print(folded)


def listing(package: str) -> str:
    """Returns a line for each method of a subpackage, and a line for each of its papers.

    A method is a module that defines a function with the module's name; its line has
    the name and the first line of the module's docstring. A paper is one or two
    lines of title, the authors in a line that ends with a period, if any, and a line
    that ends with an address.
    """
    methods = {}
    for file in sorted((pathlib.Path(__file__).parent.parent / package).glob("[!_]*.py")):
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


def _papers(docstring: Sequence[str]) -> Iterator[str]:
    title: list[str] = []
    for line in docstring:
        _, address, rest = line.rpartition("https://")
        if address:
            yield " ".join([*title, address + rest])
        if address or not line.strip():
            title = []
        elif not line.endswith("."):
            title.append(line.strip())
