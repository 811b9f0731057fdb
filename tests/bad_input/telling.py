"""Checks for all tests of bad input: the form of the message, and that no files are left behind."""

import hashlib
import os
import pathlib
import re

# Words that say what is allowed, or what to do, at the beginning of a clause.
_VERBS = (
    "add ask bring call change check choose compile convert copy correct create cut delete "
    "download draw fit get give go install join leave let load lower make map merge move name pad "
    "pass pip prepare put raise read register rename repair run save see select set "
    "simulate start take train try turn unpack use wait wrap write"
).split()
_REMEDY = re.compile(
    rf"\b(?:allowed|needed|needs|expected)\b|(?:^|[:;,.] |\b(?:or|and) )(?:{'|'.join(_VERBS)})\b"
    r"|\(choose from|--help",
    re.IGNORECASE,
)
# What Python, NumPy and TensorFlow say where nobody has looked at the value before them.
_RAW = re.compile(
    r"Traceback|Errno|^\w*(?:Error|Exception)\b|object has no attribute|not supported between|"
    r"object is not|not iterable|must be real number|unexpected keyword|missing \d+ required|"
    r"invalid literal|codec can't|unhashable|out of bounds|too large to convert|cannot convert|"
    r"could not be broadcast|inhomogeneous|recursion depth|FEDLAB_DEBUG|\{\{node|tf\.Tensor"
)
_LONGEST = 1500


def check_line(text, received):
    """One line, in our words, that names the input and says what is allowed or what to do."""
    line = text.removesuffix("\n")
    assert line.strip() and "\n" not in line, f"not one line: {text!r}"
    assert len(line) <= _LONGEST, f"{len(line)} characters: {line!r}"
    assert received in line, f"does not name {received!r}: {line!r}"
    assert _REMEDY.search(line), f"does not say what is allowed or what to do: {line!r}"
    assert not _RAW.search(line), f"not in our words: {line!r}"


def contents(*folders):
    """What is below some folders: path -> what tells it from another file of that name."""
    found = {}
    for folder in folders:
        for path, _, files in os.walk(folder):
            found[path] = "folder"
            for name in set(files) - {
                "lock"
            }:  # of a run folder: it names the process that was last
                file = pathlib.Path(path, name)
                found[str(file)] = (
                    hashlib.sha256(file.read_bytes()).hexdigest()
                    if os.access(file, os.R_OK)
                    else file.stat().st_size
                )
    return found
