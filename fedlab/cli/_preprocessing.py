"""What the numbers in a model's data mean: the names of classes, or characters.

`fedlab train` writes it next to the model, as preprocessing.json. `fedlab evaluate` and
`fedlab generate` read it from there.
"""

import argparse
import os
import pathlib
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from fedlab import ClientData

FILE = "preprocessing.json"
_MOST_CLASSES = 1000


class Preprocessing(NamedTuple):
    """How a table becomes numbers.

    Attributes:
      class_names: the texts of the labels in the order of their numbers, or ().
      characters: the vocabulary of a next-character model in the order of its ids, or "".
    """

    class_names: tuple[str, ...] = ()
    characters: str = ""


def of_model(model: str | None) -> Preprocessing:
    """Returns what is written next to a model file; nothing if there is no such file."""
    from fedlab import _json

    if model is None or "://" in model:
        return Preprocessing()
    file = pathlib.Path(model).expanduser().parent / FILE
    try:
        if not file.is_file():
            return Preprocessing()
    except OSError:
        return Preprocessing()
    try:
        found = dict(_json.read(file))
        names, characters = found["class_names"], found["characters"]
        texts = all(isinstance(name, str) for name in [*names, characters])
        if not texts or not isinstance(names, list) or len(set(characters)) < len(characters):
            raise ValueError(f"{found!r:.60}")
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(
            f"{file} is damaged ({error!s:.100}): expected the class_names and characters that "
            "`fedlab train` writes; restore it, or remove it"
        ) from None
    return Preprocessing(tuple(names), characters)


def write(folder: str | os.PathLike, known: Preprocessing) -> None:
    """Writes preprocessing.json, unless nothing is known."""
    import json

    from fedlab import _files

    if known != Preprocessing():
        content = {"class_names": list(known.class_names), "characters": known.characters}
        text = json.dumps(content, indent=1)
        _files.write(pathlib.Path(folder) / FILE, text.encode())


def of_data(
    args: argparse.Namespace, data: "ClientData", model: Any, known: Preprocessing
) -> Preprocessing:
    """Returns the preprocessing for data: the model's, or what the data has.

    Args:
      args: the arguments.
      data: the data as `_data_files.read` returns it.
      model: the model to train, or None for a new one.
      known: what is written next to the model.
    """
    from fedlab.tasks.generation import text

    if args.text is not None:
        characters = known.characters
        if not characters and model is not None:
            # Models that others have trained have the vocabulary of TFF's tutorial.
            characters = text.CHAR_VOCABULARY
        if not characters:
            characters = text.vocabulary(data, "x")
        if model is not None and model.outputs[0].shape[-1] != len(characters):
            raise ValueError(
                f"--model={args.model} has {model.outputs[0].shape[-1]} outputs: expected "
                f"{len(characters)}, one for each character, for --text"
            )
        return Preprocessing((), characters)
    if args.class_names is not None:
        return Preprocessing(tuple(name.strip() for name in args.class_names.split(",")))
    if known.class_names:
        return known
    if data.source is not None and data.source.class_names:
        return Preprocessing(tuple(data.source.class_names))
    if "y" in data.schema and data.schema["y"].dtype == object and not data.schema["y"].shape:
        names = sorted({str(label) for client_id in data for label in data[client_id]["y"]})
        if len(names) > _MOST_CLASSES:
            raise ValueError(
                f"--label={args.label}: {len(names):,} different texts, such as {names[0]!r:.40}: "
                f"expected numbers, or at most {_MOST_CLASSES:,} classes; use another column"
            )
        return Preprocessing(tuple(names))
    return known


def apply(data: "ClientData", known: Preprocessing) -> "ClientData":
    """Returns texts as sequences of characters, if they are to be; other data as it is."""
    from fedlab.tasks.generation import text

    return (
        text.next_characters(data, "x", vocabulary=known.characters) if known.characters else data
    )
