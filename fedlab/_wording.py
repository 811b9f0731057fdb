"""Numbers and names in a form for people."""


def number(value: float | None) -> str:
    """Returns a number with four significant digits, or "" for None.

    Example:
      >>> number(0.53812), number(2.7), number(12345.6), number(12.0), number(None)
      ('0.5381', '2.700', '12,346', '12', '')
    """
    if value is None:
        return ""
    if isinstance(value, int) and abs(value) > 10**300:
        return f"a number of {len(str(abs(value)))} digits"
    if float(value).is_integer() and abs(value) < 1e15:
        return f"{int(value):,}"
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e15 else f"{value:#.4g}".removesuffix(".")


def size(size_bytes: float) -> str:
    """Returns a number of bytes with its unit.

    Example:
      >>> size(12_340_000)
      '12.3 MB'
    """
    divisor, name = unit(size_bytes)
    return f"{size_bytes / divisor:.3g} {name}"


def unit(size_bytes: float) -> tuple[float, str]:
    """Returns (divisor, name) of the unit that suits a number of bytes.

    Example:
      >>> unit(12_340_000)
      (1000000.0, 'MB')
    """
    units = ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB"))
    return next((each for each in units if size_bytes >= each[0]), (1, "bytes"))


def duration(seconds: float) -> str:
    """Returns a duration with its units.

    Example:
      >>> duration(0.0123), duration(75), duration(7500)
      ('0.0123 s', '1 min 15 s', '2 h 5 min')
    """
    if seconds < 60:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60:,} h {minutes % 60} min"


def spoken(name: str) -> str:
    """Returns the name of a column as words.

    Example:
      >>> spoken("test_loss")
      'test loss'
    """
    return name.replace("_", " ")
