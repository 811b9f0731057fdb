"""Explains a model's answer or class by the words of the text, with LIME.

    "Why Should I Trust You?": Explaining the Predictions of Any Classifier
    Marco Tulio Ribeiro, Sameer Singh, Carlos Guestrin. KDD 2016.
    https://arxiv.org/abs/1602.04938

```
z_i  in {0, 1}^words, z_0 = 1          num_samples texts; words with z = 0 are [UNK]
p_i  = probability at text z_i         of the answer to, or the class of, the whole text
pi_i = exp(-d(z_i, 1)^2 / 25^2)^(1/2)  d = 100 * cosine distance
w    = argmin  sum_i pi_i (p_i - w'z_i - b)^2 + |w|^2
       over the num_words words with the largest weights (section 3.4)
```

These are the defaults of `LimeTextExplainer` in the library `lime`. A word's weight is, to
first order, how much the probability decreases without the word. `fit`, the R^2 of the
linear model, tells how reliable this is. Each occurrence of a word counts separately.

A span's probability is exp(score) divided by the sum of exp(score) over all legal spans of
the text (`fedlab.tasks.question_answering.spans`). Scores alone are not comparable between
texts, because adding a number to all logits changes nothing.
"""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fedlab import _checks, _extras
from fedlab.clients import seeding
from fedlab.tasks.question_answering import spans
from fedlab.tasks.question_answering.answering import answer, window_length
from fedlab.tasks.question_answering.outputs import outputs
from fedlab.tasks.question_answering.preprocessing import Vocabulary, make_windows, word_piece
from fedlab.tasks.question_answering.windows import Question
from fedlab.tasks.question_answering.wordpiece import WordPiece

if TYPE_CHECKING:
    import tensorflow as tf

_WORDS = r"\W+"  # what is between words
_TEXTS_AT_ONCE = 256
_SPECIAL = 2  # [CLS] and [SEP] around a text


class Word(NamedTuple):
    """A word and its effect on the probability.

    Attributes:
      text: the word.
      part: the part of the text that it is in: "question", "context" or "text".
      start: the index of its first character in that part.
      weight: its weight in the linear model.
    """

    text: str
    part: str
    start: int
    weight: float


class Explanation(NamedTuple):
    """An explanation of a model's output.

    Attributes:
      label: the answer, or the name of the class.
      span: the answer's `fedlab.tasks.question_answering.spans.Span`; None for a class.
      probability: the probability of the label for the whole text, 0 to 1.
      words: a list of `Word`, largest absolute weights first.
      fit: the weighted R^2 of the linear model on the perturbed texts, 1 at most.
      parts: name of a part -> its text.
      lime: the `lime.explanation.Explanation`.
    """

    label: str
    span: Any
    probability: float
    words: list
    fit: float
    parts: dict
    lime: Any

    def html(self) -> str:
        """Returns lime's web page, which needs no network. The page is deterministic."""
        return self.lime.as_html(labels=[_LABEL])


_LABEL = 1  # lime sees two classes: 0 is anything else, 1 is the label


def explain_answer(
    model: "tf.keras.Model",
    question: str,
    context: str,
    vocabulary: Vocabulary = None,
    *,
    num_samples: int = 500,
    num_words: int = 12,
    seed: int = 0,
    max_length: int | None = None,
    max_answer_length: int = 30,
    batch_size: int = 32,
) -> Explanation:
    """Explains a model's answer by the words of the question and of the context.

    Args:
      model: a Keras model with the inputs of `fedlab.tasks.question_answering.windows`
        and one output [n, 2, length].
      question, context: str. Spaces and line breaks in the question become single
        spaces.
      vocabulary: a `WordPiece`, the path of a vocab.txt, a list of tokens, or None for
        BERT's uncased vocabulary.
      num_samples: number of perturbed texts, 10 or more, including the whole text. With
        more texts, the weights depend less on the seed.
      num_words: maximum number of words in the explanation, 1 or more.
      seed: seed of the perturbations.
      max_length, max_answer_length: as in `fedlab.answer`.
      batch_size: windows per step.

    Returns:
      An `Explanation`.

    Raises:
      ValueError: a text has no words, a setting is out of range, or the model has other
        inputs or outputs or another vocabulary.
      ModuleNotFoundError: lime is not installed.

    Example:
      >>> from fedlab.datasets import squad
      >>> from fedlab.models import bert
      >>> words = squad.SYNTHETIC_VOCABULARY
      >>> sizes = dict(hidden_size=8, intermediate_size=16, num_layers=1, length=32)
      >>> model = bert.question_answering(vocab_size=len(words), **sizes)
      >>> texts = "Who sold the map?", "Anna sold the map in Oslo in 1801."
      >>> found = explain_answer(model, *texts, words, num_samples=20, num_words=3)
      >>> len(found.words), found.label == found.span.text
      (3, True)
    """
    _check_sizes(num_samples, num_words, batch_size)
    question = " ".join(question.split()) if isinstance(question, str) else question
    parts = {"question": question, "context": context}
    pieces = word_piece(vocabulary)
    length = window_length(model, max_length)
    span = answer(
        model, question, context, pieces, max_length=length, max_answer_length=max_answer_length
    )
    lime_text = _LimeText(parts)

    def probabilities(texts):
        """Returns the probability of the span in each text, float64 [n]."""
        found = []
        for first in range(0, len(texts), _TEXTS_AT_ONCE):
            split = [text.split("\n", 1) for text in texts[first : first + _TEXTS_AT_ONCE]]
            questions = [
                Question(str(i), "", context, question, ())
                for i, (question, context) in enumerate(split)
            ]
            windows = make_windows(questions, pieces, cache=False, max_length=length)
            logits = spans.logits(model, windows, batch_size)
            best = spans.answers(windows, logits, max_answer_length=max_answer_length)
            for i, (text, [top]) in enumerate(zip(texts[first : first + _TEXTS_AT_ONCE], best)):
                offset = len(split[i][0]) + 1
                start, end = (
                    place - offset
                    for place in lime_text.moved(text, "context", span.start, span.end)
                )
                score = _score(windows, logits, i, start, end)
                found.append(np.exp(score - top.score) * top.probability)
        return np.array(found)

    explained = lime_text.explain(probabilities, span.text, num_samples, num_words, seed)
    return explained._replace(span=span)


