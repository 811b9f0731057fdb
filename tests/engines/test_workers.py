"""Replicas on devices, and what ends the threads that work with them."""

import contextlib
import random
import subprocess
import sys
import threading
import time

import pytest
import tensorflow as tf

from fedlab.engines.engine import Work
from fedlab.engines.workers import Workers
from tests.engines.test_local import compiled, feature_clients, keras

SCRIPT = """
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
import numpy as np
from tests.engines.test_local import compiled, feature_clients, make_setting, run
from fedlab.engines.rounds import Rounds
from fedlab.engines.workers import Workers
from fedlab.learner.variables import variables_of

layers = tf.keras.layers
parts = [tf.keras.Input([4]), layers.Dense(8), layers.Dropout(0.5), layers.Dense(3)]
model = compiled(tf.keras.Sequential(parts))
setting = make_setting(model, feature_clients())
expected, _ = run(setting)
names = [device.name for device in tf.config.list_logical_devices("CPU")]
workers = Workers(setting.build, feature_clients()["c9"], devices=names)
assert workers.num_workers == 2
ours, _ = run(setting, process=Rounds(setting, workers))
found = sorted(
    (replica.device, {v.device[-5:] for v in variables_of(replica.learner.model.variables)})
    for replica in workers._idle.queue
)
print(found, all(np.array_equal(a, b) for a, b in zip(ours, expected)))
"""


@pytest.mark.slow
def test_replicas_are_put_on_devices_in_turn():
    """With two logical CPUs in place of GPUs, each replica's variables are on its own device."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[-2] == (
        "[('/device:CPU:0', {'CPU:0'}), ('/device:CPU:1', {'CPU:1'})] True"
    )


def build():
    return compiled(keras.Sequential([keras.Input([4]), keras.layers.Dense(3)]))


def test_an_error_does_not_wait_for_a_graph_that_is_traced():
    clients = feature_clients()
    tracing, columns = threading.Event(), clients[clients.client_ids[0]]

    def trace(replica):
        tracing.set()
        for _ in range(3000):
            time.sleep(0.01)

    def work(replica, item):
        if item == "traces":
            replica.run(Work("slow", trace, (), None), ())
        assert tracing.wait(timeout=20)
        raise KeyboardInterrupt

    with contextlib.closing(Workers(build, columns, 2)) as workers:
        started = time.perf_counter()
        with pytest.raises(KeyboardInterrupt):
            list(workers.run(work, ["fails", "traces"]))
        assert time.perf_counter() - started < 15
        assert list(workers.run(lambda replica, item: item, [1, 2])) == [1, 2]


def test_a_map_that_is_left_ends_after_its_workers_are_closed():
    columns, going_on = feature_clients()["c9"], threading.Event()

    workers = Workers(build, columns, 2)
    workers._threads.submit(going_on.wait, 20)  # keeps one of the two threads
    results = workers.run(lambda replica, item: item or going_on.wait(timeout=20), [1, 0, 0, 0])
    assert next(results) == 1  # the second is at work, the third waits for its turn
    threading.Timer(0.2, going_on.set).start()
    workers.close()
    ended = threading.Thread(target=results.close, daemon=True)
    ended.start()
    ended.join(timeout=20)
    assert not ended.is_alive()


def test_a_trace_that_is_interrupted_at_its_end_leaves_no_exception_behind(monkeypatch):
    """Raised in the thread pool's code, it would end the thread before the result is set."""
    # An exception inside a destructor is reported by pytest's hook, which the next one interrupts.
    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: None)
    columns, graph = feature_clients()["c9"], tf.function(lambda: 0).get_concrete_function()

    class Traced:
        """Takes a moment without TensorFlow, whose cache of types an exception can corrupt."""

        def get_concrete_function(self):
            end = time.perf_counter() + random.uniform(0, 0.004)
            while time.perf_counter() < end:
                pass
            return graph

    def work(replica, item):
        if item == "traces":
            tracing.set()
            return replica.run(Work(random.random(), lambda replica: Traced(), (), None), ())
        assert tracing.wait(timeout=20)
        raise KeyboardInterrupt

    def interrupt():
        while not done.is_set():
            for replica in workers._replicas:
                replica.interrupt_tracing()

    def run_often():
        for _ in range(300):
            tracing.clear()
            with pytest.raises(KeyboardInterrupt):
                list(workers.run(work, ["fails", "traces"]))

    tracing, done = threading.Event(), threading.Event()
    with contextlib.closing(Workers(build, columns, 2)) as workers:
        list(workers.run(lambda replica, item: item, [1, 2]))
        threads = [
            threading.Thread(target=target, daemon=True) for target in (interrupt, run_often)
        ]
        for thread in threads:
            thread.start()
        interval = sys.getswitchinterval()
        # Threads that take turns often meet the moment in which an exception stays pending.
        sys.setswitchinterval(1e-5)
        threads[1].join(timeout=60)
        sys.setswitchinterval(interval)
        done.set()
        assert not threads[1].is_alive()
        assert all(thread.is_alive() for thread in workers._threads._threads)
        assert list(workers.run(lambda replica, item: item, [1, 2])) == [1, 2]
