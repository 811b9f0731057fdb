"""Client states are bit-exact, versioned by round, on disk, and consistent with checkpoints."""

import resource

import numpy as np
import pytest
import tensorflow as tf

import fedlab as fl
from experiments.bench.states import measure_states
from fedlab.engines.client_states import pack, unpack
from fedlab.runs.write import checkpoints
from fedlab.runs.write.client_states import ClientStates
from tests.quadratics import linear_model, regressions


def test_arrays_come_back_bit_for_bit():
    special = np.array(
        [0x7FC00001, 0x80000000, 0x00000001, 0x7F800000, 0xFFBADBAD], np.uint32
    ).view(np.float32)  # NaNs, -0, 1e-45, inf
    arrays = [
        special,
        np.random.default_rng(0).normal(size=[3, 4]),
        np.array(7, np.int64),
        np.zeros([0, 2], np.float32),
    ]
    for array, back in zip(arrays, unpack(pack(arrays), arrays), strict=True):
        assert (array.shape, array.dtype, array.tobytes()) == (
            back.shape,
            back.dtype,
            back.tobytes(),
        )


def test_a_round_reads_what_rounds_before_it_wrote():
    states = ClientStates()
    assert states.read("a", 1) is None
    states.write(1, [("a", b"one")])
    assert (states.read("a", 1), states.read("a", 2), states.read("b", 2)) == (None, b"one", None)
    states.write(3, [("a", b"three"), ("b", b"other")])
    states.write(3, [("a", b"three again")])
    assert (states.read("a", 3), states.read("a", 4)) == (b"one", b"three again")
    assert states.read("b", 4) == b"other"
    assert states.commit() == 2
    states.close()


def test_versions_are_kept_as_long_as_a_checkpoint_needs_them(tmp_path):
    states = ClientStates(tmp_path / "states.sqlite")
    states.oldest_checkpoint = 2
    for round_num in (1, 2, 3, 4):
        states.write(round_num, [("a", b"%d" % round_num)])
    states.commit()
    assert [states.read("a", r) for r in (2, 3, 4, 5)] == [
        None,
        b"2",
        b"3",
        b"4",
    ]  # that of round 1 nobody needs
    states.rewind(2, num_clients=1)
    assert states.read("a", 9) == b"2"
    with pytest.raises(
        ValueError,
        match="holds the states of 1 clients: expected 5, as in the checkpoint of round 2; restore",
    ):
        states.rewind(2, num_clients=5)
    states.close()


def test_what_was_not_committed_is_gone(tmp_path):
    states = ClientStates(tmp_path / "states.sqlite")
    states.write(1, [("a", b"one")])
    states.commit()
    states.write(2, [("a", b"two")])
    states.close()
    assert ClientStates(tmp_path / "states.sqlite").read("a", 3) == b"one"


def test_damage_is_named(tmp_path):
    file = tmp_path / "states.sqlite"
    states = ClientStates(file)
    states.write(1, [("a", b"x" * 50)])
    states.commit()
    states.close()
    file.write_bytes(file.read_bytes().replace(b"x" * 50, b"x" * 49 + b"y"))
    with pytest.raises(ValueError, match="is damaged .the state of client 'a' of round 1.: start"):
        ClientStates(file).read("a", 2)


def test_a_full_disk_is_named_before_the_commit_too(tmp_path):
    states, before = (
        ClientStates(tmp_path / "states.sqlite"),
        resource.getrlimit(resource.RLIMIT_FSIZE),
    )
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, before[1]))
    try:
        with pytest.raises(
            OSError, match="states.sqlite cannot be written .*: make room on the disk"
        ):
            for i in range(200):
                states.write(1, [(f"client_{i}", bytes(2**18))])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        states.close()


