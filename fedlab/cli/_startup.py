"""Hides what TensorFlow prints while it is imported.

TensorFlow 2.21 reports about ten lines on a machine without a GPU, such as "oneDNN custom
operations are on", before it reads TF_CPP_MIN_LOG_LEVEL. Its C++ part writes them, so only
the file descriptor of standard error is a place to stop them.
"""

import contextlib
import importlib.abc
import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType

from fedlab.cli._ending import debugging

# "I0000 00:00:1796017356.884183    2275 port.cc:153] oneDNN custom operations are on."
_NOISE = re.compile(rb"[IW]\d{4} [\d:.]+ +\d+ \S+\] |WARNING: All log messages before absl::")
_INFO = re.compile(rb"I\d{4} [\d:.]+ +\d+ \S+\] |WARNING: All log messages before absl::")
# TF_CPP_MIN_LOG_LEVEL -> what TensorFlow should hide, but prints before it reads the variable.
_HIDDEN = {"0": None, "1": _INFO}


def hide_messages_of_tensorflow() -> None:
    """Hides informational messages of TensorFlow in this process, from when it is imported.

    Errors with which TensorFlow ends the process stay visible. With FEDLAB_DEBUG=1
    everything does. A TF_CPP_MIN_LOG_LEVEL that the user has set is respected.
    """
    # Read by TensorFlow's C++ part when it is imported.
    level = os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    hidden = _HIDDEN.get(level, _NOISE)
    waiting = any(isinstance(finder, _Finder) for finder in sys.meta_path)
    if hidden is not None and not ("tensorflow" in sys.modules or waiting or debugging()):
        sys.meta_path.insert(0, _Finder(hidden))


class _Finder(importlib.abc.MetaPathFinder):
    """Finds TensorFlow once, with a loader that filters standard error."""

    def __init__(self, hidden: re.Pattern[bytes]):
        self._hidden = hidden

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != "tensorflow":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader, self._hidden)
        return spec


class _Loader(importlib.abc.Loader):
    def __init__(self, loader: importlib.abc.Loader, hidden: re.Pattern[bytes]):
        self._loader, self._hidden = loader, hidden

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        with without_lines(self._hidden):
            self._loader.exec_module(module)


@contextlib.contextmanager
def without_lines(pattern: re.Pattern[bytes]) -> Iterator[None]:
    """A context in which lines with a given beginning do not reach standard error.

    A child process passes the other lines on, so that they also arrive if the context
    ends with the process.
    """
    try:
        stderr = os.dup(2)
    except OSError:  # standard error is closed
        yield
        return
    # os.fork() would be unsafe beside the threads of other libraries. In a session of its
    # own, the child is not interrupted by Ctrl-C.
    command: list[str | bytes] = [sys.executable, "-I", "-S", "-c", _PASS_ON, pattern.pattern]
    with subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True) as child:
        assert child.stdin is not None
        os.dup2(child.stdin.fileno(), 2)
        child.stdin.close()
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(stderr, 2)
            os.close(stderr)


_PASS_ON = """
import os, re, sys
matches = re.compile(os.fsencode(sys.argv[1])).match
for line in sys.stdin.buffer:
    if not matches(line):
        os.write(2, line)
"""
