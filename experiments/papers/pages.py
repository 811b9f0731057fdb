"""Tables of the studies, for the terminal, their READMEs and docs/papers.md.

The text between the markers is made from the kept records. It is not edited by hand.
"""

import math
import pathlib
import re
import statistics
from collections.abc import Sequence

from experiments.papers import results, study
from experiments.papers.study import FOLDER, Records, Row, Study
from fedlab import _wording

OVERVIEW = FOLDER.parents[1] / "docs" / "papers.md"
_MARKED = re.compile(r"(?<=<!-- studies -->\n).*(?=<!-- end of studies -->)", re.DOTALL)


def table(found: Study, records: Records) -> list[str]:
    """Returns the lines of a study's table, as Markdown."""
    lines = [["", "measure", "published", "here", "seeds", "note"]]
    lines += [
        [row.name, row.measure, _published(row), _ours(row), str(len(row.values) or ""), row.note]
        for row in found.rows(records)
    ]
    if not any(line[5] for line in lines[1:]):
        lines = [line[:5] for line in lines]
    return _markdown(lines)


def overview() -> list[str]:
    """Returns the table of all studies, as Markdown."""
    lines = [["paper", "claim", "holds here", "scale", "duration", "command"]]
    for found in study.load_all():
        scale, records = best(found)
        verdict = found.verdict(records) if records else study.Verdict(None, "Not run yet.")
        lines.append(
            [
                f"[{found.paper}](../experiments/papers/{found.name}/README.md)",
                found.claim,
                f"{_HOLDS[verdict.holds]} {verdict.text}",
                scale,
                _duration(records),
                f"`python -m experiments.papers {found.name} --scale={scale or 'small'}`",
            ]
        )
    return _markdown(lines)


def listing() -> list[str]:
    """Returns the lines of --list."""
    lines = []
    for found in study.load_all():
        scale, records = best(found)
        verdict = found.verdict(records) if records else study.Verdict(None, "Not run yet.")
        lines += [f"{found.name}: {found.paper}, {found.title}", f"  {found.claim}"]
        lines += [f"  {scale or 'small'}: {_HOLDS[verdict.holds]} {verdict.text}"]
    return lines


def best(found: Study) -> tuple[str, Records]:
    """Returns the largest scale with kept records, and these, or ("", {})."""
    for scale in ("paper", "small"):
        if records := results.read(results.kept(found, scale)):
            return scale, results.by_case(records)
    return "", {}


def page(found: Study) -> list[str]:
    """Returns the lines that a study's README has between the markers."""
    lines = [f"Data: {found.data}", ""]
    for scale in ("paper", "small"):
        records = results.by_case(results.read(results.kept(found, scale)))
        if not records:
            continue
        verdict = found.verdict(records)
        lines += [f"### Scale `{scale}`", "", f"{_HOLDS[verdict.holds]} {verdict.text}", ""]
        lines += [*table(found, records), "", f"Duration: {_duration(records)}.", ""]
        lines += [f"![the figure of the study, scale {scale}]({scale}.png)", ""]
    return lines


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


_HOLDS = {True: "**Yes.**", False: "**No.**", None: "**Not decided.**"}


def _markdown(lines: Sequence[Sequence[str]]) -> list[str]:
    rows = [lines[0], ["---"] * len(lines[0]), *lines[1:]]
    return [f"| {' | '.join(row)} |" for row in rows]


def _published(row: Row) -> str:
    if isinstance(row.published, str):
        return row.published
    return "" if row.published is None else f"{row.published:.{row.digits}f}"


def _ours(row: Row) -> str:
    """Returns the mean and, from two seeds on, the standard deviation."""
    values = row.values
    if not values:
        return "not run"
    if any(math.isinf(value) for value in values):
        reached = [value for value in values if math.isfinite(value)]
        return "not reached" + (f" by {len(values) - len(reached)}" if reached else "")
    mean = f"{statistics.fmean(values):.{row.digits}f}"
    return mean if len(values) == 1 else f"{mean} ± {statistics.stdev(values):.{row.digits}f}"


def _duration(records: Records) -> str:
    seconds = sum(each["seconds"] for seeds in records.values() for each in seeds)
    cores = sorted({each["cores"] for seeds in records.values() for each in seeds})
    if not records:
        return ""
    return f"{_wording.duration(round(seconds))} on {' or '.join(map(str, cores))} cores"
