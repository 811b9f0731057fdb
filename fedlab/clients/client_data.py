"""ClientData: the examples of every client as NumPy columns, read when needed."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fedlab import _checks
from fedlab.clients import client_ids as ids_lib
from fedlab.clients import columns as columns_lib
from fedlab.clients import fingerprint
from fedlab.clients import schema as schema_lib
from fedlab.clients.store import CACHE_BYTES, Store

if TYPE_CHECKING:
    import tensorflow as tf

    from fedlab.clients.sources.roles import Inputs
    from fedlab.clients.sources.source import Source
    from fedlab.clients.sources.tables import Partitioner

Columns = Mapping[str, Any]

SAMPLED_CLIENTS, SAMPLED_BYTES = 4000, 2**30
"""How much of data that must be loaded is read before the first round."""


class ClientData:
    """The examples of every client, as columns name -> [n, ...].

    A client is loaded and checked on first use. The clients used last are cached, up to
    `cache_bytes`; other clients are loaded again when needed. Objects made by `select`
    and `split_clients` share the cache of the original; `map` makes one with a cache of
    its own for the function's results, with the same size limit. Clients passed to
    `from_dict` are in memory anyway: they are not copied and do not count.

    Only `to_dataset` and the conversions from and to `tf.data` and TensorFlow Federated
    import TensorFlow, when called.

    Args:
      client_ids: the clients, in the order that every method uses. Unique, at least
        one.
      load: client_id -> columns, name -> array-like [n, ...]. It must return the same
        columns each time. It may be called from several threads at once.
      cache_bytes: the size limit of the cache in bytes; 0 or more, 1 GiB by default,
        None for no limit. The columns of clients that are being trained are in memory
        as well.

    Raises:
      ValueError: no client ids, or the same id twice.
      TypeError: a client id is not a string.

    Example:
      >>> ann = {"x": [[1.0], [2.0]], "y": [0, 1]}
      >>> clients = ClientData.from_dict({"ann": ann, "bob": {"x": [[3.0]], "y": [1]}})
      >>> len(clients), clients.num_examples("ann"), clients["bob"]["y"]
      (2, 2, array([1]))
    """

    def __init__(
        self,
        client_ids: Iterable[str],
        load: Callable[[str], Columns],
        *,
        cache_bytes: int | None = CACHE_BYTES,
    ):
        if not callable(load):
            expected = "a function client_id -> columns (for a dict, use ClientData.from_dict)"
            raise _checks.type_error("load", load, expected)
        if cache_bytes is not None:
            _checks.check_int("cache_bytes", cache_bytes, 0, what="or None for no limit")
        self._set(client_ids, Store(load, cache_bytes, client_ids=client_ids))

    @classmethod
    def _of_store(
        cls, client_ids: Iterable[str], store: Store, source: "Source | None" = None
    ) -> "ClientData":
        clients = cls.__new__(cls)
        clients._set(client_ids, store, source)
        return clients

    @classmethod
    def _of_rows(
        cls,
        client_ids: Sequence[str],
        sizes: np.ndarray,
        columns: Mapping[str, np.ndarray],
        source: "Source | None" = None,
    ) -> "ClientData":
        """Clients whose rows are consecutive: the first `sizes[0]` are those of the first client.

        Views are made when a client is read, so that a million clients are cheap.
        """
        arrays = columns_lib.check_columns(columns)
        starts = np.concatenate([[0], np.cumsum(sizes)]).tolist()
        number_of = {client_id: number for number, client_id in enumerate(client_ids)}

        def load(client_id: str) -> Columns:
            number = number_of[client_id]
            rows = slice(starts[number], starts[number + 1])
            return {name: array[rows] for name, array in arrays.items()}

        schema = {
            name: schema_lib.Column(array.dtype.newbyteorder("="), array.shape[1:])
            for name, array in arrays.items()
        }
        return cls._of_store(client_ids, Store(load, in_memory=True, schema=schema), source)

    def _set(self, client_ids: Iterable[str], store: Store, source: "Source | None" = None) -> None:
        self._client_ids = ids_lib.check_ids(client_ids)
        self._members = ids_lib.members(self._client_ids)
        self._store = store
        self._source = source
        self._schema: dict[str, schema_lib.Column] | None = None
        self._fingerprint: str | None = None
        self._ranked: list[str] | None = None

    @classmethod
    def from_dict(cls, mapping: Mapping[str, Columns]) -> "ClientData":
        """Makes a ClientData of a dict per client.

        Args:
          mapping: client_id -> name -> array-like [n, ...].

        Returns:
          A ClientData with the clients in the mapping's order.

        Example:
          >>> ClientData.from_dict({"ann": {"x": [1, 2]}}).client_ids
          ('ann',)
        """
        if not isinstance(mapping, Mapping):
            expected = "a mapping client_id -> columns, such as {'ann': {'x': [1.0]}}"
            raise _checks.type_error("mapping", mapping, expected)
        mapping = dict(mapping)
        return cls._of_store(mapping, Store(mapping.__getitem__, in_memory=True))

    @classmethod
    def from_dataset(
        cls,
        datasets: "Mapping[str, tf.data.Dataset] | Callable[[str], tf.data.Dataset]",
        client_ids: Iterable[str] | None = None,
    ) -> "ClientData":
        """Makes a ClientData of one unbatched `tf.data.Dataset` per client.

        Args:
          datasets: client_id -> tf.data.Dataset, as a mapping or a function. An element
            is a dict of columns, a tuple (x,), (x, y) or (x, y, sample_weight) where x
            may be a dict of columns, or a tensor x.
          client_ids: the clients. Required with a function; by default the mapping's
            keys.

        Returns:
          A ClientData that reads a client's dataset on first use.

        Raises:
          ValueError: a function without client_ids; or, on reading, a dataset whose
            elements have another structure.

        Example:
          >>> import tensorflow as tf
          >>> ClientData.from_dataset({"ann": tf.data.Dataset.range(3)})["ann"]
          {'x': array([0, 1, 2])}
        """
        from fedlab.clients import convert

        return convert.from_dataset(datasets, client_ids)

    @classmethod
    def from_tff(cls, tff_client_data: Any) -> "ClientData":
        """Makes a ClientData of a `tff.simulation.datasets.ClientData`.

        Client ids and their order stay the same.

        Args:
          tff_client_data: TFF's client data; elements as in `from_dataset`. String
            columns become object arrays of bytes.

        Returns:
          A ClientData that reads a client from TFF on first use.

        Raises:
          TypeError: not TFF client data.
          ValueError: on reading, elements with another structure.

        Example: see `to_tff`.
        """
        from fedlab.clients import convert

        return convert.from_tff(tff_client_data)

    @classmethod
    def from_dataframe(
        cls,
        df: Any,
        client: str | None = None,
        x: "Inputs" = None,
        y: "Inputs" = None,
        *,
        sample_weight: str | None = None,
        keep: Sequence[str] = (),
        partitioner: "Partitioner | None" = None,
        class_names: Sequence[str] | None = None,
        skip_invalid: bool = False,
    ) -> "ClientData":
        """Makes a ClientData of a data frame: the rows with one client id are one client.

        ```
        x="text"                     the column as it is: x [n, ...]
        x=["age", "height"]          numbers, stacked: x [n, 2] float32
        x={"user": "user_id",        the model's inputs by name: user [n, ...], size [n, 2]
           "size": ["age", "height"]}
        x=None                       the columns that have no other role: as a list, or,
                                     if there is only one and it is not a number, as a str
        ```

        Clients are in the order of their first row, and the rows of a client stay in
        their order. A row without a value (None, NaN), or with a value of another type
        than most rows of its column, is an error that names the row. Requires pyarrow
        (the extra `data`).

        Args:
          df: a data frame of pandas or Polars, or a `pyarrow.Table`. The index of a
            pandas data frame is not used.
          client: the column with the client ids, integers or texts; they become str.
          x: the inputs, as above. Texts are object arrays, dates are not allowed.
          y: the targets: a column as it is, or a list of columns of numbers. For a model
            with several outputs, a mapping output name -> column or list. None for no
            targets.
          sample_weight: the column with the weights of the examples; None for no
            weights.
          keep: further columns to keep beside `x`, under their own names, such as a time
            to split by. Dates become int64, microseconds since 1970.
          partitioner: divides the rows among clients, if there is no `client`; see
            `fedlab.clients.partitioners`.
          class_names: the texts of `y` in the order of the class numbers that replace
            them. By default, `y` is not changed.
          skip_invalid: whether to skip rows that are not valid, and to count them in
            `source`, instead of raising an error.

        Returns:
          A ClientData in memory.

        Raises:
          TypeError, ValueError: a column does not exist (the message lists similar
            names), or its values do not fit its role, or a row is not valid.

        Example:
          >>> import pyarrow as pa
          >>> df = pa.table({"user": [7, 8, 7], "age": [20, 30, 40], "label": [0, 1, 1]})
          >>> clients = ClientData.from_dataframe(df, client="user", y="label")
          >>> clients.client_ids, clients["7"]["x"].tolist()
          (('7', '8'), [[20.0], [40.0]])
        """
        from fedlab.clients.sources import frames

        return frames.read(
            df,
            client,
            x,
            y,
            sample_weight=sample_weight,
            keep=keep,
            partitioner=partitioner,
            class_names=class_names,
            skip_invalid=skip_invalid,
        )

    @classmethod
    def from_csv(
        cls,
        path: "str | os.PathLike",
        client: str | None = None,
        x: "Inputs" = None,
        y: "Inputs" = None,
        *,
        sample_weight: str | None = None,
        keep: Sequence[str] = (),
        partitioner: "Partitioner | None" = None,
        class_names: Sequence[str] | None = None,
        text: Sequence[str] = (),
        delimiter: str = ",",
        encoding: str = "utf-8",
        skip_invalid: bool = False,
    ) -> "ClientData":
        """Makes a ClientData of a CSV file with a line of column names.

        A column is one of numbers if most of its cells are numbers. Empty cells are
        missing values, and so are NA, NaN and null among numbers. Client ids are kept as
        they are written. Errors name the line of the file.

        Args:
          path: the file; it may be compressed (.gz, .bz2).
          client, x, y, sample_weight, keep, partitioner, class_names: as in
            `from_dataframe`.
          text: columns that are texts though most cells look like numbers or dates, such
            as postal codes.
          delimiter: the character between cells.
          encoding: the encoding of the file.
          skip_invalid: as in `from_dataframe`. Rows with too few or too many cells are
            skipped as well.

        Returns:
          A ClientData in memory.

        Raises:
          FileNotFoundError: there is no such file.
          TypeError, ValueError: as in `from_dataframe`, or the file is not a CSV file.

        Example:
          >>> clients = ClientData.from_csv("ratings.csv", "user_id", y="stars")  # doctest: +SKIP
        """
        from fedlab.clients.sources import csv_files

        return csv_files.read(
            path,
            client,
            x,
            y,
            sample_weight=sample_weight,
            keep=keep,
            partitioner=partitioner,
            class_names=class_names,
            text=text,
            delimiter=delimiter,
            encoding=encoding,
            skip_invalid=skip_invalid,
        )

    @classmethod
    def from_jsonl(
        cls,
        path: "str | os.PathLike",
        client: str | None = None,
        x: "Inputs" = None,
        y: "Inputs" = None,
        *,
        sample_weight: str | None = None,
        keep: Sequence[str] = (),
        partitioner: "Partitioner | None" = None,
        class_names: Sequence[str] | None = None,
        skip_invalid: bool = False,
    ) -> "ClientData":
        """Makes a ClientData of a file with one JSON object per line.

        A name that an object lacks is a missing value. Lists of equal length become rows
        [length, ...]. Errors name the line of the file.

        Args:
          path: the file; it may be compressed (.gz).
          client, x, y, sample_weight, keep, partitioner, class_names: as in
            `from_dataframe`.
          skip_invalid: as in `from_dataframe`. Lines that are not JSON objects are
            skipped as well.

        Returns:
          A ClientData in memory.

        Raises:
          FileNotFoundError: there is no such file.
          TypeError, ValueError: as in `from_dataframe`, or a line is not a JSON object.

        Example:
          >>> clients = ClientData.from_jsonl("posts.jsonl", "author", "text")  # doctest: +SKIP
        """
        from fedlab.clients.sources import jsonl_files

        return jsonl_files.read(
            path,
            client,
            x,
            y,
            sample_weight=sample_weight,
            keep=keep,
            partitioner=partitioner,
            class_names=class_names,
            skip_invalid=skip_invalid,
        )

    @classmethod
    def from_parquet(
        cls,
        path: "str | os.PathLike",
        client: str | None = None,
        x: "Inputs" = None,
        y: "Inputs" = None,
        *,
        sample_weight: str | None = None,
        keep: Sequence[str] = (),
        partitioner: "Partitioner | None" = None,
        class_names: Sequence[str] | None = None,
        image_size: tuple[int, int] | None = None,
        skip_invalid: bool = False,
    ) -> "ClientData":
        """Makes a ClientData of a Parquet file, or of a folder of Parquet files.

        Only the columns that are used are read. Encoded images, as data sets of Hugging
        Face have them (a struct of bytes and path), become uint8
        [n, height, width, channels].

        Args:
          path: the file; or a folder of files with the same columns, in the order of
            their names. Folders `NAME=VALUE` (Hive partitions) are a column NAME.
          client, x, y, sample_weight, keep, partitioner, class_names, skip_invalid: as
            in `from_dataframe`.
          image_size: (height, width) that images are resized to. By default, all images
            must have one size.

        Returns:
          A ClientData in memory.

        Raises:
          FileNotFoundError: there is no such file.
          TypeError, ValueError: as in `from_dataframe`, or the file is not a Parquet
            file.

        Example:
          >>> clients = ClientData.from_parquet("my.parquet", "user", y="y")  # doctest: +SKIP
        """
        from fedlab.clients.sources import parquet_files

        return parquet_files.read(
            path,
            client,
            x,
            y,
            sample_weight=sample_weight,
            keep=keep,
            partitioner=partitioner,
            class_names=class_names,
            image_size=image_size,
            skip_invalid=skip_invalid,
        )

    @classmethod
    def from_arrays(
        cls,
        x: Any,
        y: Any = None,
        partitioner: "Partitioner | None" = None,
        *,
        sample_weight: Any = None,
        keep: Mapping[str, Any] | None = None,
        skip_invalid: bool = False,
    ) -> "ClientData":
        """Makes a ClientData of arrays that a partitioner divides among clients.

        Args:
          x: [n, ...]; or a mapping, name of the model's input -> [n, ...].
          y: [n, ...], the targets; or a mapping, output name -> [n, ...]; None for no
            targets.
          partitioner: which rows belong to which client: a function columns ->
            partition, or a partition, client_id -> rows; see
            `fedlab.clients.partitioners`. Required.
          sample_weight: [n], the weights of the examples.
          keep: name -> [n, ...], further columns to keep beside `x`, such as a writer
            or a time that the partitioner reads.
          skip_invalid: whether to skip rows with NaN or None, and to count them in
            `source`, instead of raising an error.

        Returns:
          A ClientData in memory.

        Raises:
          TypeError, ValueError: the arrays differ in length, a row has no value, or the
            partitioner is not valid.

        Example:
          >>> rows_of = {"ann": [0, 2], "bob": [1]}
          >>> ClientData.from_arrays([[1.0], [2.0], [3.0]], [0, 1, 1], rows_of)["ann"]["y"]
          array([0, 1])
        """
        from fedlab.clients.sources import arrays

        return arrays.read(
            x, y, partitioner, sample_weight=sample_weight, keep=keep, skip_invalid=skip_invalid
        )

    @classmethod
    def open(cls, folder: str | os.PathLike) -> "ClientData":
        """Opens clients that `save` has written, without reading them into memory.

        The files are memory-mapped: a client's numbers are views of them, and its texts
        are read when needed. Millions of clients open in seconds, and memory does not
        grow with their number. A damaged file is noticed when the folder is opened or
        when the damaged client is read.

        Args:
          folder: the folder. Its files must not change while they are in use.

        Returns:
          A ClientData. Its `client_ids` are a sequence that reads the file. Columns are
          read-only and not cached by fedlab, but by the system.

        Raises:
          FileNotFoundError, NotADirectoryError: there is no such folder.
          ValueError: it is not a folder of clients, is damaged, or has a newer format.
          ModuleNotFoundError: pyarrow is not installed.

        Example: see `save`.
        """
        from fedlab.clients import arrow

        return arrow.read(folder)

    def save(self, folder: str | os.PathLike) -> None:
        """Writes the clients to a new folder, from which `open` reads them.

        One client after the other is loaded and written, with the dtypes of `schema`,
        so that the data may be larger than memory. The folder appears under its name
        when it is complete. It contains Arrow files, which other programs read as well;
        see `fedlab.clients.arrow`.

        Args:
          folder: a path that does not exist.

        Raises:
          FileExistsError: the path exists.
          ValueError: a client does not fit `schema`, or has values that are neither
            numbers, str nor bytes.
          ModuleNotFoundError: pyarrow is not installed.

        Example:
          >>> import tempfile
          >>> clients = ClientData.from_dict({"ann": {"x": [1, 2]}, "bob": {"x": [3]}})
          >>> clients.save(folder := tempfile.mkdtemp() + "/clients")
          >>> ClientData.open(folder)["ann"]
          {'x': array([1, 2])}
        """
        from fedlab.clients import arrow

        arrow.write(folder, ((id_, self.in_schema(id_)) for id_ in self), self.schema)

    @classmethod
    def from_folder(
        cls,
        path: str | os.PathLike,
        *,
        partitioner: "Partitioner | None" = None,
        class_names: Sequence[str] | None = None,
        image_size: tuple[int, int] | None = None,
        color: str = "rgb",
        skip_invalid: bool = False,
    ) -> "ClientData":
        """Makes a ClientData of a folder of images (.png, .jpg, ...) or texts (.txt, .md).

        ```
        PATH/CLIENT/FILE          a folder per client: x
        PATH/CLIENT/CLASS/FILE    a folder per client with a folder per class: x and y
        PATH/CLASS/FILE           a folder per class, and a partitioner: x and y
        ```

        Images are decoded with Pillow (the extra `data`) when a client is used. Names are
        taken in alphabetical order; hidden files and folders are left out.

        Args:
          path: the folder.
          partitioner: divides the files of class folders among clients, from the column
            `y`; see `fedlab.clients.partitioners`. By default, the folders are clients.
          class_names: the classes in the order of their numbers in `y`; by default, the
            names of the class folders in alphabetical order. See `source.class_names`.
            Pass the names if test data in another folder may lack classes.
          image_size: (height, width) that images are resized to, bilinearly. By default,
            the images of a client must have one size.
          color: "rgb", "grayscale" or "rgba".
          skip_invalid: whether to leave out damaged files and clients without files, and
            to count them in `source`, instead of raising an error. Reads every file once.

        Returns:
          A ClientData that reads a client's files on first use: `x` is uint8
          [n, height, width, channels], or texts [n]; `y` is int64 [n].

        Raises:
          FileNotFoundError, NotADirectoryError: there is no such folder.
          ValueError: the folder has another form; or, on reading, a damaged file.

        Example:
          >>> train = ClientData.from_folder("photos", image_size=(32, 32))  # doctest: +SKIP
        """
        from fedlab.clients.sources import folders

        return folders.read(
            path,
            partitioner=partitioner,
            class_names=class_names,
            image_size=image_size,
            color=color,
            skip_invalid=skip_invalid,
        )

    @classmethod
    def from_huggingface(
        cls,
        dataset: Any,
        client: str | None = None,
        x: "Inputs" = None,
        y: "Inputs" = None,
        *,
        sample_weight: str | None = None,
        keep: Sequence[str] = (),
        partitioner: "Partitioner | None" = None,
        image_size: tuple[int, int] | None = None,
        skip_invalid: bool = False,
    ) -> "ClientData":
        """Makes a ClientData of a `datasets.Dataset` of Hugging Face.

        Images become uint8 [n, height, width, channels], lists of equal length
        [n, length]. The names of a `ClassLabel` in `y` are `source.class_names`.

        Args:
          dataset: one split, such as `datasets.load_dataset("mnist", split="train")`.
          client, x, y, sample_weight, keep, partitioner, skip_invalid: as in
            `from_dataframe`.
          image_size: (height, width) that images are resized to. By default, all images
            must have one size.

        Returns:
          A ClientData in memory.

        Raises:
          TypeError, ValueError: as in `from_dataframe`, or not a `datasets.Dataset`.

        Example:
          >>> clients = ClientData.from_huggingface(dataset, "user", "text")  # doctest: +SKIP
        """
        from fedlab.clients.sources import huggingface

        return huggingface.read(
            dataset,
            client,
            x,
            y,
            sample_weight=sample_weight,
            keep=keep,
            partitioner=partitioner,
            image_size=image_size,
            skip_invalid=skip_invalid,
        )

    @classmethod
    def from_tfds(
        cls,
        dataset: Any,
        client: str | None = None,
        x: "Inputs" = None,
        y: "Inputs" = None,
        *,
        split: str = "train",
        data_dir: str | os.PathLike | None = None,
        sample_weight: str | None = None,
        keep: Sequence[str] = (),
        partitioner: "Partitioner | None" = None,
        image_size: tuple[int, int] | None = None,
        skip_invalid: bool = False,
    ) -> "ClientData":
        """Makes a ClientData of a data set of TensorFlow Datasets (the extra `tfds`).

        A feature in a dict of features is called OUTER/INNER. The names of a `ClassLabel`
        in `y` are `source.class_names`. Texts are object arrays of bytes.

        Args:
          dataset: a name, such as "mnist", which is downloaded and prepared if it is
            not there, as by `tfds.load`; or a `tfds.core.DatasetBuilder` that is
            prepared.
          client, x, y, sample_weight, keep, partitioner, skip_invalid: as in
            `from_dataframe`.
          split: the split, such as "train" or "train[:10%]".
          data_dir: the folder of prepared data sets, if `dataset` is a name; by default,
            that of tfds.
          image_size: (height, width) that images are resized to. By default, all images
            must have one size.

        Returns:
          A ClientData in memory.

        Raises:
          FileNotFoundError: the data set is not prepared.
          TypeError, ValueError: as in `from_dataframe`, or there is no such data set.

        Example:
          >>> from fedlab.clients.partitioners import dirichlet
          >>> iid = dirichlet(num_clients=9, alpha=100, seed=0)
          >>> train = ClientData.from_tfds("mnist", y="label", partitioner=iid)  # doctest: +SKIP
        """
        from fedlab.clients.sources import tfds

        return tfds.read(
            dataset,
            client,
            x,
            y,
            split=split,
            data_dir=data_dir,
            sample_weight=sample_weight,
            keep=keep,
            partitioner=partitioner,
            image_size=image_size,
            skip_invalid=skip_invalid,
        )

    @classmethod
    def from_tff_file(
        cls,
        path: "str | os.PathLike",
        *,
        split: str | None = None,
        x: "Inputs" = None,
        y: "Inputs" = None,
        keep: Sequence[str] = (),
        shapes: Mapping[str, Sequence[int]] | None = None,
        skip_invalid: bool = False,
    ) -> "ClientData":
        """Makes a ClientData of an HDF5 or SQLite file of TensorFlow Federated's data sets.

        TFF itself is not needed. Client ids are sorted, as in TFF. Columns have the dtypes
        of the file; texts are object arrays of bytes.

        Args:
          path: an unpacked file, such as shakespeare_train.h5 or stackoverflow.sqlite.
          split: the split of an SQLite file, such as "train". Required if there are
            several.
          x, y, keep: as in `from_dataframe`. With none of them, columns keep the names
            that they have in the file. With only `y`, the other column becomes `x`; if
            there are several, they keep their names.
          shapes: name of a column -> shape of its rows, for columns that are flat in the
            file, as in SQLite: {"pixels": (28, 28)}.
          skip_invalid: whether to leave clients without examples out, and to count them
            in `source`. By default, reading such a client raises an error.

        Returns:
          A ClientData that reads a client from the file on first use.

        Raises:
          FileNotFoundError: there is no such file.
          TypeError, ValueError: the file has another format; or, on reading, a client is
            damaged.

        Example:
          >>> train = ClientData.from_tff_file("fed_emnist_train.h5", y="label")  # doctest: +SKIP
        """
        from fedlab.clients.sources import tff_files

        return tff_files.read(
            path, split=split, x=x, y=y, keep=keep, shapes=shapes, skip_invalid=skip_invalid
        )

    @classmethod
    def from_leaf(cls, path: "str | os.PathLike", *, skip_invalid: bool = False) -> "ClientData":
        """Makes a ClientData of JSON files of LEAF: each user is a client with `x` and `y`.

        Numbers become int64, or float32 if any client has a fraction; texts are object
        arrays. Caldas et al. 2018, "LEAF: A Benchmark for Federated Settings".

        Args:
          path: a file; or a folder of .json files, such as data/train.
          skip_invalid: whether to skip examples without a value, users without examples,
            and users that occur a second time, and to count them in `source`, instead of
            raising an error.

        Returns:
          A ClientData in memory, in the order of the files' names and of their users.

        Raises:
          FileNotFoundError: there is no such file.
          ValueError: a file is not one of LEAF, or is not valid; the message names the
            file and the user.

        Example:
          >>> train = ClientData.from_leaf("femnist/data/train")  # doctest: +SKIP
        """
        from fedlab.clients.sources import leaf

        return leaf.read(path, skip_invalid=skip_invalid)

    @property
    def client_ids(self) -> Sequence[str]:
        """The client ids, in the given order: a tuple, or a sequence that reads a file (`open`)."""
        return self._client_ids

    @property
    def source(self) -> "Source | None":
        """Where the data was read from, and what was skipped; None for other data.

        Example:
          >>> import pyarrow as pa
          >>> df = pa.table({"user": ["ann", "bob"], "x": [1.5, None]})
          >>> ClientData.from_dataframe(df, "user", "x", skip_invalid=True).source.skipped
          {'rows with a missing value': 1, 'clients without a valid row': 1}
        """
        return self._source

    def __len__(self) -> int:
        return len(self._client_ids)

    def __iter__(self) -> Iterator[str]:
        return iter(self._client_ids)

    def __contains__(self, client_id: object) -> bool:
        return client_id in self._members

    def __repr__(self) -> str:
        first = ", ".join(repr(client_id) for client_id in self._client_ids[:3])
        return f"ClientData({len(self)} clients: {first}{', ...' if len(self) > 3 else ''})"

    def __getitem__(self, client_id: str) -> dict[str, np.ndarray]:
        """Returns one client's columns as loaded: name -> read-only array [n, ...].

        Raises:
          KeyError: the client does not exist; the message lists similar ids.
          TypeError, ValueError: `load` did not return a mapping of equally long
            columns.
        """
        return dict(self._store.read(self._checked(client_id)))

    def num_examples(self, client_id: str) -> int:
        """Returns the number of examples of a client.

        Example:
          >>> ClientData.from_dict({"ann": {"x": [1, 2]}}).num_examples("ann")
          2
        """
        return self._store.form(self._checked(client_id)).num_rows

    @property
    def schema(self) -> dict[str, schema_lib.Column]:
        """The columns of all clients: name -> `fedlab.clients.schema.Column` (dtype, row shape).

        One dtype is chosen for all clients; it represents every value exactly: int16 if
        some clients have int8 and others int16. Sizes in which clients differ are None.
        Clients without examples follow the others. Models are trained and evaluated on
        columns of these dtypes (see `in_schema`), whichever clients are in the cohort.

        The schema is determined once. Clients in memory (`from_dict`) are all read. Of
        other data, the first client and more in the order of sha256(client_id) are
        loaded, at most 4,000 clients or 1 GiB. A client that is loaded later and does
        not fit raises an error.

        Raises:
          ValueError: clients differ in the names, the kinds or the number of dimensions
            of their columns.

        Example:
          >>> ann = {"x": np.zeros([2, 3], np.float32)}
          >>> ClientData.from_dict({"ann": ann, "bob": {"x": np.zeros([1, 4])}}).schema["x"]
          Column(dtype=dtype('float64'), shape=(None,))
        """
        if self._schema is None:
            self._schema = self._store.schema() or schema_lib.decide(
                (client_id, self._store.form(client_id)) for client_id in self._sample()
            )
        return self._schema

    def in_schema(self, client_id: str) -> dict[str, np.ndarray]:
        """Returns one client's columns as models see them: with the dtypes of `schema`.

        Raises:
          KeyError: the client does not exist.
          ValueError: as `schema`; or the client, which `schema` did not read, does not
            fit.

        Example:
          >>> ann, bob = {"y": np.array([1], np.int8)}, {"y": np.array([300], np.int16)}
          >>> clients = ClientData.from_dict({"ann": ann, "bob": bob})
          >>> clients["ann"]["y"].dtype.name, clients.in_schema("ann")["y"].dtype.name
          ('int8', 'int16')
        """
        return schema_lib.cast(
            self.schema, self._store.read(self._checked(client_id)), client_id, self._client_ids[0]
        )

    def example(self) -> dict[str, np.ndarray]:
        """Returns the columns, with the dtypes of `schema`, of the first client with examples.

        If no client has examples, returns those of the first client.
        """
        with_examples = (client_id for client_id in self._sample() if self.num_examples(client_id))
        return self.in_schema(next(with_examples, self._client_ids[0]))

    def map(self, fn: Callable[[dict[str, np.ndarray]], Columns]) -> "ClientData":
        """Returns the same clients with `fn` applied to each client's columns on first use.

        Args:
          fn: columns -> columns. It may change names, shapes and the number of rows.
            Its input is read-only. It must return the same result each time, since
            results that are no longer cached (see `cache_bytes`) are computed again.

        Returns:
          A ClientData with the same client ids.

        Example:
          >>> clients = ClientData.from_dict({"ann": {"x": [1, 2]}})
          >>> clients.map(lambda columns: {"x": columns["x"] * 2})["ann"]["x"]
          array([2, 4])
        """
        if not callable(fn):
            raise _checks.type_error("fn", fn, "a function columns -> columns")
        mapped = ClientData(
            self._client_ids,
            lambda client_id: fn(self[client_id]),
            cache_bytes=self._store.cache_bytes,
        )
        mapped._source = self._source
        return mapped

    def with_targets(self, targets: str | Mapping[str, str]) -> "ClientData":
        """Returns the same clients with inputs that are also the targets, for autoencoders.

        The arrays are not copied.

        Args:
          targets: the name of the column that becomes `y`, such as "x"; or, for a model
            with several outputs, output name -> name of a column.

        Returns:
          A ClientData with the same client ids. The columns `y`, or `y/NAME` for each
          output NAME, replace existing target columns.

        Raises:
          TypeError: `targets` is neither a string nor a mapping of strings.
          ValueError: on reading, a client has no such column.

        Example:
          >>> ClientData.from_dict({"ann": {"x": [1.0, 2.0]}}).with_targets("x")["ann"]["y"]
          array([1., 2.])
        """
        sources = {"y": targets} if isinstance(targets, str) else targets
        if (
            not isinstance(sources, Mapping)
            or not sources
            or not all(isinstance(t, str) for pair in sources.items() for t in pair)
        ):
            expected = "the name of a column, or a dict, output name -> name of a column"
            raise _checks.type_error(f"targets={targets!r:.60}", targets, expected)
        if sources is targets:
            sources = {columns_lib.TARGET_OF + output: name for output, name in sources.items()}

        def replaced(columns: dict[str, np.ndarray]) -> Columns:
            if missing := [name for name in sources.values() if name not in columns]:
                expected = f"names of the clients' columns {list(columns)}, not {missing[0]!r}"
                raise _checks.value_error("targets", targets, expected)
            previous = columns_lib.targets(columns)
            inputs = {name: column for name, column in columns.items() if name not in previous}
            return inputs | {target: columns[name] for target, name in sources.items()}

        return self.map(replaced)

    def select(self, client_ids: Iterable[str]) -> "ClientData":
        """Returns only the given clients, in the given order.

        Args:
          client_ids: some of this object's clients, each once.

        Raises:
          KeyError: a client does not exist.
          ValueError: no clients, or the same client twice.

        Example:
          >>> clients = ClientData.from_dict({"ann": {"x": [1]}, "bob": {"x": [2]}})
          >>> clients.select(["bob"]).client_ids
          ('bob',)
        """
        chosen = ids_lib.select(self._client_ids, self._members, client_ids)
        return ClientData._of_store(chosen, self._store, self._source)

    def split(
        self,
        fractions: float | Sequence[float] | None = None,
        *,
        by: str = "client",
        column: str | None = None,
        at: Any = None,
        seed: int = 0,
    ) -> "tuple[ClientData, ...]":
        """Splits the data into parts, such as training, validation and test data.

        Every example is in exactly one part.

        - `by="client"`: the parts have different clients. See `split_clients`, which
          holds out the same clients.
        - `by="example"`: every part has all clients, with a random share of each
          client's examples.
        - `by="time"`: every part has all clients. With `fractions`, the first part has
          the oldest examples of each client, the last one its newest; examples of the
          same time keep their order. With `at`, the parts are divided at the same
          points in time for all clients: `time < at` comes before `time >= at`.

        Within a client, examples keep their order. If a share of its examples is not a
        whole number, it is rounded up or down at random, so that each part has its
        share of all examples. Parts of clients with few examples may be empty. Examples
        are read when they are needed, as by `map`.

        Args:
          fractions: the share to hold out in a second part, in (0, 1); or the shares of
            all parts, two or more, which add up to 1.
          by: "client", "example" or "time".
          column: with `by="time"`, the column of the times, [n]: numbers, NumPy dates,
            or texts whose alphabetical order is that of time. It stays a column.
          at: with `by="time"`, instead of `fractions`: a time at which the second part
            begins, or an increasing list of times.
          seed: 0 or more. The split is a pure function of the seed, the client's id and
            its examples; by client, of the set of client ids.

        Returns:
          The parts, in the given order.

        Raises:
          ValueError: an argument is wrong, or there are fewer clients than parts; or,
            on reading, a client without such a column or with times that are missing.

        Example:
          >>> ann = {"x": [10, 11, 12, 13], "day": [4, 1, 3, 2]}
          >>> clients = ClientData.from_dict({"ann": ann, "bob": {"x": [20], "day": [3]}})
          >>> train, test = clients.split(0.25, by="time", column="day")
          >>> train["ann"]["x"], test["ann"]["x"]
          (array([11, 12, 13]), array([10]))
          >>> before, after = clients.split(by="time", column="day", at=3)
          >>> before["ann"]["x"], len(after["bob"]["x"])
          (array([11, 13]), 1)
        """
        from fedlab.clients import splitting

        return splitting.split(self, fractions, by, column, at, seed)

    def split_clients(self, fraction: float, seed: int) -> tuple["ClientData", "ClientData"]:
        """Splits the clients into two disjoint groups: clients to train on, and held-out clients.

        The split is a pure function of the set of client ids and the seed. The clients
        are ranked by sha256("seed/client_id") and the first round(fraction * len) of
        them, at least one, are held out. So the rank of a client does not change when
        others are added or removed.

        Args:
          fraction: the share of the clients to hold out, in (0, 1).
          seed: any integer.

        Returns:
          (train, held_out), each in the order of `client_ids`.

        Raises:
          ValueError: the fraction is outside (0, 1), or there are fewer than two
            clients.

        Example:
          >>> clients = ClientData.from_dict({name: {"x": [1]} for name in "abcdefghij"})
          >>> train, held_out = clients.split_clients(0.2, seed=0)
          >>> len(train), len(held_out)
          (8, 2)
        """
        from fedlab.clients import splitting

        if not _checks.is_int(seed):
            raise _checks.value_error("seed", seed, "an integer")
        _checks.check_number("fraction", fraction, above=0, below=1, what="such as 0.1")
        train, held_out = splitting.by_client(self, (1 - fraction, fraction), int(seed))
        return train, held_out

    def to_arrays(self, client_ids: Iterable[str] | None = None) -> dict[str, np.ndarray]:
        """Returns the concatenated columns of several clients.

        Args:
          client_ids: the clients, in the wanted order; by default all.

        Returns:
          name -> array [sum of n, ...], with the dtypes of `schema`.

        Raises:
          KeyError: a client does not exist.
          ValueError: no clients, two clients whose rows differ in shape, or as
            `schema`.

        Example:
          >>> ClientData.from_dict({"ann": {"x": [1]}, "bob": {"x": [2, 3]}}).to_arrays()
          {'x': array([1, 2, 3])}
        """
        chosen = self._client_ids if client_ids is None else tuple(client_ids)
        if not chosen:
            raise ValueError("client_ids is empty: expected at least one client, or None for all")
        parts = [(client_id, self.in_schema(client_id)) for client_id in chosen]
        return columns_lib.concatenate(parts, self.schema)

    def to_dataset(
        self,
        batch_size: int | None = None,
        client_ids: Iterable[str] | None = None,
        drop_remainder: bool = False,
        input_names: Sequence[str] = (),
    ) -> "tf.data.Dataset":
        """Returns all examples, client after client, as a `tf.data.Dataset` for Keras.

        Args:
          batch_size: examples per batch; None for single examples.
          client_ids: the clients, in the wanted order; by default all.
          drop_remainder: whether to leave out a last batch that is not full.
          input_names: the model's `input_names`. Only needed if it has several inputs
            and one of them is called "x".

        Returns:
          A tf.data.Dataset of (x,), (x, y) or (x, y, sample_weight); see
          `fedlab.clients.columns.keras_batch`.

        Raises:
          ValueError: batch_size below 1, or as `to_arrays` and `keras_batch`.

        Example:
          >>> clients = ClientData.from_dict({"ann": {"x": [[1.0], [2.0]], "y": [0, 1]}})
          >>> for x, y in clients.to_dataset(batch_size=2): print(x.shape, y.numpy())
          (2, 1) [0 1]
        """
        from fedlab.clients import convert

        return convert.to_dataset(self, batch_size, client_ids, drop_remainder, input_names)

    def to_tff(self) -> Any:
        """Returns the clients as a `tff.simulation.datasets.ClientData` of dicts of columns.

        Ids, names, dtypes and shapes stay the same:
        `ClientData.from_tff(clients.to_tff())` has the same arrays. TFF has one type
        for all clients, so every client needs the same columns.

        Returns:
          TFF's client data. Simulations read one client at a time. Only TFF
          computations that look up clients themselves (`serializable_dataset_fn`) put
          all data into one graph; they are suitable only for small data.

        Raises:
          ModuleNotFoundError: TensorFlow Federated is not installed.

        Example:
          >>> theirs = ClientData.from_dict({"ann": {"x": [1, 2]}}).to_tff()
          >>> theirs.client_ids, ClientData.from_tff(theirs)["ann"]
          (['ann'], {'x': array([1, 2])})
        """
        from fedlab.clients import convert

        return convert.to_tff(self)

    def fingerprint(self) -> str:
        """Returns a hash of the client ids and of the clients' columns.

        It covers the order of the ids, and the names, dtypes, shapes and values of the
        columns. Of data in memory (`from_dict`, and what is selected from it), all
        values of the first clients are hashed, up to 1 GiB, and 16 rows in equal steps
        of each further client. Of data that must be loaded, all values of every client
        are hashed if there are at most 4,000 clients and 1 GiB; otherwise those of the
        first client and of others in the order of sha256(client_id), until either limit
        is reached. So any change of ordinary data changes the hash, and the cost for
        large data is limited.

        Equal data have the same hash in every process. The hash does not depend on the
        order of a client's columns, on the memory layout or byte order of arrays, or on
        whether a text is str or UTF-8 bytes.

        Returns:
          64 hexadecimal digits.

        Raises:
          TypeError, ValueError: a client's columns are not valid.

        Example:
          >>> ClientData.from_dict({"ann": {"x": [1, 2]}}).fingerprint()[:16]
          '1946dad0f6fc8ffa'
        """
        if self._store.in_memory:  # the caller may have changed the arrays, which are not copied
            return fingerprint.fingerprint(self._client_ids, self, self._client_ids)
        if self._fingerprint is None:
            self._fingerprint = fingerprint.fingerprint(self._client_ids, self, self._sample())
        return self._fingerprint

    def _sample(self) -> Iterator[str]:
        """Ids of the clients that are read before the first round.

        All clients of data in memory, and a limited number of clients of other data.
        """
        ids = self._client_ids
        if self._store.in_memory:
            yield from ids
            return
        yield ids[0]
        num_bytes = self._store.form(ids[0]).num_bytes
        if self._ranked is None:
            self._ranked = ids_lib.ranked(ids[1:], most=SAMPLED_CLIENTS - 1)
        for client_id in self._ranked:
            if num_bytes >= SAMPLED_BYTES:
                return
            yield client_id
            num_bytes += self._store.form(client_id).num_bytes

    def _checked(self, client_id: str) -> str:
        if client_id not in self._members:
            raise ids_lib.unknown_id(client_id, self._client_ids)
        return client_id
