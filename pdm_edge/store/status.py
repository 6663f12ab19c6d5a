"""What a buffer holds, for a person or a program; also of a file that another process writes."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from pdm_edge.errors import StoreError
from pdm_edge.records import LANES
from pdm_edge.store.migrations import LAST_SEQ
from pdm_edge.store.reading import select, to_row


@dataclass(frozen=True, slots=True)
class LaneStatus:
    """Rows that wait in a lane, and what became of the others."""

    rows: int
    body_bytes: int
    oldest_utc_ns: int | None
    delivered: int
    evicted: int
    on_request: bool = False
    rows_per_s: float | None = None


@dataclass(frozen=True, slots=True)
class BufferStatus:
    """A snapshot of a buffer file. Bytes include the write-ahead log.

    ``last_seq`` is how many numbers the file has given so far. ``clock_trusted`` is that of the
    newest row, None if there is none. ``rows_per_s`` is how fast rows were delivered lately.
    ``refused`` rows were set aside, since the far end always refuses them; the latest says why.
    """

    gateway: str
    lanes: Mapping[str, LaneStatus]
    file_bytes: int
    last_seq: int
    last_alarm: str | None
    last_receipt_utc_ns: int | None = None
    rows_per_s: float | None = None
    link_error: str = ""
    clock_trusted: bool | None = None
    sent_bytes_by_day: Mapping[str, int] | None = None
    refused: int = 0
    last_refused: str = ""

    @property
    def rows(self) -> int:
        """Rows that wait to be sent; those sent on request only do not count."""
        return sum(lane.rows for lane in self.lanes.values() if not lane.on_request)

    @property
    def held(self) -> int:
        """Rows that stay until the far end asks for them."""
        return sum(lane.rows for lane in self.lanes.values() if lane.on_request)

    @property
    def delivered(self) -> int:
        return sum(lane.delivered for lane in self.lanes.values())

    @property
    def evicted(self) -> int:
        return sum(lane.evicted for lane in self.lanes.values())

    @property
    def oldest_utc_ns(self) -> int | None:
        """Time of the oldest row that waits to be sent."""
        known = [s.oldest_utc_ns for s in self.lanes.values() if s.oldest_utc_ns and not s.on_request]
        return min(known, default=None)

    @property
    def drained_in_s(self) -> float | None:
        """How long what waits would take, each lane at its own rate; None if no rate is known.

        A lane that was never drained is taken for as slow as the slowest that was.
        """
        rates = [lane.rows_per_s for lane in self.lanes.values() if lane.rows_per_s]
        if not rates:
            return None
        waiting = [lane for lane in self.lanes.values() if not lane.on_request]
        return sum(lane.rows / (lane.rows_per_s or min(rates)) for lane in waiting)


def read_status(path: str | Path) -> BufferStatus:
    """Status of a buffer file, without writing to it.

    Raises
    ------
    StoreError
        If it is not there or no buffer.
    """
    file = Path(path)
    try:
        connection = open_read_only(file)
        try:
            return query_status(connection, file)
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise StoreError(f"is no buffer of pdm-edge: {error}", where=str(file)) from error


def open_read_only(file: Path) -> sqlite3.Connection:
    """A connection that cannot write.

    Raises
    ------
    StoreError
        If the file is not there.
    """
    if not file.is_file():
        raise StoreError("there is no such file", where=str(file))
    return sqlite3.connect(f"{file.resolve().as_uri()}?mode=ro", uri=True, timeout=5.0)


def query_status(connection: sqlite3.Connection, path: Path) -> BufferStatus:
    """Status through a connection that is open."""
    lanes = {
        LANES[number]: LaneStatus(*_waiting(connection, number, sent), delivered, evicted, bool(held), rate)
        for number, sent, delivered, evicted, held, rate in connection.execute(
            "SELECT lane, sent_seq, delivered, evicted, on_request, rows_per_s FROM lanes ORDER BY lane"
        ).fetchall()
    }
    gateway, first_seq = connection.execute("SELECT id, first_seq FROM gateway").fetchone() or ("", 0)
    (last,) = connection.execute(LAST_SEQ).fetchone()
    receipt, rate = connection.execute(
        "SELECT receipt_utc_ns, rows_per_s FROM lanes ORDER BY receipt_utc_ns DESC LIMIT 1"
    ).fetchone()
    (error,) = connection.execute("SELECT last_error FROM link").fetchone()
    refused, last_refused = connection.execute(
        "SELECT count(*), (SELECT kind || ' of ' || subject || ', row ' || seq || ': ' || why FROM refused"
        " ORDER BY seq DESC LIMIT 1) FROM refused"
    ).fetchone()
    size = sum(f.stat().st_size for f in (path, path.with_name(path.name + "-wal")) if f.exists())
    return BufferStatus(
        gateway,
        lanes,
        size,
        last - first_seq,
        _last_alarm(connection),
        last_receipt_utc_ns=receipt,
        rows_per_s=rate,
        link_error=error,
        clock_trusted=_clock_trusted(connection),
        sent_bytes_by_day=dict(connection.execute("SELECT day, bytes FROM traffic ORDER BY day")),
        refused=refused,
        last_refused=last_refused or "",
    )


def _waiting(connection: sqlite3.Connection, number: int, sent: int) -> tuple[int, int, int | None]:
    """Rows of a lane that were not delivered, their bytes, and the time of the oldest."""
    rows, size = connection.execute(
        f"SELECT count(*), sum(length(body)) FROM outbox_{LANES[number]} WHERE seq > ?", (sent,)
    ).fetchone()
    lane = LANES[number]
    oldest = connection.execute(f"{select(lane)} WHERE seq > ? ORDER BY seq LIMIT 1", (sent,)).fetchone()
    oldest_utc_ns = to_row(lane, oldest).stamp.utc_ns if oldest else None
    return rows, size or 0, oldest_utc_ns


def _clock_trusted(connection: sqlite3.Connection) -> bool | None:
    newest = [
        connection.execute(
            f"SELECT seq, clock_trusted FROM outbox_{lane} JOIN headers ON id = header"
            " ORDER BY seq DESC LIMIT 1"
        ).fetchone()
        for lane in LANES
    ]
    return bool(max(found for found in newest if found)[1]) if any(newest) else None


def _last_alarm(connection: sqlite3.Connection) -> str | None:
    found = connection.execute(
        "SELECT subject, body FROM outbox_alarm JOIN headers ON id = header ORDER BY seq DESC LIMIT 1"
    ).fetchone()
    if found is None:
        return None
    body = msgspec.json.decode(found[1])
    return f"{found[0]}: {body['state']}: {body['headline']}"
