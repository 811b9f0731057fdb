"""Runs one engine in its own process, so that its time and memory can be told apart.

`experiments.bench.measure.Engine` starts this module with the number of a socket. The
first message there is (engine, workload, seed).
"""

import multiprocessing.connection
import signal
import sys
import time
import traceback

import numpy as np

from experiments.bench import machine


def serve(connection, engine, workload, seed):
    """Answers requests until ("stop",).

        ("start", weights)             -> {"seconds"}: to build the engine and set its weights,
                                          those of the model if None; see `packed`
        ("round", round_num, clients)  -> {"seconds"}: of a round with the first `clients`
                                          clients, until its weights are available
        ("weights",)                   -> {"weights"}: the global weights, trainable first,
                                          `packed`

    The first message, sent without a request, is {"import_s", "versions"}: the seconds to
    import libraries and to make the model and the data, and the versions of the
    libraries. A failure is {"error"}.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends this process
    process = None
    try:
        setting, start, import_s = _prepare(engine, workload, seed)
        connection.send({"import_s": import_s, "versions": machine.versions()})
        state, ids = None, workload.client_ids()
        while (request := connection.recv())[0] != "stop":
            started = time.perf_counter()
            if request[0] == "start":
                process = start(setting)
                state = process.init(*_first_weights(setting.model, request[1]))
                answer = {}
            elif request[0] == "round":
                state, _ = process.run_round(state, request[1], ids[: request[2]])
                process.weights(state)
                answer = {}
            else:
                trainable, non_trainable = process.weights(state)
                answer = {"weights": packed([*trainable, *non_trainable])}
            connection.send({"seconds": time.perf_counter() - started, **answer})
    except EOFError:
        pass
    except Exception as error:
        traceback.print_exc()
        connection.send({"error": f"{type(error).__name__}: {error}"})
    finally:
        if process is not None:
            process.close()


def packed(weights):
    """Returns arrays as (bytes, dtype, shape), which every version of NumPy can read."""
    return [(w.tobytes(), w.dtype.str, w.shape) for w in weights]


def unpacked(weights):
    """Returns the arrays of `packed`."""
    return [np.frombuffer(data, dtype).reshape(shape) for data, dtype, shape in weights]


def _first_weights(model, weights):
    """(trainable, non-trainable) weights: the given ones, or the model's."""
    if weights is None:
        weights = [w.numpy() for w in (*model.trainable_weights, *model.non_trainable_weights)]
    else:
        weights = unpacked(weights)
    num_trainable = len(model.trainable_weights)
    return weights[:num_trainable], weights[num_trainable:]


def _prepare(engine, workload, seed):
    started = time.perf_counter()
    import logging

    from fedlab.cli._startup import hide_messages_of_tensorflow

    hide_messages_of_tensorflow()
    import tensorflow as tf

    from fedlab import _modules, one_core_per_client

    tf.get_logger().setLevel(logging.ERROR)
    if engine == "keras":
        from experiments.bench.keras_loop import KerasProcess as start
    elif engine == "plain_tff":
        from experiments.bench.plain_tff import PlainTffProcess

        def start(setting):
            return PlainTffProcess(setting, workload.make_model)
    elif engine == "flower":
        from experiments.bench.plain_flower import FlowerProcess

        def start(setting):
            return FlowerProcess(workload, seed)
    else:
        start = _modules.find("fedlab.engines", engine, "start")
        if engine == "local":
            one_core_per_client()
        if engine == "tff":
            import tensorflow_federated  # noqa: F401  not to be imported in the first round
    return workload.setting(seed), start, time.perf_counter() - started


if __name__ == "__main__":
    connection = multiprocessing.connection.Connection(int(sys.argv[1]))
    serve(connection, *connection.recv())
