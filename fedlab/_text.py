"""Texts from files that others may have written."""


def visible(text):
    r"""A text with escapes in place of what a terminal obeys rather than prints: control characters and those that change the direction.

    Example:
      >>> print(visible("a\x1b[2Jé\n\u202eb"))
      a\x1b[2Jé\n\u202eb
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
