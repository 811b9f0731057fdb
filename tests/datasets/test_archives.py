"""Compressed files and archives."""

import bz2
import gzip
import io
import lzma
import tarfile
import zipfile

import numpy as np
import pytest

from fedlab.datasets import _archives


@pytest.mark.parametrize(
    "end, compress", [("gz", gzip.compress), ("bz2", bz2.compress), ("lzma", lzma.compress)]
)
def test_compressed_files_are_decompressed_once(tmp_path, end, compress):
    content = np.random.default_rng(0).bytes(50_000)
    file, cache = tmp_path / f"data.sqlite.{end}", tmp_path / "cache"
    file.write_bytes(compress(content))
    for _ in range(2):
        plain = _archives.decompressed(file, cache)
        assert plain == cache / "data.sqlite" and plain.read_bytes() == content
        assert _archives.read(file) == content
        file.touch()
    assert _archives.decompressed(plain, tmp_path) == plain
    damaged = tmp_path / f"damaged.{end}"
    damaged.write_bytes(compress(content)[:-200])
    with pytest.raises(ValueError, match="damaged") as error:
        _archives.decompressed(damaged, cache)
    assert str(damaged) in str(error.value) and "\n" not in str(error.value)
    assert [file.name for file in cache.glob("[!.]*")] == ["data.sqlite"]
    (tmp_path / "data.sqlite").write_bytes(b"beside the compressed file")
    assert _archives.decompressed(file, cache) == tmp_path / "data.sqlite"


def test_members_of_archives(tmp_path):
    zipped = tmp_path / "a.zip"
    with zipfile.ZipFile(zipped, "w") as archive:
        archive.writestr("ml-100k/u.data", b"zip")
    tarred = tmp_path / "a.tar.gz"
    with tarfile.open(tarred, "w:gz") as archive:
        for name in ("a/x.bin", "a/xx.bin"):
            info = tarfile.TarInfo(name)
            info.size = 3
            archive.addfile(info, io.BytesIO(f"t{name[2:4]}".encode()))
    assert _archives.members(zipped, ["ml-100k/u.data"]) == {"ml-100k/u.data": b"zip"}
    assert _archives.members(zipped, ["u.data"]) == {"u.data": b"zip"}
    assert _archives.members(tarred, ["xx.bin", "x.bin"]) == {"xx.bin": b"txx", "x.bin": b"tx."}
    with pytest.raises(ValueError, match="expected one file 'y.bin' in the archive, found 0"):
        _archives.members(tarred, ["y.bin"])
    zipped.write_bytes(b"not an archive")
    with pytest.raises(ValueError, match="damaged or in another format"):
        _archives.members(zipped, ["u.data"])
