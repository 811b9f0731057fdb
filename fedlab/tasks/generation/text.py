"""Character ids and sequences: the preprocessing of TFF's text-generation tutorial."""

import unicodedata
from collections.abc import Mapping

import numpy as np

from fedlab import _checks
from fedlab.clients import ClientData

# The order is that of the published models (Reddi et al. 2020; TFF's tutorial): a
# character's id is its index.
CHAR_VOCABULARY = (
    "dhlptx@DHLPTX $(,048cgkoswCGKOSW[_#'/37;?bfjnrvzBFJNRVZ\"&*.26:\naeimquyAEIMQUY]!%)-159\r"
)
UNKNOWN = "\ufffd"  # the first character of vocabularies other than this one
UNKNOWN_ID = 0  # for unknown characters, as in TFF's tutorial; also the id of "d"
PADDING_X = 0
PADDING_Y = -1  # a Keras loss with ignore_class=-1 ignores these targets

_VOCABULARY_BYTES = np.frombuffer(CHAR_VOCABULARY.encode("ascii"), np.uint8)
_ID_OF_BYTE = np.full(256, UNKNOWN_ID, np.int32)
_ID_OF_BYTE[_VOCABULARY_BYTES] = np.arange(len(_VOCABULARY_BYTES))

_SPELLED_OUT = str.maketrans(
    {
        "\u2018": "'", "\u2019": "'", "\u201a": "'", "\u201b": "'", "\u2032": "'", "\u00b4": "'",
        "`": "'",
        "\u201c": '"', "\u201d": '"', "\u201e": '"', "\u00ab": '"', "\u00bb": '"',
        "\u2010": "-", "\u2011": "-", "\u2012": "-", "\u2013": "-", "\u2212": "-",
        "\u2014": "--", "\u2015": "--", "\u2026": "...", "\u00a0": " ", "\t": " ",
        "\u00e6": "ae", "\u00c6": "Ae", "\u0153": "oe", "\u0152": "Oe", "\u00df": "ss",
    }
)  # fmt: skip


def encode(text: str | bytes, vocabulary: str = CHAR_VOCABULARY) -> np.ndarray:
    """Returns the ids of a text's characters.

    Args:
      text: a str, with one id per character, or bytes, with one id per byte as in TFF's
        `bytes_split`.
      vocabulary: the characters in the order of their ids; see `vocabulary`.

    Returns:
      int32 [n], ids in [0, 86), or below the length of another vocabulary. Characters
      outside the vocabulary get id 0, as in TFF's tutorial.

    Raises:
      TypeError: text is neither str nor bytes, or bytes with another vocabulary.

    Example:
      >>> encode("dht")
      array([0, 1, 4], dtype=int32)
    """
    if isinstance(text, bytes) and vocabulary == CHAR_VOCABULARY:
        return _ID_OF_BYTE[np.frombuffer(text, np.uint8)]
    if not isinstance(text, str):
        raise TypeError(
            f"text: expected str or bytes, got {type(text).__name__}; decode or join it first"
        )
    if vocabulary != CHAR_VOCABULARY:
        ids = {char: i for i, char in enumerate(vocabulary)}
        return np.array([ids.get(char, UNKNOWN_ID) for char in text], np.int32)
    if text.isascii():
        return _ID_OF_BYTE[np.frombuffer(text.encode("ascii"), np.uint8)]
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    return _ID_OF_BYTE[np.minimum(codes, 255)]  # 255 itself is not in the vocabulary


