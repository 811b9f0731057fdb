"""Checkpoints are bit-exact, damage is detected, and reading never executes code."""

import hashlib
import io
import logging
import os
import pickle

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fedlab.runs.write.checkpoints import Checkpoint, Checkpoints, DamagedError, decode, encode

arrays = hnp.arrays(
    st.one_of(
        hnp.boolean_dtypes(),
        hnp.integer_dtypes(),
        hnp.unsigned_integer_dtypes(),
        hnp.floating_dtypes(),
        hnp.complex_number_dtypes(),
    ),
    hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4),
)


def encoded(checkpoint):
    return b"".join(encode(checkpoint))


def bits(array):
    return None if array is None else (array.dtype, array.shape, array.tobytes())


@settings(deadline=None)
@given(
    st.lists(st.none() | arrays, max_size=4), st.dictionaries(st.text(), st.integers() | st.text())
)
def test_arrays_come_back_bit_for_bit(given_arrays, more):
    about = {**more, "round": 3}
    back = decode(encoded(Checkpoint(about, given_arrays)))
    assert back.about == about
    assert [bits(array) for array in back.arrays] == [bits(array) for array in given_arrays]


def bfloats(array):
    return array.astype(tf.bfloat16.as_numpy_dtype)


texts = hnp.arrays(
    st.one_of(hnp.byte_string_dtypes(), hnp.unicode_string_dtypes()),
    hnp.array_shapes(max_dims=2, max_side=3),
)
leaves = arrays | arrays.filter(lambda array: array.dtype.kind in "iuf").map(bfloats) | texts
nests = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=3)
    | st.lists(inner, max_size=3).map(tuple)
    | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None)
@given(nests)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of numbers too large for bfloat16
def test_any_nest_comes_back_bit_for_bit(nest):
    """As an engine packs its state: names of any Unicode, no array, one alone."""
    back = tf.nest.pack_sequence_as(
        nest, decode(encoded(Checkpoint({"round": 1}, tf.nest.flatten(nest)))).arrays
    )
    assert tf.nest.map_structure(bits, back) == tf.nest.map_structure(bits, nest)


