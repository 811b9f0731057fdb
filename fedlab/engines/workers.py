"""Threads that each own a replica of the model."""

import concurrent.futures
import functools
import logging
import os
import queue
from collections.abc import Callable, Generator, Iterable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from fedlab import _checks
from fedlab.clients import ClientData
from fedlab.engines.engine import Work
from fedlab.engines.replica import Replica
from fedlab.learner.learner import Merger, Metrics

logger = logging.getLogger("fedlab")


def one_core_per_client() -> None:
    """Runs each TensorFlow operation of this process on one core.

    Call this first if your program only runs simulations. By default TensorFlow splits every
    operation over all cores, and clients that train at the same time wait for each other. With at
    least as many clients as cores, rounds took 5 to 30 % less time. Results are the same up to
    rounding. Keras's `fit`, and rounds with fewer clients than cores, become slower.

    Raises:
      RuntimeError: TensorFlow has already started its threads.
    """
    try:
        tf.config.threading.set_intra_op_parallelism_threads(1)
    except RuntimeError:
        raise RuntimeError(
            "TensorFlow has already started its threads: call one_core_per_client() before "
            "anything else, also before building a model"
        ) from None


@functools.cache
def gpus() -> list[str]:
    """Names of the GPUs that TensorFlow may use. Says so, once."""
    names = [device.name for device in tf.config.list_logical_devices("GPU")]
    if names:
        logger.info(
            "clients train on %s, one at a time on each; num_workers changes how many.",
            ", ".join(names),
        )
    return names


class Workers:
    """Threads that map client work, each with a replica of the model.

    Replicas are made when they are first needed.

    Args:
      build: makes a compiled model with its own variables.
      data: a `ClientData`, or a few rows of data, name -> [n, ...].
      num_workers: threads; by default one per device, or without devices one per core that this
        process may use.
      devices: names of the devices that replicas are put on in turn; by default the GPUs.
    """

    def __init__(
        self,
        build: Callable[[], Any],
        data: ClientData | dict[str, np.ndarray],
        num_workers: int | None = None,
        devices: Sequence[str] | None = None,
    ):
        if num_workers is not None:
            _checks.check_int("num_workers", num_workers, what="or None for one per core")
        self._devices = gpus() if devices is None else devices
        self.num_workers = num_workers or len(self._devices) or len(os.sched_getaffinity(0))
        threads = concurrent.futures.ThreadPoolExecutor
        self._threads = threads(self.num_workers, thread_name_prefix="fedlab-worker")
        self._loader = threads(1, thread_name_prefix="fedlab-loader")
        self._idle: queue.LifoQueue[Replica] = queue.LifoQueue()
        self._replicas: list[Replica] = []
        self._build, self._data = build, data
        self._columns = data.example() if isinstance(data, ClientData) else data

    def _make(self):
        number = len(self._replicas)
        device = self._devices[number % len(self._devices)] if self._devices else None
        with tf.device(device):
            self._replicas.append(Replica(self._build(), self._columns, device))
        self._idle.put(self._replicas[-1])

    def map(self, work: Work, items: Iterable[Any]) -> Generator[tuple[Any, Any], None, None]:
        """Yields (outputs of the work's graph, `about`) for each item, in order; see `run`."""

        def on(replica, prepared):
            data, about = prepared
            return replica.run(work, data), about

        return self.run(on, items, work.prepare)

    def run(
        self,
        function: Callable[[Replica, Any], Any],
        items: Iterable[Any],
        prepare: Callable[[Any], Any] = lambda item: item,
    ) -> Generator[Any, None, None]:
        """Yields `function(replica, prepare(item))` in the items' order, several at a time.

        It holds at most as many results as there are threads. One more thread prepares the next
        items while the workers are busy.

        An exception of `function` is raised here, as is Ctrl-C. What has not started by then never
        does, and what has is told to stop: see `Replica.stopping`.
        """
        items = list(items)
        # Replicas are made in the caller's thread, since naming layers is not thread-safe in Keras.
        while len(self._replicas) < min(self.num_workers, len(items)):
            self._make()

        def run(loading):
            item = loading.result()
            replica = self._idle.get()
            try:
                with tf.device(replica.device):
                    return function(replica, item)
            finally:
                self._idle.put(replica)

        waiting = []

        def first():
            result = waiting[0].result()
            del waiting[0]  # only now: after an exception it is still waited for
            return result

        try:
            for item in items:
                waiting.append(self._threads.submit(run, self._loader.submit(prepare, item)))
                if len(waiting) > self.num_workers:
                    yield first()
            while waiting:
                yield first()
        finally:
            # A cancelled future never starts, and is never done if `close` has ended the threads.
            running = [future for future in waiting if not future.cancel()]
            if running:
                self._stop(running)

    def _stop(self, futures):
        """Ends what `function` of `run` still does, and waits for its end."""
        for replica in self._replicas:
            replica.stopping.assign(True)
        try:
            while concurrent.futures.wait(futures, timeout=0.1).not_done:
                for replica in self._replicas:
                    replica.interrupt_tracing()
        finally:
            for replica in self._replicas:
                replica.stopping.assign(False)

    @property
    def metrics(self) -> Metrics:
        """The metrics of one replica. Their results may be computed between two calls of `map`."""
        return self._any_learner().metrics

    @functools.cached_property
    def merger(self) -> Merger:
        """The `Merger` of the replicas' metrics. First read between two calls of `map`.

        Raises:
          ValueError: as `Merger`.
        """
        return self._any_learner().merger(self._data)

    def _any_learner(self):
        if not self._replicas:
            self._make()
        replica = self._idle.get()
        self._idle.put(replica)
        return replica.learner

    def close(self) -> None:
        """Ends the threads, and what they still do for a `map` that an exception has left."""
        for replica in self._replicas:
            replica.stopping.assign(True)
            replica.interrupt_tracing()
        self._threads.shutdown(cancel_futures=True)
        self._loader.shutdown(cancel_futures=True)
