"""Measures memory over many rounds, with and without a run folder, and by cohort size.

The model is W3b's perceptron. Its weights take 0.84 MB, so anything that is kept for
every client or round shows. A client has one batch of 20 examples, 63 kB.
"""

import contextlib
import os
import pathlib
import tempfile

from experiments.bench import measure, processes
from experiments.bench.workloads import WORKLOADS

WORKLOAD = WORKLOADS["W3b"]._replace(num_clients=10, num_batches=1)
COHORTS = (10, 30, 100, 300, 1000)


def over_rounds(engines, rounds, seed, log):
    """Returns engine -> list of the peak memory in MB in each round, with ten clients."""
    peaks = {name: [] for name in engines}
    with measure.running(engines, WORKLOAD, seed) as children:
        for engine in children.values():
            engine.start()
        for round_num in range(1, 1 + rounds):
            for name, engine in children.items():
                peaks[name].append(_round(engine, round_num, WORKLOAD.num_clients))
            if round_num % 50 == 0 or round_num == 1:
                log(
                    f"round {round_num}: "
                    + ", ".join(f"{name} {values[-1]:.0f} MB" for name, values in peaks.items())
                )
    return peaks


def over_runs(engines, rounds, seed, log=lambda text: None):
    """Measures resident memory after each round of a run with all its files and evaluations.

    Ten of a hundred clients train in each round. Each engine runs alone.

    Returns:
      engine -> list of MB after each round from 0, of the engine's process and those that
      it started.
    """
    sizes = {}
    for name in engines:
        sizes[name] = []
        with contextlib.closing(processes.answers(_run, name, rounds, seed)) as answers:
            for size in answers:
                sizes[name].append(size)
                if len(sizes[name]) % 50 == 1:
                    log(f"{name}: round {len(sizes[name]) - 1} of a run, {size:.0f} MB")
    return sizes


def _run(connection, engine, rounds, seed):
    import fedlab as fl

    setting = WORKLOAD._replace(num_clients=100).setting(seed)

    def tell(model, round_num):
        connection.send(processes.resident_mb(os.getpid()))
        return {}

    few = setting.clients.select(setting.clients.client_ids[:5])
    with tempfile.TemporaryDirectory() as folder:
        fl.simulate(
            setting.model,
            setting.clients,
            rounds=rounds,
            clients_per_round=10,
            seed=seed,
            engine=engine,
            batch_size=WORKLOAD.batch_size,
            evaluate_on={"central": few, "each": fl.per_client(few), "memory": tell},
            run_dir=pathlib.Path(folder) / "run",
            progress=False,
        )
    connection.close()


def over_cohorts(engines, seed, largest, log):
    """Measures the peak memory of a second round by the number of its clients.

    Every number is measured in a new process.

    Returns:
      A dict: "clients" -> the sizes, "data_mb" -> size of these clients' examples, and
      engine -> peaks in MB.
    """
    sizes = [n for n in COHORTS if n <= largest]
    result = {
        "clients": sizes,
        "data_mb": [n * 20 * (784 + 1) * 4 / 1e6 for n in sizes],
        **{name: [] for name in engines},
    }
    for size in sizes:
        for name in engines:
            with measure.running([name], WORKLOAD._replace(num_clients=size), seed) as children:
                children[name].start()
                children[name].round(1, size)
                result[name].append(_round(children[name], 2, size))
        log(
            f"{size:5} clients: "
            + ", ".join(f"{name} {result[name][-1]:.0f} MB" for name in engines)
        )
    return result


def _round(engine, round_num, num_clients):
    processes.forget_peak(engine.pid)
    engine.round(round_num, num_clients)
    return processes.peak_mb(engine.pid)
