"""Measures rounds of several engines in turn: A B C A B C ...

Each engine has its own process, and only one works at a time.
"""

import contextlib
import multiprocessing
import pathlib
import statistics
import subprocess
import sys

import numpy as np

from experiments.bench import child, processes

ENGINES = ("local", "tff", "plain_tff", "flower", "keras")
_ROOT = pathlib.Path(__file__).resolve().parents[2]


class Engine:
    """A child process that runs one engine on one workload; see `experiments.bench.child`.

    Every method raises RuntimeError if the child failed or ended.

    Args:
      engine: its name.
      workload: a `Workload`.
      seed: of weights, data and batches.
      python: the interpreter of the child, which may belong to another stack.
    """

    def __init__(self, engine, workload, seed, python=sys.executable):
        self.name = engine
        self._connection, theirs = multiprocessing.Pipe()
        # A new process, since TensorFlow does not work after a fork.
        self._process = subprocess.Popen(
            [python, "-m", "experiments.bench.child", str(theirs.fileno())],
            cwd=_ROOT,
            stdin=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
        )
        theirs.close()
        with contextlib.suppress(OSError):  # `wait_ready` reports a child that ended
            self._connection.send((engine, workload, seed))
        self.import_s = self.versions = None

    @property
    def pid(self):
        return self._process.pid

    def wait_ready(self):
        """Waits until the child has imported its libraries and made the data."""
        if self.import_s is None:
            first = self._receive()
            self.import_s, self.versions = first["import_s"], first["versions"]

    def start(self, weights=None):
        """Builds the engine; returns the seconds.

        Args:
          weights: the first weights, trainable first; by default those that Keras draws.
        """
        return self._ask("start", None if weights is None else child.packed(weights))["seconds"]

    def round(self, round_num, num_clients):
        """Runs a round.

        Returns:
          {seconds, cpu_s, other_cpu_s}: CPU seconds of this engine, and of everything else
          on the machine in the same time.
        """
        own, everything = processes.cpu_s(self.pid), processes.machine_cpu_s()
        seconds = self._ask("round", round_num, num_clients)["seconds"]
        own, everything = processes.cpu_s(self.pid) - own, processes.machine_cpu_s() - everything
        return {"seconds": seconds, "cpu_s": own, "other_cpu_s": max(0.0, everything - own)}

    def weights(self):
        """Returns the global weights, trainable first."""
        return child.unpacked(self._ask("weights")["weights"])

    def close(self):
        """Ends the child and the processes that it started."""
        with contextlib.suppress(OSError):
            self._connection.send(("stop",))
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._connection.close()

    def _ask(self, *request):
        self.wait_ready()
        try:
            self._connection.send(request)
        except OSError:
            self._raise_ended()
        return self._receive()

    def _receive(self):
        try:
            answer = self._connection.recv()
        except (EOFError, OSError):
            self._raise_ended()
        if "error" in answer:
            raise RuntimeError(f"engine {self.name!r}: {answer['error']}")
        return answer

    def _raise_ended(self):
        raise RuntimeError(
            f"engine {self.name!r} ended with exit code {self._process.wait()}; "
            "-9 may mean that memory ran out"
        ) from None


@contextlib.contextmanager
def running(engines, workload, seed, pythons=None):
    """Yields name -> `Engine`; all are ready, and closed at the end.

    Args:
      engines: their names.
      workload: a `Workload`.
      seed: of weights, data and batches.
      pythons: engine -> its interpreter, for those that need another one.
    """
    with contextlib.ExitStack() as stack:
        children = {}
        for name in engines:
            python = (pythons or {}).get(name, sys.executable)
            children[name] = Engine(name, workload, seed, python)
            stack.callback(children[name].close)
        for engine in children.values():
            engine.wait_ready()
        yield children


def measure(workload, engines, steady_rounds, seed, log=lambda text: None, pythons=None):
    """Measures a workload on each of `engines`; see `running` for `pythons`.

    Returns:
      A dict with one entry per engine:
        median_s, min_s, max_s, rounds_s: of the `steady_rounds` after the first round.
        first_s: until the weights of the first round are available. This includes
          building the engine (start_s) and tracing, but not importing libraries.
        import_s: to import libraries and make the data.
        cpu_s: median CPU seconds per round.
        other_cores: how many cores were busy with something else.
        peak_mb: peak memory.
      and with the differences of the local engine's weights from those of the others:
        first_weight_diff, max_weight_diff: the largest `max_weight_diff` after the first
          and after the last round, None without another engine.
        weight_diff: engine -> `max_weight_diff` after the last round.
    """
    with running(engines, workload, seed, pythons) as children:
        times, start_s, diffs = {name: [] for name in children}, {}, []
        for round_num in range(1, 2 + steady_rounds):
            for name, engine in children.items():
                if round_num == 1:
                    start_s[name] = engine.start()
                measured = engine.round(round_num, workload.num_clients)
                times[name].append(measured)
                log(f"{workload.name} {name:5} round {round_num}: {measured['seconds']:.3f} s")
            if round_num in (1, 1 + steady_rounds):
                diffs.append(_differences(children))
        result = {
            name: summary(engine, start_s[name], *times[name]) for name, engine in children.items()
        }
    first, last = ({"max": max(diff.values(), default=None), **diff} for diff in diffs)
    return {
        **result,
        "first_weight_diff": first.pop("max"),
        "max_weight_diff": last.pop("max"),
        "weight_diff": last,
    }


def summary(engine, start_s, first, *steady):
    """Returns what `measure` tells about one engine."""
    seconds = [one["seconds"] for one in steady]
    return {
        "median_s": statistics.median(seconds),
        "first_s": start_s + first["seconds"],
        "peak_mb": processes.peak_mb(engine.pid),
        "min_s": min(seconds),
        "max_s": max(seconds),
        "import_s": engine.import_s,
        "start_s": start_s,
        "cpu_s": statistics.median(one["cpu_s"] for one in steady),
        "other_cores": sum(one["other_cpu_s"] for one in steady) / sum(seconds),
        "rounds_s": seconds,
        "versions": engine.versions,
    }


def _differences(children):
    if "local" not in children:
        return {}
    weights = {name: engine.weights() for name, engine in children.items()}
    return {
        name: max_weight_diff(weights["local"], weights[name])
        for name in weights
        if name != "local"
    }


def max_weight_diff(weights, expected):
    """Returns the maximum over all weight tensors of max |a - b| / max |b|.

    The denominator is at least a thousandth of the model's largest weight, because some
    tensors hold only rounding errors: the key bias of attention starts at zero, and its
    gradient is zero because of the softmax.
    """
    least = 1e-3 * max(float(np.max(np.abs(b))) for b in expected)
    return max(
        float(np.max(np.abs(a - b))) / max(float(np.max(np.abs(b))), least)
        for a, b in zip(weights, expected, strict=True)
    )
