"""Federated averaging as in Flower's Keras tutorial: a NumPyClient, FedAvg and the Ray simulation.

Each process of the simulation has one core, one model, and the clients' data in memory.
"""

import functools
import logging
import os
import pathlib
import queue
import threading

os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import ray  # noqa: E402
from flwr.client import ClientApp, NumPyClient  # noqa: E402
from flwr.common import ndarrays_to_parameters, parameters_to_ndarrays  # noqa: E402
from flwr.server import ServerApp, ServerAppComponents, ServerConfig  # noqa: E402
from flwr.server.strategy import FedAvg  # noqa: E402
from flwr.simulation import run_simulation  # noqa: E402

from experiments.bench import machine  # noqa: E402

_ROOT = pathlib.Path(__file__).resolve().parents[2]
_MANY = 10**6


class FlowerProcess:
    """An engine as in `fedlab.engines.engine`; `state` is the list of the model's weights.

    Every round has all clients of the workload. Clients must have full batches, and plain
    SGD, which has no state to reset.

    Args:
      workload: a `Workload`.
      seed: of its weights and data.
    """

    def __init__(self, workload, seed):
        self._workload, self._seed = workload, seed
        self._asked, self._weights, self._thread = queue.Queue(), queue.Queue(), None

    def init(self, trainable, non_trainable):
        strategy = _OneByOne(
            self._asked, self._weights, len(self._workload.client_ids()), trainable
        )
        logging.getLogger("flwr").setLevel(logging.ERROR)
        # Ray's processes import this module.
        os.environ["PYTHONPATH"] = os.pathsep.join(
            filter(None, [str(_ROOT), os.environ.get("PYTHONPATH")])
        )
        server = ServerApp(
            server_fn=lambda context: ServerAppComponents(
                strategy=strategy, config=ServerConfig(num_rounds=_MANY)
            )
        )
        client = ClientApp(client_fn=functools.partial(_client, self._workload.name, self._seed))
        resources = {"num_cpus": 1, "num_gpus": 0.0}
        self._thread = threading.Thread(
            target=self._simulate, args=(server, client, resources), daemon=True
        )
        self._thread.start()
        return list(trainable)

    def weights(self, state):
        return list(state), []

    def run_round(self, state, round_num, cohort):
        if len(cohort) != len(self._workload.client_ids()):
            raise ValueError(f"{len(cohort)} clients: expected all of the workload")
        self._asked.put(round_num)
        weights = self._weights.get()
        if isinstance(weights, BaseException):
            raise weights
        return weights, None

    def close(self):
        """Ends Ray's processes and this one, which Flower's threads would keep alive."""
        ray.shutdown()
        os._exit(0)

    def _simulate(self, server, client, resources):
        try:
            run_simulation(
                server_app=server,
                client_app=client,
                num_supernodes=len(self._workload.client_ids()),
                backend_config={
                    "client_resources": resources,
                    "init_args": {"num_cpus": machine.num_cores(), "include_dashboard": False},
                },
            )
        except BaseException as error:
            self._weights.put(error)


class _OneByOne(FedAvg):
    """FedAvg that waits before each round until it is asked for."""

    def __init__(self, asked, weights, num_clients, initial):
        super().__init__(
            fraction_evaluate=0.0,
            min_fit_clients=num_clients,
            min_available_clients=num_clients,
            initial_parameters=ndarrays_to_parameters(initial),
            on_fit_config_fn=lambda _: {"round": self._round},
        )
        self._asked, self._finished = asked, weights

    def configure_fit(self, server_round, parameters, client_manager):
        self._round = self._asked.get()
        return super().configure_fit(server_round, parameters, client_manager)

    def aggregate_fit(self, server_round, results, failures):
        parameters, metrics = super().aggregate_fit(server_round, results, failures)
        if failures or parameters is None:
            self._finished.put(RuntimeError(f"clients failed: {failures[:1]}"))
        else:
            self._finished.put(parameters_to_ndarrays(parameters))
        return parameters, metrics


class _Client(NumPyClient):
    def __init__(self, setting, model, client_id):
        self._setting, self._model, self._client_id = setting, model, client_id

    def fit(self, parameters, config):
        from experiments.bench.keras_loop import full_batches

        x, y = full_batches(self._setting, config["round"], self._client_id)
        self._model.set_weights(parameters)
        batch_size = self._setting.batching.batch_size
        self._model.fit(x, y, batch_size=batch_size, shuffle=False, verbose=0)
        return self._model.get_weights(), len(y), {}


def _client(workload, seed, context):
    setting, model, ids = _made(workload, seed)
    return _Client(setting, model, ids[int(context.node_config["partition-id"])]).to_client()


@functools.cache
def _made(workload, seed):
    """(setting, compiled model, client ids), once per process of the simulation."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import tensorflow as tf

    from experiments.bench.workloads import WORKLOADS

    tf.get_logger().setLevel(logging.ERROR)
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    workload = WORKLOADS[workload]
    setting = workload.setting(seed)
    return setting, setting.build(), workload.client_ids()
