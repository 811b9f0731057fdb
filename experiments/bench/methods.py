"""Measures what algorithms and aggregators cost over FedAvg, one round of each in turn."""

import concurrent.futures
import contextlib
import multiprocessing
import statistics
import time

import numpy as np

# Arguments of the methods that need some.
ALGORITHMS = {
    "fed_adagrad": {"server_learning_rate": 0.01},
    "fed_adam": {"server_learning_rate": 0.001},
    "fed_dyn": {"alpha": 0.01},
    "fed_prox": {"mu": 0.1},
    "fed_yogi": {"server_learning_rate": 0.001},
}


def algorithm_cases(model):
    """Returns name -> (algorithm, None) for every algorithm except FedAvg."""
    from fedlab import _modules, optimizers

    arguments = {
        **ALGORITHMS,
        "fed_opt": {"server_optimizer": optimizers.rmsprop(0.001)},
        "fed_recon": {"local_layers": [model.layers[-1].name]},
    }
    names = _modules.names("fedlab.algorithms")
    return {
        name: (_modules.find("fedlab.algorithms", name)(**arguments.get(name, {})), None)
        for name in names
        if name != "fed_avg"
    }


def aggregator_cases(num_clients):
    """Returns name -> (algorithm or None, aggregator) for every aggregator except the mean."""
    from fedlab import _modules, algorithms

    arguments = {
        "differentially_private": {
            "noise_multiplier": 0.1,
            "clients_per_round": num_clients,
            "num_clients": num_clients,
        },
        "krum": {"attackers": 0.1},
    }
    cases = {}
    for name in _modules.names("fedlab.aggregators"):
        aggregator = _modules.find("fedlab.aggregators", name)(**arguments.get(name, {}))
        cases[name] = (
            algorithms.fed_avg(client_weighting="uniform") if aggregator.privacy else None,
            aggregator,
        )
    del cases["mean"]  # measured as FedAvg
    return cases


def measure_apart(workload, with_algorithms, with_aggregators, rounds, seed):
    """Measures all algorithms, aggregators or both in a new process, with one core per client."""
    spawn = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=spawn) as pool:
        return pool.submit(
            _measure, workload, with_algorithms, with_aggregators, rounds, seed
        ).result()


def _measure(workload, with_algorithms, with_aggregators, rounds, seed):
    from fedlab import one_core_per_client

    one_core_per_client()
    setting = workload.setting(seed)
    cases = algorithm_cases(setting.model) if with_algorithms else {}
    cases |= aggregator_cases(workload.num_clients) if with_aggregators else {}
    return measure_methods(setting, cases, rounds)


def measure_methods(setting, cases, rounds):
    """Measures methods on the local engine in this process.

    The methods take turns: a round of FedAvg, one of each other method, and FedAvg once
    more, whose ratio to the first shows how reliable the ratios are. Client states are
    on disk.

    Args:
      setting: of a workload, with FedAvg and the mean; all clients are in every round.
      cases: name -> (algorithm, aggregator), with None for FedAvg and for the mean.
      rounds: rounds of each method after the first, in which graphs are made.

    Returns:
      name -> {median_s, first_s, rounds_s, over_fed_avg, cpu_s, cpu_over_fed_avg}.
      over_fed_avg is the median ratio of a round's seconds to those of FedAvg in the same
      turn. cpu_over_fed_avg is the same for CPU seconds, which depend less on other
      programs.
    """
    from fedlab.engines import local
    from fedlab.learner import weight_arrays

    ids, model = setting.clients.client_ids, setting.model
    start = weight_arrays(model)
    times, cpu_times = {}, {}
    with contextlib.ExitStack() as stack:
        processes, states = {}, {}
        for name, (algorithm, aggregator) in {
            "fed_avg": (None, None),
            **cases,
            "fed_avg again": (None, None),
        }.items():
            own = setting._replace(
                algorithm=algorithm or setting.algorithm,
                aggregator=aggregator or setting.aggregator,
            )
            processes[name] = stack.enter_context(contextlib.closing(local.start(own)))
            states[name], times[name], cpu_times[name] = processes[name].init(*start), [], []
        for round_num in range(1, 2 + rounds):
            for name, process in processes.items():
                started, cpu_started = time.perf_counter(), time.process_time()
                states[name], _ = process.run_round(states[name], round_num, ids)
                process.weights(states[name])
                times[name].append(time.perf_counter() - started)
                cpu_times[name].append(time.process_time() - cpu_started)
    return {
        name: {
            "median_s": statistics.median(steady),
            "first_s": first,
            "rounds_s": steady,
            "over_fed_avg": _median_ratio(steady, times["fed_avg"][1:]),
            "cpu_s": statistics.median(cpu_times[name][1:]),
            "cpu_over_fed_avg": _median_ratio(cpu_times[name][1:], cpu_times["fed_avg"][1:]),
        }
        for name, (first, *steady) in times.items()
    }


def _median_ratio(seconds, others):
    return float(np.median(np.divide(seconds, others)))