def explain_class(
    model: "tf.keras.Model",
    text: str,
    vocabulary: Vocabulary = None,
    *,
    class_names: Sequence[str] | None = None,
    num_samples: int = 500,
    num_words: int = 12,
    seed: int = 0,
    max_length: int | None = None,
    batch_size: int = 32,
) -> Explanation:
    """Explains the class that a model gives to a text, by the text's words.

    Args:
      model: a Keras model with the inputs of `fedlab.tasks.question_answering.windows`
        and one output [n, classes]: probabilities if the activation of the last layer is
        a softmax, otherwise logits, as from `fedlab.models.bert.classification`.
      text: the text.
      vocabulary, num_samples, num_words, seed, batch_size: as in `explain_answer`.
      class_names: names of the classes; by default "class 0", "class 1", ...
      max_length: maximum number of tokens including [CLS] and [SEP]. A longer text is cut.
        By default as in `fedlab.answer`.

    Returns:
      An `Explanation`.

    Raises:
      ValueError: as in `explain_answer`, or the number of class names is not that of the
        classes.
      ModuleNotFoundError: lime is not installed.

    Example:
      >>> from fedlab.datasets import squad
      >>> from fedlab.models import bert
      >>> words = squad.SYNTHETIC_VOCABULARY
      >>> sizes = dict(hidden_size=8, intermediate_size=16, num_layers=1)
      >>> model = bert.classification(3, vocab_size=len(words), **sizes)
      >>> names = ["who", "where", "when"]
      >>> text = "Anna sold the map."
      >>> found = explain_class(model, text, words, class_names=names, num_samples=20)
      >>> len(found.words), found.label in names
      (4, True)
    """
    _check_sizes(num_samples, num_words, batch_size)
    if not isinstance(text, str) or not text.strip():
        raise ValueError(f"text={text!r:.40}: expected a text that is not empty")
    pieces = word_piece(vocabulary)
    length = window_length(model, max_length)
    spans.check_model(model, _Texts(pieces, length))
    whole = _classes(model, pieces, [text], length, batch_size)[0]
    names = [f"class {i}" for i in range(len(whole))] if class_names is None else list(class_names)
    if len(names) != len(whole):
        raise ValueError(
            f"{len(names)} class names: expected {len(whole)}, one for each class of model "
            f"{model.name!r}"
        )
    predicted = int(whole.argmax())

    def probabilities(texts):
        return _classes(model, pieces, texts, length, batch_size)[:, predicted]

    return _LimeText({"text": text}).explain(
        probabilities, names[predicted], num_samples, num_words, seed
    )


class _Texts(NamedTuple):
    """The part of `Windows` that `spans.check_model` reads."""

    vocabulary: WordPiece
    max_length: int


