"""The other end, small but real: takes batches, writes them once, says so, and asks for what it lacks.

A batch that comes twice changes nothing, since a row's identity is (gateway, boot, number). The
receipt is given only after the rows are committed.
"""

from __future__ import annotations

import base64
import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

import msgspec

from pdm_edge.delivery import Receipt, Want
from pdm_edge.errors import SyncError
from pdm_edge.records import Lane
from pdm_edge.sync.archive import Session, open_archive
from pdm_edge.sync.payload import Received, ReceivedRow, decode_batch

logger = logging.getLogger(__name__)

_INSERT: Final = (
    f"INSERT INTO received (gateway, boot_id, seq, lane, kind, subject, utc_ns, monotonic_ns, clock_trusted,"
    f" context, body) VALUES ({', '.join('?' * 11)}) ON CONFLICT DO NOTHING"
)
_WANTS_AT_ONCE: Final = 20
_REFUSED_KEPT: Final = 1000


@dataclass(frozen=True, slots=True)
class GatewayStatus:
    """What is known of a gateway at the far end. Times are nanoseconds since 1970.

    ``machines`` tells the state of each, ``alarms`` the id of its latest alert or alarm, by which its
    waveforms can be asked for, empty if there was none. ``missing`` counts ranges of rows that were asked for
    and did not come, ``refused`` batches that are none and are kept as they came (over NATS; elsewhere the
    gateway keeps them).
    """

    gateway: str
    rows: int
    received_utc_ns: int
    newest_utc_ns: int
    missing: int
    machines: dict[str, str]
    alarms: dict[str, str]
    refused: int = 0


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
        self._ask_again(gateway, Want(alarm, "waveform", alarm=alarm))

    def ask_for_rows(self, gateway: str, lane: Lane, after_seq: int, through_seq: int) -> None:
        """Ask a gateway, with the next receipts, for rows of a lane after a number, through another.

        It has the latest thousand or so delivered rows of the lanes alarm, event and feature.
        """
        want_id = f"{lane}:{after_seq}:{through_seq}"
        self._ask_again(gateway, Want(want_id, lane, after_seq, through_seq))

    def asking(self) -> list[Receipt]:
        """What is wanted of each gateway, as receipts that confirm nothing."""
        with self._lock, self._archive.transaction() as session:
            found = session.execute("SELECT DISTINCT gateway FROM wants WHERE answered = 0").fetchall()
            wants = {gateway: _open_wants(session, gateway) for (gateway,) in found}
        return [Receipt(gateway, "alarm", 0, wants=asked) for gateway, asked in wants.items()]

    def keep_refused(self, gateway: str, packed: bytes, why: str, want: str = "") -> None:
        """Keep a batch that is none, where its sender will not send it again; the newest thousand stay.

        If it was to answer a want, nothing better will come: it is not asked for any more.
        """
        text = base64.b64encode(packed).decode()
        with self._lock, self._archive.transaction() as session:
            session.execute(
                "INSERT INTO refused (gateway, received_utc_ns, why, batch_base64) VALUES (?, ?, ?, ?)"
                " ON CONFLICT DO NOTHING",
                (gateway, time.time_ns(), why[:1000], text),
            )
            session.execute(
                "DELETE FROM refused WHERE gateway = ? AND received_utc_ns <= (SELECT received_utc_ns"
                " FROM refused WHERE gateway = ? ORDER BY received_utc_ns DESC LIMIT 1 OFFSET ?)",
                (gateway, gateway, _REFUSED_KEPT),
            )
            session.execute("UPDATE wants SET answered = 1 WHERE gateway = ? AND id = ?", (gateway, want))

    def _ask_again(self, gateway: str, want: Want) -> None:
        with self._lock, self._archive.transaction() as session:
            known = session.execute("SELECT 1 FROM progress WHERE gateway = ? LIMIT 1", (gateway,)).fetchone()
            if known is None:
                raise SyncError(
                    f"gateway {gateway!r} was never heard of", mend="See --status for those known"
                )
            _ask(session, gateway, want)
            session.execute("UPDATE wants SET answered = 0 WHERE gateway = ? AND id = ?", (gateway, want.id))

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
            refused = dict(
                session.execute("SELECT gateway, count(*) FROM refused GROUP BY gateway").fetchall()
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
                refused.get(gateway, 0),
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
    # Waveforms are kept for those that rose; what is told of a standing alarm later has none of its own.
    rose = state in ("alert", "alarm") and state != content.get("previous")
    alarm = f"{row.subject}@{row.boot_id}:{row.monotonic_ns}" if rose else ""
    session.execute(
        "INSERT INTO machines (gateway, machine, state, headline, alarm, utc_ns, seq)"
        " VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (gateway, machine) DO UPDATE SET state = excluded.state,"
        " headline = excluded.headline, utc_ns = excluded.utc_ns, alarm = CASE WHEN excluded.alarm <> ''"
        " THEN excluded.alarm ELSE machines.alarm END,"
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
