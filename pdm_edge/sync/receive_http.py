"""A receiver that listens for HTTP."""

from __future__ import annotations

import contextlib
import hmac
import logging
import socket
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

import msgspec

from pdm_edge.errors import StoreError, SyncError
from pdm_edge.sync.bounds import MAX_PACKED_BYTES
from pdm_edge.sync.payload import encode_receipt
from pdm_edge.sync.receiver import Receiver
from pdm_edge.sync.secrets import Secret

logger = logging.getLogger(__name__)


class _Server(ThreadingHTTPServer):
    """Closes its open connections when it is closed, so that no sender talks to a ghost."""

    def __init__(self, *args: Any) -> None:
        self._open: set[Any] = set()
        super().__init__(*args)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def server_close(self) -> None:
        super().server_close()
        for request in tuple(self._open):
            with contextlib.suppress(OSError):  # the sender was quicker
                request.shutdown(socket.SHUT_RDWR)


class HttpReceiver:
    """Serves a Receiver over HTTP in a thread of its own; `port` 0 picks a free one."""

    def __init__(
        self,
        receiver: Receiver,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        token: Secret | None = None,
        context: ssl.SSLContext | None = None,
    ) -> None:
        handler = type("Handler", (_Handler,), {"receiver": receiver, "token": token})
        self._server = _Server((host, port), handler)
        if context is not None:
            # The handshake happens in the thread of the connection, so that nobody can hold the others up.
            self._server.socket = context.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, name="receiver", daemon=True)
        self._thread.start()

    def __enter__(self) -> HttpReceiver:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Handler(BaseHTTPRequestHandler):
    receiver: Receiver
    token: Secret | None
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else each answer waits 40 ms for the acknowledgement of its head
    timeout = 30.0

    def do_GET(self) -> None:
        """The fleet, for a person with a browser or a program."""
        if not self._is_authorised():
            return
        try:
            body = msgspec.json.encode(self.receiver.fleet())
        except StoreError as error:
            self._answer(503, str(error).encode())
            return
        self._answer(200, body)

    def do_POST(self) -> None:
        if not self._is_authorised():
            return
        length = self.headers.get("Content-Length", "")
        if not length.isdigit() or int(length) > MAX_PACKED_BYTES:
            self._answer(413, b"Content-Length is missing or too large")
            return
        content = self.rfile.read(int(length))
        if len(content) < int(length):
            return  # the sender hung up half-way; nobody waits for an answer
        try:
            receipt = self.receiver.accept(content)
        except SyncError as error:
            self._answer(400, str(error).encode())
            return
        except StoreError as error:
            logger.error("batch not stored: %s", error)
            self._answer(503, b"not stored, try again")
            return
        self._answer(200, encode_receipt(receipt))

    def _is_authorised(self) -> bool:
        """Compares a bearer token where one is asked for; else answers, and hangs up."""
        if self.token is None:
            return True
        given = self.headers.get("Authorization", "").removeprefix("Bearer ").encode()
        if hmac.compare_digest(given, self.token.reveal().encode()):
            return True
        self.close_connection = True  # the body stays unread
        self._answer(401, b"wrong or missing bearer token")
        return False

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json" if status == 200 else "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        logger.debug(format, *args)
