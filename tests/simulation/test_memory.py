"""The memory of whole runs: it does not grow with their rounds."""

import pytest

from experiments.bench import memory


@pytest.mark.slow
@pytest.mark.parametrize("engine, most_mb", [("local", 5), ("tff", 30)])
def test_memory_does_not_grow_with_the_rounds(engine, most_mb):
    """With checkpoints, events, clients.sqlite and evaluations.

    Thirty rounds that each kept a model would keep 25 MB, and with the updates of their ten clients 250 MB. TFF's worker comes and goes by
    ten MB, and is replaced where it has doubled: of it only the latter is asked.
    """
    if engine == "tff":
        pytest.importorskip("tensorflow_federated")
    (sizes,) = memory.over_runs([engine], rounds=60, seed=0).values()
    assert len(sizes) == 61 and min(sizes[1:]) > 200
    assert max(sizes[41:]) - max(sizes[11:31]) < most_mb