@settings(deadline=None)
@given(st.lists(st.none() | leaves, max_size=3), st.data())
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_any_cut_and_any_flipped_bits_are_seen(given_arrays, data):
    whole = encoded(Checkpoint({"round": 1, "é\0": "\U0001f600"}, given_arrays))
    with pytest.raises(DamagedError):
        decode(whole[: data.draw(st.integers(0, len(whole) - 1))])
    flipped = bytearray(whole)
    for bit in data.draw(st.sets(st.integers(0, 8 * len(whole) - 1), min_size=1, max_size=20)):
        flipped[bit // 8] ^= 1 << bit % 8
    with pytest.raises(DamagedError):
        decode(bytes(flipped))


@settings(deadline=None)
@given(st.binary(max_size=400))
def test_other_bytes_with_a_right_checksum_are_no_checkpoint(body):
    with pytest.raises(DamagedError):
        decode(body + hashlib.sha256(body).digest())


def test_what_no_checkpoint_can_hold_is_refused_when_it_is_written():
    with pytest.raises(
        TypeError, match=r"array 0 of the state: expected numbers or text, got dtype \[\('a'"
    ):
        encode(Checkpoint({"round": 1}, [np.zeros(3, [("a", "f4")])]))


def test_special_numbers_come_back_bit_for_bit():
    special = np.array(
        [0x7FC00001, 0x80000000, 0x00000001, 0x7F800000, 0xFFBADBAD], np.uint32
    ).view(np.float32)  # NaNs, -0, 1e-45, inf
    half = np.arange(6, dtype=np.float32).reshape(2, 3).astype(tf.bfloat16.as_numpy_dtype)
    fortran = np.asfortranarray(np.arange(6.0).reshape(2, 3))
    for array in (special, half, half[:0], half[0, 0].reshape([]), fortran, fortran[:, ::2]):
        (back,) = decode(encoded(Checkpoint({"round": 0}, [array]))).arrays
        assert bits(back) == bits(array) and np.array_equal(
            back[...], array, equal_nan=array.dtype == np.float32
        )


def test_the_same_state_is_the_same_bytes():
    checkpoint = Checkpoint({"round": 3}, [np.arange(5), None, np.float32(1.5)])
    assert encoded(checkpoint) == encoded(checkpoint)


def test_numpy_reads_a_checkpoint(tmp_path):
    Checkpoints(tmp_path).save(Checkpoint({"round": 3}, [np.arange(5), None]))
    with np.load(tmp_path / "round_000003.npz") as entries:
        assert entries["array_00000"].tolist() == [0, 1, 2, 3, 4]


def test_cut_anywhere_and_any_bit_flipped():
    data = encoded(Checkpoint({"round": 1}, [np.arange(3.0), np.array(7)]))
    for length in range(len(data)):
        with pytest.raises(DamagedError):
            decode(data[:length])
    for position in range(len(data)):
        flipped = bytearray(data)
        flipped[position] ^= 1 << position % 8
        with pytest.raises(DamagedError):
            decode(bytes(flipped))
    with pytest.raises(DamagedError):
        decode(data + b"\0")


@pytest.fixture
def three(tmp_path):
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    for round_num in (1, 2, 3):
        checkpoints.save(Checkpoint({"round": round_num}, [np.array(round_num)]))
    return checkpoints


def test_two_are_kept(three):
    assert three.rounds() == [2, 3] and three.last().about["round"] == 3
    assert sorted(os.listdir(three.folder)) == ["round_000002.npz", "round_000003.npz"]


@pytest.mark.parametrize(
    "damage", ["cut", "emptied", "flipped", "of another round", "not a checkpoint"]
)
def test_a_damaged_one_is_named_and_the_one_before_it_is_used(three, damage, caplog):
    file = three.file(3)
    data = bytearray(file.read_bytes())
    data[len(data) // 3] ^= 8
    text = b"text" * 20
    after = {
        "cut": file.read_bytes()[:-100],
        "emptied": b"",
        "flipped": data,
        "of another round": three.file(2).read_bytes(),
        "not a checkpoint": text + hashlib.sha256(text).digest(),
    }
    file.write_bytes(after[damage])
    with caplog.at_level(logging.WARNING, "fedlab"):
        assert three.last().about["round"] == 2
    assert (
        "round_000003.npz is damaged" in caplog.text
        and "the run resumes from the checkpoint of round 2" in caplog.text
    )
    assert len(caplog.records) == 1


def test_a_missing_one_and_all_damaged(three, caplog):
    three.file(3).unlink()
    assert three.last().about["round"] == 2
    three.file(2).write_bytes(b"")
    with pytest.raises(
        ValueError,
        match=r"every checkpoint in .* is damaged \(round_000002.npz\): restore",
    ):
        three.last()
    assert not caplog.records
    three.file(2).unlink()
    assert three.last() is None


def test_what_a_kill_left_half_written_is_removed(three):
    unfinished = three.folder / "round_000004.npz.tmp"
    unfinished.write_bytes(b"half")
    assert three.last().about["round"] == 3 and not unfinished.exists()


def test_one_too_many_is_removed_unless_the_last_is_damaged(three):
    first, third = three.file(1), three.file(3)
    first.write_bytes(encoded(Checkpoint({"round": 1}, [])))
    good = third.read_bytes()
    third.write_bytes(b"")
    assert three.last().about["round"] == 2 and three.rounds() == [1, 2, 3]
    third.write_bytes(good)
    assert three.last().about["round"] == 3 and three.rounds() == [2, 3]


class Malicious:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


def test_no_code_runs(three, tmp_path, caplog):
    """A checkpoint with a pickle and a valid checksum, which `numpy.load` would execute."""
    evil = np.empty([1], object)
    evil[0] = Malicious(tmp_path / "ran")
    with pytest.raises(TypeError, match="expected numbers or text, got dtype object"):
        encode(Checkpoint({"round": 4}, [evil]))
    about = np.frombuffer(b'{"about": {"round": 3}, "num_arrays": 1, "dtypes": {}}', np.uint8)
    buffer = io.BytesIO()
    np.savez(buffer, about=about, array_00000=evil)
    for body in (buffer.getvalue(), pickle.dumps(evil)):
        three.file(3).write_bytes(body + hashlib.sha256(body).digest())
        assert three.last().about["round"] == 2
    assert (
        "it is not a checkpoint: Object arrays cannot be loaded when allow_pickle=False"
        in caplog.text
    )
    assert not (tmp_path / "ran").exists()
    np.load(io.BytesIO(buffer.getvalue()), allow_pickle=True)["array_00000"]
    assert (tmp_path / "ran").exists()  # it would have
