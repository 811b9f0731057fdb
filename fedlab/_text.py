"""Text from untrusted sources."""


def visible(text: str) -> str:
    r"""Returns a text whose unprintable characters are escaped.

    These are the characters that a terminal obeys instead of printing: control
    characters and characters that change the direction of writing.

    Example:
      >>> print(visible("a\x1b[2Jé\n\u202eb"))
      a\x1b[2Jé\n\u202eb
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def is_unicode(text: str) -> bool:
    r"""Returns whether a str can be encoded as UTF-8.

    A str with half of a surrogate pair cannot; JSON can express one.

    Example:
      >>> is_unicode("\U0001f600"), is_unicode("\ud83d")
      (True, False)
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
