"""The other end, small but real: takes batches, writes them once, says so, and asks for what it lacks.

A batch that comes twice changes nothing, since a row's identity is (gateway, boot, number). The
receipt is given only after the rows are committed.
"""

from __future__ import annotations

import contextlib
import hmac
import logging
import socket
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Final, cast

import msgspec

from pdm_edge.errors import StoreError, SyncError
from pdm_edge.records import Lane, Receipt, Want
from pdm_edge.sync.archive import Session, open_archive
from pdm_edge.sync.payload import MAX_PACKED_BYTES, Received, ReceivedRow, decode_batch, encode_receipt
from pdm_edge.sync.secrets import Secret

logger = logging.getLogger(__name__)

_INSERT: Final = (
    f"INSERT INTO received (gateway, boot_id, seq, lane, kind, subject, utc_ns, monotonic_ns, clock_trusted,"
    f" context, body) VALUES ({', '.join('?' * 11)}) ON CONFLICT DO NOTHING"
)
_WANTS_AT_ONCE: Final = 20


@dataclass(frozen=True, slots=True)
class GatewayStatus:
    """What is known of a gateway at the far end. Times are nanoseconds since 1970.

    ``machines`` tells the state of each, ``alarms`` the id of its latest change of state, by which its
    waveforms can be asked for. ``missing`` counts ranges of rows that were asked for and did not come.
    """

    gateway: str
    rows: int
    received_utc_ns: int
    newest_utc_ns: int
    missing: int
    machines: dict[str, str]
    alarms: dict[str, str]


class Receiver:
    """Writes batches into an SQLite file, or into PostgreSQL.

    Parameters
    ----------
    path
        The file; made if it is not there. Or a ``postgresql://`` URL.
    on_batch
        Called after each batch with what came and how many of its rows were new.

    Raises
    ------
    StoreError
        If the database cannot be opened.
    """

    def __init__(self, path: str | Path, *, on_batch: Callable[[Received, int], None] | None = None) -> None:
        self._lock = threading.Lock()
        self._archive = open_archive(str(path))
        self._on_batch = on_batch
        self.repeated = 0
        self.bytes_received = 0

    def accept(self, packed: bytes, *, sender: str | None = None) -> Receipt:
        """Store a batch; the receipt is the promise that it is durable.

        `sender` is the gateway as the transport knows it: a batch of another one is refused.

        Raises
        ------
        SyncError
            If it is no batch; nothing was stored.
        StoreError
            If it could not be stored.
        """
        received = decode_batch(packed)
        if sender is not None and received.gateway != sender:
            raise SyncError(f"gateway {sender!r} sends a batch of gateway {received.gateway!r}")
        with self._lock:
            with self._archive.transaction() as session:
                new = _store(session, received)
                wants = _open_wants(session, received.gateway)
            self.repeated += len(received.rows) - new
            self.bytes_received += len(packed)
        if self._on_batch is not None:
            self._on_batch(received, new)
        lane = cast("Lane", received.lane)
        return Receipt(received.gateway, lane, received.through_seq, received.want, wants)

    def ask_for_waveforms(self, gateway: str, alarm: str) -> None:
        """Ask a gateway, with the next receipts, for the waveforms that it keeps for an alarm.

        `alarm` is the id of its advisory: ``machine@boot_id:monotonic_ns``.
        """
        with self._lock, self._archive.transaction() as session:
            _ask(session, gateway, Want(alarm, "waveform", alarm=alarm))

    def count(self) -> int:
        """Rows stored, each once."""
        with self._lock, self._archive.transaction() as session:
            (rows,) = session.execute("SELECT count(*) FROM received").fetchone()
        return int(rows)

    def fleet(self) -> list[GatewayStatus]:
        """Every gateway that was heard, with the state of its machines."""
        with self._lock, self._archive.transaction() as session:
            found = session.execute(
                "SELECT gateway, sum(rows_received), max(received_utc_ns), max(newest_utc_ns) FROM progress"
                " GROUP BY gateway ORDER BY gateway"
            ).fetchall()
            missing = dict(
                session.execute(
                    "SELECT gateway, count(*) FROM wants WHERE answered = 0 AND alarm = '' GROUP BY gateway"
                ).fetchall()
            )
            machines: dict[str, dict[str, str]] = {}
            alarms: dict[str, dict[str, str]] = {}
            for gateway, machine, state, headline, alarm in session.execute(
                "SELECT gateway, machine, state, headline, alarm FROM machines ORDER BY gateway, machine"
            ).fetchall():
                machines.setdefault(gateway, {})[machine] = f"{state}: {headline}"
                alarms.setdefault(gateway, {})[machine] = alarm
        return [
            GatewayStatus(
                gateway,
                int(rows),
                at,
                newest,
                missing.get(gateway, 0),
                machines.get(gateway, {}),
                alarms.get(gateway, {}),
            )
            for gateway, rows, at, newest in found
        ]

    def close(self) -> None:
        with self._lock:
            self._archive.close()


