"""Small files that ask for gigabytes are refused in a line, before the memory is taken."""

import io
import re
import shutil
import struct
import subprocess
import sys
import zipfile
import zlib

import h5py
import numpy as np
import pytest
import tensorflow as tf

import fedlab as fl
from fedlab import cli
from fedlab.models import limits
from tests.stacks import IS_KERAS_3

layers = tf.keras.layers
HUGE = [65536, 16384]  # 4 GB of float32


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A model in every format."""
    folder = tmp_path_factory.mktemp("files")
    model = tf.keras.Sequential([layers.Input([2]), layers.Dense(2, name="dense")])
    model.compile("adam", "mse")
    for name in ("model.keras", "model.h5", *(() if IS_KERAS_3 else ("saved_model",))):
        model.save(folder / name)
    return folder


def repacked(files, target, compression=zipfile.ZIP_DEFLATED, **changes):
    """A .keras archive with other contents: name without its suffix -> bytes -> bytes."""
    with (
        zipfile.ZipFile(files / "model.keras") as old,
        zipfile.ZipFile(target, "w", compression) as new,
    ):
        for name in old.namelist():
            change = changes.get(name.partition(".")[0], bytes)
            new.writestr(name, change(old.read(name)))
    return target


def padded(data):
    return data + b" " * (200 << 20)


def many_objects(data):
    return b'{"a": [' + b"{}," * 600_000 + b"{}]}"


def units(number):
    return lambda data: data.replace(b'"units": 2', b'"units": %d' % number)


def changed(data, change):
    """HDF5 bytes after `change(file)`."""
    buffer = io.BytesIO(data)
    with h5py.File(buffer, "r+") as file:
        change(file)
    return buffer.getvalue()


def kernel(file):
    """The path of the kernel."""
    found = []
    file.visititems(
        lambda name, part: found.append(name)
        if isinstance(part, h5py.Dataset) and part.shape == (2, 2)
        else None
    )
    return found[0]


def declare(file):
    path = kernel(file)
    del file[path]
    file.create_dataset(path, HUGE, "f4", chunks=(64, 64))


def declare_more(file):
    file.create_dataset("more", HUGE, "f4", chunks=(64, 64))


def compress(file):
    path = kernel(file)
    del file[path]
    file.create_dataset(path, [2, 2], "f4", compression="gzip")


def texts(file):
    path = kernel(file)
    del file[path]
    file.create_dataset(path, [2, 2], h5py.string_dtype())


def h5(files, target, change):
    target.write_bytes(changed((files / "model.h5").read_bytes(), change))
    return target


def name_often(file):
    """One array of 16 MB, which Keras would read a hundred times before it counts."""
    path = kernel(file)
    group = file["model_weights/dense"]
    del file[path]
    file.create_dataset(path, [2048, 2048], "f4", chunks=(64, 64))
    name = path.removeprefix("model_weights/dense/").encode()
    group.attrs["weight_names"] = np.array([name] * 100)


def long_names(file):
    """HDF5 could store one text of 1 MB three thousand times in a list of names."""
    file.attrs["about"] = "x" * 2**20
    file["model_weights"].attrs.create("layer_names", ["x"] * 3000, dtype=h5py.string_dtype())


def configured(change):
    def apply(file):
        file.attrs["model_config"] = change(file.attrs["model_config"].encode())

    return apply


def huge_saved_model(files, target):
    from keras.protobuf import saved_metadata_pb2

    shutil.copytree(files / "saved_model", target)
    metadata = saved_metadata_pb2.SavedMetadata()
    metadata.ParseFromString((target / "keras_metadata.pb").read_bytes())
    for node in metadata.nodes:
        node.metadata = node.metadata.replace('"units": 2', '"units": 1000000000')
    (target / "keras_metadata.pb").write_bytes(metadata.SerializeToString())
    return target


ATTACKS = {
    "padded.keras": (
        lambda files, to: repacked(files, to, config=padded),
        "configuration of 200 MB",
    ),
    "padded_metadata.keras": (
        lambda files, to: repacked(files, to, metadata=padded),
        "configuration of 200 MB",
    ),
    "objects.keras": (
        lambda files, to: repacked(files, to, config=many_objects),
        "configuration of more than 500,000 lists",
    ),
    "weights.keras": (
        lambda files, to: repacked(files, to, model=padded),
        "200 MB of weights in a file of 0 MB",
    ),
    "bzip2.keras": (
        lambda files, to: repacked(files, to, zipfile.ZIP_BZIP2),
        "packed by another method than deflate",
    ),
    "declared.keras": (
        lambda files, to: repacked(files, to, model=lambda data: changed(data, declare)),
        "4,096 MB of weights",
    ),
    "units.keras": (
        lambda files, to: repacked(files, to, config=units(10**9)),
        "model whose weights take more than 64 MB",
    ),
    "declared.h5": (lambda files, to: h5(files, to, declare), "4,096 MB of weights in a file"),
    "more.h5": (lambda files, to: h5(files, to, declare_more), "4,096 MB of weights in a file"),
    "compressed.h5": (lambda files, to: h5(files, to, compress), "compressed weight"),
    "texts.h5": (lambda files, to: h5(files, to, texts), "not made of numbers"),
    "often.h5": (lambda files, to: h5(files, to, name_often), "1,6.. MB of weights in a file"),
    "names.h5": (lambda files, to: h5(files, to, long_names), "list of 2,999 MB of names"),
    "units.h5": (
        lambda files, to: h5(files, to, configured(units(10**9))),
        "model whose weights take more than 64 MB",
    ),
    "objects.h5": (
        lambda files, to: h5(files, to, configured(many_objects)),
        "configuration of more than 500,000 lists",
    ),
}
if not IS_KERAS_3:  # which loads no SavedModels
    ATTACKS["saved_model"] = huge_saved_model, "model whose weights take more than 64 MB"

LOAD_ALL = """
import resource, sys, tempfile
import fedlab as fl
fl.models.load(sys.argv[1])  # what loading any model takes
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
before = peak()
for path in sys.argv[2:]:
    try:
        fl.models.load(path)
    except ValueError as error:
        print(peak() - before, str(error))
