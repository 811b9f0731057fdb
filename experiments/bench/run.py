"""Measures the engines against each other and against the machine.

    scripts/bench                            every workload: half an hour on two idle cores
    scripts/bench --quick                    smaller cohorts, fewer rounds: five minutes
    scripts/bench --workloads=W1,W3b --json=bench.json
    scripts/bench --workloads= --scaling --memory
    scripts/bench --workloads= --algorithms --aggregators
    scripts/bench --workloads= --data
    scripts/bench --stacks=modern,tff        both stacks in turn, the engine local

Engines run in turn, each in its own process: local, tff, keras, local, tff ...
experiments/bench/README.md describes what is measured.
"""

import pathlib
import shlex
import sys
import time

from absl import flags, logging

from fedlab.cli.flags import UsageError, check_folder, run_with_flags

_WORKLOADS = flags.DEFINE_list(
    "workloads", ["W1", "W2", "W3", "W3b", "W4"], "Workloads to measure; empty for none."
)
_ENGINES = flags.DEFINE_list(
    "engines",
    None,
    "Engines to measure. The default is local,tff,keras, without tff on the modern stack; with "
    "--stacks, it is local.",
)
_STACKS = flags.DEFINE_list(
    "stacks",
    [],
    "Stacks to compare in one run: the workloads run on each of them in turn, from the same "
    "weights, instead of on each engine. Both environments have to exist; scripts/bench makes "
    "them.",
)
_ROUNDS = flags.DEFINE_integer(
    "rounds", 5, "Rounds after the first one; their median counts.", lower_bound=1
)
_QUICK = flags.DEFINE_bool(
    "quick",
    False,
    "Smaller cohorts and 2 rounds after the first: ends within five minutes, but is less exact.",
)
_SCALING = flags.DEFINE_bool(
    "scaling",
    False,
    "Measure also the overhead per client, with up to 10,000 clients per round.",
)
_MEMORY = flags.DEFINE_bool(
    "memory", False, "Measure also memory over 200 rounds, alone and in a whole run, and by cohort."
)
_ALGORITHMS = flags.DEFINE_bool(
    "algorithms", False, "Measure also what every algorithm costs over FedAvg."
)
_AGGREGATORS = flags.DEFINE_bool(
    "aggregators", False, "Measure also what every aggregator costs over the mean."
)
_STATES = flags.DEFINE_bool(
    "states", False, "Measure also the client states of SCAFFOLD, for up to 100,000 clients."
)
_DATA = flags.DEFINE_bool(
    "data",
    False,
    "Measure also clients' data: batches next to tf.data, a partition next to Flower Datasets, and "
    "a million clients in a folder.",
)
_FLOWER = flags.DEFINE_string(
    "flower",
    None,
    "A Python that has flwr-datasets, for --data (the default is this one, if it has it), or "
    "fedlab and flwr[simulation], for --engines=flower.",
)
_METHODS_ON = flags.DEFINE_list(
    "methods_on", ["W3b", "W3"], "Workloads for --algorithms and --aggregators."
)
_SEED = flags.DEFINE_integer("seed", 0, "Seed of weights, data and batches.", lower_bound=0)
_JSON = flags.DEFINE_string("json", None, "File to write all numbers to, as JSON.")
_OUT = flags.DEFINE_string(
    "out", "runs/bench", "Folder for table.md, table.csv, report.json and the pictures."
)


def chosen(names, known, flag):
    """Returns `names` without repetitions; raises UsageError if one is not in `known`."""
    unknown = [name for name in names if name not in known]
    if unknown:
        raise UsageError(f"--{flag}={','.join(unknown)}: expected some of {', '.join(known)}")
    return list(dict.fromkeys(names))


def log(text):
    logging.info("%s", text)


