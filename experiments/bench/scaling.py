"""Measures the overhead per client: seconds per round by the number of almost empty clients."""

import statistics

import numpy as np

from experiments.bench import measure
from experiments.bench.workloads import TINY

CLIENTS = {
    "local": (100, 300, 1000, 3000, 10000),
    "tff": (100, 300, 1000),
    "keras": (100, 300, 1000),
}


def measure_scaling(engines, rounds, seed, largest, log):
    """Measures rounds of `TINY`, in which each client takes one step on one example.

    Args:
      engines: names of engines.
      rounds: rounds of each size after a first one; their median counts.
      largest: the largest number of clients.

    Returns:
      engine -> {clients, seconds, ms_per_client, constant_ms}: two lists, and the line
      fitted to them.
    """
    sizes = {name: [n for n in CLIENTS[name] if n <= largest] for name in engines}
    workload = TINY._replace(num_clients=max(max(s) for s in sizes.values()))
    seconds = {name: [] for name in engines}
    with measure.running(engines, workload, seed) as children:
        for engine in children.values():
            engine.start()
            engine.round(1, 100)
        round_num = 1
        for size in sorted({n for s in sizes.values() for n in s}):
            times = {name: [] for name in engines if size in sizes[name]}
            for _ in range(1 + rounds):
                round_num += 1
                for name in times:
                    times[name].append(children[name].round(round_num, size)["seconds"])
            for name, values in times.items():
                seconds[name].append(statistics.median(values[1:]))
                log(
                    f"{size:6} clients {name:5}: {seconds[name][-1]:.3f} s per round, "
                    f"{1000 * seconds[name][-1] / size:.3f} ms per client"
                )
    return {
        name: {"clients": sizes[name], "seconds": seconds[name], **line(sizes[name], seconds[name])}
        for name in engines
    }


def line(clients, seconds):
    """Fits seconds = (constant_ms + ms_per_client * clients) / 1000 by least relative squares."""
    clients, seconds = np.array(clients, float), np.array(seconds)
    if len(clients) < 2:
        return {"ms_per_client": None, "constant_ms": None}
    constant, slope = np.linalg.lstsq(
        np.stack([1 / seconds, clients / seconds], axis=1), np.ones(len(clients)), rcond=None
    )[0]
    return {"ms_per_client": 1000 * float(slope), "constant_ms": 1000 * float(constant)}
