"""Windows: questions and contexts as rows of token ids, and back from tokens to characters.

Columns of a row with `max_length` positions (Devlin et al. 2019, section 4.2, and the
authors' run_squad.py):

```
[CLS] question [SEP] a part of the context [SEP] [PAD] ...

input_ids       int32 [n, length]
token_type_ids  int32 [n, length]   1 for the context and its [SEP], 0 elsewhere
attention_mask  int32 [n, length]   0 for [PAD], 1 elsewhere
y               int32 [n, 2]        positions of the answer's first and last token;
                                    0, 0 ([CLS]) if it is not entirely in the window
```

`y` fits a model with one output [n, 2, length], the logits of start and end, and the loss
`SparseCategoricalCrossentropy(from_logits=True)`.
"""

import logging
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from fedlab import _checks
from fedlab.clients.client_data import ClientData
from fedlab.tasks.question_answering.wordpiece import Tokens, WordPiece

logger = logging.getLogger(__name__)

_LONGEST = 2**20  # tokens per window


class Answer(NamedTuple):
    """The text of an answer and the index of its first character in the context."""

    text: str
    start: int


class Question(NamedTuple):
    """A question about a text.

    Attributes:
      question_id: a unique id.
      title: the source of the context, such as the name of an article.
      context: the text that the question is about.
      question: the question.
      answers: the gold answers a, with `context[a.start:][:len(a.text)] == a.text`. Empty
        if the context has no answer.
    """

    question_id: str
    title: str
    context: str
    question: str
    answers: tuple[Answer, ...]


class Windows(NamedTuple):
    """All windows of all questions, and what is needed to find answers in them; see `make`.

    Attributes:
      questions: the `Question`s.
      vocabulary: the `WordPiece` of the tokens.
      max_length: positions per window.
      question_tokens: `Tokens` of the questions.
      context_tokens: `Tokens` of the contexts.
      context_of: int [questions], index of each question's context.
      question: int64 [n], index of each window's question, in increasing order.
      first: int64 [n], index of each window's first token in its context.
      count: int64 [n], number of context tokens in each window.
      at: int64 [n], position of the first context token in each window.
      y: int32 [n, 2], see the module.
      skipped: reason -> number of omitted questions.
    """

    questions: tuple[Question, ...]
    vocabulary: Any
    max_length: int
    question_tokens: Any
    context_tokens: Any
    context_of: np.ndarray
    question: np.ndarray
    first: np.ndarray
    count: np.ndarray  # type: ignore[assignment]
    at: np.ndarray
    y: np.ndarray
    skipped: dict[str, int]

    @property
    def num_windows(self) -> int:
        """The number of windows."""
        return len(self.question)

    @property
    def lengths(self) -> np.ndarray:
        """The number of positions of each window that are not padding, int64 [n]."""
        return self.at + self.count + 1

    def columns(
        self, windows: Sequence[int] | np.ndarray | None = None, length: int | None = None
    ) -> dict[str, np.ndarray]:
        """Returns the columns of windows, by default of all; see the module.

        The columns of all windows of SQuAD take 410 MB at length 384.

        Args:
          windows: int [k], indices of the windows.
          length: number of positions, by default `max_length`. The positions left out must
            be padding.

        Raises:
          ValueError: a window has more positions that are not padding.
        """
        rows = np.arange(self.num_windows) if windows is None else np.asarray(windows, np.int64)
        length = self.max_length if length is None else length
        if self.lengths[rows].max(initial=0) > length:
            raise ValueError(
                f"length={length}: expected at least {self.lengths[rows].max()}, the length of the "
                "longest window"
            )
        question, at, count = (array[rows, None] for array in (self.question, self.at, self.count))
        position = np.arange(length)
        in_context = (position >= at) & (position < at + count)  # [n, length]
        used = position <= at + count
        ids = np.full([len(rows), length], self.vocabulary.pad_id, np.int32)
        ids[used] = self.vocabulary.sep_id
        ids[:, 0] = self.vocabulary.cls_id
        in_question = (position >= 1) & (position < at - 1)
        starts = self.question_tokens.ends - self.question_tokens.lengths
        ids[in_question] = self.question_tokens.ids[(starts[question] + position - 1)[in_question]]
        starts = self.context_tokens.ends - self.context_tokens.lengths
        token = starts[self.context_of[question]] + self.first[rows, None] + position - at
        ids[in_context] = self.context_tokens.ids[token[in_context]]
        return {
            "input_ids": ids,
            "token_type_ids": (used & (position >= at)).astype(np.int32),
            "attention_mask": used.astype(np.int32),
            "y": self.y[rows],
        }

    def characters(self, window: int, first: int, last: int) -> tuple[int, int]:
        """Returns the characters [start, end) of the context at positions `first` to `last`.

        Raises:
          ValueError: the positions are not in the context, or in the wrong order.
        """
        at, count = int(self.at[window]), int(self.count[window])
        if not at <= first <= last < at + count:
            raise ValueError(
                f"positions {first} to {last}: expected positions from {at} to {at + count - 1}, "
                f"where window {window} has its context"
            )
        _, offsets = self.context_tokens.of(self.context_of[self.question[window]])
        shift = int(self.first[window]) - at
        return int(offsets[first + shift, 0]), int(offsets[last + shift, 1])

    def windows_of(self, questions: Sequence[int] | np.ndarray) -> np.ndarray:
        """Returns int64 [n], the windows of questions, given by index, in their order."""
        questions = np.asarray(questions, np.int64)
        if questions.size and not 0 <= questions.min() <= questions.max() < len(self.questions):
            raise ValueError(
                f"questions {questions.min()} to {questions.max()}: expected indices from 0 to "
                f"{len(self.questions) - 1}"
            )
        first = np.searchsorted(self.question, questions, "left")
        end = np.searchsorted(self.question, questions, "right")
        rows = np.arange((end - first).sum())
        return rows + np.repeat(first - np.cumsum(end - first) + (end - first), end - first)

    def select(self, questions: Sequence[int] | np.ndarray) -> "Windows":
        """Returns the `Windows` of questions, given by index, in this order."""
        questions = np.asarray(questions, np.int64)
        rows = self.windows_of(questions)
        first = self.question_tokens.ends - self.question_tokens.lengths
        return self._replace(
            questions=tuple(self.questions[i] for i in questions),
            question_tokens=_gather(
                self.question_tokens, first[questions], self.question_tokens.lengths[questions]
            ),
            context_of=self.context_of[questions],
            question=np.repeat(
                np.arange(len(questions)),
                np.bincount(self.question, minlength=len(self.questions))[questions],
            ),
            **{name: getattr(self, name)[rows] for name in ("first", "count", "at", "y")},
            skipped={},
        )

    def clients(self, partition: Mapping[str, Sequence[int] | np.ndarray]) -> ClientData:
        """Returns a `ClientData`; a client has all windows of its questions.

        They are created when the client is first read.

        Args:
          partition: client_id -> numbers of its questions; see
            `fedlab.clients.partitioners`.
        """
        return ClientData(
            partition, lambda client_id: self.columns(self.windows_of(partition[client_id]))
        )


