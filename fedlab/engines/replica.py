"""What one worker owns: a copy of the model, and the graphs that were traced with it."""

import ctypes
import threading
from typing import Any

import tensorflow as tf

from fedlab.engines.engine import Work
from fedlab.learner import KerasLearner
from fedlab.learner.learner import Learner

_tracing = threading.Lock()


class Interrupted(BaseException):
    """Ends the tracing of a graph that nobody waits for any more."""


def _raise_in(thread, exception):
    """Makes an exception pending in a thread; None clears a pending one."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), exception)


class Replica:
    """A worker's copy of the model.

    Args:
      model: a compiled Keras model that nobody else uses.
      columns: a few rows of data, name -> [n, ...].
      device: name of the device of the model's variables, or None for TensorFlow's choice.

    Attributes:
      learner: the model's `Learner`.
      device: as given.
      stopping: a bool variable. If it is true, graphs that train several clients end after the
        current one.
    """

    def __init__(self, model, columns, device=None):
        self.device = device
        # On a GPU, cuDNN runs Keras's own recurrent layers.
        self.learner: Learner = KerasLearner(model, columns, fast_recurrence=not _is_gpu(device))
        with tf.device("CPU:0"):
            self.stopping = tf.Variable(False, trainable=False)
        self._functions = {}
        self._tracing_thread, self._interrupting = None, threading.Lock()

    def run(self, work: Work, data: tuple) -> Any:
        """Runs a `Work` on the data of one item. Its graph is traced at the first call.

        The graph takes any number of rows in `data`.
        """
        data_specs = tf.nest.map_structure(_any_number, data)
        key = work.key, str(data_specs)  # data of another form needs another graph
        if key not in self._functions:
            specs = *tf.nest.map_structure(_fixed, work.shared), *data_specs
            self._functions[key] = self._trace(
                lambda: work.make(self).get_concrete_function(*specs)
            )
            self.learner.check_graph(self._functions[key].graph)
        return self._functions[key](*work.shared, *data)

    def _trace(self, trace):
        """Returns `trace()`, which `interrupt_tracing` can end."""
        try:
            with self._interrupting:
                self._tracing_thread = threading.get_ident()
            with _tracing:
                return trace()
        finally:
            # An exception that is pending for this thread would be raised somewhere later: in the
            # code of the thread pool, for example, which would then end the thread without the
            # result that others wait for.
            while self._tracing_thread is not None:
                try:
                    with self._interrupting:
                        self._tracing_thread = None
                        _raise_in(threading.get_ident(), None)
                except Interrupted:
                    pass

    def interrupt_tracing(self) -> None:
        """Raises `Interrupted` in a thread that traces a graph, which can take seconds."""
        with self._interrupting:
            if self._tracing_thread is not None:
                _raise_in(self._tracing_thread, ctypes.py_object(Interrupted))


def _is_gpu(device):
    return device is not None and tf.DeviceSpec.from_string(device).device_type == "GPU"


def _fixed(tensor):
    return tf.TensorSpec(tensor.shape, tensor.dtype)


def _any_number(tensor):
    # How many steps and clients there are changes from call to call.
    return tf.TensorSpec([None, *tensor.shape[1:]], tensor.dtype)
