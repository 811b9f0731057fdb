"""What a client costs that has next to nothing to compute: seconds a round against the number of clients."""

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
    """Measures rounds of `TINY`, one step on one example a client.

    Args:
      engines: names.
      rounds: rounds of each size after one that warms up; their median counts.
      largest: at most so many clients.

    Returns:
      engine -> clients (list), seconds (list), and the straight line through them: ms_per_client, constant_ms.
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
                    f"{size:6} clients {name:5}: {seconds[name][-1]:.3f} s a round, {1000 * seconds[name][-1] / size:.3f} ms a client"
                )
    return {
        name: {"clients": sizes[name], "seconds": seconds[name], **line(sizes[name], seconds[name])}
        for name in engines
    }


def line(clients, seconds):
    """seconds = (constant_ms + ms_per_client * clients) / 1000, with the smallest relative squared error."""
    clients, seconds = np.array(clients, float), np.array(seconds)
    if len(clients) < 2:
        return {"ms_per_client": None, "constant_ms": None}
    constant, slope = np.linalg.lstsq(
        np.stack([1 / seconds, clients / seconds], axis=1), np.ones(len(clients)), rcond=None
    )[0]
    return {"ms_per_client": 1000 * float(slope), "constant_ms": 1000 * float(constant)}
