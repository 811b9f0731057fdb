"""Times Flower Datasets' partition by writer, on the arrays that fedlab partitions.

    python -m experiments.bench.flower NUM_WRITERS NUM_ROWS SEED LIMIT_S

A Python that has flwr-datasets runs it, which need not have fedlab or TensorFlow. The
last line that it prints is JSON.
"""

import importlib.metadata
import json
import sys
import time

import datasets
import numpy as np
import pyarrow as pa
from flwr_datasets.partitioner import NaturalIdPartitioner

from experiments.bench.writers import images_of, writers


def main(num_writers, num_rows, seed, limit_s):
    groups = writers(num_writers, num_rows, seed)
    images, labels = images_of(num_rows, seed)
    pixels = pa.FixedSizeListArray.from_arrays(pa.array(images.reshape(-1)), images.shape[1])
    table = pa.table({"image": pixels, "label": labels, "writer": groups.tolist()})
    dataset = datasets.Dataset(table)
    started, cpu = time.perf_counter(), time.process_time()
    partitioner = NaturalIdPartitioner(partition_by="writer")
    partitioner.dataset = dataset
    num_partitions = partitioner.num_partitions
    partitioner.load_partition(0)  # which looks up the rows of all partitions
    partitioned = time.perf_counter()
    total, read = 0, 0
    for number in range(num_partitions):
        part = partitioner.load_partition(number).with_format("numpy")[:]
        total += int(np.sum(part["label"]))
        read += 1
        if time.perf_counter() - partitioned > limit_s:
            break
    seconds = time.perf_counter() - partitioned
    if read == num_partitions and total != labels.sum():
        raise RuntimeError("the partition does not have every row once")
    result = {
        "version": importlib.metadata.version("flwr-datasets"),
        "partition_s": partitioned - started,
        "read_s": seconds,
        "cpu_s": time.process_time() - cpu,
        "read": read,
        "clients": num_partitions,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:4]), float(sys.argv[4]))
