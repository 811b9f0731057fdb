"""Downloads from a server in this process: resumed, verified, and explained."""

import hashlib
import http.server
import re
import threading

import pytest

from fedlab import _download

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


def test_a_file_that_fails_its_check_is_discarded(server, tmp_path):
    def check(file):
        raise ValueError(f"{file.stat().st_size} bytes are not a model")

    with pytest.raises(ValueError, match="1024000 bytes are not a model"):
        _download.download(server.url, tmp_path / "data.bin", check=check)
    assert entries(tmp_path) == []
    _download.download(server.url, tmp_path / "data.bin", check=lambda file: file.read_bytes())
    assert server.requests == [None, None]