def test_a_hundred_thousand_clients_are_not_in_memory(tmp_path):
    """400 MB of states; the file holds them, the process does not."""
    states = ClientStates(tmp_path / "states.sqlite")
    rng, peak = np.random.default_rng(0), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    block = rng.integers(256, size=[1000, 4000], dtype=np.uint8)
    for first in range(0, 100_000, 1000):
        states.write(
            1, [(f"client_{first + i}", block[i].tobytes()[first // 1000 :]) for i in range(1000)]
        )
    assert states.commit() == 100_000
    for i in (0, 1, 50_123, 99_999):
        assert states.read(f"client_{i}", 2) == block[i % 1000].tobytes()[i // 1000 :]
    states.close()
    assert (tmp_path / "states.sqlite").stat().st_size > 390e6
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak < 64 * 1024  # KiB


@pytest.mark.slow
def test_rounds_of_a_hundred_thousand_clients_stay_in_their_memory():
    """Every client trains twice, with states of 3.9 kB. The states are in the file only."""
    rows = measure_states(num_clients=100_000, clients_per_round=5_000, passes=2, seed=0)
    assert [row["clients"] for row in rows] == [*range(5_000, 100_001, 5_000)] + [100_000] * 20
    assert rows[19]["file_mb"] > 390
    assert max(row["peak_mb"] for row in rows) < rows[1]["peak_mb"] + 78


# In a run.


def simulate(rounds, run_dir=None):
    clients, _, _ = regressions()
    model = linear_model(3, tf.keras.optimizers.SGD(0.0625))
    options = dict(
        clients_per_round=2, local_epochs=2, num_workers=1, progress=False, run_dir=run_dir
    )
    return fl.simulate(
        model, clients, fl.algorithms.scaffold(), rounds=rounds, **options
    ).model.get_weights()[0]


@pytest.fixture(scope="module")
def whole():
    return simulate(8)


@pytest.mark.slow
def test_resumed_after_each_round(whole, tmp_path):
    for rounds in (1, 2, 3, 5, 8):
        weights = simulate(rounds, tmp_path / "run")
    assert np.array_equal(weights, whole)


class Killed(BaseException):
    pass


@pytest.mark.slow
@pytest.mark.parametrize(
    "moment",
    ["before the states are committed", "between states and checkpoint", "after the checkpoint"],
)
def test_killed_within_a_round(whole, tmp_path, monkeypatch, moment):
    commits, real_commit, real_write = [], ClientStates.commit, checkpoints.write

    def commit(self):
        commits.append(1)
        if len(commits) == 4 and moment == "before the states are committed":
            raise Killed
        return real_commit(self)

    def write(file, *data):
        third = file.name == "round_000003.npz"
        if third and moment == "between states and checkpoint":
            raise Killed
        real_write(file, *data)
        if third:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(ClientStates, "commit", commit)
        patch.setattr(checkpoints, "write", write)
        with pytest.raises(Killed):
            simulate(8, tmp_path / "run")
    assert np.array_equal(simulate(8, tmp_path / "run"), whole)


@pytest.mark.slow
def test_a_damaged_checkpoint_and_the_states_before_it(whole, tmp_path):
    simulate(5, tmp_path / "run")
    last = tmp_path / "run" / "checkpoints" / "round_000005.npz"
    last.write_bytes(last.read_bytes()[:-1])
    assert np.array_equal(simulate(8, tmp_path / "run"), whole)


def test_a_run_without_its_states_is_refused(tmp_path):
    simulate(2, tmp_path / "run")
    (tmp_path / "run" / "client_states.sqlite").unlink()
    with pytest.raises(
        ValueError,
        match="client_states.sqlite holds the states of 0 clients: expected 4, as in the",
    ):
        simulate(3, tmp_path / "run")


def test_methods_that_keep_nothing_make_no_file(tmp_path):
    clients, _, _ = regressions()
    model = linear_model(3, tf.keras.optimizers.SGD(0.0625))
    fl.simulate(
        model, clients, rounds=2, clients_per_round=2, progress=False, run_dir=tmp_path / "run"
    )
    assert not list((tmp_path / "run").glob("client_states*"))
