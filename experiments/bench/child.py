"""Runs one engine in its own process, so that its time and memory can be told apart."""

import os
import signal
import time
import traceback


def serve(connection, engine, workload, seed):
    """Answers requests until ("stop",).

        ("start",)                     -> {"seconds"}: to build the engine and set its weights
        ("round", round_num, clients)  -> {"seconds"}: of a round with the first `clients`
                                          clients, until its weights are available
        ("weights",)                   -> {"weights"}: the global weights, trainable first

    The first message, sent without a request, is {"import_s"}: the seconds to import
    libraries and to make the model and the data. A failure is {"error"}.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends this process
    process = None
    try:
        setting, start, import_s = _prepare(engine, workload, seed)
        connection.send({"import_s": import_s})
        state, ids = None, workload.client_ids()
        while (request := connection.recv())[0] != "stop":
            started = time.perf_counter()
            if request[0] == "start":
                process = start(setting)
                model = setting.model
                state = process.init(
                    [w.numpy() for w in model.trainable_weights],
                    [w.numpy() for w in model.non_trainable_weights],
                )
                answer = {}
            elif request[0] == "round":
                state, _ = process.run_round(state, request[1], ids[: request[2]])
                process.weights(state)
                answer = {}
            else:
                trainable, non_trainable = process.weights(state)
                answer = {"weights": [*trainable, *non_trainable]}
            connection.send({"seconds": time.perf_counter() - started, **answer})
    except EOFError:
        pass
    except Exception as error:
        traceback.print_exc()
        connection.send({"error": f"{type(error).__name__}: {error}"})
    finally:
        if process is not None:
            process.close()


def _prepare(engine, workload, seed):
    started = time.perf_counter()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import logging

    import tensorflow as tf

    from fedlab import _modules, one_core_per_client

    tf.get_logger().setLevel(logging.ERROR)
    if engine == "keras":
        from experiments.bench.keras_loop import KerasProcess as start
    elif engine == "plain_tff":
        from experiments.bench.plain_tff import PlainTffProcess

        def start(setting):
            return PlainTffProcess(setting, workload.make_model)
    else:
        start = _modules.find("fedlab.engines", engine, "start")
        if engine == "local":
            one_core_per_client()
        if engine == "tff":
            import tensorflow_federated  # noqa: F401  not to be imported in the first round
    return workload.setting(seed), start, time.perf_counter() - started
