"""Data sets of Hugging Face's library `datasets` as clients.

The library is not imported: an object with its documented attributes is enough. They are
`column_names`, `features`, `num_rows` and `with_format("arrow")`.
"""

from collections.abc import Sequence
from typing import Any

from fedlab import _checks
from fedlab.clients.client_data import ClientData
from fedlab.clients.sources import roles as roles_lib
from fedlab.clients.sources import tables, values
from fedlab.clients.sources.values import Column

NAME = "the data set"


def read(
    dataset: Any,
    client: str | None,
    x: roles_lib.Inputs,
    y: roles_lib.Inputs,
    *,
    sample_weight: str | None = None,
    keep: Sequence[str] = (),
    partitioner: tables.Partitioner | None = None,
    image_size: tuple[int, int] | None = None,
    skip_invalid: bool = False,
) -> ClientData:
    """Makes a ClientData of a `datasets.Dataset`; see `ClientData.from_huggingface`."""
    tables.check_one_of(client, partitioner)
    if hasattr(dataset, "keys") and hasattr(dataset, "column_names"):
        splits = list(dataset.keys())
        expected = f"one split, such as dataset[{splits[0]!r}]" if splits else "a datasets.Dataset"
        raise _checks.type_error("dataset", dataset, expected)
    if not all(hasattr(dataset, name) for name in ("column_names", "with_format", "num_rows")):
        expected = (
            "a datasets.Dataset, not a streaming one (for other data frames, use "
            "ClientData.from_dataframe)"
        )
        raise _checks.type_error("dataset", dataset, expected)
    roles = roles_lib.find(
        list(dataset.column_names),
        NAME,
        client=client,
        x=x,
        y=y,
        sample_weight=sample_weight,
        keep=keep,
    )
    values.arrow()
    table = dataset.select_columns(roles.used).with_format("arrow")[:]
    return tables.clients(
        tables.Table(
            NAME,
            {name: Column(table.column(name)) for name in roles.used},
            dataset.num_rows,
            class_names=_class_names(dataset, roles),
        ),
        roles,
        partitioner=partitioner,
        skip_invalid=skip_invalid,
        image_size=image_size,
    )


def _class_names(dataset: Any, roles: roles_lib.Roles) -> tuple[str, ...]:
    """The names of the classes of `y`, if it is a `datasets.ClassLabel`."""
    target = next((output.sources[0] for output in roles.outputs if output.name == "y"), None)
    feature = (getattr(dataset, "features", None) or {}).get(target)
    return tuple(getattr(feature, "names", None) or ())
