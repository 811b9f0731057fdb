"""Downloads from a server in this process: resumed, verified, cached, and explained."""

import bz2
import gzip
import hashlib
import http.server
import io
import lzma
import re
import tarfile
import threading
import zipfile

import numpy as np
import pytest

from fedlab.datasets import _download
from fedlab.datasets._download import File

CONTENT = bytes(range(256)) * 4000  # 1,024,000 bytes: several blocks


class Server(http.server.ThreadingHTTPServer):
    """Serves CONTENT, and misbehaves as asked.

    Attributes:
      requests: the Range headers that arrived, in order; None for the whole file.
      cuts: how many bytes to send before closing the connection, per request.
      etag: the version of the file.
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests, self.cuts, self.etag, self.content = [], [], '"one"', CONTENT
        self.ranges = True

    def handle_error(self, request, client_address):  # the client closed the connection
        pass


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self):
        server = self.server
        wanted = self.headers.get("Range")
        server.requests.append(wanted)
        if self.path != "/data.bin":
            return self.send_error(404)
        body, start = server.content, 0
        if wanted and server.ranges and self.headers.get("If-Range") == server.etag:
            start = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1])
            if start >= len(body):
                return self.send_error(416)
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        if server.etag:
            self.send_header("ETag", server.etag)
        self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        most = server.cuts.pop(0) if server.cuts else len(body)
        self.wfile.write(body[start : start + most])
        self.close_connection = True

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server():
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        server.url = f"http://127.0.0.1:{server.server_port}/data.bin"
        yield server
        server.shutdown()
        thread.join()


def sha256(data):
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def entries(folder):
    return sorted(each.name for each in folder.iterdir() if not each.name.endswith(".lock"))


def test_a_file_is_downloaded_once(server, tmp_path):
    file = tmp_path / "sub" / "data.bin"
    for _ in range(2):
        _download.download(server.url, file, checksum=sha256(CONTENT))
        assert file.read_bytes() == CONTENT
    assert server.requests == [None]
    assert entries(tmp_path / "sub") == ["data.bin"]


def test_a_transfer_that_breaks_off_is_resumed(server, tmp_path):
    server.cuts = [300_000, 500_000]
    _download.download(server.url, tmp_path / "data.bin", checksum=sha256(CONTENT))
    assert (tmp_path / "data.bin").read_bytes() == CONTENT
    assert server.requests == [None, "bytes=300000-", "bytes=800000-"]


def test_the_next_call_resumes_where_the_last_one_gave_up(server, tmp_path):
    server.cuts = [100_000] * _download.ATTEMPTS
    with pytest.raises(ConnectionError, match="after 300000 of 1024000 bytes"):
        _download.download(server.url, tmp_path / "data.bin")
    assert not (tmp_path / "data.bin").exists()
    _download.download(server.url, tmp_path / "data.bin", checksum=sha256(CONTENT))
    assert server.requests[-1] == "bytes=300000-"
    assert (tmp_path / "data.bin").read_bytes() == CONTENT
    assert entries(tmp_path) == ["data.bin"]


@pytest.mark.parametrize("etag", ['"two"', 'W/"one"', ""])
def test_a_file_that_may_have_changed_is_downloaded_from_the_start(server, tmp_path, etag):
    server.cuts = [100_000] * _download.ATTEMPTS
    if etag != '"two"':
        server.etag = etag  # the server gives no reliable version: nothing is resumed
    with pytest.raises(ConnectionError):
        _download.download(server.url, tmp_path / "data.bin")
    server.etag, server.content = etag, CONTENT[::-1]
    _download.download(server.url, tmp_path / "data.bin")
    assert (tmp_path / "data.bin").read_bytes() == CONTENT[::-1]


def test_a_server_without_ranges_sends_all_of_it(server, tmp_path):
    server.ranges, server.cuts = False, [100_000]
    _download.download(server.url, tmp_path / "data.bin")
    assert server.requests == [None, "bytes=100000-"]
    assert (tmp_path / "data.bin").read_bytes() == CONTENT


def test_a_complete_part_of_a_killed_process_is_not_an_error(server, tmp_path):
    server.cuts = [1000] * _download.ATTEMPTS
    with pytest.raises(ConnectionError):
        _download.download(server.url, tmp_path / "data.bin")
    (tmp_path / ".data.bin.part").write_bytes(CONTENT)  # all of it, but not renamed
    _download.download(server.url, tmp_path / "data.bin", checksum=sha256(CONTENT))
    assert server.requests[-2:] == [f"bytes={len(CONTENT)}-", None]
    assert (tmp_path / "data.bin").read_bytes() == CONTENT


def test_a_wrong_checksum_discards_the_file(server, tmp_path):
    with pytest.raises(ValueError, match=f"has sha256 {sha256(CONTENT)[7:]}: expected 0000"):
        _download.download(server.url, tmp_path / "data.bin", checksum="sha256:" + 64 * "0")
    assert entries(tmp_path) == []
    md5 = f"md5:{hashlib.md5(CONTENT).hexdigest()}"
    _download.download(server.url, tmp_path / "data.bin", checksum=md5)
    assert entries(tmp_path) == ["data.bin"]


def test_two_threads_download_once(server, tmp_path):
    threads = [
        threading.Thread(target=_download.download, args=(server.url, tmp_path / "data.bin"))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert server.requests == [None]
    assert (tmp_path / "data.bin").read_bytes() == CONTENT


def test_a_progress_bar_counts_the_bytes(server, tmp_path, capsys):
    _download.download(server.url, tmp_path / "data.bin", progress=True)
    shown = capsys.readouterr().err
    assert "data.bin: 100%" in shown and "0.98M/0.98M" in shown
    (tmp_path / "data.bin").unlink()
    _download.download(server.url, tmp_path / "data.bin")  # stderr is not a terminal
    assert capsys.readouterr().err == ""


# ---- find ----


def test_find_prefers_path_then_cache_then_downloads(server, tmp_path):
    file = File("data.bin", server.url, sha256(CONTENT))
    options = {"cache_dir": tmp_path / "cache"}
    assert _download.find(file, "some", **options) == tmp_path / "cache/some/data.bin"
    assert _download.find(file, "some", **options).read_bytes() == CONTENT
    assert server.requests == [None]
    own = tmp_path / "own" / "data.bin"
    own.parent.mkdir()
    own.write_bytes(b"mine")
    for path in (own, own.parent, str(own.parent)):
        assert _download.find(file, "some", path=path, **options) == own
    (tmp_path / "cache/some/data").write_bytes(b"decompressed")
    assert _download.find(file, "some", names=("data",), **options).name == "data"


def one_line(error):
    assert "\n" not in str(error.value)
    return str(error.value)


def test_errors_say_what_is_missing_and_where_to_put_it(server, tmp_path):
    missing = File("other.bin", server.url.replace("data", "other"))
    with pytest.raises(ConnectionError) as error:
        _download.find(missing, "some", cache_dir=tmp_path)
    message = one_line(error)
    assert f"some: could not download {missing.url} (the server answered 404 Not Found)" in message
    assert f"put it at {tmp_path}/some/other.bin, or pass path=" in message
    with pytest.raises(FileNotFoundError) as error:
        _download.find(missing, "some", path=tmp_path)
    assert f"path='{tmp_path}': expected a folder with other.bin (some)" in one_line(error)
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError) as error:
        _download.find(File("data.bin", server.url), "some", cache_dir=tmp_path / "file")
    assert "pass cache_dir= a folder" in one_line(error)


def test_an_unreachable_server_is_a_connection_error(tmp_path):
    with Server() as closed:
        url = f"http://127.0.0.1:{closed.server_port}/data.bin"
    with pytest.raises(ConnectionError, match="could not download .*refused"):
        _download.find(File("data.bin", url), "some", cache_dir=tmp_path)


# ---- Compression and archives ----


@pytest.mark.parametrize(
    "end, compress", [("gz", gzip.compress), ("bz2", bz2.compress), ("lzma", lzma.compress)]
)
def test_compressed_files_are_decompressed_once(tmp_path, end, compress):
    content = np.random.default_rng(0).bytes(50_000)
    file, cache = tmp_path / f"data.sqlite.{end}", tmp_path / "cache"
    file.write_bytes(compress(content))
    for _ in range(2):
        plain = _download.decompressed(file, cache)
        assert plain == cache / "data.sqlite" and plain.read_bytes() == content
        assert _download.read(file) == content
        file.touch()
    assert _download.decompressed(plain, tmp_path) == plain
    damaged = tmp_path / f"damaged.{end}"
    damaged.write_bytes(compress(content)[:-200])
    with pytest.raises(ValueError, match="damaged") as error:
        _download.decompressed(damaged, cache)
    assert str(damaged) in one_line(error)
    assert entries(cache) == ["data.sqlite"]
    (tmp_path / "data.sqlite").write_bytes(b"beside the compressed file")
    assert _download.decompressed(file, cache) == tmp_path / "data.sqlite"


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
    assert _download.members(zipped, ["ml-100k/u.data"]) == {"ml-100k/u.data": b"zip"}
    assert _download.members(zipped, ["u.data"]) == {"u.data": b"zip"}
    assert _download.members(tarred, ["xx.bin", "x.bin"]) == {"xx.bin": b"txx", "x.bin": b"tx."}
    with pytest.raises(ValueError, match="expected one file 'y.bin' in the archive, found 0"):
        _download.members(tarred, ["y.bin"])
    zipped.write_bytes(b"not an archive")
    with pytest.raises(ValueError, match="damaged or in another format"):
        _download.members(zipped, ["u.data"])
