"""Shows the progress of a simulation: a bar on a terminal, a line per round elsewhere."""

import contextlib
import logging
import math
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from fedlab import _wording
from fedlab._text import visible
from fedlab.evaluation.metric_names import STATISTICS, by_importance

logger = logging.getLogger("fedlab")

_KINDS = re.compile("(sparse_)?(categorical|binary)_(?=accuracy)")
_SHORT = {"accuracy": "acc", "perplexity": "ppl", "mean": ""}
_LEAST_BAR = 6  # columns
_REFRESHES_PER_SECOND = 4

Row = Mapping[str, Any]


@contextlib.contextmanager
def reporter(
    progress: bool | None, rounds: int, history: Sequence[Row]
) -> Iterator[Callable[[Row], None]]:
    """Yields a function to call with every round's row of the history.

    Args:
      progress: False for no output. None for a bar on a terminal or in a notebook, and
        elsewhere one line per round: on stderr, or as a log record if logging is
        configured to show those of fedlab. True for a bar also if stderr is no terminal.
      rounds: how many rounds the run has.
      history: the rows so far. The first one says which metrics are evaluations.
    """
    if progress is False:
        yield lambda row: None
        return
    state = _State(rounds, history)
    if _in_notebook():
        yield _Notebook(state)
    elif progress or _on_terminal():
        with _terminal(state) as show:
            yield show
    else:
        yield lambda row: _print(state.add(row))


class _State:
    """What is shown: the round, the last value of each metric, and the time that is left."""

    def __init__(self, rounds: int, history: Sequence[Row]):
        self.rounds, self.done = rounds, history[-1]["round"] if history else 0
        self._metrics: dict[str, float] = {}
        self._evaluations: list[str] = []
        for row in history:
            self._metrics.update(self._numbers(row))
        self._clients = 0
        self._started = self._now = time.perf_counter()
        self._first: tuple[int, float] | None = None  # the first round here, and its end

    def add(self, row: Row) -> str:
        """Takes in a round. Returns it as a line."""
        self.done, self._now = row["round"], time.perf_counter()
        if self.done and self._first is None:
            self._first = self.done, self._now
        self._clients += row.get("clients_asked", 0)
        numbers = self._numbers(row)
        self._metrics.update(numbers)
        parts = [f"{_spoken(name)} {numbers[name]:.4f}" for name in self._order(numbers)]
        if dropped := row.get("clients_dropped"):
            parts.append(f"{dropped} of {row['clients_asked']} clients dropped")
        if (left := self.seconds_left()) is not None:
            parts.append(f"{_wording.duration(math.ceil(left))} left")
        return f"round {self.done} of {self.rounds}{': ' * bool(parts)}{', '.join(parts)}"

    def _numbers(self, row: Row) -> dict[str, float]:
        """The metrics of a row, without statistics over clients."""
        found = {
            name: value
            for name, value in row.items()
            if isinstance(value, float) and not name.endswith(("seconds", *STATISTICS))
        }
        if not row["round"]:  # which has only evaluations
            self._evaluations = list(found)
        return found

    def _order(self, names: Iterable[str]) -> list[str]:
        """The main evaluation, the training loss, other evaluations, training, and the rest."""
        evaluated = by_importance(name for name in names if name in self._evaluations)
        trained = by_importance(name for name in names if name.startswith("train_"))
        order = [*evaluated[:1], *trained[:1], *evaluated, *trained, *names]
        return list(dict.fromkeys(order))

    def seconds_left(self) -> float | None:
        """An estimate without the first round, which compiles; None before the second one."""
        if self._first is None or not self._first[0] < self.done < self.rounds:
            return None
        first, ended = self._first
        return (self._now - ended) / (self.done - first) * (self.rounds - self.done)

    def parts(self, width: int, least_bar: int = _LEAST_BAR) -> tuple[str, str, str]:
        """Returns (round, metrics, time) so that they and a bar fit a width.

        The first metric matters most. At little width, the others are left out, then the
        time, and the end of the first.
        """
        count = f"{self.done}/{self.rounds}"
        left, seconds = self.seconds_left(), self._now - self._started
        clock = f"{_clock(round(seconds))} in all" if self.done >= self.rounds else ""
        if left is not None:
            clock = f"{_clock(math.ceil(left))} left"
        metrics = [
            f"{short(name)} {_wording.number(self._metrics[name])}"
            for name in self._order(self._metrics)
        ]
        if self._clients:
            metrics.append(f"{self._clients / seconds:.3g} clients/s")
        room = width - len(count) - 1
        shown = metrics[0] if metrics else ""
        if clock and len(shown) + 1 + len(clock) > room:
            clock = ""
        room -= len(clock) + 1 if clock else 0
        for metric in metrics[1:]:
            longer = f"{shown}, {metric}"
            if len(longer) + 1 + least_bar > room:
                break
            shown = longer
        return count, shown if len(shown) <= room else f"{shown[: max(0, room - 1)]}…", clock


