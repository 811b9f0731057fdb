"""Data frames of pandas and Polars, and Arrow tables, as clients."""

from collections.abc import Callable, Sequence
from typing import Any

from fedlab import _checks
from fedlab.clients.client_data import ClientData
from fedlab.clients.sources import roles as roles_lib
from fedlab.clients.sources import tables, values
from fedlab.clients.sources.values import Column


def read(
    df: Any,
    client: str | None,
    x: roles_lib.Inputs,
    y: roles_lib.Inputs,
    *,
    sample_weight: str | None = None,
    keep: Sequence[str] = (),
    partitioner: tables.Partitioner | None = None,
    class_names: Sequence[str] | None = None,
    skip_invalid: bool = False,
) -> ClientData:
    """Makes a ClientData of a data frame; see `ClientData.from_dataframe`."""
    tables.check_one_of(client, partitioner)
    pa = values.arrow()
    column_of: Callable[[Any, int], Column]
    if hasattr(df, "iloc") and hasattr(df, "columns"):
        names, column_of, num_rows = [str(name) for name in df.columns], _pandas, len(df)
    else:
        if isinstance(df, (pa.Table, pa.RecordBatch)) or hasattr(df, "__arrow_c_stream__"):
            df = pa.table(df) if not isinstance(df, pa.RecordBatch) else pa.table(df.to_pydict())
        else:
            expected = "a data frame of pandas or Polars, or a pyarrow.Table"
            raise _checks.type_error("df", df, expected)
        names, column_of, num_rows = df.column_names, _arrow, df.num_rows
    roles = roles_lib.find(
        names, "the data frame", client=client, x=x, y=y, sample_weight=sample_weight, keep=keep
    )
    columns = {name: column_of(df, names.index(name)) for name in roles.used}
    return tables.clients(
        tables.Table("the data frame", columns, num_rows),
        roles,
        partitioner=partitioner,
        class_names=class_names,
        skip_invalid=skip_invalid,
    )


def _arrow(table: Any, index: int) -> Column:
    return Column(table.column(index))


def _pandas(df: Any, index: int) -> Column:
    series = df.iloc[:, index]
    if series.dtype != object:
        pa = values.arrow()
        try:
            return Column(pa.array(series, from_pandas=True))
        except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError):
            pass  # a type that Arrow does not know, such as categories of mixed values
    return values.of_objects(series.to_numpy(dtype=object), series.isna().to_numpy())
