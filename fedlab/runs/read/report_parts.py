"""The parts that sections of a page consist of, as the templates show them."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fedlab import _svg
from fedlab.evaluation.metric_names import lower_is_better

Section = dict[str, Any]


def section(
    title: str,
    lead: str = "",
    pictures: Iterable[dict] = (),
    tables: Iterable[dict] = (),
    texts: Iterable[dict] = (),
    layers: Iterable[dict] = (),
    more: Iterable[Section] = (),
    wide: bool = False,
) -> Section:
    """Returns a section.

    Args:
      title: its heading.
      lead: the paragraph below the heading.
      pictures, tables: see `picture` and `table`.
      texts: dicts {"title": str, "text": str}.
      layers: a diagram: see `report_model.layers`.
      more: sections that are collapsed; their titles can be clicked.
      wide: whether pictures need more width than usual.
    """
    return {
        "title": title,
        "lead": lead,
        "pictures": list(pictures),
        "tables": list(tables),
        "texts": list(texts),
        "layers": list(layers),
        "more": [each for each in more if each],
        "wide": wide,
    }


def picture(figure: Any, name: str, title: str, about: str = "", long: bool = False) -> dict:
    """Returns a picture.

    Args:
      figure: a figure of `fedlab._svg.new`.
      name: a name that no other picture of the page has.
      title: the caption.
      about: what the picture shows, for people who do not see it.
      long: whether it takes the width of the page.
    """
    import markupsafe

    # matplotlib has escaped the texts in it.
    svg = markupsafe.Markup(_svg.text(figure, name))
    return {"title": title, "alt": about or title, "svg": svg, "long": long}


def table(
    head: Sequence[str], rows: Iterable[Sequence[Any]], numbers: bool = False
) -> dict[str, Any]:
    """Returns a table. With `numbers`, all columns but the first are numbers."""
    return {"head": list(head), "rows": [list(row) for row in rows], "numbers": numbers}


def worst_first(values: Mapping[str, float], metric: str) -> list[str]:
    """Returns the keys, those with the worst values of a metric first."""
    return sorted(values, key=values.__getitem__, reverse=lower_is_better(metric))


def finite(values: Iterable[float]) -> list[float]:
    """Returns the numbers that are neither infinite nor NaN."""
    return [value for value in values if math.isfinite(value)]
