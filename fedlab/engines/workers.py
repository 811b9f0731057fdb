"""Threads that each own a replica of the model."""

import concurrent.futures
import functools
import logging
import os
import queue

import tensorflow as tf

from fedlab import _checks
from fedlab.data import ClientData
from fedlab.engines.metric_state import Merger
from fedlab.engines.replica import Replica

logger = logging.getLogger("fedlab")


def one_core_per_client():
    """Keeps each TensorFlow operation of this process on one core, for programs that simulate clients and little else.

    By default TensorFlow cuts every operation up for all cores, and clients that train at the same time wait for each other's pieces.
    Rounds took 5 to 30 % less time with this where there are as many clients as cores; the numbers are the same up to rounding, as with
    any number of threads of TensorFlow. Keras's own `fit`, and rounds of fewer clients than cores, are slower with it.

    Raises:
      RuntimeError: TensorFlow has computed something already, and its threads are there.
    """
    try:
        tf.config.threading.set_intra_op_parallelism_threads(1)
    except RuntimeError:
        raise RuntimeError(
            "TensorFlow has started its threads already: call one_core_per_client() before anything is computed, models included."
        ) from None


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
      data: a `ClientData`, or a few rows of data, name -> [n, ...].
      num_workers: threads; by default one a device, or where there is none, the cores that this process may use.
      devices: names of devices that replicas are put on in turn; by default the GPUs.
    """

    def __init__(self, build, data, num_workers=None, devices=None):
        if num_workers is not None and not _checks.is_int(num_workers, 1):
            raise ValueError(f"num_workers is {num_workers!r}; allowed: an int of 1 or more, or None for as many as there are cores.")
        devices = gpus() if devices is None else devices
        self.num_workers = num_workers or len(devices) or len(os.sched_getaffinity(0))
        self._threads = concurrent.futures.ThreadPoolExecutor(self.num_workers, thread_name_prefix="fedlab-worker")
        self._loader = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="fedlab-loader")
        self._idle = queue.LifoQueue()
        self._replicas = []
        self._data = data
        columns = data.example() if isinstance(data, ClientData) else data

        def make():
            device = devices[len(self._replicas) % len(devices)] if devices else None
            with tf.device(device):
                self._replicas.append(Replica(build(), columns, device))
            self._idle.put(self._replicas[-1])

        self._make = make

    def map(self, work, items, prepare=lambda item: item):
        """Yields `work(replica, prepare(item))` in the items' order, several at a time, holding the results of at most the pool's size.

        A thread of its own prepares what comes next while the workers are busy: one item more than there are workers.

        An exception of `work` is raised here, as Ctrl-C is; what has not started by then never does, and what has is told to stop:
        `Replica.stopping`.
        """
        items = list(items)
        # Replicas are made here, in the caller's thread: Keras's naming is not made for several.
        while len(self._replicas) < min(self.num_workers, len(items)):
            self._make()

        def run(loading):
            item = loading.result()
            replica = self._idle.get()
            try:
                with tf.device(replica.device):
                    return work(replica, item)
            finally:
                self._idle.put(replica)

        waiting = []

        def first():
            result = waiting[0].result()
            del waiting[0]  # not before: an exception leaves it to be ended
            return result

        try:
            for item in items:
                waiting.append(self._threads.submit(run, self._loader.submit(prepare, item)))
                if len(waiting) > self.num_workers:
                    yield first()
            while waiting:
                yield first()
        finally:
            # A cancelled future never starts. If `close` has ended the threads, it never counts as done either.
            running = [future for future in waiting if not future.cancel()]
            if running:
                self._stop(running)

    def _stop(self, futures):
        """Ends what `work` of `map` still does, and waits for its end."""
        for replica in self._replicas:
            replica.stopping.assign(True)
        try:
            while concurrent.futures.wait(futures, timeout=0.1).not_done:
                for replica in self._replicas:
                    replica.interrupt_tracing()
        finally:
            for replica in self._replicas:
                replica.stopping.assign(False)

    @functools.cached_property
    def merger(self):
        """The `Merger` of the replicas' metrics. First to be read between calls of `map`.

        Raises:
          ValueError: as `Merger`.
        """
        return Merger(self.any_replica(), self._data)

    def any_replica(self):
        """A replica, for its metrics' names and formulas. Only between calls of `map`."""
        if not self._replicas:
            self._make()
        replica = self._idle.get()
        self._idle.put(replica)
        return replica

    def close(self):
        """Ends the threads, and what they still do for a `map` that an exception has left."""
        for replica in self._replicas:
            replica.stopping.assign(True)
            replica.interrupt_tracing()
        self._threads.shutdown(cancel_futures=True)
        self._loader.shutdown(cancel_futures=True)
