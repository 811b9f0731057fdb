"""Files of data sets: given, cached or downloaded."""

import pytest

from fedlab.datasets import _locate
from fedlab.datasets._locate import File
from tests.test_download import CONTENT, Server, server, sha256

__all__ = ["server"]


def test_find_prefers_path_then_cache_then_downloads(server, tmp_path):
    file = File("data.bin", server.url, sha256(CONTENT))
    options = {"cache_dir": tmp_path / "cache"}
    assert _locate.find(file, "some", **options) == tmp_path / "cache/some/data.bin"
    assert _locate.find(file, "some", **options).read_bytes() == CONTENT
    assert server.requests == [None]
    own = tmp_path / "own" / "data.bin"
    own.parent.mkdir()
    own.write_bytes(b"mine")
    for path in (own, own.parent, str(own.parent)):
        assert _locate.find(file, "some", path=path, **options) == own
    (tmp_path / "cache/some/data").write_bytes(b"decompressed")
    assert _locate.find(file, "some", names=("data",), **options).name == "data"


def one_line(error):
    assert "\n" not in str(error.value)
    return str(error.value)


def test_errors_say_what_is_missing_and_where_to_put_it(server, tmp_path):
    missing = File("other.bin", server.url.replace("data", "other"))
    with pytest.raises(ConnectionError) as error:
        _locate.find(missing, "some", cache_dir=tmp_path)
    message = one_line(error)
    assert f"some: could not download {missing.url} (the server answered 404 Not Found)" in message
    assert f"put it at {tmp_path}/some/other.bin, or pass path=" in message
    with pytest.raises(FileNotFoundError) as error:
        _locate.find(missing, "some", path=tmp_path)
    assert f"path='{tmp_path}': expected a folder with other.bin (some)" in one_line(error)
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError) as error:
        _locate.find(File("data.bin", server.url), "some", cache_dir=tmp_path / "file")
    assert "pass cache_dir= a folder" in one_line(error)


def test_an_unreachable_server_is_a_connection_error(tmp_path):
    with Server() as closed:
        url = f"http://127.0.0.1:{closed.server_port}/data.bin"
    with pytest.raises(ConnectionError, match="could not download .*refused"):
        _locate.find(File("data.bin", url), "some", cache_dir=tmp_path)
