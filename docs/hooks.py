"""Hooks of mkdocs: pages outside of docs/, links to the repository, lists of public names.

Pages of `OUTSIDE` are part of the site although they are not in docs/. Links between pages
are written as the repository needs them; here they become those of the site. A link to a
file that the site does not have becomes the path of the file.

The line `<!-- api: fedlab.algorithms -->` becomes the documentation of every public name of
that module, so that no list of names has to be kept up to date.
"""

import importlib
import posixpath
import re
import sys
from pathlib import Path
from types import ModuleType

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
# Shown as pages of the site, with the pictures and notebooks next to them.
STUDIES = ("experiments/*", "experiments/papers/*")
OUTSIDE = (
    *(f"{folder}/README.md" for folder in STUDIES),
    *("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"),
)
NEXT_TO_THEM = tuple(f"{folder}/*.{kind}" for folder in STUDIES for kind in ("png", "ipynb"))

_LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s#:]+)(#[^)\s]*)?\)")
_API = re.compile(r"^<!-- api: ([\w.]+) -->$", re.MULTILINE)
_FENCE = re.compile(r"(^```.*?^```$)", re.DOTALL | re.MULTILINE)


def on_files(files: Files, config) -> Files:
    """Adds the pages and files that are not in docs/."""
    for pattern in (*OUTSIDE, *NEXT_TO_THEM):
        for path in sorted(ROOT.glob(pattern)):
            name = path.relative_to(ROOT).as_posix()
            files.append(File.generated(config, name, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page, config, files: Files) -> str:
    """Turns links into those of the site, and writes the lists of public names."""
    here = Path(page.file.abs_src_path).relative_to(ROOT).parent.as_posix()
    from_site = posixpath.dirname(page.file.src_uri)

    def link(match: re.Match) -> str:
        mark, text, target, anchor = match.groups()
        path = posixpath.normpath(posixpath.join(here, target))
        name = path.removeprefix("docs/")
        if path == "README.md":
            name = "index.md"
        if (ROOT / path).is_dir() and files.get_file_from_path(f"{name}/README.md"):
            name += "/README.md"
        if files.get_file_from_path(name):
            return f"{mark}[{text}]({posixpath.relpath(name, from_site or '.')}{anchor or ''})"
        if mark or not (ROOT / path).exists():
            return match[0]
        return text if "`" in text else f"{text} (`{path}`)"

    parts = _FENCE.split(markdown)
    parts[::2] = [_LINK.sub(link, part) for part in parts[::2]]
    return _API.sub(lambda match: "\n\n".join(entries(match[1])), "".join(parts))


def entries(name: str) -> list[str]:
    """Returns the directives that document the public names of a module."""
    if name == "fedlab.datasets":
        return [f"::: {name}.{each}" for each in _imported(name).names()]
    paths = _paths(name)
    if name != "fedlab":
        return [f"::: {path}" for path in paths.values()]
    # A name is documented on one page. Packages of fedlab have pages of their own.
    elsewhere = {
        path: package
        for package in _imported(name)._PACKAGES
        if hasattr(_imported(f"{name}.{package}"), "__all__")
        for path in _paths(f"{name}.{package}").values()
    }
    linked = [
        f"- [`fl.{each}`][{path}], from `fedlab.{elsewhere[path]}`"
        for each, path in paths.items()
        if path in elsewhere
    ]
    here = [f"::: {path}" for path in paths.values() if path not in elsewhere]
    return ["Documented elsewhere:", "\n".join(linked), *here]


def _imported(name: str) -> ModuleType:
    sys.path[:0] = [str(ROOT)] if str(ROOT) not in sys.path else []
    from fedlab.cli._startup import hide_messages_of_tensorflow

    hide_messages_of_tensorflow()
    return importlib.import_module(name)


def _paths(name: str) -> dict[str, str]:
    """Public name -> the full name under which it is defined, in alphabetical order."""
    module = _imported(name)
    paths = {}
    for each in sorted(module.__all__, key=str.lower):
        value = getattr(module, each)
        if isinstance(value, ModuleType):
            if name != "fedlab" and value.__name__ != "fedlab.clients.partitioners":
                paths[each] = value.__name__
            continue
        defined_in = getattr(value, "__module__", "")
        paths[each] = f"{defined_in if defined_in.startswith('fedlab') else name}.{each}"
    return paths
