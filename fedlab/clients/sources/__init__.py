"""Readers of data: one module per kind of source, each with a function that makes a ClientData.

    frames         data frames of pandas and Polars, Arrow tables
    csv_files      CSV files
    jsonl_files    files with one JSON object per line
    parquet_files  Parquet files
    arrays         NumPy arrays and a partitioner
    folders        folders of images or texts
    huggingface    data sets of Hugging Face's library `datasets`
    tfds           data sets of TensorFlow Datasets
    tff_files      HDF5 and SQLite files of TensorFlow Federated
    leaf           JSON files of LEAF

Those of tables and arrays read the columns that are used (`roles`), turn them into arrays and find
rows that are not valid (`values`), and sort the rows by client (`tables`). The methods
of `fedlab.ClientData`, such as `from_csv`, are what users call.
"""
