"""Which column of a table is the client id, the inputs, the targets, and the weights."""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from fedlab import _checks
from fedlab.clients.columns import RESERVED, TARGET_OF

Inputs = str | Sequence[str] | Mapping[str, Any] | None


class Output(NamedTuple):
    """A column of a `ClientData` and the columns of a table that it is made of.

    Attributes:
      name: the column's name for fedlab, such as "x".
      sources: the table's columns.
      stacked: whether the columns become one array [n, len(sources)] of float32. If
        not, there is one column, and it is used as it is.
    """

    name: str
    sources: tuple[str, ...]
    stacked: bool


class Roles(NamedTuple):
    """The roles of a table's columns.

    Attributes:
      client: the column with the client ids; None with a partitioner.
      outputs: the columns to make.
    """

    client: str | None
    outputs: tuple[Output, ...]

    @property
    def used(self) -> list[str]:
        """The table's columns that are needed, each once."""
        first = [] if self.client is None else [self.client]
        return list(dict.fromkeys([*first, *(s for o in self.outputs for s in o.sources)]))


def find(
    available: Sequence[str],
    owner: str,
    *,
    client: str | None,
    x: Inputs = None,
    y: Inputs = None,
    sample_weight: str | None = None,
    keep: Sequence[str] = (),
) -> Roles:
    """Returns the roles of a table's columns.

    ```
    x="text"                     the column as it is: x [n, ...]
    x=["age", "height"]          numbers, stacked: x [n, 2] float32
    x={"user": "user_id",        the model's inputs by name: user [n, ...], size [n, 2]
       "size": ["age", "height"]}
    x=None                       the columns that have no other role: as a list, or,
                                 if there is only one and it is not a number, as a str
    ```

    Args:
      available: the names of the table's columns.
      owner: whose columns they are, for error messages ("ratings.csv").
      client: the column with the client ids; None with a partitioner.
      x: the inputs, as above.
      y: the targets: a str or a list as for `x`; a mapping output name -> column or
        columns for models with several outputs; None for no targets.
      sample_weight: the column with the weights of the examples; None for no weights.
      keep: further columns to keep under their own names, such as a time.

    Raises:
      TypeError: an argument of another type.
      ValueError: a column does not exist; the message lists similar names. Or a name
        is used twice or is reserved, or no column is left for `x`.

    Example:
      >>> find(["user", "age", "label"], "a.csv", client="user", y="label").outputs[0]
      Output(name='x', sources=('age',), stacked=True)
    """
    if len(set(available)) < len(available):
        twice = next(name for name in available if available.count(name) > 1)
        raise ValueError(
            f"{owner} has two columns {twice!r}: expected unique names; rename one of them"
        )
    if isinstance(keep, str) or not isinstance(keep, Iterable):
        raise _checks.type_error("keep", keep, "a list of names of columns")
    if client is not None:
        _check_column("client", client, available, owner)
    if sample_weight is not None:
        _check_column("sample_weight", sample_weight, available, owner)
    for name in keep:
        _check_column("keep", name, available, owner)
    targets = [] if y is None else _outputs("y", y, available, owner)
    taken = {client, sample_weight, *keep, *(s for output in targets for s in output.sources)}
    if x is None:
        rest = [name for name in available if name not in taken]
        if not rest:
            raise ValueError(
                f"{owner} has the columns {_listed(available)}: expected another one for x, the "
                "inputs; add a column"
            )
        if index := [name for name in rest if not name or name.startswith("Unnamed: ")]:
            raise ValueError(
                f"{owner} has the column {index[0]!r}, such as pandas writes its index: expected "
                "names of inputs; choose them with x=[...], or write the file with index=False"
            )
        x = rest
    outputs = [*_outputs("x", x, available, owner), *targets]
    if sample_weight is not None:
        outputs.append(Output("sample_weight", (sample_weight,), False))
    outputs += [Output(name, (name,), False) for name in keep]
    names = [output.name for output in outputs]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(
                f"{owner}: the name {name!r} has two uses: expected one column of each name; "
                "rename an input, or leave the column out of keep"
            )
    return Roles(client, tuple(outputs))


