"""What can still be read of a damaged buffer file, moved into a new one under the same numbers."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from pdm_edge.records import LANES, Lane
from pdm_edge.store.refused import COLUMNS as REFUSED_COLUMNS

logger = logging.getLogger(__name__)

_CHUNK: Final = 2000
_HEADERS: Final = (
    "id, boot_id, clock_trusted, kind, subject, schema_id, context, from_monotonic_ns, from_offset_ns"
)
_UNKNOWN: Final = 1 << 53  # numbers are lower
_COLUMNS: Final = "seq, header, after_ns, offset_ns, body"


def salvage(damaged: Path, into: sqlite3.Connection) -> tuple[int, int]:
    """Copy readable rows; return how many were saved, and how many more the file is known to have had.

    `into` is a migrated, empty buffer file, outside of a transaction. Nothing is raised for what
    cannot be read.
    """
    try:
        source = sqlite3.connect(f"{damaged.resolve().as_uri()}?mode=rw", uri=True, timeout=5.0)
    except sqlite3.Error as error:
        logger.error("%s: nothing can be read: %s", damaged, error)
        return 0, 0
    try:
        return _copy(source, into)
    finally:
        source.close()


def _copy(source: sqlite3.Connection, into: sqlite3.Connection) -> tuple[int, int]:
    headers = {row[0]: row for row in _table(source, "headers", _HEADERS)}
    tables = {
        "schemas": "id, names, units",
        "boots": "boot_id, utc_minus_monotonic_ns",
        "traffic": "day, bytes",
        "refused": REFUSED_COLUMNS,
    }
    into.execute("BEGIN IMMEDIATE")
    for table, columns in tables.items():
        for row in _table(source, table, columns):
            _insert(into, table, columns, row)
    for row in headers.values():
        _insert(into, "headers", _HEADERS, row)
    gone = 0
    for *counts, left in _table(source, "lanes", "sent_seq, delivered, evicted, gone_through, lane, gone"):
        into.execute(
            "UPDATE lanes SET sent_seq = ?, delivered = ?, evicted = ?, gone_through = ? WHERE lane = ?",
            counts,
        )
        gone += left
    saved = 0
    top = 0
    for lane in LANES:
        for row in _readable(source, lane):
            if row[1] in headers and isinstance(row[4], bytes):
                _insert(into, f"outbox_{lane}", _COLUMNS, row)
                saved += 1
                top = max(top, row[0])
                if saved % _CHUNK == 0:
                    into.execute("COMMIT")
                    into.execute("BEGIN IMMEDIATE")
    # Their numbers lie before those of the new file: it counts them in, but begins where it would have.
    into.execute("UPDATE lanes SET gone_through = max(gone_through, (SELECT first_seq FROM gateway))")
    into.execute("UPDATE gateway SET first_seq = first_seq - ?", (saved,))
    into.execute("COMMIT")
    return saved, max(_given(source, top) - gone - saved, 0)


def _insert(into: sqlite3.Connection, table: str, columns: str, row: Sequence[Any]) -> None:
    marks = ", ".join("?" * len(row))
    into.execute(f"INSERT OR IGNORE INTO {table} ({columns}) VALUES ({marks})", row)


def _given(source: sqlite3.Connection, top: int) -> int:
    """How many numbers the file is known to have given: each was a row's. 0 if its first is not known."""
    first = [row[0] for row in _table(source, "gateway", "first_seq")]
    return max(top, *_tops(source)) - first[0] if first else 0


def _tops(source: sqlite3.Connection) -> Iterator[int]:
    yield 0
    for (seq,) in _table(source, "lanes", "gone_through"):
        yield seq
    for lane in LANES:
        found = _bounds(source, lane)
        if found is not None and found[1] < _UNKNOWN:
            yield found[1]


def _table(source: sqlite3.Connection, table: str, columns: str) -> Iterator[tuple[Any, ...]]:
    try:
        yield from source.execute(f"SELECT {columns} FROM {table}")
    except sqlite3.Error as error:
        logger.error("salvage: the rest of table %s cannot be read: %s", table, error)


def _readable(source: sqlite3.Connection, lane: Lane) -> Iterator[tuple[Any, ...]]:
    """Rows in order of their numbers, around the places that cannot be read."""
    bounds = _bounds(source, lane)
    if bounds is None:
        return
    low, high = bounds
    limit = _CHUNK
    while low <= high:
        found = _fetch(source, lane, low, limit)
        if found:
            yield from found
            low, limit = found[-1][0] + 1, _CHUNK
        elif found is not None:
            return
        elif limit > 1:
            limit //= 8
        else:
            low, limit = _behind_damage(source, lane, low, high), _CHUNK


def _fetch(source: sqlite3.Connection, lane: Lane, low: int, limit: int) -> list[tuple[Any, ...]] | None:
    try:
        query = f"SELECT {_COLUMNS} FROM outbox_{lane} WHERE seq >= ? ORDER BY seq LIMIT ?"
        return source.execute(query, (low, max(limit, 1))).fetchall()
    except sqlite3.Error:
        return None


def _behind_damage(source: sqlite3.Connection, lane: Lane, low: int, high: int) -> int:
    """The lowest number from which on a row can be read again, where `low` cannot."""
    step = 1
    while low + step <= high and _fetch(source, lane, low + step, 1) is None:
        step *= 2
    fails, works = step // 2, step
    while works - fails > 1:
        middle = (fails + works) // 2
        if _fetch(source, lane, low + middle, 1) is None:
            fails = middle
        else:
            works = middle
    return low + works


def _bounds(source: sqlite3.Connection, lane: Lane) -> tuple[int, int] | None:
    """The first and the last number of a lane; 0 and `_UNKNOWN` where that cannot be read."""
    low, high = _end(source, lane, "ASC", 0), _end(source, lane, "DESC", _UNKNOWN)
    return None if low is None or high is None else (low, high)


def _end(source: sqlite3.Connection, lane: Lane, order: str, unknown: int) -> int | None:
    try:
        found = source.execute(f"SELECT seq FROM outbox_{lane} ORDER BY seq {order} LIMIT 1").fetchone()
    except sqlite3.Error as error:
        logger.error("salvage: lane %s: %s", lane, error)
        return unknown
    return int(found[0]) if found else None
