"""SQuAD's JSON, versions 1.1 and 2.0, as questions; what is wrong with a file is an error or is left out and counted."""

import collections
import gzip
import json
import pathlib
import zlib

from fedlab import _files, _json
from fedlab._text import is_unicode
from fedlab.tasks.question_answering.windows import Answer, Question


def read(file):
    """The document in a .json or .json.gz file.

    Raises:
      FileNotFoundError: there is none.
      ValueError: it is no JSON; says where it breaks.
    """
    file = pathlib.Path(file)
    if not file.is_file():
        raise FileNotFoundError(
            f"there is no SQuAD file at {str(file)!r}; allowed: a .json or .json.gz file."
        )
    with _files.explained(str(file), "give a file that can be read"):
        data = file.read_bytes()
    try:
        if data[:2] == b"\x1f\x8b":
            data = gzip.decompress(data)
        return _json.loads(data)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{str(file)!r} cannot be unpacked ({error}): get it again.") from None
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{str(file)!r} is no UTF-8 text (at byte {error.start}): save it as UTF-8."
        ) from None
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{str(file)!r} is no JSON: {error.msg} at line {error.lineno}, character {error.colno}; get it again."
        ) from None
    except ValueError as error:
        raise ValueError(f"{str(file)!r} cannot be read as JSON ({error}): get it again.") from None


def parse(document, source="the document"):
    """The questions of a document.

    A document of another form, or one that lacks a key, is an error. Left out and
    counted: a question whose text is empty or not valid Unicode, whose context is,
      whose id or title is not valid Unicode, whose id came before, that has no answer
      though it is not marked as
    impossible, that has answers though it is, or none of whose answers stands in the
    context at its answer_start; an answer that does not, where another does.

    Args:
      document: `{"data": [{"title", "paragraphs": [{"context", "qas": [{"id",
        "question", "answers": [{"text", "answer_start"}]}]}]}]}`; in version 2.0 a
        question also has "is_impossible".
      source: what to call it in an error.

    Returns:
      (questions, skipped): a list of `Question`, and a dict reason -> how many.

    Raises:
      ValueError: another form; says where.

    Example:
      >>> qas = [{"id": "1", "question": "Who?", "answers": [{"text": "Ann", "answer_start": 0}]}]
      >>> questions, skipped = parse({"data": [{"title": "T", "paragraphs": [{"context": "Ann sang.", "qas": qas}]}]})
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
    """(answers, why the question cannot be used, or None)."""
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
            f"{where} is a {type(mapping).__name__}; allowed: an object with {key!r}, as in SQuAD's JSON."
        )
    if key not in mapping:
        raise ValueError(
            f"{where} has no {key!r}; its keys are {', '.join(mapping) or 'none'}: this is not SQuAD's form; get the file again."
        )
    value = mapping[key]
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise ValueError(f"{where} has {key} {value!r:.40}; allowed: {_KINDS[kind]}.")
    return value
