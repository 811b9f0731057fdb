"""`check_engine`: every engine passes, and broken ones do not."""

import threading
import types

import numpy as np
import pytest

from fedlab import _modules
from fedlab.algorithms import fed_avg
from fedlab.engines import local
from fedlab.testing import check_engine
from tests import quick

NAMES = _modules.names("fedlab.engines", "start")
SLOW = {"local", "tff"}  # they start a runtime or threads several times


@pytest.mark.parametrize("name", quick.all_but(SLOW, NAMES))
def test_every_engine(name):
    if name == "tff":
        pytest.importorskip("tensorflow_federated")
    check_engine(name)


def test_names():
    assert NAMES == ["local", "tff"]
    with pytest.raises(ValueError, match="'tf' is not one of the engines: expected local, tff"):
        check_engine("tf")
    with pytest.raises(TypeError, match="engine: expected the name of an engine, .*, got int 3"):
        check_engine(3)


def with_setting(change):
    """The local engine, started with another setting."""
    return types.SimpleNamespace(start=lambda setting: local.start(change(setting)))


def with_rounds(after):
    """The local engine, whose rounds return `after(process, cohort, state, result)`."""

    class Process(local.LocalProcess):
        def run_round(self, state, round_num, cohort):
            return after(self, cohort, *super().run_round(state, round_num, cohort))

    return types.SimpleNamespace(start=Process)


def scaled(state, factor):
    return state._replace(trainable=[w * factor for w in state.trainable])


def no_survey(setting):
    is_mime = setting.algorithm.name == "mime_lite"
    return setting._replace(algorithm=fed_avg()) if is_mime else setting


def rounds_are_counted(process, cohort, state, result):
    process.calls = getattr(process, "calls", 0) + 1
    return scaled(state, 1 + 2e-7 * process.calls), result


def forgets_the_state():
    class Process(local.LocalProcess):
        def restore(self, state, arrays):
            return state

    return types.SimpleNamespace(start=Process)


def maps_backwards():
    class Process(local.LocalProcess):
        def map(self, work, items):
            return reversed(list(super().map(work, items)))

    return types.SimpleNamespace(start=Process)


kept = []


def keeps_weights(process, cohort, state, result):
    kept.append([np.array(w) + 1 for w in state.trainable])
    return state, result


ended = threading.Event()


def keeps_a_thread():
    ended.clear()

    def start(setting):
        threading.Thread(target=ended.wait).start()
        return local.start(setting)

    return types.SimpleNamespace(start=start)


BROKEN = {
    "other batches": (
        lambda: with_setting(lambda setting: setting._replace(seed=setting.seed + 1)),
        r"^the weights after round 1 of the cohort \['c0'\] differ from what is expected by .*",
    ),
    "unweighted mean": (
        lambda: with_setting(lambda s: s._replace(algorithm=fed_avg(client_weighting="uniform"))),
        r"^round 1 of the cohort \['c0'\] reports weight \[1.0\]: expected \[14\]",
    ),
    "conditions": (
        lambda: with_setting(lambda setting: setting._replace(conditions=None)),
        r"^the weights after round 9 of the cohort \['c2', 'c0'\] differ",
    ),
    "order of the rows": (
        lambda: with_rounds(lambda p, c, s, r: (s, r._replace(clients=r.clients[::-1]))),
        r"^round 1 of .* reports client_id \['c1', 'c3', 'c0', 'c2'\]: expected \['c2', 'c0'",
    ),
    "metrics": (
        lambda: with_rounds(lambda p, c, s, r: (s, r._replace(metrics={"loss": 1.0}))),
        "^the metrics of round 1 of",
    ),
    "order of the metrics": (
        lambda: with_rounds(
            lambda p, c, s, r: (s, r._replace(metrics=dict(reversed(r.metrics.items()))))
        ),
        r"a round reports \['accuracy', 'loss'\]: expected \['loss', 'accuracy'\]$",
    ),
    "a state that is carried over": (
        lambda: with_rounds(rounds_are_counted),
        "^a round that is run again from the same state gives other bits",
    ),
    "non-finite clients": (
        lambda: with_rounds(lambda p, c, s, r: (s, r._replace(num_finished=len(c)))),
        "^a non-finite client in a cohort of 3: num_finished is 3, expected 2",
    ),
    "an empty cohort": (
        lambda: with_rounds(lambda p, c, s, r: (s if c else scaled(s, 0.5), r)),
        "^an empty cohort changes the weights",
    ),
    "order of map": (maps_backwards, r"^map yields the items in the order \['c1', 'c3'"),
    "restore": (forgets_the_state, r"^a run that is resumed from save\(\) and restore\(\) gives"),
    "survey": (
        lambda: with_setting(no_survey),
        "the weight is -1.625 after round 2, expected -2.5",
    ),
    "memory": (lambda: with_rounds(keeps_weights), "^memory grows by .* MB per round of a model"),
    "threads": (keeps_a_thread, r"^close\(\) leaves threads or child processes: \['<Thread"),
}
FAST = {"unweighted mean"}


@pytest.mark.parametrize("name", quick.only(FAST, BROKEN))
def test_a_broken_engine_is_found(name):
    make, message = BROKEN[name]
    with pytest.raises(AssertionError, match=message):
        check_engine(make())
    kept.clear()
    ended.set()