class _LimeText:
    """The one text that lime perturbs: one line per part; the last part may have more."""

    def __init__(self, parts):
        try:
            from lime.lime_text import IndexedString, LimeTextExplainer
        except ModuleNotFoundError:
            raise _extras.error("explanations need", "lime") from None
        self._parts = parts
        self._text = "\n".join(parts.values())
        self._offsets, offset = {}, 0
        for name, text in parts.items():
            self._offsets[name], offset = offset, offset + len(text) + 1
        # A word of more than 100 characters is one [UNK] with any vocabulary.
        self._mask = next(letter * 101 for letter in "xqjz" if letter * 101 not in self._text)
        self._pieces = IndexedString(self._text, _WORDS, bow=False, mask_string=self._mask).as_list
        self._explainer = LimeTextExplainer
        self._num_words = sum(re.fullmatch(_WORDS, piece) is None for piece in self._pieces)
        if not self._num_words:
            raise ValueError(f"text {self._text!r:.40}: expected a word, made of letters or digits")

    def moved(self, text, part, start, end):
        """Returns where the characters [start, end) of a part are in a perturbed text.

        For a masked word, that is all of its mask.
        """
        start, end = start + self._offsets[part], end + self._offsets[part]
        old = new = 0
        for piece in self._pieces:
            masked = text.startswith(self._mask, new)
            length = len(self._mask) if masked else len(piece)
            if old <= start < old + len(piece):
                new_start = new if masked else new + start - old
            if old < end <= old + len(piece):
                return new_start, new + length if masked else new + end - old
            old, new = old + len(piece), new + length
        raise ValueError(f"characters {start} to {end}: expected numbers from 0 to {old}")

    def explain(self, probabilities, label, num_samples, num_words, seed):
        """Returns the `Explanation` of a label by `probabilities`: texts -> float [n]."""
        # lime's generators accept no larger seed.
        state = int(seeding.generator(seed, "explanation").integers(2**32))
        explainer = self._explainer(
            # lime does not escape names in the script of its page.
            class_names=["other", re.sub("[<>&]", "|", label)],
            feature_selection="highest_weights",
            split_expression=_WORDS,
            bow=False,
            mask_string=self._mask,
            random_state=state,
        )

        def both(texts):
            chances = probabilities(texts)
            return np.stack([1 - chances, chances], axis=1)

        found = explainer.explain_instance(
            self._text, both, [_LABEL], num_features=num_words, num_samples=num_samples
        )
        found.random_state = state  # the ids of elements in its page depend on it
        indexed = found.domain_mapper.indexed_string
        words = [
            self._word(indexed.word(i), int(indexed.string_position(i)[0]), weight)
            for i, weight in found.as_map()[_LABEL]
        ]
        return Explanation(
            label,
            None,
            float(found.predict_proba[_LABEL]),
            words,
            float(found.score),
            self._parts,
            found,
        )

    def _word(self, word, place, weight):
        part = max(
            (name for name, offset in self._offsets.items() if offset <= place),
            key=self._offsets.get,
        )
        return Word(str(word), part, place - self._offsets[part], float(weight))


def _check_sizes(num_samples, num_words, batch_size):
    _checks.check_int("num_samples", num_samples, 10)
    _checks.check_int("num_words", num_words, 1)
    _checks.check_int("batch_size", batch_size, 1)


def _score(windows, logits, question, start, end):
    """Returns the highest score of characters [start, end) of a context, or -inf."""
    _, offsets = windows.context_tokens.of(windows.context_of[question])
    first = np.searchsorted(offsets[:, 1], start, side="right")
    last = np.searchsorted(offsets[:, 0], end, side="left") - 1
    best = -np.inf
    for window in windows.windows_of([question]):
        here = np.array([first, last]) - windows.first[window]
        if here[0] >= 0 and here[0] <= here[1] < windows.count[window]:
            begin, finish = here + windows.at[window]
            best = max(best, float(logits[window, 0, begin]) + float(logits[window, 1, finish]))
    return best


def _classes(model, pieces, texts, length, batch_size):
    """Returns the class probabilities of texts, float64 [n, classes]."""
    tokens = pieces.encode(texts)
    lengths = np.minimum(tokens.lengths + _SPECIAL, length)
    found = outputs(
        model,
        lambda rows, length: _columns(pieces, tokens, rows, length),
        lengths,
        length,
        batch_size,
    )
    if found.ndim != 2 or found.shape[1] < 2:
        raise ValueError(
            f"model {model.name!r}: expected outputs [texts, classes], got {list(found.shape)}; if "
            "it answers questions, pass a question and a context"
        )
    if not np.isfinite(found).all():
        raise ValueError(
            f"model {model.name!r}: expected finite outputs; its training diverged or its weights "
            "are damaged, load another model"
        )
    found = found.astype(np.float64)
    if getattr(getattr(model.layers[-1], "activation", None), "__name__", None) == "softmax":
        return found
    shifted = np.exp(found - found.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)


def _columns(pieces, tokens, rows, length):
    """Returns `[CLS] text [SEP] [PAD] ...` as inputs, int32 [k, length] each."""
    ids = np.full([len(rows), length], pieces.pad_id, np.int32)
    used = np.zeros_like(ids)
    for i, text in enumerate(rows):
        own, _ = tokens.of(text)
        row = [pieces.cls_id, *own[: length - _SPECIAL], pieces.sep_id]
        ids[i, : len(row)], used[i, : len(row)] = row, 1
    return {"input_ids": ids, "token_type_ids": np.zeros_like(ids), "attention_mask": used}
