"""NumPy arrays that a partitioner divides among clients."""

from collections.abc import Mapping
from typing import Any

from fedlab import _checks
from fedlab.clients.client_data import ClientData
from fedlab.clients.columns import RESERVED, TARGET_OF, check_columns
from fedlab.clients.sources import tables, values
from fedlab.clients.sources.roles import Output, Roles


def read(
    x: Any,
    y: Any,
    partitioner: tables.Partitioner | None,
    *,
    sample_weight: Any = None,
    keep: Mapping[str, Any] | None = None,
    skip_invalid: bool = False,
) -> ClientData:
    """Makes a ClientData of arrays; see `ClientData.from_arrays`."""
    if partitioner is None:
        expected = (
            "which rows belong to which client, such as partitioners.dirichlet(num_clients=10, "
            "alpha=0.5, seed=0), or {'ann': [0, 2], 'bob': [1]}"
        )
        raise _checks.type_error("partitioner", partitioner, expected)
    if keep is not None and not isinstance(keep, Mapping):
        raise _checks.type_error("keep", keep, "a mapping name -> array [n, ...]")
    columns = dict(x) if isinstance(x, Mapping) else {"x": x}
    for name in columns:
        if name in RESERVED or str(name).startswith(TARGET_OF):
            raise ValueError(
                f"x: an input is called {name!r}, which is reserved for targets and weights; "
                "rename the model's input"
            )
    if isinstance(y, Mapping):
        columns |= {TARGET_OF + name: column for name, column in y.items()}
    elif y is not None:
        columns["y"] = y
    if sample_weight is not None:
        columns["sample_weight"] = sample_weight
    for name, column in (keep or {}).items():
        if name in columns:
            raise ValueError(f"keep: the name {name!r} has two uses: expected another name")
        columns[name] = column
    arrays = check_columns(columns, "the arrays")
    roles = Roles(None, tuple(Output(name, (name,), False) for name in arrays))
    table = tables.Table(
        "the arrays",
        {name: values.of_array(array) for name, array in arrays.items()},
        len(next(iter(arrays.values()))),
    )
    return tables.clients(table, roles, partitioner=partitioner, skip_invalid=skip_invalid)
