"""An extension of griffe that reads docstrings in the form in which fedlab has them."""

import re

import griffe

# griffe knows the section Examples, whose code it highlights.
_EXAMPLE = re.compile(r"^( *)Example:$", re.MULTILINE)
_TITLED = re.compile(r"^( *)Example: (\S.*)$", re.MULTILINE)
# A heading of a group of arguments, such as "Who participates:".
_GROUP = re.compile(r"^ +[A-Z][a-z ]+:\n\n(?= +\w)", re.MULTILINE)


class Docstrings(griffe.Extension):
    """Changes docstrings before they are parsed."""

    def on_object(self, *, obj: griffe.Object, **kwargs) -> None:
        if obj.docstring:
            text = _EXAMPLE.sub(r"\1Examples:", obj.docstring.value)
            text = _TITLED.sub(r"\1Examples:\n\1  \2\n", text)
            before, args, after = text.partition("\nArgs:\n")
            obj.docstring.value = before + args + _GROUP.sub("", after)
