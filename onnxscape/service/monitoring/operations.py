"""What operators ask by HTTP: whether the server lives, whether it takes work, its metrics.

It is answered by threads of its own, so that a server whose loop hangs is found out; and by
nothing but the standard library, for a handful of clients on the same machine. It knows no
authentication: it listens on loopback unless told otherwise, and tells nothing of users.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from concurrent.futures import CancelledError
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from onnxscape.errors import UsageError
from onnxscape.files.closing import Closing
from onnxscape.service.listening import shown
from onnxscape.service.monitoring.metrics import CONTENT_TYPE

if TYPE_CHECKING:
    from collections.abc import Callable

    from onnxscape.service.monitoring.metrics import ServerMetrics

_log = logging.getLogger(__name__)

_CONNECTIONS = 16
"""At the same time; more are closed at once."""

_CLIENT_SECONDS = 5.0
"""For a client to send its request and to take the answer."""


class Operations(Closing):
    """The HTTP side of a server; a context manager.

    Attributes:
        address: Where it listens, as HOST:PORT.
        port: The port.
    """

    def __init__(
        self,
        metrics: ServerMetrics,
        *,
        ready: Callable[[], str | None],
        host: str = "127.0.0.1",
        port: int = 0,
        loop_seconds: float = 5.0,
    ) -> None:
        """Begin to listen. Must be called from the server's loop.

        Args:
            metrics: What /metrics tells.
            ready: Returns why the server takes no work now, or None if it does; called from
                other threads.
            host: Address to listen on.
            port: Port to listen on; 0 for a free one.
            loop_seconds: In which a loop that lives answers.

        Raises:
            UsageError: If that address cannot be had.
        """
        self._loop = asyncio.get_running_loop()
        self._loop_seconds = loop_seconds
        self._metrics = metrics
        self._ready = ready
        try:
            self._server = _Server((host, port), self._answer)
        except OSError as error:
            raise UsageError(
                f"cannot listen on {host}:{port} for HTTP: {error.strerror or error}; choose "
                "another --http-host or --http-port"
            ) from error
        self.port = int(self._server.server_address[1])
        self.address = f"{shown(host)}:{self.port}"
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.1,), name="operations", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _answer(self, path: str) -> tuple[int, str, bytes]:
        """Return status, type and body of the answer to a request."""
        if path == "/healthz":
            return _said(None if self._lives() else "the server's loop does not answer")
        if path == "/readyz":
            return _said(self._ready() if self._lives() else "the loop does not answer")
        if path == "/metrics":
            return 200, CONTENT_TYPE, self._metrics.exposition()
        return 404, "text/plain", b"try /healthz, /readyz or /metrics\n"

    def _lives(self) -> bool:
        """Return whether the loop comes around."""
        try:
            turn = asyncio.run_coroutine_threadsafe(asyncio.sleep(0), self._loop)
        except RuntimeError:  # it is closed
            return False
        try:
            turn.result(self._loop_seconds)
        except (TimeoutError, CancelledError):
            turn.cancel()
            return False
        return True


def _said(trouble: str | None) -> tuple[int, str, bytes]:
    if trouble is None:
        return 200, "text/plain", b"ok\n"
    return 503, "text/plain", f"{trouble}\n".encode()


class _Server(ThreadingHTTPServer):
    """Serves so many connections, each for so long."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 32

    def __init__(
        self, address: tuple[str, int], answer: Callable[[str], tuple[int, str, bytes]]
    ) -> None:
        self.answer = answer
        self._free = threading.BoundedSemaphore(_CONNECTIONS)
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        super().__init__(address, _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._free.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:
            self._free.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: socket.socket | Any, client_address: Any) -> None:
        _log.warning("answering by HTTP failed", exc_info=True)


class _Handler(BaseHTTPRequestHandler):
    """Answers one request, then closes."""

    timeout = _CLIENT_SECONDS
    server: _Server
    server_version = "onnxscape"
    sys_version = ""

    def do_GET(self) -> None:
        self._reply(with_body=True)

    def do_HEAD(self) -> None:
        self._reply(with_body=False)

    def _reply(self, *, with_body: bool) -> None:
        try:
            status, kind, body = self.server.answer(self.path.partition("?")[0])
        except Exception:  # noqa: BLE001 - a monitor has to see it as well
            _log.exception("cannot answer by HTTP")
            status, kind, body = 500, "text/plain", b"failed; the log says why\n"
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: a monitor asks every few seconds."""
