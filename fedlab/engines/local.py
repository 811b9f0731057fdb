"""The default engine: TensorFlow in this process, with one client at a time per core."""

from collections.abc import Generator, Iterable
from typing import Any

from fedlab.engines.engine import Setting, Work
from fedlab.engines.rounds import Rounds
from fedlab.engines.workers import Workers
from fedlab.learner import in_precision
from fedlab.learner.learner import Merger, Metrics


def start(setting: Setting) -> "LocalProcess":
    """Returns a process; see `fedlab.engines.engine`."""
    return LocalProcess(setting)


class LocalProcess(Rounds):
    """Rounds and other client work on the threads of this process."""

    def __init__(self, setting: Setting):
        build = in_precision(setting.build, setting.precision)
        training = Workers(build, setting.clients, setting.num_workers)
        try:
            super().__init__(setting, training)
        except BaseException:
            training.close()
            raise
        # Evaluation stays float32.
        self._workers = training
        if setting.precision != "float32":
            self._workers = Workers(setting.build, setting.clients, setting.num_workers)

    @property
    def metrics(self) -> Metrics:
        """The model's metrics; see `Mapper.metrics`."""
        return self._workers.metrics

    @property
    def merger(self) -> Merger:
        """The merger of the metrics; see `Mapper.merger`."""
        return self._workers.merger

    def map(self, work: Work, items: Iterable[Any]) -> Generator[tuple[Any, Any], None, None]:
        """Maps work that is not training; see `Mapper.map`."""
        return self._workers.map(work, items)

    def close(self) -> None:
        """Ends the threads."""
        super().close()
        self._workers.close()
