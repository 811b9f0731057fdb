"""Replicas on devices."""

import contextlib
import subprocess
import sys
import threading
import time

import pytest

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

layers = tf.keras.layers
model = compiled(tf.keras.Sequential([tf.keras.Input([4]), layers.Dense(8), layers.Dropout(0.5), layers.Dense(3)]))
setting = make_setting(model, feature_clients())
expected, _ = run(setting)
names = [device.name for device in tf.config.list_logical_devices("CPU")]
workers = Workers(setting.build, feature_clients()["c9"], devices=names)
assert workers.num_workers == 2
ours, _ = run(setting, process=Rounds(setting, workers))
found = sorted((replica.device, {v.device[-5:] for v in replica.learner.model.variables}) for replica in workers._idle.queue)
print(found, all(np.array_equal(a, b) for a, b in zip(ours, expected)))
"""


@pytest.mark.slow
def test_replicas_are_put_on_devices_in_turn():
    """Two logical CPUs stand for two GPUs: a replica's variables are on its own, and the numbers are the same."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[-2] == (
        "[('/device:CPU:0', {'CPU:0'}), ('/device:CPU:1', {'CPU:1'})] True"
    )


def test_an_error_does_not_wait_for_a_graph_that_is_traced():
    clients = feature_clients()
    tracing, columns = threading.Event(), clients[clients.client_ids[0]]

    def build():
        return compiled(keras.Sequential([keras.Input([4]), keras.layers.Dense(3)]))

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