"""


@pytest.mark.slow
def test_small_files_that_ask_for_gigabytes(files, tmp_path):
    paths = [make(files, tmp_path / name) for name, (make, _) in ATTACKS.items()]
    arguments = [sys.executable, "-c", LOAD_ALL, files / "model.keras", *paths]
    done = subprocess.run(
        [*map(str, arguments)], capture_output=True, text=True, check=True, timeout=300
    )
    lines = done.stdout.splitlines()
    assert len(lines) == len(ATTACKS), done.stdout + done.stderr
    for line, path, (_, message) in zip(lines, paths, ATTACKS.values(), strict=True):
        growth, _, error = line.partition(" ")
        assert error.startswith(f"{path} holds a")
        assert int(growth) < 300, error
        assert re.search(message, error) and "pass trust_model=True" in error, error


def test_the_commands_say_so_in_a_line(files, tmp_path, capsys):
    path = h5(files, tmp_path / "declared.h5", declare)
    assert cli.main(["generate", f"--model={path}", "--prompt=a"]) == 2
    assert "4,096 MB of weights" in capsys.readouterr().err


def test_an_archive_that_lies_about_a_size(files, tmp_path):
    """A reader of all that is packed would unpack a gigabyte to find the first bytes."""
    with zipfile.ZipFile(files / "model.keras") as archive:
        config = archive.read("config.json")
    path = repacked(files, tmp_path / "model.keras", config=padded)
    with zipfile.ZipFile(path) as archive:
        told = archive.getinfo("config.json")
    data = path.read_bytes()
    for true, lie in [(told.file_size, len(config)), (told.CRC, zlib.crc32(config))]:
        data = data.replace(struct.pack("<I", true), struct.pack("<I", lie))
    path.write_bytes(data)
    with zipfile.ZipFile(path) as archive:
        assert archive.read("config.json") == config  # which is how Keras reads it
    with pytest.raises(ValueError, match="cannot be loaded .*damaged"):
        fl.models.load(path)


def test_trusted_files_have_no_limits(files, tmp_path):
    """A file that is unusual but harmless: compressed weights and a large configuration."""
    for path in (
        h5(files, tmp_path / "compressed.h5", compress),
        repacked(files, tmp_path / "bzip2.keras", zipfile.ZIP_BZIP2),
    ):
        with pytest.raises(ValueError, match="pass trust_model=True"):
            fl.models.load(path)
        assert fl.models.load(path, trust_model=True).count_params() == 6


def test_models_that_compress_well_are_within_the_limits(tmp_path):
    """Zeros, with two moments, in a deflated archive: 24 MB in 50 kB."""
    model = tf.keras.Sequential(
        [layers.Input([1]), layers.Dense(1_000_000, kernel_initializer="zeros")]
    )
    model.compile("adam", "mse")
    model.optimizer.build(model.trainable_variables)
    model.save(tmp_path / "model.keras")
    small = repacked(tmp_path, tmp_path / "small.keras")
    assert small.stat().st_size < 100_000
    assert fl.models.load(small).count_params() == 2_000_000


def test_sizes_of_texts():
    limits.check_text("text", 16 << 20, 10)
    limits.check_text("text", 60 << 20, 10 << 20)
    for size, packed in [((16 << 20) + 1, 10), (65 << 20, 65 << 20)]:
        with pytest.raises(limits.TooLargeError, match="text of"):
            limits.check_text("text", size, packed)


def test_damaged_texts_end(files, tmp_path):
    """HDF5 itself would look for the next text forever."""
    data = bytearray((files / "model.h5").read_bytes())
    at = data.index(b"GCOL") + 16
    while data[at : at + 2] != bytes(2):  # to the free space behind the last text
        at += 16 + -(-int.from_bytes(data[at + 8 : at + 16], "little") // 8) * 8
    data[at + 8 : at + 16] = bytes(8)
    (tmp_path / "model.h5").write_bytes(data)
    with pytest.raises(ValueError, match="damaged"):
        fl.models.load(tmp_path / "model.h5")
