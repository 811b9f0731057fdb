"""The two forms of a partitioner: applied to data, or waiting for columns."""

import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, Concatenate, ParamSpec, Protocol, cast, overload

import numpy as np

from fedlab import _checks

Partition = dict[str, np.ndarray]

P = ParamSpec("P")


@dataclasses.dataclass(frozen=True, repr=False)
class Partitioner:
    """A partitioner with its settings: a function columns -> partition.

    Attributes:
      function: (data, **settings) -> partition.
      column: the name of the column that is the data; None if the number of examples is.
      settings: the keyword arguments of the function.

    Example:
      >>> from fedlab.clients import partitioners
      >>> halves = partitioners.uniform(num_clients=2, seed=0)
      >>> halves
      uniform(num_clients=2, seed=0)
      >>> halves({"x": np.zeros([4, 3])})
      {'client_0': array([2, 3]), 'client_1': array([0, 1])}
    """

    function: Callable[..., Partition]
    column: str | None
    settings: Mapping[str, Any]

    def __call__(self, columns: Mapping[str, Any]) -> Partition:
        """Returns client_id -> rows of the columns, name -> [n, ...]."""
        if self.column is None:
            data: Any = len(next(iter(columns.values())))
        elif self.column in columns:
            data = columns[self.column]
        else:
            name = self.function.__name__
            raise ValueError(
                f"{self!r} reads the column {self.column!r}: expected one of the columns "
                f"{list(columns)}; name it first, as in {name}('{next(iter(columns))}', ...)"
            )
        return self.function(data, **self.settings)

    def __repr__(self) -> str:
        default = _DEFAULTS.get(self.function)
        named = [] if self.column == default else [repr(self.column)]
        settings = (f"{name}={_shown(value)}" for name, value in self.settings.items())
        return f"{self.function.__name__}({', '.join([*named, *settings])})"


class Method(Protocol[P]):
    """A partitioner in its two forms."""

    @overload  # Only older versions of mypy say that the first two overlap.
    def __call__(  # type: ignore[overload-overlap, unused-ignore]
        self, column: str, /, *args: P.args, **kwargs: P.kwargs
    ) -> Partitioner: ...
    @overload
    def __call__(self, data: Any, /, *args: P.args, **kwargs: P.kwargs) -> Partition: ...
    @overload
    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Partitioner: ...


_DEFAULTS: dict[Callable[..., Partition], str | None] = {}


def method(
    column: str | None, *, required: bool = False
) -> Callable[[Callable[Concatenate[Any, P], Partition]], Method[P]]:
    """Gives a function (data, settings) -> partition a second form, which returns a Partitioner.

    Args:
      column: the column that is the data if none is named. None for a function of the
        number of examples.
      required: whether a column must be named.
    """

    def decorate(function: Callable[Concatenate[Any, P], Partition]) -> Method[P]:
        name = function.__name__
        signature = inspect.signature(function)
        first = next(iter(signature.parameters))
        _DEFAULTS[function] = column

        @functools.wraps(function)
        def either(*args: Any, **kwargs: Any) -> Any:
            if args:
                given, args = args[0], args[1:]
            elif first in kwargs:
                given = kwargs.pop(first)
            elif required:
                what = f"expected {first}, or the name of their column"
                raise TypeError(f"{name}(): {what}, such as {name}('{column}')")
            else:
                given = column
            waits = given is None or isinstance(given, str)
            try:
                bound = signature.bind(given, *args, **kwargs)
            except TypeError as error:
                raise TypeError(
                    f"{name}(): {error}; expected {name}{signature}, where {first} may be left "
                    "out if the others are named"
                ) from None
            if not waits:
                return function(*bound.args, **bound.kwargs)
            if column is None and given is not None:
                raise _checks.type_error(first, given, f"an integer (or leave {first} out)")
            settings = {key: value for key, value in bound.arguments.items() if key != first}
            return Partitioner(function, given, settings)

        _DEFAULTS[cast(Any, either)] = column
        return cast(Method[P], either)

    return decorate


def _shown(value: Any) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else f"{text[:57]}..."
