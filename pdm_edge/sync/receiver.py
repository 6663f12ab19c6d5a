"""The other end, small but real: takes batches over HTTP or MQTT, writes them once, says so.

A batch that comes twice changes nothing, since a row's identity is (gateway, boot, number). The
receipt is given only after the rows are committed.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import sqlite3
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, cast

from pdm_edge.errors import SyncError
from pdm_edge.records import Lane, Receipt
from pdm_edge.sync.payload import MAX_PACKED_BYTES, Received, decode_batch, encode_receipt

logger = logging.getLogger(__name__)

_SCHEMA = """
CREATE TABLE IF NOT EXISTS received (
  gateway TEXT NOT NULL, boot_id TEXT NOT NULL, seq INTEGER NOT NULL,
  lane TEXT NOT NULL, kind TEXT NOT NULL, subject TEXT NOT NULL,
  utc_ns INTEGER NOT NULL, monotonic_ns INTEGER NOT NULL, clock_trusted INTEGER NOT NULL,
  context TEXT NOT NULL, body TEXT NOT NULL,
  PRIMARY KEY (gateway, boot_id, seq)
) WITHOUT ROWID
"""


class Receiver:
    """Writes batches into an SQLite file.

    Parameters
    ----------
    path
        The file; made if it is not there.
    on_batch
        Called after each batch with what came and how many of its rows were new.
    """

    def __init__(self, path: str | Path, *, on_batch: Callable[[Received, int], None] | None = None) -> None:
        self._lock = threading.Lock()
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = FULL")
        self._connection.execute(_SCHEMA)
        self._on_batch = on_batch
        self.repeated = 0
        self.bytes_received = 0

    def accept(self, packed: bytes) -> Receipt:
        """Store a batch; the receipt is the promise that it is durable.

        Raises
        ------
        SyncError
            If it is no batch; nothing was stored.
        """
        received = decode_batch(packed)
        rows = [
            (
                received.gateway,
                r.boot_id,
                r.seq,
                received.lane,
                r.kind,
                r.subject,
                r.utc_ns,
                r.monotonic_ns,
                int(r.clock_trusted),
                r.context,
                r.body,
            )
            for r in received.rows
        ]
        with self._lock:
            before = self._connection.total_changes
            self._connection.execute("BEGIN IMMEDIATE")
            self._connection.executemany(
                f"INSERT OR IGNORE INTO received VALUES ({', '.join('?' * 11)})", rows
            )
            self._connection.execute("COMMIT")
            new = self._connection.total_changes - before
            self.repeated += len(rows) - new
            self.bytes_received += len(packed)
        if self._on_batch is not None:
            self._on_batch(received, new)
        return Receipt(received.gateway, cast("Lane", received.lane), received.through_seq)

    def count(self) -> int:
        """Rows stored, each once."""
        with self._lock:
            (rows,) = self._connection.execute("SELECT count(*) FROM received").fetchone()
        return int(rows)

    def close(self) -> None:
        with self._lock:
            self._connection.close()


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

    def __init__(self, receiver: Receiver, *, host: str = "127.0.0.1", port: int = 0) -> None:
        handler = type("Handler", (_Handler,), {"receiver": receiver})
        self._server = _Server((host, port), handler)
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
    protocol_version = "HTTP/1.1"
    timeout = 30.0

    def do_POST(self) -> None:
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
        except sqlite3.Error as error:
            logger.error("batch not stored: %s", error)
            self._answer(503, b"not stored, try again")
            return
        self._answer(200, encode_receipt(receipt))

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json" if status == 200 else "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        logger.debug(format, *args)


def serve_mqtt(receiver: Receiver, host: str, port: int) -> Any:
    """Take batches from a broker, put receipts back; returns the running client.

    End it with ``client.disconnect(); client.loop_stop()``.
    """
    import paho.mqtt.client as paho
    from paho.mqtt.enums import CallbackAPIVersion

    def take(client: paho.Client, _userdata: object, message: paho.MQTTMessage) -> None:
        try:
            receipt = receiver.accept(bytes(message.payload))
        except (SyncError, sqlite3.Error) as error:
            logger.error("%s: not stored: %s", message.topic, error)
            return
        client.publish(f"pdm/{receipt.gateway}/receipt", encode_receipt(receipt), qos=1)

    client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
    client.on_connect = lambda c, _u, _f, _r, _p: c.subscribe(
        [(f"pdm/+/{lane}", 1) for lane in ("alarm", "event", "feature", "spectrum", "waveform")]
    )
    client.on_message = take
    client.connect(host, port)
    client.loop_start()
    return client
