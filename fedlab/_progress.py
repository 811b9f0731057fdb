"""What a person sees of a running simulation."""

import contextlib
import logging
import sys
import time

import tqdm

from fedlab.evaluation.metric_names import STATISTICS

logger = logging.getLogger("fedlab")


@contextlib.contextmanager
def reporter(progress, rounds, rounds_done):
    """Gives a function that is called with every round's row of the history.

    Args:
      progress: True for a bar on stderr, False for silence, None for a bar on a terminal and a log line a round elsewhere.
      rounds: how many rounds the run has.
      rounds_done: rows of the history that an earlier start has made.
    """
    if progress is False:
        yield lambda row: None
    elif progress or (progress is None and sys.stderr.isatty()):
        with tqdm.tqdm(
            total=rounds, initial=max(0, rounds_done - 1), unit="round", dynamic_ncols=True
        ) as bar:
            clients, start = 0, time.perf_counter()

            def show(row):
                nonlocal clients
                clients += row.get("clients_asked", 0)
                bar.set_postfix_str(
                    ", ".join(
                        [*_numbers(row), f"{clients / (time.perf_counter() - start):.1f} clients/s"]
                    ),
                    refresh=False,
                )
                bar.update(1 if row["round"] else 0)

            yield show
    else:
        yield lambda row: logger.info(
            "round %d of %d: %s", row["round"], rounds, ", ".join(_numbers(row))
        )


def _numbers(row):
    """Losses and accuracies of a row, short: without what is beside their means over clients."""
    numbers = {
        name: value
        for name, value in row.items()
        if isinstance(value, float) and not name.endswith(("seconds", *STATISTICS))
    }
    return [f"{name.replace('_', ' ')} {value:.4f}" for name, value in numbers.items()]
