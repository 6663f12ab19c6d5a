"""What a buffer holds, for a person or a program; also of a file that another process writes."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from pdm_edge.errors import StoreError
from pdm_edge.records import LANES


@dataclass(frozen=True, slots=True)
class LaneStatus:
    """Rows that wait in a lane, and what became of the others."""

    rows: int
    body_bytes: int
    oldest_utc_ns: int | None
    delivered: int
    evicted: int


@dataclass(frozen=True, slots=True)
class BufferStatus:
    """A snapshot of a buffer file. Bytes include the write-ahead log."""

    gateway: str
    lanes: Mapping[str, LaneStatus]
    file_bytes: int
    last_seq: int
    last_alarm: str | None

    @property
    def rows(self) -> int:
        return sum(lane.rows for lane in self.lanes.values())

    @property
    def delivered(self) -> int:
        return sum(lane.delivered for lane in self.lanes.values())

    @property
    def evicted(self) -> int:
        return sum(lane.evicted for lane in self.lanes.values())


def read_status(path: str | Path) -> BufferStatus:
    """Status of a buffer file, without writing to it.

    Raises
    ------
    StoreError
        If it is not there or no buffer.
    """
    file = Path(path)
    if not file.is_file():
        raise StoreError("there is no such file", where=str(file))
    try:
        connection = sqlite3.connect(f"{file.resolve().as_uri()}?mode=ro", uri=True, timeout=5.0)
        try:
            return query_status(connection, file)
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise StoreError(f"is no buffer of pdm-edge: {error}", where=str(file)) from error


def query_status(connection: sqlite3.Connection, path: Path) -> BufferStatus:
    """Status through a connection that is open."""
    waiting = {
        lane: (rows, size or 0, oldest)
        for lane, rows, size, oldest in connection.execute(
            "SELECT lane, count(*), sum(length(body)), min(utc_ns) FROM outbox GROUP BY lane"
        )
    }
    lanes = {}
    for number, delivered, evicted in connection.execute("SELECT lane, delivered, evicted FROM lanes"):
        rows, size, oldest = waiting.get(number, (0, 0, None))
        lanes[LANES[number]] = LaneStatus(rows, size, oldest, delivered, evicted)
    (gateway,) = connection.execute("SELECT id FROM gateway").fetchone() or ("",)
    last = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'outbox'").fetchone()
    alarm = connection.execute(
        "SELECT subject, body FROM outbox JOIN headers ON headers.id = header"
        " WHERE lane = 0 ORDER BY seq DESC LIMIT 1"
    ).fetchone()
    text = None
    if alarm is not None:
        body = msgspec.json.decode(alarm[1])
        text = f"{alarm[0]}: {body['state']}: {body['headline']}"
    size = sum(f.stat().st_size for f in (path, path.with_name(path.name + "-wal")) if f.exists())
    return BufferStatus(gateway, lanes, size, last[0] if last else 0, text)
