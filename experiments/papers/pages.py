"""Tables of the studies, for the terminal, their READMEs and docs/papers.md.

The text between the markers is made from the kept records. It is not edited by hand.
"""

import math
import pathlib
import re
import statistics
import textwrap
from collections.abc import Sequence

from experiments.papers import results, study
from experiments.papers.study import FOLDER, Records, Row, Study
from fedlab import _wording

OVERVIEW = FOLDER.parents[1] / "docs" / "papers.md"
_MARKED = re.compile(r"(?<=<!-- studies -->\n).*(?=<!-- end of studies -->)", re.DOTALL)


def table(found: Study, records: Records) -> list[str]:
    """Returns the lines of a study's table, as Markdown, and what holds for all its rows."""
    rows = found.rows(records)
    columns = {
        "": [row.name for row in rows],
        "measure": [row.measure for row in rows],
        "published": [_published(row) for row in rows],
        "here": [_ours(row) for row in rows],
        "seeds": [str(len(row.values) or "") for row in rows],
        "note": [row.note for row in rows],
    }
    notes = []
    if len({row.measure for row in rows}) == 1:
        notes.append(f"The numbers are: {rows[0].measure}.")
        del columns["measure"]
    run = {len(row.values) for row in rows if row.values}
    if len(run) == 1:
        notes.append(
            "Each number is from one seed."
            if run == {1}
            else f"Mean and standard deviation of {max(run)} seeds."
        )
        del columns["seeds"]
    for name in ("published", "note"):
        if not any(columns[name]):
            del columns[name]
    lines = _markdown([list(columns), *zip(*columns.values())])
    return [*lines, "", " ".join(notes)] if notes else lines


def overview() -> list[str]:
    """Returns the table of all studies and what they found, as Markdown."""
    lines = [["paper", "claim, and whether it holds", "example", "published", "here"]]
    told = []
    studies = study.load_all()
    for found in studies:
        scale, records = best(found)
        link = f"[{found.paper}](../experiments/papers/{found.name}/README.md)"
        command = f"`{found.name} --scale={scale or 'small'}`"
        claim, run = found.claim, "not run yet"
        if records:
            verdict, run = found.verdict(records), _duration(records)
            claim += f" **{_HOLDS[verdict.holds]}.**"
            told.append(f"- **{link}.** {verdict.text}")
        lines.append([f"{link}<br>{command}<br>{run}", claim, *_example(found, records)])
    intro = "The first column has the arguments of `python -m experiments.papers`. For example:"
    return [
        *[intro, "", "```sh", _command(studies[0], "small"), "```", ""],
        *_markdown(lines),
        *(["", "What the runs found:", "", *told] if told else []),
    ]


def listing(width: int = 100) -> list[str]:
    """Returns the lines of --list; paragraphs have at most `width` characters per line."""
    lines = []
    for found in study.load_all():
        scale, records = best(found)
        texts = [f"claim: {found.claim}", "recorded: nothing yet"]
        if records:
            texts[1] = f"recorded: scale {scale}, {_duration(records)}"
            texts.append(f"does it hold? {holds(found, records)}")
        lines.append(f"{found.name}: {found.paper}, {found.title}")
        for text in texts:
            lines += textwrap.wrap(text, width, initial_indent=" " * 4, subsequent_indent=" " * 6)
        lines.append("")
    return [*lines, f"Run one: {_command(None, 'small')}"]


def holds(found: Study, records: Records, mark: str = "") -> str:
    """Returns whether the claim holds, with the numbers; `mark` is around the first words."""
    verdict = found.verdict(records)
    return f"{mark}{_HOLDS[verdict.holds]}.{mark} {verdict.text}"


def best(found: Study) -> tuple[str, Records]:
    """Returns the largest scale whose kept records decide about the claim, and these.

    Without one, it is the largest scale with records; without records, ("", {}).
    """
    kept = [
        (scale, results.by_case(records))
        for scale in ("paper", "small")
        if (records := results.read(results.kept(found, scale)))
    ]
    deciding = [each for each in kept if found.verdict(each[1]).holds is not None]
    return next(iter([*deciding, *kept]), ("", {}))


def page(found: Study) -> list[str]:
    """Returns the lines that a study's README has between the markers."""
    lines = [f"**Claim:** {found.claim}", "", f"**Data:** {found.data}", ""]
    kept = {
        scale: results.by_case(results.read(results.kept(found, scale)))
        for scale in ("paper", "small")
    }
    for scale, records in kept.items():
        if not records:
            continue
        lines += [f"### Scale `{scale}`", ""]
        lines += [f"Does the claim hold? {holds(found, records, '**')}", ""]
        lines += [f"![the figure of the study, scale {scale}]({scale}.png)", ""]
        lines += [*table(found, records), "", f"Duration: {_duration(records)}.", ""]
    return lines if any(kept.values()) else [*lines, "No run is recorded yet.", ""]


