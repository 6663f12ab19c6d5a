"""Rows that the far end always refuses: out of their lane, kept in a table of their own.

Functions on an open transaction. The table is self-contained, so that it can be read with any SQLite tool.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import Final

from pdm_edge.delivery import Row
from pdm_edge.records import LANES, Gap, Lane, Stamp
from pdm_edge.store.leaving import remove
from pdm_edge.store.reading import select, to_row
from pdm_edge.store.rows import About, Stored

KEPT: Final = 1000
"""Refused rows that are kept; of more, the oldest go. Each was told by a gap."""

COLUMNS: Final = (
    "seq, lane, kind, subject, boot_id, utc_ns, monotonic_ns, clock_trusted, schema_id, context, body, why"
)
ORIGIN: Final = "sync"
_KEPT_BYTES_SHARE: Final = 20


def set_aside(
    connection: sqlite3.Connection, lane: Lane, seq: int, why: str, now: Stamp, most_bytes: int
) -> Gap | None:
    """Move a row; return the gap that is to be told, None if it is itself such a gap, or not there."""
    found = connection.execute(f"{select(lane)} WHERE seq = ?", (seq,)).fetchone()
    if found is None:
        return None
    row = to_row(lane, found)
    stamp = row.stamp
    values = (
        *(row.seq, LANES.index(lane), row.kind, row.subject, stamp.boot_id, stamp.utc_ns, stamp.monotonic_ns),
        *(stamp.clock_trusted, row.schema_id, row.context, row.body, why),
    )
    marks = ", ".join("?" * len(values))
    connection.execute(f"INSERT OR REPLACE INTO refused ({COLUMNS}) VALUES ({marks})", values)
    remove(connection, lane, [seq])
    number = LANES.index(lane)
    connection.execute("UPDATE lanes SET kept = kept - 1 WHERE lane = ? AND sent_seq >= ?", (number, seq))
    _bound(connection, most_bytes // _KEPT_BYTES_SHARE)
    if (row.kind, row.subject) == ("gap", ORIGIN):
        return None  # else a far end that takes no gaps would be told of each by another
    told = f"{row.kind} of {row.subject}, boot {stamp.boot_id}, row {seq}: set aside, {why}"
    return Gap(ORIGIN, "rows", 1, told, now, first=seq, last=seq)


def release(connection: sqlite3.Connection) -> list[Stored]:
    """Take all refused rows out of the table, to be written into their lanes anew, under new numbers."""
    rows = connection.execute(f"SELECT {COLUMNS} FROM refused ORDER BY seq").fetchall()
    connection.execute("DELETE FROM refused")
    return list(_stored(rows))


def _stored(rows: Iterable[tuple[object, ...]]) -> Iterable[Stored]:
    for _, lane, kind, subject, boot_id, utc_ns, monotonic_ns, trusted, schema_id, context, body, _ in rows:
        row = Row(
            0,
            LANES[int(str(lane))],
            str(kind),
            str(subject),
            Stamp(int(str(utc_ns)), int(str(monotonic_ns)), str(boot_id), bool(trusted)),
            bytes(body) if isinstance(body, bytes) else b"",
            str(schema_id),
            str(context),
        )
        about = About(row.lane, row.kind, row.subject, row.schema_id, row.context)
        yield Stored(about, row.stamp, row.body)


def _bound(connection: sqlite3.Connection, most_bytes: int) -> None:
    """Keep the newest, in number and in bytes."""
    connection.execute(
        "DELETE FROM refused WHERE seq IN (SELECT seq FROM (SELECT seq, row_number() OVER newest AS n,"
        " sum(length(body) + 300) OVER newest AS size FROM refused WINDOW newest AS (ORDER BY seq DESC))"
        " WHERE n > 1 AND (n > ? OR size > ?))",
        (KEPT, most_bytes),
    )
