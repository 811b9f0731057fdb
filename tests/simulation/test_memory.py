"""The memory of whole runs: it does not grow with their rounds."""

import pytest

from experiments.bench import memory


@pytest.mark.alone
@pytest.mark.parametrize("engine, most_mb", [("local", 5), ("tff", 30)])
def test_memory_does_not_grow_with_the_rounds(engine, most_mb):
    """With checkpoints, events, clients.sqlite and evaluations.

    If each of thirty rounds leaked a model, that would be 25 MB, and 250 MB with the
    updates of ten clients. The memory of TFF's worker varies by 10 MB, and the worker is
    replaced when it has doubled, so its bound is wider.
    """
    if engine == "tff":
        pytest.importorskip("tensorflow_federated")
    (sizes,) = memory.over_runs([engine], rounds=60, seed=0).values()
    assert len(sizes) == 61 and min(sizes[1:]) > 200
    assert max(sizes[41:]) - max(sizes[11:31]) < most_mb
