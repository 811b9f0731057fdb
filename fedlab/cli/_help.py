"""The list of commands in `fedlab --help`, in groups."""

from collections.abc import Mapping

_GROUPS = {
    "train": ("new", "train"),
    "use a model": ("evaluate", "generate", "answer", "explain", "convert"),
    "look at runs": ("runs", "report"),
    "what there is": ("algorithms", "aggregators", "datasets"),
}


def grouped(summaries: Mapping[str, str]) -> str:
    """Returns the commands with their summaries, under titles.

    Args:
      summaries: command -> what it does, in one line. Commands that belong to no group
        come last.

    Example:
      >>> print(grouped({"new": "Creates an experiment.", "squad": "Shows SQuAD."}))
      train:
        new    Creates an experiment.
      <BLANKLINE>
      more:
        squad  Shows SQuAD.
    """
    width = max(map(len, summaries))
    known = {name for names in _GROUPS.values() for name in names}
    groups = {**_GROUPS, "more": tuple(name for name in summaries if name not in known)}
    parts = []
    for title, names in groups.items():
        lines = [f"  {name:<{width}}  {summaries[name]}" for name in names if name in summaries]
        if lines:
            parts.append("\n".join([f"{title}:", *lines]))
    return "\n\n".join(parts)
