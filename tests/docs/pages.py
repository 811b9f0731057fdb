"""The pages of the documentation, their code blocks, and what their comments ask for.

    python tests/docs/pages.py README.md    prints the page's program, for other environments

A page may have these comments, each at the start of a line:

    <!-- test: slow -->                     the page is slow: its code takes more than 5 s
    <!-- test: needs pyarrow, jinja2 -->    the page needs these modules
    <!-- test: needs keras 3 -->            the page needs Keras 3 (or 2)
    <!-- test: within 0.1 -->               how far the page's decimal numbers may be off

    <!-- test: set-up
    code that runs here and that readers do not see
    -->
    <!-- test: set-up of docs/page.md -->   the same, with the first Python block of another page

and these, directly before a block:

    <!-- test: skip, downloads weights -->  the block is not executed, for this reason
    <!-- test: run -->                      the commands of the block are executed

A block has a language. `python` is executed, block after block, with the names of the blocks
before it. The commands of `sh` are checked, and executed with "run". `text` is what the block
before it prints, on the modern stack: `...` stands for any part of a line, or, alone on a line,
for any lines. Other languages are not looked at.
"""

import re
import sys
import textwrap
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for pattern in (
        *("README.md", "CONTRIBUTING.md", "docs/**/*.md"),
        *("experiments/*/README.md", "experiments/papers/*/README.md"),
    )
    for path in ROOT.glob(pattern)
)
LANGUAGES = {"python", "sh", "text", "csv", "json", "sql", "toml", "yaml", "bibtex"}

_PART = re.compile(
    r"^(?P<indent> *)```(?P<language>\w*)[^\n]*\n(?P<code>.*?)^(?P=indent)```$"
    r"|^ *<!-- test: (?P<directive>.*?) ?-->$",
    re.DOTALL | re.MULTILINE,
)
_DECIMAL = r"-?\d+\.\d+(?:e[+-]?\d+)?"


class Block(NamedTuple):
    """A code block, or hidden set-up."""

    language: str
    code: str
    line: int  # of its first line of code
    skip: str  # why it is not executed
    run: bool


class Page(NamedTuple):
    """A page of the documentation."""

    name: str
    blocks: list[Block]
    slow: bool
    modules: list[str]
    keras: str  # "2" or "3", if the page needs it
    within: float


def read(name: str) -> Page:
    """Returns the page of this path, relative to the repository."""
    text = (ROOT / name).read_text(encoding="utf-8")
    blocks: list[Block] = []
    slow, modules, keras, within, skip, run = False, [], "", 0.02, "", False
    for match in _PART.finditer(text):
        line = text.count("\n", 0, match.start()) + 2
        directive = match["directive"]
        if directive is None:
            code = textwrap.dedent(match["code"])
            blocks.append(Block(match["language"], code, line, skip, run))
            skip, run = "", False
            continue
        word, rest = re.fullmatch(r"([\w-]+)[, \n]*(.*)", directive, re.DOTALL).groups()
        if word == "slow":
            slow = True
        elif word == "needs" and rest.startswith("keras "):
            keras = rest.split()[1]
        elif word == "needs":
            modules += rest.split(", ")
        elif word == "within":
            within = float(rest)
        elif word == "set-up" and rest.startswith("of "):
            first = next(b for b in read(rest.split()[1]).blocks if b.language == "python")
            blocks.append(first._replace(line=line, skip="", run=False))
        elif word == "set-up":
            blocks.append(Block("python", rest, line, "", False))
        elif word == "skip" and rest:
            skip = rest
        elif word == "run":
            run = True
        else:
            raise ValueError(f"{name}:{line - 1}: {directive!r}: expected a comment of pages.py")
    return Page(name, blocks, slow, modules, keras, within)


def same_output(shown: str, printed: str, within: float) -> bool:
    """Whether a program prints what the page shows.

    Args:
      shown: the page's text; see the comment at the top.
      printed: the program's output.
      within: the tolerance of decimal numbers, absolute or relative.
    """
    lines = []
    for line in _lines(shown):
        if line == "...":
            lines.append(r"(?:.*\n)*?")
            continue
        parts = re.split(rf"({_DECIMAL}|\.\.\.| +)", line)
        lines.append("".join(map(_pattern, parts)) + r"\n")
    found = re.fullmatch("".join(lines), "".join(f"{line}\n" for line in _lines(printed)))
    if not found:
        return False
    numbers = [
        float(number)
        for line in _lines(shown)
        for number in re.findall(rf"{_DECIMAL}", line.replace("...", " "))
    ]
    return all(
        abs(float(number) - expected) <= within * max(1, abs(expected))
        for number, expected in zip(found.groups(), numbers, strict=True)
    )


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.strip("\n").splitlines()]


def _pattern(part: str) -> str:
    if part == "...":
        return ".*?"
    if part and not part.strip(" "):
        return " +"
    return f"({_DECIMAL})" if re.fullmatch(_DECIMAL, part) else re.escape(part)


def commands(code: str) -> list[str]:
    """Returns the commands of an `sh` block, one per element, without comments."""
    joined = code.replace("\\\n", " ")
    without = (re.sub(r"(^|\s)#.*", "", line).strip() for line in joined.splitlines())
    return [line for line in without if line]


if __name__ == "__main__":
    for block in read(sys.argv[1]).blocks:
        if block.language == "python" and not block.skip:
            print(block.code)