def _store(session: Session, received: Received) -> int:
    """Write the rows that are new; return their number."""
    gateway = received.gateway
    rows = [
        (
            gateway,
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
    new = session.executemany(_INSERT, rows).rowcount if rows else 0
    for row in received.rows:
        if row.kind == "clock":
            _correct_clock(session, gateway, row.boot_id, row.body)
        elif row.kind == "advisory":
            _note_machine(session, gateway, row)
    newest_ns = max((row.utc_ns for row in received.rows), default=0)
    if received.want:
        if received.want_done:
            session.execute(
                "UPDATE wants SET answered = 1 WHERE gateway = ? AND id = ?", (gateway, received.want)
            )
        _note_progress(session, received, 0, new, newest_ns)
    else:
        _note_missing(session, received)
        _note_progress(session, received, received.through_seq, new, newest_ns)
    return new


def _note_missing(session: Session, received: Received) -> None:
    """Where the batch follows on a row that never came, ask for what lies between."""
    known = session.execute(
        "SELECT through_seq FROM progress WHERE gateway = ? AND lane = ?", (received.gateway, received.lane)
    ).fetchone()
    through = known[0] if known else 0
    if received.after_seq > through:
        lane, after = cast("Lane", received.lane), received.after_seq
        _ask(session, received.gateway, Want(f"{lane}:{through}:{after}", lane, through, after))
        logger.warning("gateway %s: rows of lane %s after %d are missing", received.gateway, lane, through)


def _note_progress(session: Session, received: Received, through: int, new: int, newest_ns: int) -> None:
    session.execute(
        "INSERT INTO progress (gateway, lane, through_seq, rows_received, received_utc_ns, newest_utc_ns)"
        " VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (gateway, lane) DO UPDATE SET"
        " through_seq = CASE WHEN excluded.through_seq > progress.through_seq THEN excluded.through_seq"
        " ELSE progress.through_seq END, rows_received = progress.rows_received + excluded.rows_received,"
        " received_utc_ns = excluded.received_utc_ns, newest_utc_ns = CASE WHEN excluded.newest_utc_ns >"
        " progress.newest_utc_ns THEN excluded.newest_utc_ns ELSE progress.newest_utc_ns END",
        (received.gateway, received.lane, through, new, time.time_ns(), newest_ns),
    )


def _correct_clock(session: Session, gateway: str, boot_id: str, body: str) -> None:
    content = msgspec.json.decode(body)
    offset_ns = content.get("utc_minus_monotonic_ns") if isinstance(content, dict) else None
    if isinstance(offset_ns, int) and abs(offset_ns) < 2**62:
        session.execute(
            "UPDATE received SET utc_ns = monotonic_ns + ?, clock_trusted = 1"
            " WHERE gateway = ? AND boot_id = ? AND clock_trusted = 0",
            (offset_ns, gateway, boot_id),
        )


def _note_machine(session: Session, gateway: str, row: ReceivedRow) -> None:
    content = msgspec.json.decode(row.body)
    if not isinstance(content, dict):
        return
    state, headline = str(content.get("state", "")), str(content.get("headline", ""))
    alarm = f"{row.subject}@{row.boot_id}:{row.monotonic_ns}"
    session.execute(
        "INSERT INTO machines (gateway, machine, state, headline, alarm, utc_ns, seq)"
        " VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (gateway, machine) DO UPDATE SET state = excluded.state,"
        " headline = excluded.headline, alarm = excluded.alarm, utc_ns = excluded.utc_ns,"
        " seq = excluded.seq WHERE excluded.seq > machines.seq",
        (gateway, row.subject, state, headline, alarm, row.utc_ns, row.seq),
    )


def _ask(session: Session, gateway: str, want: Want) -> None:
    session.execute(
        "INSERT INTO wants (gateway, id, lane, after_seq, through_seq, alarm, answered)"
        " VALUES (?, ?, ?, ?, ?, ?, 0) ON CONFLICT DO NOTHING",
        (gateway, want.id, want.lane, want.after_seq, want.through_seq, want.alarm),
    )


def _open_wants(session: Session, gateway: str) -> tuple[Want, ...]:
    found: Sequence[Any] = session.execute(
        "SELECT id, lane, after_seq, through_seq, alarm FROM wants WHERE gateway = ? AND answered = 0"
        " ORDER BY id LIMIT ?",
        (gateway, _WANTS_AT_ONCE),
    ).fetchall()
    return tuple(Want(*row) for row in found)


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
