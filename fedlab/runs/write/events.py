"""Writes the rows of metrics.csv as scalars for TensorBoard."""

import contextlib
import pathlib
import shutil
import time
from collections.abc import Iterable, Mapping
from typing import Any

import tensorflow as tf


class Events:
    """A folder with one event file.

    A resumed run writes the file again, so every round is in it once. `tf.summary` cannot
    be used for this: it would give old rounds the current time.

    Args:
      folder: the folder. Its content is replaced.
      rounds: (time, row) of the rounds so far.
    """

    def __init__(self, folder: pathlib.Path, rounds: Iterable[tuple[float, Mapping[str, Any]]]):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        self._writer = tf.io.TFRecordWriter(
            str(folder / f"events.out.tfevents.{time.time():.0f}.fedlab")
        )
        self._write(tf.compat.v1.Event(wall_time=time.time(), file_version="brain.Event:2"))
        for ended, row in rounds:
            self._write(_event(ended, row))
        self._writer.flush()

    def add(self, ended: float, row: Mapping[str, Any]) -> None:
        """Appends a round.

        Args:
          ended: when the round ended, in seconds since 1970.
          row: the row of metrics.csv.
        """
        self._write(_event(ended, row))
        self._writer.flush()

    def close(self) -> None:
        """Closes the file."""
        with contextlib.suppress(tf.errors.OpError):  # the last `add` has raised it already
            self._writer.close()

    def _write(self, event: Any) -> None:
        self._writer.write(event.SerializeToString())


def _event(ended: float, row: Mapping[str, Any]) -> Any:
    values = [
        tf.compat.v1.Summary.Value(tag=name, simple_value=value)
        for name, value in row.items()
        if name != "round" and isinstance(value, (int, float))
    ]
    return tf.compat.v1.Event(
        wall_time=ended, step=row["round"], summary=tf.compat.v1.Summary(value=values)
    )
