"""The rows of metrics.csv as scalars for TensorBoard."""

import contextlib
import shutil
import time

import tensorflow as tf


class Events:
    """A folder with one event file, which is written anew when a run goes on: no step is in it twice.

    TensorFlow's own events, written as records: `tf.summary` would stamp a round that is written again with the time of the writing.

    Args:
      folder: where; what is there is replaced.
      rounds: (time, row) of each round so far.
    """

    def __init__(self, folder, rounds):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        self._writer = tf.io.TFRecordWriter(
            str(folder / f"events.out.tfevents.{time.time():.0f}.fedlab")
        )
        self._write(tf.compat.v1.Event(wall_time=time.time(), file_version="brain.Event:2"))
        for ended, row in rounds:
            self._write(_event(ended, row))
        self._writer.flush()

    def add(self, ended, row):
        """Appends a round: the time it ended, in seconds since 1970, and its numbers by name."""
        self._write(_event(ended, row))
        self._writer.flush()

    def close(self):
        with contextlib.suppress(
            tf.errors.OpError
        ):  # of a full disk, which the last `add` has raised already
            self._writer.close()

    def _write(self, event):
        self._writer.write(event.SerializeToString())


def _event(ended, row):
    numbers = {
        name: value
        for name, value in row.items()
        if name != "round" and isinstance(value, (int, float))
    }
    values = [
        tf.compat.v1.Summary.Value(tag=name, simple_value=value) for name, value in numbers.items()
    ]
    return tf.compat.v1.Event(
        wall_time=ended, step=row["round"], summary=tf.compat.v1.Summary(value=values)
    )
