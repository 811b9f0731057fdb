"""TFF's worker process: without output, ended with Python, and replaceable between rounds.

TFF's default context starts the same program, but with the terminal as its output, and may
leave it running. This module builds a context from public parts of TFF instead.
"""

import atexit
import contextlib
import os
import subprocess
import sys
import time
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import grpc
import portpicker
import tensorflow_federated as tff

_PROGRAM = Path(tff.__file__).parent / "data" / "worker_binary"
_START_TIMEOUT_S = 60.0
_CHANNEL_OPTIONS = [
    ("grpc.enable_http_proxy", 0),
    ("grpc.max_message_length", 2_000_000_000),
    ("grpc.max_receive_message_length", 2_000_000_000),
    ("grpc.max_send_message_length", 2_000_000_000),
    # The first attempts come before the worker listens.
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 200),
]

# Asks Linux to kill this process when its parent ends (prctl 1 is PR_SET_PDEATHSIG, 9 is
# SIGKILL), ends if the parent has already ended, and then becomes the worker. A `preexec_fn`
# could deadlock: it runs Python code between fork and exec, while TensorFlow has threads.
_LAUNCHER = """
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, 9)
os.getppid() == int(sys.argv[1]) or os._exit(1)
os.execv(sys.argv[2], sys.argv[2:])
"""


class Worker(tff.framework.ExecutorFactory):
    """Starts, replaces and ends the worker process, and creates TFF's executors for it.

    Args:
      num_threads: how many clients the worker trains at a time.
    """

    def __init__(self, num_threads: int):
        self._num_threads = num_threads
        self._process: subprocess.Popen | None = None
        self._stub: Any = None
        self._executors: dict = {}
        self._end: Callable[[], Any] | None = None

    @property
    def pid(self) -> int | None:
        """The worker's process id, or None if no worker is running."""
        return (
            self._process.pid
            if self._process is not None and self._process.poll() is None
            else None
        )

    def resident_bytes(self) -> int:
        """Returns how much RAM the worker uses now; 0 if no worker is running."""
        if self.pid is None:
            return 0
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def ensure(self) -> None:
        """Starts a worker unless one is running.

        Linux ends the worker when the thread that calls this ends.
        """
        if self.pid is not None:
            return
        self.stop()
        for _ in range(3):  # another process may take the port first
            if self._start():
                return
        raise RuntimeError(
            f"TFF's worker process does not start: {_PROGRAM} ended with exit code "
            f"{self._process and self._process.returncode}"
        )

    def _start(self):
        port = portpicker.pick_unused_port()
        options = [f"--port={port}", f"--max_concurrent_computation_calls={self._num_threads}"]
        self._process = subprocess.Popen(
            [
                sys.executable,
                "-I",
                "-S",
                "-c",
                _LAUNCHER,
                str(os.getpid()),
                str(_PROGRAM),
                *options,
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,  # it would keep the caller's pipe open
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C reaches Python only, which ends the worker
        )
        self._end = weakref.finalize(self, _kill, self._process, os.getpid())  # also at exit
        channel = grpc.insecure_channel(f"localhost:{port}", _CHANNEL_OPTIONS)
        ready = grpc.channel_ready_future(channel)
        deadline = time.monotonic() + _START_TIMEOUT_S
        while True:
            with contextlib.suppress(grpc.FutureTimeoutError):
                ready.result(timeout=0.1)
                break
            if self._process.poll() is not None:
                ready.cancel()
                return False
            if time.monotonic() > deadline:
                ready.cancel()
                self.stop()
                raise RuntimeError(
                    f"TFF's worker process does not answer on port {port} within "
                    f"{_START_TIMEOUT_S:.0f} s"
                )
        # TFF's stub would watch the channel forever, in a thread that keeps the stub alive.
        channel.subscribe = lambda callback, try_to_connect=False: None
        self._stub = tff.framework.RemoteExecutorGrpcStub(channel)
        return True

    def stop(self) -> None:
        """Ends the worker, if one is running, and waits for its end."""
        if self._end is not None:
            self._end()
        executors, self._executors = self._executors, {}  # TFF's thread may still be retrying
        for executor in list(executors.values()):
            executor.close()  # after the end of the process, so that it does not wait for it
        self._stub = self._end = None

    def create_executor(self, cardinalities: Mapping) -> Any:
        """Returns an executor for these numbers of clients; see `tff.framework.ExecutorFactory`."""
        executor = self._executors.get(_key(cardinalities))
        if executor is None:
            if self.pid is None:
                # TFF retries after a lost connection. This ends the retries.
                code = None if self._process is None else self._process.returncode
                raise RuntimeError(
                    f"TFF's worker process ended during a round with exit code {code}; -9 may mean "
                    "that there was not enough memory"
                )
            executor = tff.framework.RemoteExecutor(self._stub)
            executor.set_cardinalities({tff.CLIENTS: 0, **cardinalities})
            self._executors[_key(cardinalities)] = executor
        return executor

    def clean_up_executor(self, cardinalities: Mapping) -> None:
        """Closes the executor for these numbers of clients."""
        executor = self._executors.pop(_key(cardinalities), None)
        if executor is not None:
            executor.close()


def _key(cardinalities):
    return tuple(sorted((str(placement), number) for placement, number in cardinalities.items()))


def _kill(process, owner):
    if os.getpid() == owner:  # not in a fork
        process.kill()
        process.wait()


def context(worker: Worker) -> tff.framework.SyncExecutionContext:
    """Returns a TFF context that runs computations on `worker`.

    with tff.framework.get_context_stack().install(context(worker)):
        ...
    """
    return tff.framework.SyncExecutionContext(
        executor_fn=worker,
        compiler_fn=tff.backends.native.desugar_and_transform_to_native,
        transform_args=tff.tensorflow.transform_args,
        transform_result=tff.tensorflow.transform_result,
    )


class _NoContext(tff.framework.SyncContext):
    """Replaces TFF's default context at exit."""

    def invoke(self, comp, arg):
        raise RuntimeError("Python is ending")


# The finalizer of TFF's default context, which is not used, fails with a message if it runs at
# the very end of Python.
atexit.register(lambda: tff.framework.set_default_context(_NoContext()))