def short(name: str) -> str:
    """Returns the name of a metric in few characters.

    Example:
      >>> short("test_sparse_categorical_accuracy"), short("train_loss")
      ('test acc', 'train loss')
    """
    words = [_SHORT.get(word, word) for word in _KINDS.sub("", name).split("_")]
    return visible(" ".join(filter(None, words)) or name)


def _spoken(name: str) -> str:
    return visible(_wording.spoken(_KINDS.sub("", name)))


def _clock(seconds: int) -> str:
    """
    Example:
      >>> _clock(75), _clock(7500)
      ('1:15', '2:05:00')
    """
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


# ---- A line per round ----


def _print(line: str) -> None:
    if _is_logged():
        logger.info("%s", line)
    else:
        print(line, file=sys.stderr, flush=True)


def _is_logged() -> bool:
    """Whether logging is configured so that a handler takes informational records of fedlab."""
    if not logger.isEnabledFor(logging.INFO):
        return False
    each: logging.Logger | None = logger
    while each is not None:
        for handler in each.handlers:
            if handler.level <= logging.INFO and not isinstance(handler, logging.NullHandler):
                return True
        each = each.parent if each.propagate else None
    return False


# ---- A bar on a terminal ----


def _on_terminal() -> bool:
    stderr = sys.stderr
    if stderr is None or not stderr.isatty():
        return False
    import rich.console

    # Not in a terminal that cannot move its cursor.
    return not rich.console.Console(stderr=True).is_dumb_terminal


@contextlib.contextmanager
def _terminal(state: _State) -> Iterator[Callable[[Row], None]]:
    import rich.console
    import rich.live

    def show(row: Row) -> None:
        state.add(row)

    console = rich.console.Console(stderr=True, force_terminal=True, highlight=False)
    live = rich.live.Live(
        _Bar(state),
        console=console,
        refresh_per_second=_REFRESHES_PER_SECOND,
        # What the caller prints goes above the bar, unless it goes elsewhere.
        redirect_stdout=sys.stdout is not None and sys.stdout.isatty(),
    )
    with live, _logging_above(live):
        yield show


class _Bar:
    """The line with the bar; rich draws it at the width that the terminal has then."""

    def __init__(self, state: _State):
        self._state = state

    def __rich_console__(self, console: Any, options: Any) -> Iterator[Any]:
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        state, width = self._state, options.max_width
        count, metrics, clock = state.parts(width)
        texts = [Text(count), *(Text(text) for text in (metrics, clock) if text)]
        room = min(40, width - sum(text.cell_len + 1 for text in texts))
        line: list[Any] = [*texts]
        if room >= _LEAST_BAR:
            line.insert(1, ProgressBar(total=state.rounds, completed=state.done, width=room))
        table = Table.grid(padding=(0, 1, 0, 0), pad_edge=False)
        for _ in line:
            table.add_column(no_wrap=True)
        table.add_row(*line)
        yield table


@contextlib.contextmanager
def _logging_above(live: Any) -> Iterator[None]:
    """A context in which log records that go to stderr are printed above the bar.

    `live` has replaced sys.stderr, but handlers hold the stream that it was before.
    """
    before, moved = sys.__stderr__, []
    loggers: set[logging.Logger] = {logging.getLogger(), logger}
    for handler in {handler for each in loggers for handler in each.handlers}:
        # absl's handler passes records on to another.
        stream_handler = getattr(handler, "python_handler", handler)
        if isinstance(stream_handler, logging.StreamHandler) and stream_handler.stream is before:
            stream_handler.setStream(sys.stderr)
            moved.append(stream_handler)
    try:
        yield
    finally:
        for handler in moved:
            handler.setStream(before)


# ---- A bar in a notebook ----


def _in_notebook() -> bool:
    ipython = sys.modules.get("IPython")
    shell = ipython and ipython.get_ipython()
    return getattr(shell, "kernel", None) is not None


class _Notebook:
    """A bar as HTML, which is also what a stored notebook shows. Needs no widgets."""

    def __init__(self, state: _State):
        self._state = state
        self._handle: Any = None
        self._shown = 0.0

    def __call__(self, row: Row) -> None:
        import html

        from IPython.display import display

        text = self._state.add(row)
        now, state = time.perf_counter(), self._state
        if self._handle and now - self._shown < 1 / _REFRESHES_PER_SECOND:
            if state.done < state.rounds:
                return
        self._shown = now
        bar = f'<progress value="{state.done}" max="{state.rounds}"></progress>'
        shown = {"text/plain": text, "text/html": f"{bar} {html.escape(text)}"}
        if self._handle is None:
            self._handle = display(shown, raw=True, display_id=True)
        else:
            self._handle.update(shown, raw=True)