def arrange(
    outputs: Iterable[Output], columns: Mapping[str, np.ndarray], owner: str
) -> dict[str, np.ndarray]:
    """Returns the columns of a client that is read when it is used.

    Args:
      outputs: the columns to make.
      columns: what was read, name -> [n, ...].
      owner: whose columns they are, for error messages.

    Raises:
      ValueError: a column to be stacked is not [n] numbers.

    Example:
      >>> arrange([Output("x", ("a", "b"), True)], {"a": np.ones(1), "b": np.zeros(1)}, "f.h5")
      {'x': array([[1., 0.]], dtype=float32)}
    """
    made = {}
    for output in outputs:
        chosen = [columns[name] for name in output.sources]
        if not output.stacked or (len(chosen) == 1 and chosen[0].ndim > 1):
            made[output.name] = chosen[0]
            continue
        for name, array in zip(output.sources, chosen):
            if array.ndim != 1 or array.dtype.kind not in "biuf":
                raise ValueError(
                    f"{owner}: column {name!r} is {array.dtype} {list(array.shape)}: expected one "
                    f"number per row, which {output.name} is stacked from; choose other columns"
                )
        made[output.name] = np.stack([array.astype(np.float32) for array in chosen], axis=-1)
    return made


def unknown_column(argument: str, name: object, available: Sequence[str], owner: str) -> ValueError:
    """Returns the error for a column that does not exist; it lists similar names.

    Example:
      >>> unknown_column("y", "lable", ["user", "label"], "a.csv")
      ValueError("y='lable': expected a column of a.csv, such as 'label'; it has 'user', 'label'")
    """
    close = difflib.get_close_matches(str(name), available, n=3, cutoff=0.5)
    such = f", such as {' or '.join(map(repr, close))}" if close else ""
    return _checks.value_error(
        argument, name, f"a column of {owner}{such}; it has {_listed(available)}"
    )


def _outputs(argument: str, wanted: Any, available: Sequence[str], owner: str) -> list[Output]:
    if not isinstance(wanted, Mapping):
        return [_output(argument, argument, wanted, available, owner)]
    if not wanted:
        raise _checks.value_error(argument, wanted, "at least one name")
    outputs = []
    for name, columns in wanted.items():
        if not isinstance(name, str) or not name:
            raise _checks.value_error(argument, wanted, "names (str) -> columns")
        reserved = name in RESERVED or name.startswith(TARGET_OF)
        if argument == "x" and reserved:
            raise ValueError(
                f"x: an input is called {name!r}, which is reserved for targets and weights; "
                "rename the model's input"
            )
        full = name if argument == "x" else TARGET_OF + name
        outputs.append(_output(f"{argument}[{name!r}]", full, columns, available, owner))
    return outputs


def _output(argument: str, name: str, columns: Any, available: Sequence[str], owner: str) -> Output:
    if isinstance(columns, str):
        _check_column(argument, columns, available, owner)
        return Output(name, (columns,), False)
    if not isinstance(columns, Iterable) or isinstance(columns, (bytes, Mapping)):
        expected = "the name of a column, or a list of names"
        raise _checks.type_error(argument, columns, expected)
    columns = tuple(columns)
    if not columns or len(set(columns)) < len(columns):
        raise _checks.value_error(argument, list(columns), "names of columns, each once")
    for column in columns:
        _check_column(argument, column, available, owner)
    return Output(name, columns, True)


def _check_column(argument: str, name: Any, available: Sequence[str], owner: str) -> None:
    if not isinstance(name, str):
        raise _checks.type_error(argument, name, f"the name of a column of {owner}")
    if name not in available:
        raise unknown_column(argument, name, available, owner)


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(map(repr, names[:20]))
    return f"{shown} and {len(names) - 20} more" if len(names) > 20 else shown
