"""What can still be read of a damaged buffer file, moved into a new one under the same numbers."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

logger = logging.getLogger(__name__)

_CHUNK: Final = 2000
_ROWS: Final = (
    "SELECT seq, lane, header, utc_ns, monotonic_ns, clock_trusted, body FROM outbox"
    " WHERE seq >= ? ORDER BY seq LIMIT ?"
)


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
    headers = {
        row[0]: row for row in _table(source, "headers", "id, boot_id, kind, subject, schema_id, context")
    }
    tables = {
        "schemas": "id, names, units",
        "boots": "boot_id, utc_minus_monotonic_ns",
        "traffic": "day, bytes",
    }
    into.execute("BEGIN IMMEDIATE")
    for table, columns in tables.items():
        for row in _table(source, table, columns):
            marks = ", ".join("?" * len(row))
            into.execute(f"INSERT OR IGNORE INTO {table} ({columns}) VALUES ({marks})", row)
    for row in headers.values():
        into.execute("INSERT OR IGNORE INTO headers VALUES (?, ?, ?, ?, ?, ?)", row)
    for lane, sent, delivered, evicted in _table(source, "lanes", "lane, sent_seq, delivered, evicted"):
        into.execute(
            "UPDATE lanes SET sent_seq = ?, delivered = ?, evicted = ? WHERE lane = ?",
            (sent, delivered, evicted, lane),
        )
    saved = 0
    for row in _readable(source):
        if row[2] in headers and isinstance(row[6], bytes):
            into.execute("INSERT OR IGNORE INTO outbox VALUES (?, ?, ?, ?, ?, ?, ?)", row)
            saved += 1
            if saved % _CHUNK == 0:
                into.execute("COMMIT")
                into.execute("BEGIN IMMEDIATE")
    into.execute("COMMIT")
    return saved, max(_known_rows(source) - saved, 0)


def _table(source: sqlite3.Connection, table: str, columns: str) -> Iterator[tuple[Any, ...]]:
    try:
        yield from source.execute(f"SELECT {columns} FROM {table}")
    except sqlite3.Error as error:
        logger.error("salvage: the rest of table %s cannot be read: %s", table, error)


def _readable(source: sqlite3.Connection) -> Iterator[tuple[Any, ...]]:
    """Rows in order of their numbers, around the places that cannot be read."""
    bounds = _bounds(source)
    if bounds is None:
        return
    low, high = bounds
    limit = _CHUNK
    while low <= high:
        found = _fetch(source, low, limit)
        if found:
            yield from found
            low, limit = found[-1][0] + 1, _CHUNK
        elif found is not None:
            return
        elif limit > 1:
            limit //= 8
        else:
            low, limit = _behind_damage(source, low, high), _CHUNK


def _fetch(source: sqlite3.Connection, low: int, limit: int) -> list[tuple[Any, ...]] | None:
    try:
        return source.execute(_ROWS, (low, max(limit, 1))).fetchall()
    except sqlite3.Error:
        return None


def _behind_damage(source: sqlite3.Connection, low: int, high: int) -> int:
    """The lowest number from which on a row can be read again, where `low` cannot."""
    step = 1
    while low + step <= high and _fetch(source, low + step, 1) is None:
        step *= 2
    fails, works = step // 2, step
    while works - fails > 1:
        middle = (fails + works) // 2
        if _fetch(source, low + middle, 1) is None:
            fails = middle
        else:
            works = middle
    return low + works


def _bounds(source: sqlite3.Connection) -> tuple[int, int] | None:
    """The first and the last number, from whichever of table and index can be read."""
    for sql in (
        "SELECT min(seq), max(seq) FROM outbox NOT INDEXED",
        "SELECT min(seq), max(seq) FROM outbox INDEXED BY outbox_by_lane WHERE lane >= 0",
    ):
        try:
            low, high = source.execute(sql).fetchone()
        except sqlite3.Error as error:
            logger.error("salvage: %s", error)
            continue
        if low is not None:
            return int(low), int(high)
    return None


def _known_rows(source: sqlite3.Connection) -> int:
    try:
        (rows,) = source.execute(
            "SELECT count(*) FROM outbox INDEXED BY outbox_by_lane WHERE lane >= 0"
        ).fetchone()
    except sqlite3.Error:
        return 0  # neither is known: the note in the buffer says that rows may be missing
    return int(rows)
