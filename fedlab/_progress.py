"""Progress of a running simulation: a bar or log lines."""

import contextlib
import logging
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import tqdm

from fedlab.evaluation.metric_names import STATISTICS

logger = logging.getLogger("fedlab")


@contextlib.contextmanager
def reporter(
    progress: bool | None, rounds: int, rounds_done: int
) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """Yields a function to call with every round's row of the history.

    Args:
      progress: True for a bar on stderr, False for no output. None for a bar if stderr
        is a terminal, and otherwise one log line per round.
      rounds: how many rounds the run has.
      rounds_done: how many rows of the history exist already.
    """
    if progress is False:
        yield lambda row: None
    elif progress or (progress is None and sys.stderr.isatty()):
        done = max(0, rounds_done - 1)
        with tqdm.tqdm(total=rounds, initial=done, unit="round", dynamic_ncols=True) as bar:
            clients, start = 0, time.perf_counter()

            def show(row):
                nonlocal clients
                clients += row.get("clients_asked", 0)
                speed = f"{clients / (time.perf_counter() - start):.1f} clients/s"
                bar.set_postfix_str(", ".join([*_numbers(row), speed]), refresh=False)
                bar.update(1 if row["round"] else 0)

            yield show
    else:
        yield lambda row: logger.info(
            "round %d of %d: %s", row["round"], rounds, ", ".join(_numbers(row))
        )


def _numbers(row):
    """Losses and accuracies of a row as short strings, without statistics over clients."""
    numbers = {
        name: value
        for name, value in row.items()
        if isinstance(value, float) and not name.endswith(("seconds", *STATISTICS))
    }
    return [f"{name.replace('_', ' ')} {value:.4f}" for name, value in numbers.items()]
