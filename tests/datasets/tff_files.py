"""Writes files in the forms of TensorFlow Federated's data sets."""

import sqlite3

import numpy as np


def write_hdf5(file, clients):
    """Writes client_id -> name -> array as HDF5."""
    import h5py

    with h5py.File(file, "w") as opened:
        for client_id, columns in clients.items():
            for name, column in columns.items():
                column = np.asarray(column)
                if column.dtype == object:
                    column = column.astype(h5py.string_dtype())
                opened[f"examples/{client_id}/{name}"] = column
    return file


def write_sqlite(file, splits):
    """Writes split -> client_id -> name -> array as SQLite."""
    import tensorflow as tf

    def feature(value):
        value = np.asarray(value).ravel()
        if value.dtype.kind in "iub":
            return tf.train.Feature(int64_list=tf.train.Int64List(value=value.tolist()))
        if value.dtype.kind == "f":
            return tf.train.Feature(float_list=tf.train.FloatList(value=value.tolist()))
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=value.tolist()))

    with sqlite3.connect(file) as database:
        database.execute(
            "CREATE TABLE examples (split_name TEXT, client_id TEXT, serialized_example_proto BLOB)"
        )
        database.execute(
            "CREATE TABLE client_metadata (client_id TEXT, split_name TEXT, num_examples INTEGER)"
        )
        for split, clients in splits.items():
            for client_id, columns in clients.items():
                rows = list(zip(*columns.values()))
                database.execute(
                    "INSERT INTO client_metadata VALUES (?, ?, ?)", (client_id, split, len(rows))
                )
                for row in rows:
                    features = {name: feature(value) for name, value in zip(columns, row)}
                    example = tf.train.Example(features=tf.train.Features(feature=features))
                    database.execute(
                        "INSERT INTO examples VALUES (?, ?, ?)",
                        (split, client_id, example.SerializeToString()),
                    )
    database.close()
    return file