def decode(ids: np.ndarray, vocabulary: str = CHAR_VOCABULARY) -> str:
    """Returns the text of ids, without those that are -1, the padding of targets.

    Args:
      ids: integers in [0, 86) or -1, of any shape, which is read row by row.
      vocabulary: the characters in the order of their ids; see `vocabulary`.

    Returns:
      The characters as one str.

    Raises:
      ValueError: the ids are not integers, or not in the vocabulary.

    Example:
      >>> decode(encode("Sing, goddess"))
      'Sing, goddess'
    """
    flat = np.asarray(ids).reshape(-1)
    if flat.size == 0:
        return ""
    if flat.dtype.kind not in "iu":
        raise ValueError(
            f"ids of dtype {flat.dtype}: expected integers; use argmax on a model's outputs"
        )
    flat = flat[flat != PADDING_Y]
    if flat.size and not 0 <= flat.min() <= flat.max() < len(vocabulary):
        raise ValueError(
            f"ids from {flat.min()} to {flat.max()}: expected 0 to {len(vocabulary) - 1}, or "
            f"{PADDING_Y}; subtract the special ids that another preprocessing added"
        )
    if vocabulary != CHAR_VOCABULARY:
        return "".join(vocabulary[i] for i in flat)
    return _VOCABULARY_BYTES[flat].tobytes().decode("ascii")


def normalize(text: str, keep: str = "") -> str:
    """Rewrites a text with the vocabulary's 86 characters.

    Curly quotes become straight quotes, a long dash "--", an ellipsis "...", and tabs
    spaces. Accents are stripped and ligatures spelled out. Other characters outside the
    vocabulary are removed.

    Args:
      text: any text.
      keep: ASCII characters outside the vocabulary that are not removed, such as markup
        that is parsed later.

    Returns:
      The text, ASCII only.

    Example:
      >>> normalize("\u201cTis caf\u00e9\u2014\u2019twas\u201d")
      '"Tis cafe--\\'twas"'
    """
    if not text.isascii():
        text = (
            unicodedata.normalize("NFKD", text.translate(_SPELLED_OUT))
            .encode("ascii", "ignore")
            .decode("ascii")
        )
    outside = {code: None for code in range(128) if chr(code) not in CHAR_VOCABULARY + keep}
    return text.translate(_SPELLED_OUT).translate(outside)


def num_sequences(num_chars: int, length: int = 100, drop_remainder: bool = False) -> int:
    """Returns how many rows `sequences` makes of a text.

    Example:
      >>> num_sequences(250, length=100), num_sequences(250, length=100, drop_remainder=True)
      (3, 2)
    """
    full, rest = divmod(num_chars, _checked_length(length) + 1)
    return full + (rest >= 2 and not drop_remainder)


def sequences(
    ids: np.ndarray, length: int = 100, drop_remainder: bool = False
) -> dict[str, np.ndarray]:
    """Cuts a text into chunks of length + 1 characters, each an example of next characters.

    ```
    chunk = ids[k * (length + 1) : (k + 1) * (length + 1)]        # no overlap
    x, y  = chunk[:-1], chunk[1:]
    ```

    The last chunk may be shorter. By default it is padded: positions without a target have
    x = 0, y = -1 and sample_weight = 0, all others sample_weight = 1. The weights of a text
    sum to its number of characters minus its number of chunks. A last chunk of one
    character has no target and is dropped. With drop_remainder=True, a last chunk that is
    not full is dropped, as in TFF's tutorial, and there is no sample_weight.

    Args:
      ids: int [n], a client's whole text; see `encode`.
      length: characters per row, 1 or more.
      drop_remainder: whether to drop a last chunk that is not full.

    Returns:
      x: int32 [rows, length]; y: int32 [rows, length]; sample_weight: float32
      [rows, length], without drop_remainder. A text of fewer than two characters has no
      rows.

    Raises:
      ValueError: ids is not one-dimensional, or length is below 1.

    Example:
      >>> rows = sequences(np.arange(8), length=4)
      >>> rows["x"].tolist(), rows["y"].tolist()
      ([[0, 1, 2, 3], [5, 6, 0, 0]], [[1, 2, 3, 4], [6, 7, -1, -1]])
    """
    ids = np.asarray(ids)
    if ids.ndim != 1:
        raise ValueError(
            f"ids of shape {list(ids.shape)}: expected one text [n]; concatenate, or pass one row"
        )
    if ids.size and ids.dtype.kind not in "iu":
        raise ValueError(f"ids of dtype {ids.dtype}: expected integers; encode the text first")
    rows = num_sequences(len(ids), length, drop_remainder)
    chunk = length + 1
    used = ids[: rows * chunk]
    chunks = np.zeros([rows * chunk], np.int32)
    chunks[: len(used)] = used
    chunks = chunks.reshape([rows, chunk])
    x, y = chunks[:, :-1].copy(), chunks[:, 1:].copy()
    if drop_remainder:
        return {"x": x, "y": y}
    sample_weight = np.ones([rows, length], np.float32)
    if missing := rows * chunk - len(used):  # only the last row has padding
        x[-1, -missing:], y[-1, -missing:], sample_weight[-1, -missing:] = PADDING_X, PADDING_Y, 0.0
    return {"x": x, "y": y, "sample_weight": sample_weight}


