"""Writes report.html: a run as one page that needs no other file and no TensorFlow.

The page is made from the files of the run folder. Some of them are optional:

    samples.json     texts that a model has written: see `write_samples`
    comparison.json  an evaluation before and after training: see `results.write_comparison`
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
from fedlab.runs.read import chosen, report_sections, run_settings, summary
from fedlab.runs.read.recorded import RecordedRun, read_run

logger = logging.getLogger("fedlab")

FILE = "report.html"
_TEMPLATE = "report.html.jinja"


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
    check_libraries()
    run = read_run(path)
    output = pathlib.Path(output) if output is not None else run.path / FILE
    write_page(output, render(_TEMPLATE, _page(run)))
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


def render(template: str, variables: dict[str, Any]) -> bytes:
    """Returns a page.

    Args:
      template: the name of a template in this folder.
      variables: its variables.

    Raises:
      ModuleNotFoundError: jinja2 or matplotlib is not installed.
    """
    check_libraries()
    import jinja2

    def source(name: str) -> str:
        return (importlib.resources.files(__package__) / name).read_text(encoding="utf-8")

    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(source),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # A path may be invalid UTF-8.
    return environment.get_template(template).render(variables).encode(errors="replace")


def check_libraries() -> None:
    """Raises ModuleNotFoundError if a library that reports need is not installed."""
    if (name := missing()) is not None:
        raise _extras.error("reports need", name)


def write_page(output: pathlib.Path, page: bytes) -> None:
    """Writes a page, whole or not at all."""
    if not output.parent.is_dir():
        raise FileNotFoundError(
            f"{output} would be in a folder that does not exist: create it or choose another file"
        )
    with _files.explained(str(output), "choose another file"):
        if output.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(output))
        _files.write(output, page)


def _page(run: RecordedRun) -> dict[str, Any]:
    """Returns the variables of the template."""
    ended = datetime.datetime.fromtimestamp(run.times[-1], datetime.UTC) if run.times else None
    versions = dict(run.config.get("versions") or {})
    return {
        "name": run.path.resolve().name,
        "state": summary.title(run),
        "finished": run.finished,
        "ended": ended and ended.strftime("%Y-%m-%d %H:%M UTC"),
        "sentences": summary.sentences(run),
        "tiles": summary.tiles(run),
        "sections": report_sections.sections(run),
        "chosen": _shown(chosen.chosen(run.config)),
        "settings": _shown(run_settings.flat(run.config)),
        "record": {
            **{f"version of {name}": version for name, version in versions.items()},
            "commit": run.config.get("commit") or "unknown",
        },
    }


def _shown(settings: dict[str, Any]) -> dict[str, str]:
    return {name: run_settings.shown(name, value) for name, value in settings.items()}
