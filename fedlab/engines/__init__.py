"""Engines: where client work runs.

An engine is a module of this folder that has `start`; see `fedlab.engines.engine`. A module
with `check_installed` raises ModuleNotFoundError there if the engine cannot run on this
installation.
"""

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from fedlab import _modules

if TYPE_CHECKING:
    from fedlab.engines.engine import Process
    from fedlab.engines.setting import Setting


def find(name: str) -> "Callable[[Setting], Process]":
    """Returns the function `start` of an engine.

    Raises:
      ValueError: there is no such engine; the message lists the choices.
      ModuleNotFoundError: the engine cannot run on this installation.

    Example:
      >>> find("local").__module__
      'fedlab.engines.local'
    """
    start = _modules.find(__name__, name, "start")
    check_installed = getattr(sys.modules[f"{__name__}.{name}"], "check_installed", None)
    if check_installed is not None:
        check_installed()
    return start
