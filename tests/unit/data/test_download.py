from __future__ import annotations

import hashlib
import http.server
import socket
import threading

import pytest

from onnxscape.data import download as module
from onnxscape.data.download import download
from onnxscape.errors import DataUnavailableError

CONTENT = bytes(range(256)) * 4000
MD5 = hashlib.md5(CONTENT, usedforsecurity=False).hexdigest()


@pytest.fixture
def target(tmp_path):
    return tmp_path / "file.gz"


def fetch(url, target, *, md5=MD5, max_bytes=1 << 21, progress=None):
    download(url, target, md5=md5, max_bytes=max_bytes, progress=progress)


def assert_nothing_is_left(target):
    assert list(target.parent.iterdir()) == []


def test_a_file_is_fetched_and_progress_is_told(web, target):
    web.files["/f"] = CONTENT
    told = []
    fetch(f"{web.url}/f", target, progress=lambda done, total: told.append((done, total)))
    assert target.read_bytes() == CONTENT
    assert list(target.parent.iterdir()) == [target]
    assert told[-1] == (len(CONTENT), len(CONTENT))
    assert [done for done, _ in told] == sorted(done for done, _ in told)


def test_another_file_than_expected_is_not_kept(web, target):
    web.files["/f"] = CONTENT[:-1] + b"\0"
    with pytest.raises(DataUnavailableError, match=f"another file.*not {MD5}"):
        fetch(f"{web.url}/f", target)
    assert_nothing_is_left(target)


def test_a_file_that_ends_early_is_not_kept(web, target):
    web.files["/f"] = CONTENT[:1000]
    web.lengths["/f"] = len(CONTENT)
    with pytest.raises(
        DataUnavailableError, match=f"ended after 1000 of {len(CONTENT)} bytes"
    ):
        fetch(f"{web.url}/f", target)
    assert_nothing_is_left(target)


def test_what_the_server_says_is_passed_on(web, target):
    with pytest.raises(DataUnavailableError, match="/f: the server says 404 Not Found"):
        fetch(f"{web.url}/f", target)
    assert_nothing_is_left(target)


def test_a_file_that_is_announced_too_large_is_refused(web, target):
    web.files["/f"] = CONTENT
    with pytest.raises(DataUnavailableError, match="larger than the 1000 bytes"):
        fetch(f"{web.url}/f", target, max_bytes=1000)
    assert_nothing_is_left(target)


def test_an_endless_file_is_refused(target):
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            try:
                while True:
                    self.wfile.write(CONTENT)
            except OSError:
                pass

        def log_message(self, *_arguments):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        with pytest.raises(DataUnavailableError, match=r"larger than the 4\.0 MiB"):
            fetch(f"http://127.0.0.1:{server.server_port}/f", target, max_bytes=4 << 20)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    assert_nothing_is_left(target)


def test_a_silent_server_is_given_up(target, monkeypatch):
    monkeypatch.setattr(module, "STALL_SECONDS", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(DataUnavailableError, match="timed out"):
            fetch(f"http://127.0.0.1:{port}/f", target)
    assert_nothing_is_left(target)


def test_a_download_that_takes_too_long_is_given_up(web, target, monkeypatch):
    web.files["/f"] = CONTENT
    monkeypatch.setattr(module, "TOTAL_SECONDS", -1.0)
    with pytest.raises(DataUnavailableError, match="not done after"):
        fetch(f"{web.url}/f", target)
    assert_nothing_is_left(target)


def test_a_host_that_is_not_there_is_an_error(target):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(DataUnavailableError, match="refused"):
        fetch(f"http://127.0.0.1:{port}/f", target)
    assert_nothing_is_left(target)


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://127.0.0.1/f", "f"])
def test_other_schemes_are_refused(target, url):
    with pytest.raises(DataUnavailableError, match="http or https"):
        fetch(url, target)


def test_an_interrupt_leaves_nothing(web, target):
    web.files["/f"] = CONTENT

    def interrupt(_done, _total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(f"{web.url}/f", target, progress=interrupt)
    assert_nothing_is_left(target)