def asked():
    """Returns what the flags ask for.

    Returns:
      (engines, stacks to compare, workloads by name, workloads to measure methods on,
      JSON file or None, folder).

    Raises:
      UsageError: a flag has a value that is not allowed.
    """
    from experiments.bench import measure, stacks
    from experiments.bench.workloads import WORKLOADS

    compared = chosen(_STACKS.value, stacks.PYTHONS, "stacks")
    engines = chosen(_default_engines(compared), measure.ENGINES, "engines")
    if compared:
        _check_stacks(compared, engines)
    workloads = {name: WORKLOADS[name] for name in chosen(_WORKLOADS.value, WORKLOADS, "workloads")}
    if not engines:
        raise UsageError(f"--engines=: expected some of {', '.join(measure.ENGINES)}")
    methods_on = {
        name: WORKLOADS[name] for name in chosen(_METHODS_ON.value, WORKLOADS, "methods_on")
    }
    if not (_ALGORITHMS.value or _AGGREGATORS.value):
        methods_on = {}
    others = (_SCALING.value, _MEMORY.value, _STATES.value, _DATA.value)
    if not (workloads or methods_on or any(others)):
        raise UsageError(
            "--workloads=: expected a workload, or one of --scaling, --memory, --algorithms, "
            "--aggregators, --states and --data"
        )
    if "flower" in engines:
        _check_flower()
    if _FLOWER.value and not pathlib.Path(_FLOWER.value).is_file():
        raise UsageError(f"--flower={_FLOWER.value}: expected the path of a Python")
    if _QUICK.value:
        workloads, methods_on = (
            {name: w._replace(num_clients=w.quick_clients) for name, w in each.items()}
            for each in (workloads, methods_on)
        )
    json_path = pathlib.Path(_JSON.value) if _JSON.value else None
    if json_path and not json_path.parent.is_dir():
        raise UsageError(f"--json={json_path}: expected a file in an existing folder")
    check_folder("out", _OUT.value)
    return engines, compared, workloads, methods_on, json_path, pathlib.Path(_OUT.value)


def _check_flower():
    """Raises UsageError if the engine `flower` cannot be measured as asked."""
    if not _FLOWER.value:
        raise UsageError(
            "--engines=flower: expected --flower=PYTHON as well, of an environment with fedlab and "
            "flwr[simulation]"
        )
    if _SCALING.value or _MEMORY.value:
        raise UsageError("--engines=flower: expected only workloads, not --scaling or --memory")


def _default_engines(compared):
    from fedlab.learner import stack

    if _ENGINES.value is not None:
        return _ENGINES.value
    if compared:
        return ["local"]
    return ["local", "keras"] if stack.name() == "modern" else ["local", "tff", "keras"]


def _check_stacks(compared, engines):
    """Raises UsageError if these engines cannot be compared on these stacks."""
    from experiments.bench import stacks

    if len(compared) < 2:
        raise UsageError(f"--stacks={','.join(compared)}: expected modern,tff or tff,modern")
    bound = [name for name in engines if name in ("tff", "plain_tff", "flower")]
    if bound:
        raise UsageError(
            f"--engines={','.join(bound)}: expected local or keras with --stacks, since others "
            "run in one environment only"
        )
    others = (_SCALING, _MEMORY, _ALGORITHMS, _AGGREGATORS, _STATES, _DATA)
    if any(flag.value for flag in others):
        raise UsageError("--stacks: expected no other measurements in the same run")
    for name in compared:
        if not stacks.PYTHONS[name].exists():
            raise UsageError(
                f"--stacks={','.join(compared)}: expected {stacks.PYTHONS[name]}; run "
                f"scripts/setup --stack={name}"
            )


