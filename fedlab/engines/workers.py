"""Threads that each own a replica of the model."""

import concurrent.futures
import functools
import logging
import os
import queue

import tensorflow as tf

from fedlab.engines.replica import Replica

logger = logging.getLogger("fedlab")


@functools.cache
def gpus():
    """Names of the GPUs that TensorFlow may use. Says so, once."""
    names = [device.name for device in tf.config.list_logical_devices("GPU")]
    if names:
        logger.info("clients train on %s, one at a time on each; num_workers changes how many.", ", ".join(names))
    return names


class Workers:
    """A pool of at most as many replicas as threads, made when first needed.

    Args:
      build: makes a compiled model with variables of its own.
      columns: a few rows of data, name -> [n, ...].
      num_workers: threads; by default one a device, or where there is none, the cores that this process may use.
      devices: names of devices that replicas are put on in turn; by default the GPUs.
    """

    def __init__(self, build, columns, num_workers=None, devices=None):
        devices = gpus() if devices is None else devices
        self.num_workers = num_workers or len(devices) or len(os.sched_getaffinity(0))
        self._threads = concurrent.futures.ThreadPoolExecutor(self.num_workers, thread_name_prefix="fedlab-worker")
        self._idle = queue.LifoQueue()
        self._num_made = 0

        def make():
            device = devices[self._num_made % len(devices)] if devices else None
            with tf.device(device):
                return Replica(build(), columns, device)

        self._make = make

    def map(self, work, items):
        """Yields `work(replica, item)` in the items' order, several at a time, holding the results of at most the pool's size.

        An exception of `work` is raised here; what has not started by then never does.
        """
        items = list(items)
        # Replicas are made here, in the caller's thread: Keras's naming is not made for several.
        while self._num_made < min(self.num_workers, len(items)):
            self._idle.put(self._make())
            self._num_made += 1

        def run(item):
            replica = self._idle.get()
            try:
                with tf.device(replica.device):
                    return work(replica, item)
            finally:
                self._idle.put(replica)

        waiting = []
        try:
            for item in items:
                waiting.append(self._threads.submit(run, item))
                if len(waiting) > self.num_workers:
                    yield waiting.pop(0).result()
            while waiting:
                yield waiting.pop(0).result()
        finally:
            for future in waiting:
                future.cancel()
            concurrent.futures.wait(waiting)

    def any_replica(self):
        """A replica, for its metrics' names and formulas. Only between calls of `map`."""
        if not self._num_made:
            self._idle.put(self._make())
            self._num_made += 1
        replica = self._idle.get()
        self._idle.put(replica)
        return replica

    def close(self):
        self._threads.shutdown()