def aligned(lines: Sequence[str]) -> list[str]:
    """Returns the lines of `table` with columns of equal width, for the terminal.

    Example:
      >>> print("\\n".join(aligned(["|  | here |", "| --- | ---: |", "| FedAvg | 9.0 |"])))
      |        | here |
      | ------ | ---: |
      | FedAvg |  9.0 |
    """
    rows = [line[2:-2].split(" | ") for line in lines if line.startswith("| ")]
    right = [cell.endswith(":") for cell in rows[1]]
    widths = [max(map(len, column)) for column in zip(*rows)]
    rows[1] = ["-" * (width - is_right) + ":" * is_right for width, is_right in zip(widths, right)]
    made = iter(
        "| "
        + " | ".join(
            cell.rjust(width) if is_right else cell.ljust(width)
            for cell, width, is_right in zip(row, widths, right)
        )
        + " |"
        for row in rows
    )
    return [next(made) if line.startswith("| ") else line for line in lines]


def rendered(file: pathlib.Path, lines: Sequence[str]) -> str:
    """Returns the text of a page with new lines between its markers."""
    text = file.read_text(encoding="utf-8")
    if not _MARKED.search(text):
        raise ValueError(f"{file}: expected <!-- studies --> and <!-- end of studies -->")
    made = "\n" + "\n".join(lines).strip("\n") + "\n\n"
    return _MARKED.sub(lambda _: made, text)


def all_pages() -> dict[pathlib.Path, str]:
    """Returns the text that every page should have."""
    made = {OVERVIEW: rendered(OVERVIEW, overview())}
    for found in study.load_all():
        file = FOLDER / found.name / "README.md"
        made[file] = rendered(file, page(found))
    return made


def write(drawn: Sequence[Study]) -> None:
    """Writes all pages, and the figures of some studies."""
    for file, text in all_pages().items():
        file.write_text(text, encoding="utf-8")
    for found in drawn:
        for scale in ("small", "paper"):
            if records := results.read(results.kept(found, scale)):
                found.draw(results.by_case(records), FOLDER / found.name / f"{scale}.png")


_HOLDS = {True: "Yes", False: "No", None: "Not decided"}


def _command(found: Study | None, scale: str) -> str:
    return f"python -m experiments.papers {found.name if found else 'NAME'} --scale={scale}"


def _example(found: Study, records: Records) -> tuple[str, str, str]:
    """Returns the first row with a published number and ours: (what it is, published, ours).

    Numbers come before texts.
    """
    rows = found.rows(records) if records else []
    compared = [row for row in rows if row.published is not None and row.values]
    for row in sorted(compared, key=lambda row: isinstance(row.published, str)):
        return f"{row.name}, {row.measure}", _published(row), _ours(row)
    return "", "", ""


def _markdown(lines: Sequence[Sequence[str]]) -> list[str]:
    """Returns a table. Columns of numbers are aligned on the right, unless a number is a text."""
    columns = zip(*lines)
    numbers = ("published", "here", "seeds")
    styles = [
        "---:" if cells[0] in numbers and max(map(len, cells)) <= 24 else "---" for cells in columns
    ]
    return [f"| {' | '.join(row)} |" for row in [lines[0], styles, *lines[1:]]]


def _published(row: Row) -> str:
    if isinstance(row.published, str):
        return row.published
    return "" if row.published is None else f"{row.published:,.{row.digits}f}"


def _ours(row: Row) -> str:
    """Returns the mean and, from two seeds on, the standard deviation."""
    values = row.values
    if not values:
        return "not run"
    if any(math.isinf(value) for value in values):
        reached = [value for value in values if math.isfinite(value)]
        missed = f" by {len(values) - len(reached)} of {len(values)}" if reached else ""
        return f"not reached{missed}"
    mean = f"{statistics.fmean(values):,.{row.digits}f}"
    return mean if len(values) == 1 else f"{mean} ± {statistics.stdev(values):,.{row.digits}f}"


def _duration(records: Records) -> str:
    seconds = sum(each["seconds"] for seeds in records.values() for each in seeds)
    cores = sorted({each["cores"] for seeds in records.values() for each in seeds})
    if not records:
        return ""
    told = f"{' or '.join(map(str, cores))} core{'' if cores == [1] else 's'}"
    return f"{_wording.duration(round(seconds))} on {told}"
