"""Measures the client states of a large population: time, memory and size of the file."""

import pathlib
import tempfile
import time

from experiments.bench import processes

# The state of a client of SCAFFOLD has 976 numbers, 3.9 kB.
DIM, NUM_CLASSES, EXAMPLES = 60, 16, 4


def measure_states(num_clients, clients_per_round, passes, seed, log=lambda text: None):
    """Runs SCAFFOLD in a new process; the rounds go through all clients several times.

    An unmeasured first round makes the graphs.

    Args:
      num_clients: size of the population, a multiple of `clients_per_round`.
      clients_per_round: the number of clients per round.
      passes: how often each client takes part.
      seed: determines weights, data and batches.

    Returns:
      One dict per round: clients (how many have a state), seconds (until the states are
      on disk), peak_mb (of the process in this round), file_mb.
    """
    rows = []
    for row in processes.answers(_rounds, num_clients, clients_per_round, passes, seed):
        rows.append(row)
        log(
            f"{row['clients']} clients with a state: {row['seconds']:.2f} s per round, "
            f"peak {row['peak_mb']:.0f} MB, file {row['file_mb']:.0f} MB"
        )
    return rows


def _rounds(connection, num_clients, clients_per_round, passes, seed):
    import os

    import numpy as np
    import tensorflow as tf

    from fedlab import aggregators, algorithms
    from fedlab.clients import Batching, ClientData
    from fedlab.engines import local
    from fedlab.engines.engine import Setting
    from fedlab.learner import clone
    from fedlab.runs.write.client_states import ClientStates

    tf.keras.utils.set_random_seed(seed)
    model = tf.keras.Sequential([tf.keras.Input([DIM]), tf.keras.layers.Dense(NUM_CLASSES)])
    model.compile(
        tf.keras.optimizers.SGD(0.01),
        tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    rng = np.random.default_rng(seed)
    columns = {
        "x": rng.normal(size=[EXAMPLES, DIM]).astype(np.float32),
        "y": rng.integers(NUM_CLASSES, size=EXAMPLES),
    }
    ids = [f"client_{k:07}" for k in range(num_clients)]
    # All clients share their arrays, so only the states need more memory.
    clients = ClientData([*ids, "warm_up"], lambda client_id: columns)
    for client_id in ids:
        clients[client_id]
    with tempfile.TemporaryDirectory() as folder:
        states = ClientStates(pathlib.Path(folder) / "client_states.sqlite")
        setting = Setting(
            model=model,
            build=lambda: clone(model),
            clients=clients,
            algorithm=algorithms.scaffold(),
            aggregator=aggregators.mean(),
            batching=Batching(batch_size=EXAMPLES),
            seed=seed,
            client_states=states,
        )
        process = local.start(setting)
        state = process.init([w.numpy() for w in model.trainable_weights], [])
        state, _ = process.run_round(state, 1, ["warm_up"])
        starts = [
            first for _ in range(passes) for first in range(0, num_clients, clients_per_round)
        ]
        for round_num, first in enumerate(starts, start=2):
            processes.forget_peak(os.getpid())
            started = time.perf_counter()
            state, _ = process.run_round(state, round_num, ids[first : first + clients_per_round])
            num_kept = states.commit()
            seconds = time.perf_counter() - started
            states.oldest_checkpoint = round_num - 1
            row = {
                "clients": num_kept - 1,
                "seconds": seconds,
                "peak_mb": processes.peak_mb(os.getpid()),
            }
            connection.send({**row, "file_mb": states.path.stat().st_size / 1e6})
        process.close()
        states.close()
    connection.close()
