"""Measures how fast clients' data are partitioned, batched and read, and how much memory they take.

- batches: the shuffled batches of 1,000 clients of 28x28 images, with fedlab and with `tf.data`.
- partition: 670,000 images by their 3,400 writers, with fedlab and with Flower Datasets.
- population: a million clients in a folder: opened, sampled, and trained on by 10,000 per round.
"""

import importlib.util
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

from experiments.bench import processes
from experiments.bench.writers import IMAGE, NUM_CLASSES, images_of, writers

ROOT = pathlib.Path(__file__).resolve().parents[2]


def measure_data(flower_python, quick, seed, log=lambda text: None):
    """Measures everything of this module.

    Args:
      flower_python: a Python that has flwr-datasets; None for this one, if it has it.
      quick: whether to measure a tenth of the data.
      seed: determines the data.

    Returns:
      {"batches": see `measure_batches`, "partition": ..., "population": ...}.
    """
    scale = 10 if quick else 1
    if flower_python is None and importlib.util.find_spec("flwr_datasets"):
        flower_python = sys.executable
    return {
        "batches": measure_batches(1000 // scale, 100, 20, 5, seed, log),
        "partition": measure_partition(
            3400 // scale, 670_000 // scale, seed, flower_python, 120 // scale, log
        ),
        "population": measure_population(1_000_000 // scale, 10_000 // scale, 5, seed, log),
    }


def measure_batches(num_clients, num_examples, batch_size, passes, seed, log=lambda text: None):
    """Times one epoch over the shuffled batches of all clients, in a new process.

    The ways run in turn. A batch counts when a graph has its tensors; of each image, one
    pixel is then read.

    Returns:
      way -> {"median_s", "seconds" (of each pass), "cpu_s" (median), and "ratio" and
      "cpu_ratio", the medians over those of fedlab}.
    """
    passes_of = {}
    arguments = num_clients, num_examples, batch_size, passes, seed
    for way, *each in processes.answers(_batches, *arguments):
        passes_of.setdefault(way, []).append(each)
        log(f"{way}: {each[0]:.3f} s, {each[1]:.3f} CPU seconds")
    result = {}
    for way, all_passes in passes_of.items():
        seconds, cpu = zip(*all_passes)
        entry = {"median_s": statistics.median(seconds), "cpu_s": statistics.median(cpu)}
        result[way] = {**entry, "seconds": seconds}
        first = result["fedlab"]
        result[way]["ratio"] = entry["median_s"] / first["median_s"]
        result[way]["cpu_ratio"] = entry["cpu_s"] / first["cpu_s"]
        log(f"{way}: {entry['median_s']:.3f} s, {entry['cpu_s']:.3f} CPU seconds")
    return result


def _batches(connection, num_clients, num_examples, batch_size, passes, seed):
    import numpy as np
    import tensorflow as tf

    from fedlab import aggregators, algorithms
    from fedlab.clients import Batching, ClientData
    from fedlab.engines import batches as batching
    from fedlab.engines import blocks
    from fedlab.engines.client_blocks import ClientBlocks
    from fedlab.engines.engine import Setting
    from fedlab.engines.rounds import block_size

    rng = np.random.default_rng(seed)
    shape = num_clients, num_examples
    images = rng.random([*shape, *IMAGE], np.float32)
    labels = rng.integers(NUM_CLASSES, size=shape)
    clients = ClientData.from_dict(
        {f"c{i}": {"x": images[i], "y": labels[i]} for i in range(num_clients)}
    )
    model = tf.keras.Sequential(
        [tf.keras.Input(IMAGE), tf.keras.layers.Flatten(), tf.keras.layers.Dense(NUM_CLASSES)]
    )
    model.compile("sgd", tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    setting = Setting(
        model=model,
        build=lambda: model,
        clients=clients,
        algorithm=algorithms.fed_avg(),
        aggregator=aggregators.mean(),
        batching=Batching(batch_size),
        seed=seed,
    )
    specs, size = batching.column_specs(setting), block_size(num_clients)
    made = ClientBlocks(setting)

    def read(x, y):
        return tf.reduce_sum(x[:, 0, 0]) + tf.cast(tf.reduce_sum(y), tf.float32)

    @tf.function
    def read_block(block, counts):
        total, first = tf.constant(0.0), tf.constant(0)
        for k in tf.range(tf.shape(counts.num_steps)[0]):
            examples = blocks.examples_of(block, k, specs)
            end = first + tf.cast(counts.num_steps[k], tf.int32)
            while first < end:
                batch = blocks.batch_columns(block, examples, first, None, None)
                total += read(batch["x"], batch["y"])
                first += 1
        return total

    def fedlab(number):
        total = 0.0
        for begin in range(0, num_clients, size):
            ids = clients.client_ids[begin : begin + size]
            (block, counts, _), _ = made.make(number, ids, {})
            total += float(read_block(block, counts))
        return total

    def dataset(x, y, number):
        data = tf.data.Dataset.from_tensor_slices((x, y))
        return data.shuffle(num_examples, seed=number).batch(batch_size)

    @tf.function
    def read_dataset(x, y, number):
        total = tf.constant(0.0)
        for batch in dataset(x, y, number):
            total += read(*batch)
        return total

    def in_graph(number):
        number = tf.constant(number, tf.int64)
        return sum(float(read_dataset(x, y, number)) for x, y in zip(images, labels))

    def in_python(number):
        """As in an ordinary training loop: each batch is a step."""
        return sum(
            float(read(*batch)) for x, y in zip(images, labels) for batch in dataset(x, y, number)
        )

    ways = {"fedlab": fedlab, "tf.data in a graph": in_graph, "tf.data": in_python}
    expected = float(images[:, :, 0, 0].sum(dtype=np.float64) + labels.sum())
    for number in range(passes + 1):
        for name, way in ways.items():
            started, cpu = time.perf_counter(), time.process_time()
            total = way(number)
            seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
            if abs(total - expected) > 1e-4 * expected:
                raise RuntimeError(f"{name} has read {total} and not {expected}")
            if number:  # the first pass traces the graphs
                connection.send((name, seconds, cpu))
    connection.close()


def measure_partition(num_writers, num_rows, seed, flower_python, limit_s, log=lambda text: None):
    """Times a partition by writer, and reading all of its clients, each in a new process.

    Args:
      num_writers, num_rows, seed: of the data, which are equal for both.
      flower_python: a Python that has flwr-datasets; None to leave it out.
      limit_s: how long Flower Datasets may read; it may not reach all clients.

    Returns:
      {"fedlab": {"partition_s", "read_s", "cpu_s", "read" (how many clients), "clients"},
      "flower": the same and "version", or {"absent": why}}.
    """
    (ours,) = processes.answers(_partition, num_writers, num_rows, seed)
    log(_about_partition("fedlab", ours))
    if flower_python is None:
        theirs = {"absent": "flwr-datasets is not installed in this environment; see --flower"}
    else:
        program = [flower_python, "-m", "experiments.bench.flower"]
        sizes = map(str, (num_writers, num_rows, seed, limit_s))
        done = subprocess.run([*program, *sizes], cwd=ROOT, capture_output=True, text=True)
        if done.returncode:
            theirs = {"absent": " ".join(done.stderr.split()[-30:])}
        else:
            theirs = json.loads(done.stdout.splitlines()[-1])
    if "absent" in theirs:
        log(f"Flower Datasets was not measured: {theirs['absent']}")
    else:
        log(_about_partition(f"Flower Datasets {theirs['version']}", theirs))
    return {"fedlab": ours, "flower": theirs}


def _about_partition(name, entry):
    return (
        f"{name}: partition {entry['partition_s']:.2f} s, {entry['read']} of {entry['clients']} "
        f"clients {entry['read_s']:.2f} s, {entry['cpu_s']:.2f} CPU seconds together"
    )


def _partition(connection, num_writers, num_rows, seed):
    from fedlab.clients import partitioners

    groups = writers(num_writers, num_rows, seed)
    images, labels = images_of(num_rows, seed)
    columns = {"x": images.reshape(-1, *IMAGE), "y": labels}
    started, cpu = time.perf_counter(), time.process_time()
    clients = partitioners.clients(columns, partitioners.natural(groups))
    partitioned = time.perf_counter()
    total = sum(int(clients[client_id]["y"].sum()) for client_id in clients)
    read, cpu = time.perf_counter(), time.process_time() - cpu
    if total != labels.sum() or len(clients) != num_writers:
        raise RuntimeError("the partition does not have every row once")
    connection.send(
        {
            "partition_s": partitioned - started,
            "read_s": read - partitioned,
            "cpu_s": cpu,
            "read": num_writers,
            "clients": num_writers,
        }
    )
    connection.close()


def measure_population(num_clients, clients_per_round, rounds, seed, log=lambda text: None):
    """Measures time and memory of a population of clients in a folder, in two new processes.

    Returns:
      One dict per step: step, seconds, cpu_s, memory_mb (of the process alone, at the end
      of the step), peak_mb (with the mapped parts of files, such as libraries), clients.
    """
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        folder = f"{folder}/clients"
        for function, arguments in (
            (_write, (folder, num_clients, seed)),
            (_read, (folder, clients_per_round, rounds, seed)),
        ):
            for row in processes.answers(function, *arguments):
                rows.append({**row, "clients": num_clients})
                log(
                    f"{row['step']}: {row['seconds']:.2f} s, {row['cpu_s']:.2f} CPU seconds, "
                    f"{row['memory_mb']:.0f} MB, peak {row['peak_mb']:.0f} MB with files"
                )
    return rows


FEATURES, EXAMPLES, LABELS = 20, 5, 10


class _Steps:
    """Measures steps of a process, one after the other."""

    def __init__(self, connection):
        import os

        self._connection, self._pid = connection, os.getpid()
        self.start()

    def start(self):
        processes.forget_peak(self._pid)
        self._started, self._cpu = time.perf_counter(), time.process_time()

    def end(self, step):
        row = {
            "step": step,
            "seconds": time.perf_counter() - self._started,
            "cpu_s": time.process_time() - self._cpu,
            "memory_mb": processes.own_mb(self._pid),
            "peak_mb": processes.peak_mb(self._pid),
        }
        self._connection.send(row)
        self.start()


def _write(connection, folder, num_clients, seed):
    import numpy as np

    from fedlab.clients import arrow

    steps = _Steps(connection)
    rng = np.random.default_rng(seed)
    true = rng.normal(size=[FEATURES, LABELS])

    def clients():
        for i in range(num_clients):
            x = rng.normal(size=[EXAMPLES, FEATURES])
            yield f"client_{i:07}", {"x": x.astype(np.float32), "y": (x @ true).argmax(1)}

    arrow.write(folder, clients())
    steps.end(f"write {num_clients:,} clients")
    connection.close()


def _read(connection, folder, clients_per_round, rounds, seed):
    import tensorflow as tf

    import fedlab as fl
    from fedlab.clients import uniform

    tf.keras.utils.set_random_seed(seed)
    model = tf.keras.Sequential([tf.keras.Input([FEATURES]), tf.keras.layers.Dense(LABELS)])
    model.compile(
        tf.keras.optimizers.SGD(0.1),
        tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    import pyarrow.ipc  # noqa: F401  (a step measures the clients and not the import)

    steps = _Steps(connection)
    steps.end("import TensorFlow and fedlab")
    clients = fl.ClientData.open(folder)
    steps.end(f"open {len(clients):,} clients")
    cohort = uniform(clients_per_round)(clients.client_ids, 1, seed)
    steps.end(f"sample a cohort of {clients_per_round:,}")
    num_examples = sum(len(clients[client_id]["y"]) for client_id in cohort)
    steps.end(f"read the cohort, {num_examples:,} examples")
    for _ in clients:
        pass
    steps.end("go through all client ids")
    clients.fingerprint()
    steps.end("fingerprint, which a run folder records")
    clients.split(0.1, seed=seed)
    steps.end("split by client")
    with tempfile.TemporaryDirectory() as run_dir:
        fl.simulate(
            model,
            clients,
            rounds=rounds,
            clients_per_round=clients_per_round,
            seed=seed,
            batch_size=EXAMPLES,
            callbacks=[lambda end: steps.end(f"round {end.round_num}")],
            run_dir=f"{run_dir}/run",
            progress=False,
        )
    connection.close()
