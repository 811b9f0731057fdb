"""Measures the same engine on both stacks in turn: modern, tff, modern, tff ...

Both start from the same weights and read the same batches.
"""

import contextlib
import pathlib
import statistics

from experiments.bench import measure

_ROOT = pathlib.Path(__file__).resolve().parents[2]
PYTHONS = {
    "modern": _ROOT / ".venv" / "bin" / "python",
    "tff": _ROOT / ".venv-tff" / "bin" / "python",
}
"""The interpreter of each stack, which `scripts/setup` makes."""


def measure_stacks(workload, engine, pythons, steady_rounds, seed, log=lambda text: None):
    """Measures a workload with one engine on several stacks.

    Args:
      workload: a `Workload`.
      engine: an engine that runs on all of the stacks.
      pythons: stack -> its interpreter.
      steady_rounds: rounds after the first.
      seed: of weights, data and batches.
      log: called with a line of text after each round.

    Returns:
      A dict with what `measure.measure` tells about an engine for each stack, and:
        ratio, cpu_ratio: the median over the rounds of the first stack's seconds, and
          CPU seconds, over those of the last stack.
        first_weight_diff, max_weight_diff: the largest difference of the last stack's
          weights from the first one's, after the first and after the last round.
    """
    with contextlib.ExitStack() as stack:
        children = {}
        for name, python in pythons.items():
            children[name] = measure.Engine(engine, workload, seed, python)
            stack.callback(children[name].close)
        times, start_s, diffs, weights = {name: [] for name in children}, {}, [], None
        for name, child in children.items():
            start_s[name] = child.start(weights)
            weights = child.weights()
        for round_num in range(1, 2 + steady_rounds):
            for name, child in children.items():
                measured = child.round(round_num, workload.num_clients)
                times[name].append(measured)
                log(f"{workload.name} {name:6} round {round_num}: {measured['seconds']:.3f} s")
            if round_num in (1, 1 + steady_rounds):
                first, *_, last = (child.weights() for child in children.values())
                diffs.append(measure.max_weight_diff(first, last))
        result = {
            name: measure.summary(child, start_s[name], *times[name])
            for name, child in children.items()
        }
    first, *_, last = times.values()
    return {
        **result,
        "ratio": _median_ratio(first, last, "seconds"),
        "cpu_ratio": _median_ratio(first, last, "cpu_s"),
        "first_weight_diff": diffs[0],
        "max_weight_diff": diffs[-1],
    }


def _median_ratio(rounds, others, key):
    """The median of rounds / others in a pair of rounds that followed each other."""
    return statistics.median(
        one[key] / max(other[key], 1e-9) for one, other in zip(rounds[1:], others[1:])
    )
