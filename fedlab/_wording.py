"""Numbers as a person reads them."""


def number(value):
    """A number with four digits that say something: as many in every cell of a table.

    Example:
      >>> number(0.53812), number(2.7), number(12345.6), number(1234567), number(12.0), number(None)
      ('0.5381', '2.700', '12,346', '1,234,567', '12', '')
    """
    if value is None:
        return ""
    if isinstance(value, int) and abs(value) > 10**300:
        return f"a number of {len(str(abs(value)))} digits"
    if float(value).is_integer() and abs(value) < 1e15:
        return f"{int(value):,}"
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e15 else f"{value:#.4g}".removesuffix(".")


def size(size_bytes):
    """Bytes as a person says them.

    Example:
      >>> size(12_340_000)
      '12.3 MB'
    """
    divisor, name = unit(size_bytes)
    return f"{size_bytes / divisor:.3g} {name}"


def unit(size_bytes):
    """(divisor, name) of the unit in which so many bytes are said."""
    units = ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB"))
    return next((each for each in units if size_bytes >= each[0]), (1, "bytes"))


def duration(seconds):
    """Seconds as a person says them.

    Example:
      >>> duration(0.0123), duration(75), duration(7500)
      ('0.0123 s', '1 min 15 s', '2 h 5 min')
    """
    if seconds < 60:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60:,} h {minutes % 60} min"


def spoken(name):
    """The name of a column as words.

    Example:
      >>> spoken("test_loss")
      'test loss'
    """
    return name.replace("_", " ")
