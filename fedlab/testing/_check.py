"""What all checks share."""


def check(condition: bool, message: str) -> None:
    """Raises AssertionError with the message unless the condition holds, also with `python -O`."""
    if not condition:
        raise AssertionError(message)