def make(
    questions: Sequence[Question],
    vocabulary: WordPiece,
    question_tokens: Tokens,
    contexts: Sequence[str],
    context_tokens: Tokens,
    *,
    max_length: int = 384,
    stride: int | None = None,
    max_question_length: int | None = None,
) -> Windows:
    """Cuts tokenized questions and contexts into windows.

    A window has the whole question and `room = max_length - len(question) - 3` tokens of
    the context. The next window begins `room - stride` tokens later, so that neighbouring
    windows share `stride` tokens. The last window ends with the context. `y` is the first
    answer that has tokens. Questions are left out and counted if they, their context, or
    all of their answers have no tokens.

    Args:
      questions: the questions.
      vocabulary: the `WordPiece` of the tokens.
      question_tokens: `Tokens` of the questions.
      contexts: distinct texts that include the context of every question.
      context_tokens: `Tokens` of the contexts.
      max_length: positions per window, 16 or more.
      stride: number of tokens that neighbouring windows share, 0 or more; by default a
        third of max_length.
      max_question_length: maximum number of tokens of a question, which is cut after them;
        by default 64, or a third of max_length if that is less.

    Raises:
      ValueError: a setting is out of range, the longest question does not leave room for
        more than `stride` tokens, or no question is usable.
    """
    overlap, longest_question = _checked_lengths(max_length, stride, max_question_length)
    number = {context: i for i, context in enumerate(contexts)}
    context_of = np.array([number[question.context] for question in questions], np.int64)
    first_token, last_token, answered = _answer_tokens(questions, context_of, context_tokens)
    keep, skipped = _usable(
        questions, question_tokens.lengths, context_tokens.lengths[context_of], answered
    )
    if not keep.any():
        raise ValueError(
            f"{len(questions)} questions: expected a usable one, got none (omitted: "
            f"{skipped or 'none'}); pass others"
        )
    too_long = int((question_tokens.lengths > longest_question).sum())
    if too_long:
        logger.info(
            "%d questions have more than max_question_length=%d tokens and are cut",
            too_long,
            longest_question,
        )

    length = np.minimum(question_tokens.lengths, longest_question)
    room = max_length - length - 3
    total = context_tokens.lengths[context_of]
    # 1 + ceil((total - room) / step)
    windows = np.where(total <= room, 1, 1 - (room - total) // (room - overlap))
    windows[~keep] = 0
    question = np.repeat(np.arange(len(questions)), windows)
    # The index of each window among those of its question.
    index = np.arange(len(question)) - np.repeat(np.cumsum(windows) - windows, windows)
    first = index * (room - overlap)[question]
    count = np.minimum(room[question], total[question] - first)
    at = length[question] + 2
    start, end = first_token[question] - first, last_token[question] - first
    whole = answered[question] & (start >= 0) & (end < count)
    y = np.where(whole[:, None], np.stack([start, end], axis=1) + at[:, None], 0).astype(np.int32)
    made = Windows(
        tuple(questions),
        vocabulary,
        max_length,
        question_tokens,
        context_tokens,
        context_of,
        question,
        first,
        count,
        at,
        y,
        skipped,
    )
    return made if keep.all() else made.select(np.flatnonzero(keep))._replace(skipped=skipped)


def _checked_lengths(max_length, stride, max_question_length):
    _checks.check_int("max_length", max_length, 16, _LONGEST)
    stride = max_length // 3 if stride is None else stride
    max_question_length = (
        min(64, max_length // 3) if max_question_length is None else max_question_length
    )
    _checks.check_int("stride", stride, 0)
    _checks.check_int("max_question_length", max_question_length)
    if max_length - max_question_length - 3 <= stride:
        raise ValueError(
            f"stride={stride}: expected less than {max_length - max_question_length - 3}, because "
            f"max_length={max_length} includes max_question_length={max_question_length} and 3 "
            "special tokens; use a smaller stride or a larger max_length"
        )
    return stride, max_question_length


def _answer_tokens(questions, context_of, tokens):
    """Returns (first, last, answered), each [questions].

    These are the first and last token of the first answer that has tokens, counted in its
    context, and whether there is such an answer.
    """
    place = [
        (q, context_of[q], a.start, a.start + len(a.text))
        for q, question in enumerate(questions)
        for a in question.answers
    ]
    question, context, start, end = np.array(place, np.int64).reshape(-1, 4).T
    # One sorted search for all contexts: no two contexts share a character number.
    base = np.int64(1 + max((int(tokens.offsets.max(initial=0)), int(end.max(initial=0)))))
    shifted = (
        tokens.offsets + np.repeat(np.arange(len(tokens.ends)) * base, tokens.lengths)[:, None]
    )
    # The first token that ends after the start, and the last that starts before the end.
    first = np.searchsorted(shifted[:, 1], context * base + start, side="right")
    last = np.searchsorted(shifted[:, 0], context * base + end, side="left") - 1
    begin = (tokens.ends - tokens.lengths)[context]
    good = np.flatnonzero((first <= last) & (first >= begin) & (last < tokens.ends[context]))
    good = good[::-1]  # the last assignment below is the first answer
    answers = np.zeros([2, len(questions)], np.int64)
    answered = np.zeros(len(questions), bool)
    answers[:, question[good]] = first[good] - begin[good], last[good] - begin[good]
    answered[question[good]] = True
    return *answers, answered


def _usable(questions, question_lengths, context_lengths, answered):
    """Returns (bool [questions], reason -> number of omitted questions)."""
    expected = np.array([bool(question.answers) for question in questions], bool)
    reasons = {
        "a question without tokens": question_lengths == 0,
        "a context without tokens": context_lengths == 0,
        "an answer without tokens": expected & ~answered,
    }
    keep, skipped = np.ones(len(questions), bool), {}
    for reason, bad in reasons.items():
        if count := int((bad & keep).sum()):
            skipped[reason] = count
        keep &= ~bad
    return keep, skipped


def _gather(tokens, first, lengths):
    """Returns the `Tokens` of texts, given by their starts and lengths."""
    ends = np.cumsum(lengths)
    rows = np.arange(ends[-1] if len(ends) else 0) + np.repeat(first - ends + lengths, lengths)
    return type(tokens)(tokens.ids[rows], tokens.offsets[rows], ends)
