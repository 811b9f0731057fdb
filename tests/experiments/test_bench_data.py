"""The benchmark of clients' data: what it measures is right. No time has a fixed limit."""

import numpy as np
import pytest

from experiments.bench import data, report
from experiments.bench.writers import images_of, writers


def test_writers_and_images():
    groups = writers(50, 1000, seed=3)
    assert groups.shape == (1000,) and len(np.unique(groups)) == 50
    assert (groups == writers(50, 1000, seed=3)).all()
    assert not (groups == writers(50, 1000, seed=4)).all()
    images, labels = images_of(1000, seed=3)
    assert images.shape == (1000, 784) and images.dtype == np.uint8
    assert labels.shape == (1000,) and 0 <= labels.min() < labels.max() < 62


def test_partition_without_flower_says_so():
    lines = []
    measured = data.measure_partition(20, 300, 0, None, 1, lines.append)
    assert measured["fedlab"]["clients"] == measured["fedlab"]["read"] == 20
    assert "flwr-datasets is not installed" in measured["flower"]["absent"]
    assert "Flower Datasets was not measured: flwr-datasets is not installed" in lines[1]


@pytest.mark.slow
def test_all_of_it_in_small():
    """The processes compare what they read with the data, and raise an error otherwise."""
    measured = {
        "batches": data.measure_batches(20, 30, 8, 2, 0),
        "partition": data.measure_partition(20, 300, 0, None, 1),
        "population": data.measure_population(200, 20, 2, 0),
    }
    ways = measured["batches"]
    assert set(ways) == {"fedlab", "tf.data in a graph", "tf.data"}
    assert all(len(entry["seconds"]) == 2 for entry in ways.values())
    assert ways["fedlab"]["ratio"] == 1
    steps = [row["step"] for row in measured["population"]]
    assert steps[0] == "write 200 clients" and steps[-3:] == ["round 0", "round 1", "round 2"]
    assert all(0 < row["memory_mb"] < row["peak_mb"] for row in measured["population"])
    text = report.markdown({"workloads": {}, "data": measured})
    for each in ("tf.data in a graph", " fedlab |", "Flower Datasets was not measured", "round 2"):
        assert each in text
