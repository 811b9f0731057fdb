"""Parquet files, and folders of them, as clients."""

import os
from collections.abc import Sequence

from fedlab.clients.client_data import ClientData
from fedlab.clients.sources import files, tables, values
from fedlab.clients.sources import roles as roles_lib
from fedlab.clients.sources.values import Column


def read(
    path: str | os.PathLike,
    client: str | None,
    x: roles_lib.Inputs,
    y: roles_lib.Inputs,
    *,
    sample_weight: str | None = None,
    keep: Sequence[str] = (),
    partitioner: tables.Partitioner | None = None,
    class_names: Sequence[str] | None = None,
    skip_invalid: bool = False,
    image_size: tuple[int, int] | None = None,
) -> ClientData:
    """Makes a ClientData of Parquet files; see `ClientData.from_parquet`."""
    tables.check_one_of(client, partitioner)
    file = files.existing(path, "a Parquet file or a folder of them", folder=None)
    pa = values.arrow()
    import pyarrow.dataset as pads

    try:
        dataset = pads.dataset(str(file), format="parquet", partitioning="hive")
        names = dataset.schema.names
        if not dataset.files:
            raise ValueError("no files")
    except (pa.ArrowInvalid, pa.ArrowTypeError, OSError, ValueError) as error:
        if isinstance(error, PermissionError):
            raise
        raise _damaged(file.name) from error
    roles = roles_lib.find(
        names, file.name, client=client, x=x, y=y, sample_weight=sample_weight, keep=keep
    )
    try:
        table = dataset.to_table(columns=roles.used)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OSError) as error:
        raise _damaged(file.name) from error
    return tables.clients(
        tables.Table(
            file.name,
            {name: Column(table.column(name)) for name in roles.used},
            table.num_rows,
        ),
        roles,
        partitioner=partitioner,
        class_names=class_names,
        skip_invalid=skip_invalid,
        image_size=image_size,
    )


def _damaged(name: str) -> ValueError:
    return ValueError(
        f"{name!r:.200} is damaged or in another format: expected a Parquet file, or a folder of "
        "Parquet files with the same columns; check the path"
    )
