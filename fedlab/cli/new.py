"""Creates the folder of a new experiment, which runs at once on synthetic data."""

import argparse
import keyword
import os
import pathlib
import re

_EXAMPLE = """\
example:
  fedlab new my_study
  python my_study/run.py --flagfile=my_study/small.flags

The comments in my_study/run.py show where to put data, a model and an
algorithm of your own.
"""

_TEMPLATES = pathlib.Path(__file__).parent / "_study"
_NAME = re.compile("[A-Za-z][A-Za-z0-9_]{0,63}")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = _EXAMPLE
    parser.add_argument(
        "study", metavar="STUDY", help="the folder to create; its name is that of the experiment"
    )


def run(args: argparse.Namespace) -> None:
    """Writes the files and prints what to do with them."""
    from fedlab import _files
    from fedlab._text import visible

    folder = pathlib.Path(args.study)
    name = folder.name
    if not _NAME.fullmatch(name) or keyword.iskeyword(name):
        raise ValueError(
            f"{args.study!r:.100}: expected the name of a folder of letters, digits and "
            "underscores, such as my_study; choose another name"
        )
    if os.path.lexists(folder):
        raise ValueError(f"{args.study!r:.200} exists: expected a new folder; choose another name")
    if not folder.absolute().parent.is_dir():
        raise FileNotFoundError(
            f"{args.study!r:.200}: expected an existing folder to create {name} in; create "
            f"{str(folder.parent)!r:.200} first"
        )
    texts = {
        file.name.removesuffix(".tmpl"): file.read_text(encoding="utf-8").replace("{study}", name)
        for file in sorted(_TEMPLATES.glob("*.tmpl"))
    }
    folder.mkdir()
    for file, text in texts.items():
        _files.write(folder / file, text.encode())
    print(f"wrote {visible(str(folder))}: {', '.join(texts)}")
    print(f"run it: python {visible(str(folder / 'run.py'))} --flagfile={folder / 'small.flags'}")
