"""Writes report.html: a run as one page that needs no other file and no TensorFlow.

The page is made from the files of the run folder. Two of them are optional:

    samples.json     texts that a model has written: see `write_samples`
    probe.npz        what an `fl.question_answering.Probe` has recorded; without it,
                     probe_*.png, the pictures of `fedlab squad probe`
"""

import datetime
import errno
import importlib.resources
import json
import logging
import os
import pathlib
from typing import Any

from fedlab import _extras, _files
from fedlab._wording import duration, number, size, spoken
from fedlab.runs.read import report_sections, run_settings
from fedlab.runs.read.recorded import RecordedRun, read_run

logger = logging.getLogger("fedlab")

FILE = "report.html"
_TEMPLATE = "report.html.jinja"
_MOST_METRICS = 6  # among the numbers at the top


def write_report(path: str | os.PathLike, output: str | os.PathLike | None = None) -> pathlib.Path:
    """Writes the report of a run.

    Args:
      path: the run folder.
      output: the file; report.html in the run folder by default.

    Returns:
      The path of the file.

    Raises:
      ModuleNotFoundError: jinja2 or matplotlib is not installed.
      FileNotFoundError, NotADirectoryError, ValueError: `path` is not a run folder, or it is
        damaged: see `fedlab.runs.read.recorded.read_run`.

    Example:
      >>> write_report("runs/first")  # doctest: +SKIP
      PosixPath('runs/first/report.html')
    """
    template = _template()
    run = read_run(path)
    output = pathlib.Path(output) if output is not None else run.path / FILE
    if not output.parent.is_dir():
        raise FileNotFoundError(
            f"{output} would be in a folder that does not exist: create it or choose another file"
        )
    page = template.render(_page(run)).encode(errors="replace")  # a path may be invalid UTF-8
    with _files.explained(str(output), "choose another file"):
        if output.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(output))
        _files.write(output, page)
    return output


def write_samples(path: str | os.PathLike, samples: list[dict[str, str]]) -> None:
    """Adds texts that models have written to a run folder and to its report.

    Args:
      path: the run folder.
      samples: a list of {"title": str, "text": str}, for example one text of the model
        before training and one after it.

    Raises:
      ValueError: `samples` has another form.
      FileNotFoundError: there is no run folder.
    """
    path = pathlib.Path(path)
    report_sections.check_samples(samples, "samples=")
    if not path.is_dir():
        raise FileNotFoundError(f"there is no run folder {str(path)!r}: check the path")
    text = json.dumps(samples, ensure_ascii=False, indent=1)
    _files.write(path / report_sections.SAMPLES, text.encode())
    if missing() is None:
        write_report(path)


def write_report_of_run(path: pathlib.Path) -> None:
    """Writes the report at the end of a run; logs a line if that is not possible."""
    if (library := missing()) is not None:
        _extras.skipped(f"{FILE} is not written", library)
        return
    try:
        write_report(path)
    except ValueError as error:  # a damaged file that the run did not write
        logger.warning("no %s is written: %s", FILE, error)


def missing() -> str | None:
    """Returns the name of a library that reports need and that is not installed, or None."""
    return _extras.missing("jinja2", "matplotlib")


def _template() -> Any:
    if (name := missing()) is not None:
        raise _extras.error("reports need", name)
    import jinja2

    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(
        (importlib.resources.files(__package__) / _TEMPLATE).read_text(encoding="utf-8")
    )


def _page(run: RecordedRun) -> dict[str, Any]:
    """Returns the variables of the template."""
    rounds = run.config.get("rounds")
    ended = datetime.datetime.fromtimestamp(run.times[-1], datetime.UTC) if run.times else None
    state = "finished" if run.finished else "not finished"
    versions = dict(run.config.get("versions") or {})
    return {
        "name": run.path.resolve().name,
        "state": f"{state}: {run.rounds_done}{f' of {rounds}' if rounds else ''} rounds",
        "finished": run.finished,
        "ended": ended and ended.strftime("%Y-%m-%d %H:%M UTC"),
        "tiles": _tiles(run),
        "sections": report_sections.sections(run),
        "settings": {
            name: run_settings.shown(name, value)
            for name, value in run_settings.flat(run.config).items()
        },
        "record": {
            **{f"version of {name}": version for name, version in versions.items()},
            "commit": run.config.get("commit") or "unknown",
        },
    }


def _tiles(run: RecordedRun) -> list[tuple[str, str, str]]:
    """Returns (title, number, remark) of the numbers at the top of the page."""
    results = {name: each for name, each in run.results().items() if name[:6] != "train_"}
    tiles = []
    for name, result in [*results.items()][:_MOST_METRICS]:
        first, top = number(run.curve(name)[1][0]), number(result["best"])
        remark = f"{first} at first, best {top} in round {result['best_round']}"
        tiles.append((spoken(name), number(result["last"]), remark))
    if seconds := run.total("seconds"):
        per_round = duration(seconds / max(1, run.rounds_done))
        remark = f"{per_round} per round, without evaluation"
        tiles.append(("training time", duration(seconds), remark))
    down, up = run.total("bytes_down"), run.total("bytes_up")
    if down + up:
        tiles.append(("sent", size(down + up), f"{size(down)} down, {size(up)} up"))
    if epsilons := run.curve("epsilon")[1]:
        tiles.append(("privacy spent", f"ε = {number(epsilons[-1])}", "after the last round"))
    return tiles