def vocabulary(clients: ClientData, column: str = "x") -> str:
    """Returns the characters of clients' texts in the order of their ids.

    The first one, U+FFFD, stands for unknown characters. The others are sorted.

    Args:
      clients: clients with a column of texts.
      column: its name.

    Raises:
      ValueError: there is no such column of texts.

    Example:
      >>> clients = ClientData.from_dict({"ann": {"x": ["to be", "or"]}})
      >>> vocabulary(clients)
      '\ufffd beort'
    """
    found: set[str] = set()
    for client_id in clients:
        found.update(_joined(clients[client_id], column, client_id))
    return UNKNOWN + "".join(sorted(found - {UNKNOWN}))


def next_characters(
    clients: ClientData,
    column: str = "x",
    *,
    length: int = 100,
    vocabulary: str = CHAR_VOCABULARY,
) -> ClientData:
    """Returns clients' texts as examples of next characters; see `sequences`.

    The texts of a client are joined by line breaks. With the default vocabulary, they are
    first rewritten with its characters; see `normalize`.

    Args:
      clients: clients with a column of texts, such as those of `ClientData.from_csv`.
      column: its name.
      length: characters per row, 1 or more.
      vocabulary: the characters in the order of their ids: those of the model, or for
        a new model `fedlab.tasks.generation.text.vocabulary(clients)`.

    Returns:
      A ClientData with the columns x, y and sample_weight. Texts are encoded when a
      client is used.

    Raises:
      ValueError: there is no such column of texts.

    Example:
      >>> clients = ClientData.from_dict({"ann": {"x": ["to be", "or not"]}})
      >>> rows = next_characters(clients, length=6)["ann"]
      >>> decode(rows["x"][0]), decode(rows["y"][1])
      ('to be\n', 'r not')
    """
    _checked_length(length)
    _joined(clients[clients.client_ids[0]], column, clients.client_ids[0])

    def read(client_id: str) -> dict[str, np.ndarray]:
        text = _joined(clients[client_id], column, client_id)
        text = normalize(text) if vocabulary == CHAR_VOCABULARY else text
        return sequences(encode(text, vocabulary), length)

    made = ClientData(clients.client_ids, read)
    made._source = clients.source
    return made


def _joined(columns: Mapping[str, np.ndarray], column: str, client_id: str) -> str:
    array = columns.get(column)
    if array is None or array.dtype.kind not in "OSU" or array.ndim != 1:
        has = "no such column" if array is None else f"{array.dtype} {list(array.shape)}"
        raise ValueError(
            f"column {column!r} of client {client_id!r}: expected texts [n], got {has}; choose "
            "another column"
        )
    texts = (each.decode() if isinstance(each, bytes) else str(each) for each in array)
    return "\n".join(texts)


def _checked_length(length: int) -> int:
    return _checks.check_int("length", length, what="such as 100")