def main():
    from experiments.bench import (
        data,
        limit,
        machine,
        measure,
        memory,
        methods,
        plots,
        report,
        scaling,
        stacks,
        states,
    )

    started = time.time()
    quick, seed = _QUICK.value, _SEED.value
    rounds = 2 if quick else _ROUNDS.value
    engines, compared, workloads, methods_on, json_path, folder = asked()
    folder.mkdir(parents=True, exist_ok=True)
    result = {
        "machine": machine.describe(),
        "commit": machine.commit(),
        "command": shlex.join(["scripts/bench", *sys.argv[1:]]),
        "quick": quick,
        "rounds": rounds,
        "seed": seed,
        "workloads": {},
    }
    if compared:
        pythons = {name: str(stacks.PYTHONS[name]) for name in compared}
        for workload in workloads.values():
            for engine in engines:
                measured = stacks.measure_stacks(workload, engine, pythons, rounds, seed, log)
                about = {"workload": workload.name, "engine": engine}
                result.setdefault("stacks", []).append({**about, **measured})
                report.write(result, folder, json_path)
    on_engines = {} if compared else workloads
    if on_engines:
        log(f"rates of matrix products, {machine.num_cores()} cores")
        products = [product for workload in on_engines.values() for product in workload.products]
        best, rates = limit.measure_rates(
            products,
            machine.num_cores(),
            0.1 if quick else 0.5,
            limit.SQUARES[: 3 if quick else None],
        )
        result["best_product"] = best
        result["products"] = [
            {"op": op, "shape": shape, **rate} for (op, shape), rate in rates.items()
        ]
        log(f"best: {best['flops_per_s'] / 1e9:.1f} GFLOP/s, {best['form']}, shape {best['shape']}")
    for name, workload in on_engines.items():
        pythons = {"flower": _FLOWER.value} if _FLOWER.value else None
        measured = measure.measure(workload, engines, rounds, seed, log, pythons)
        cohort = {
            "num_clients": workload.num_clients,
            "num_batches": workload.num_batches,
            "batch_size": workload.batch_size,
        }
        entry = {**measured, **cohort, "flops": workload.flops}
        result["workloads"][name] = report.with_ratios(entry, limit.limits(workload, best, rates))
        report.write(result, folder, json_path)
    if _SCALING.value:
        result["scaling"] = scaling.measure_scaling(
            engines, 1 if quick else 3, seed, 1000 if quick else 10000, log
        )
        plots.draw_scaling(result["scaling"], folder / "scaling.png")
    if _MEMORY.value:
        result["memory"] = {
            "rounds": memory.over_rounds(engines, 50 if quick else 200, seed, log),
            "runs": memory.over_runs(
                [name for name in engines if name != "keras"], 50 if quick else 200, seed, log
            ),
            "cohorts": memory.over_cohorts(engines, seed, 100 if quick else 1000, log),
        }
        plots.draw_memory(result["memory"], folder / "memory.png")
    if _STATES.value:
        num_clients = 10_000 if quick else 100_000
        result["states"] = states.measure_states(num_clients, num_clients // 20, 2, seed, log)
    if _DATA.value:
        result["data"] = data.measure_data(_FLOWER.value, quick, seed, log)
    for name, workload in methods_on.items():
        log(f"{name}: methods in turn, {rounds} rounds of each after the first")
        measured = methods.measure_apart(
            workload, _ALGORITHMS.value, _AGGREGATORS.value, rounds, seed
        )
        result.setdefault("methods", {})[name] = measured
        report.write(result, folder, json_path)
    result["seconds"] = time.time() - started
    report.write(result, folder, json_path)
    if on_engines:
        plots.draw_seconds(
            result["workloads"],
            {name: workload.about for name, workload in workloads.items()},
            folder / "seconds.png",
        )

    about = result["machine"]
    print(
        f"{about['cpu']}, {about['cores']} cores, TensorFlow {about['tensorflow']}, "
        f"load at start {about['load_at_start']}"
    )
    print(f"commit {result['commit']}, {result['command']}\n")
    if quick:
        print(
            "Quick: smaller cohorts (clients:",
            ", ".join(f"{n} {w.num_clients}" for n, w in workloads.items()),
            f") and {rounds} rounds.\n",
        )
    print(report.markdown(result))
    print(f"{result['seconds']:.0f} seconds. Tables, JSON and pictures are in {folder}.")


if __name__ == "__main__":
    run_with_flags(main, check=asked)
