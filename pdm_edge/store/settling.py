"""What sending and its receipts change in the file, within the caller's transaction (but for the marks)."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Collection, Iterable
from typing import Final, NamedTuple

from pdm_edge.delivery import Batch, Want
from pdm_edge.records import LANES, Lane
from pdm_edge.store.file import BufferFile
from pdm_edge.store.leaving import remove
from pdm_edge.store.reading import OF_ALARM, alarm_text

KEPT_ROWS: Final = 1000
"""Delivered rows that stay in each lane of `_KEPT_LANES`, should the far end ask for them again.

There may be half as many more: they leave in large pieces, which costs less than a few with each receipt.
"""

_KEPT_LANES: Final[frozenset[Lane]] = frozenset({"alarm", "event", "feature"})


class Settled(NamedTuple):
    """What a receipt has settled in a lane."""

    rows: int = 0
    sent_seq: int = 0
    """Delivered through this number; 0 if that has not changed."""
    gone: int = 0
    """Rows that have left the file."""
    gone_through: int = 0
    """The highest number of those, or more."""
    kept: int = 0
    """By how many rows the delivered ones that the lane still holds have become more, or less."""


def add_wants(connection: sqlite3.Connection, wants: Iterable[Want]) -> None:
    """Note what a far end asks for, once."""
    for want in wants:
        connection.execute(
            "INSERT OR IGNORE INTO wants (id, lane, after_seq, through_seq, alarm) VALUES (?, ?, ?, ?, ?)",
            (want.id[:200], LANES.index(want.lane), want.after_seq, want.through_seq, want.alarm),
        )


def settle_lane(connection: sqlite3.Connection, batch: Batch, through_seq: int) -> Settled:
    """The far end has the lane of a batch through a number."""
    lane = batch.lane
    sent, kept = connection.execute(
        "SELECT sent_seq, kept FROM lanes WHERE lane = ?", (LANES.index(lane),)
    ).fetchone()
    if through_seq <= sent:
        return Settled()
    if (sent, through_seq) == (batch.after_seq, batch.through_seq):
        rows = len(batch.rows)  # none of which was given up meanwhile: it was on its way
    else:
        (rows,) = connection.execute(
            f"SELECT count(*) FROM outbox_{lane} WHERE seq > ? AND seq <= ?", (sent, through_seq)
        ).fetchone()
    most = KEPT_ROWS if lane in _KEPT_LANES else 0
    if kept + rows <= most * 3 // 2:
        return Settled(rows, through_seq, kept=rows)
    through = through_seq
    if most:
        (through,) = connection.execute(
            f"SELECT seq FROM outbox_{lane} ORDER BY seq LIMIT 1 OFFSET ?", (kept + rows - most - 1,)
        ).fetchone()
    gone = connection.execute(f"DELETE FROM outbox_{lane} WHERE seq <= ?", (through,)).rowcount
    return Settled(rows, through_seq, gone, through, rows - gone)


class Pace:
    """How fast a lane drains: rows by the time from one receipt to the next, while batches are full.

    So what the link, a limit of its rate and the far end take is all in it, and the pauses of a link that has
    nothing to send are not.
    """

    def __init__(self) -> None:
        self._since_s: dict[Lane, float] = {}
        self._full_in_a_row: dict[Lane, int] = {}

    def handed_out(self, batch: Batch, max_rows: int) -> None:
        full = self._full_in_a_row.get(batch.lane, 0)
        if not full:
            self._since_s[batch.lane] = time.monotonic()
        self._full_in_a_row[batch.lane] = full + 1 if len(batch.rows) >= max_rows else 0

    def settled(self, batch: Batch, rows: int) -> tuple[float, bool]:
        """Rows/s since the receipt before, or since the batch was handed out; and whether the lane drains."""
        now_s = time.monotonic()
        rate = rows / max(now_s - self._since_s.get(batch.lane, now_s), 1e-6)
        self._since_s[batch.lane] = now_s
        return rate, rows > 0 and self._full_in_a_row.get(batch.lane, 0) > 1


def note_receipt(
    connection: sqlite3.Connection, lane: Lane, settled: Settled, pace: tuple[float, bool], utc_ns: int
) -> None:
    """Note a receipt in its lane. Where it is not known how fast the lane drains, any pace says something."""
    rows, sent_seq, gone, gone_through, kept = settled
    rate, drains = pace
    connection.execute(
        "UPDATE lanes SET sent_seq = max(sent_seq, ?), delivered = delivered + ?, kept = kept + ?,"
        " gone = gone + ?, gone_through = max(gone_through, ?), receipt_utc_ns = ?,"
        " rows_per_s = coalesce(0.8 * rows_per_s + 0.2 * ?, rows_per_s, ?) WHERE lane = ?",
        (
            *(sent_seq, rows, kept, gone, gone_through, utc_ns),
            *(rate if drains else None, rate or None, LANES.index(lane)),
        ),
    )


def settle_want(connection: sqlite3.Connection, batch: Batch, through_seq: int) -> Settled:
    """The far end has a part of its answer; of evidence, the rows leave the file."""
    (alarm,) = connection.execute("SELECT alarm FROM wants WHERE id = ?", (batch.want,)).fetchone() or ("",)
    removed = 0
    if alarm:
        found = connection.execute(
            f"SELECT seq FROM outbox_{batch.lane} WHERE {OF_ALARM} AND seq <= ? ORDER BY seq",
            (alarm_text(alarm), through_seq),
        ).fetchall()
        removed = remove(connection, batch.lane, [seq for (seq,) in found])  # which notes them as gone
    if batch.want_done and through_seq >= batch.through_seq:
        connection.execute("DELETE FROM wants WHERE id = ?", (batch.want,))
    else:
        connection.execute(
            "UPDATE wants SET after_seq = max(after_seq, ?) WHERE id = ?", (through_seq, batch.want)
        )
    return Settled(removed)


def mark_on_request(file: BufferFile, lanes: Collection[Lane]) -> None:
    """Note which lanes are sent on request only; if that is so already nothing is written."""
    marked = {name for (name,) in file.connection.execute("SELECT name FROM lanes WHERE on_request")}
    if marked != set(lanes):  # else the disk may be full
        with file.transaction() as connection:
            connection.executemany(
                "UPDATE lanes SET on_request = ? WHERE name = ?", [(lane in lanes, lane) for lane in LANES]
            )


def sent_on(connection: sqlite3.Connection, day: str) -> int:
    """Bytes that were sent on a day."""
    found = connection.execute("SELECT bytes FROM traffic WHERE day = ?", (day,)).fetchone()
    return int(found[0]) if found else 0


def note_sent(connection: sqlite3.Connection, day: str, n_bytes: int) -> None:
    """Add to the bytes sent on a day; a month of days is kept."""
    connection.execute(
        "INSERT INTO traffic (day, bytes) VALUES (?, ?)"
        " ON CONFLICT (day) DO UPDATE SET bytes = bytes + excluded.bytes",
        (day, n_bytes),
    )
    connection.execute(
        "DELETE FROM traffic WHERE day NOT IN (SELECT day FROM traffic ORDER BY day DESC LIMIT 31)"
    )
