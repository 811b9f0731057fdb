"""Reads the questions in SQuAD's JSON, versions 1.1 and 2.0."""

import collections
import gzip
import json
import os
import pathlib
import zlib
from typing import Any

from fedlab import _files, _json
from fedlab._text import is_unicode
from fedlab.tasks.question_answering.windows import Answer, Question


def read(file: str | os.PathLike) -> Any:
    """Returns the document in a .json or .json.gz file.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: it is not JSON; the message says where it breaks.
    """
    file = pathlib.Path(file)
    if not file.is_file():
        raise FileNotFoundError(
            f"no SQuAD file at {str(file)!r}: expected a .json or .json.gz file"
        )
    with _files.explained(str(file), "give a file that can be read"):
        data = file.read_bytes()
    try:
        if data[:2] == b"\x1f\x8b":
            data = gzip.decompress(data)
        return _json.loads(data)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{str(file)!r} cannot be unpacked ({error}): download it again") from None
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{str(file)!r}: expected UTF-8 text, but byte {error.start} is not; save it as UTF-8"
        ) from None
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{str(file)!r}: expected JSON, but {error.msg} at line {error.lineno}, character "
            f"{error.colno}; download it again"
        ) from None
    except ValueError as error:
        raise ValueError(
            f"{str(file)!r} cannot be read as JSON ({error}): download it again"
        ) from None


def parse(document: Any, source: str = "the document") -> tuple[list[Question], dict[str, int]]:
    """Returns the questions of a document.

    A document with another structure or without a required key raises an error.
    Unusable questions are omitted and counted:

    - the question or its context is empty or not valid Unicode,
    - the id or the title is not valid Unicode, or the id occurred before,
    - it has no answer but is not marked as impossible, or the reverse,
    - none of its answers is in the context at its answer_start.

    If only some answers are at their answer_start, the others are omitted and counted.

    Args:
      document: `{"data": [{"title", "paragraphs": [{"context", "qas": [{"id",
        "question", "answers": [{"text", "answer_start"}]}]}]}]}`; in version 2.0 a
        question also has "is_impossible".
      source: the document's name in an error message.

    Returns:
      (questions, skipped): a list of `Question`, and a dict reason -> count.

    Raises:
      ValueError: the structure differs; the message says where.

    Example:
      >>> qas = [{"id": "1", "question": "Who?", "answers": [{"text": "Ann", "answer_start": 0}]}]
      >>> article = {"title": "T", "paragraphs": [{"context": "Ann sang.", "qas": qas}]}
      >>> questions, skipped = parse({"data": [article]})
      >>> questions[0].answers, skipped
      ((Answer(text='Ann', start=0),), {})
    """
    questions, skipped, seen = [], collections.Counter(), set()
    for a, article in enumerate(_get(document, "data", list, source)):
        at_article = f"{source}, data[{a}]"
        title = _get(article, "title", str, at_article)
        for p, paragraph in enumerate(_get(article, "paragraphs", list, at_article)):
            at_paragraph = f"{at_article}.paragraphs[{p}]"
            context = _get(paragraph, "context", str, at_paragraph)
            wrong_context = _wrong_text(context)
            for q, entry in enumerate(_get(paragraph, "qas", list, at_paragraph)):
                where = f"{at_paragraph}.qas[{q}]"
                question_id, question = (_get(entry, key, str, where) for key in ("id", "question"))
                answers, reason = _answers(entry, context, where, skipped)
                if wrong_context:
                    reason = f"a context {wrong_context}"
                elif wrong := _wrong_text(question):
                    reason = f"a question {wrong}"
                elif not (is_unicode(question_id) and is_unicode(title)):
                    reason = "an id or a title that is not valid Unicode"
                elif question_id in seen:
                    reason = "an id that came before"
                if reason:
                    skipped[reason] += 1
                    continue
                seen.add(question_id)
                questions.append(Question(question_id, title, context, question, answers))
    return questions, dict(skipped)


def _answers(entry, context, where, skipped):
    """Returns (answers, why the question cannot be used, or None)."""
    impossible = _get(entry, "is_impossible", bool, where) if "is_impossible" in entry else False
    answers = []
    for i, answer in enumerate(_get(entry, "answers", list, where)):
        at = f"{where}.answers[{i}]"
        text, start = _get(answer, "text", str, at), _get(answer, "answer_start", int, at)
        answers.append(Answer(text, start))
    if impossible:
        return (), "answers although it is marked as impossible" if answers else None
    if not answers:
        return (), "no answers"
    good = tuple(
        a
        for a in answers
        if a.text.strip() and a.start >= 0 and context.startswith(a.text, a.start)
    )
    if not good:
        return (), "no answer that stands at its answer_start"
    if len(good) < len(answers):
        skipped["(only one of several answers) not at its answer_start"] += len(answers) - len(good)
    return good, None


def _wrong_text(text):
    if not text.strip():
        return "that is empty"
    return None if is_unicode(text) else "that is not valid Unicode"


_KINDS = {list: "a list", str: "a string", int: "an integer", bool: "true or false"}


def _get(mapping, key, kind, where):
    if not isinstance(mapping, dict):
        raise ValueError(
            f"{where}: expected an object with {key!r}, as in SQuAD's JSON, got "
            f"{type(mapping).__name__}"
        )
    if key not in mapping:
        raise ValueError(
            f"{where}: expected a key {key!r}, as in SQuAD's JSON, got "
            f"{', '.join(mapping) or 'none'}; download the file again"
        )
    value = mapping[key]
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise ValueError(f"{where}: {key}={value!r:.40}: expected {_KINDS[kind]}")
    return value
