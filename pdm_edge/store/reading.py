"""Batches out of the file: what is next in a lane, and what a far end has asked for."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

from pdm_edge.records import LANES, Batch, FeatureSchema, Lane, Row, Stamp, Want

BATCH_BYTES: Final = 262_144
"""A batch ends before its bodies are larger than this; a single row may be."""

COLUMNS: Final = (
    "seq, kind, subject, utc_ns, monotonic_ns, headers.boot_id, clock_trusted, body, schema_id, context,"
    " utc_minus_monotonic_ns FROM outbox JOIN headers ON headers.id = header"
    " LEFT JOIN boots ON boots.boot_id = headers.boot_id"
)
_NEXT: Final = f"SELECT {COLUMNS} WHERE lane = ? AND seq > ? ORDER BY seq LIMIT ?"
_OF_RANGE: Final = f"SELECT {COLUMNS} WHERE lane = ? AND seq > ? AND seq <= ? ORDER BY seq LIMIT ?"
OF_ALARM: Final = (
    "lane = ? AND header IN (SELECT id FROM headers WHERE kind = 'waveform' AND instr(context, ?))"
)
_OF_ALARM: Final = f"SELECT {COLUMNS} WHERE {OF_ALARM} AND seq > ? ORDER BY seq LIMIT ?"


def next_in_lane(connection: sqlite3.Connection, gateway: str, lane: Lane, max_rows: int) -> Batch | None:
    """The oldest rows of a lane that were not delivered."""
    number = LANES.index(lane)
    (after,) = connection.execute("SELECT sent_seq FROM lanes WHERE lane = ?", (number,)).fetchone()
    rows, _ = _bounded(connection.execute(_NEXT, (number, after, max_rows)), lane, max_rows)
    if not rows:
        return None
    return Batch(gateway, lane, after, rows, _schemas(connection, rows))


def wanted(connection: sqlite3.Connection, gateway: str, lane: Lane, max_rows: int) -> Batch | None:
    """The next part of an answer to the oldest want in a lane, None if there is none."""
    number = LANES.index(lane)
    found = connection.execute(
        "SELECT id, after_seq, through_seq, alarm FROM wants WHERE lane = ? ORDER BY rowid LIMIT 1", (number,)
    ).fetchone()
    if found is None:
        return None
    want_id, after, through, alarm = found
    if alarm:
        cursor = connection.execute(_OF_ALARM, (number, alarm_text(alarm), after, max_rows + 1))
    else:
        (sent,) = connection.execute("SELECT sent_seq FROM lanes WHERE lane = ?", (number,)).fetchone()
        # What was not sent yet comes by itself.
        cursor = connection.execute(_OF_RANGE, (number, after, min(through, sent), max_rows + 1))
    rows, complete = _bounded(cursor, lane, max_rows)
    end = max(through, after) if complete and not alarm else 0
    return Batch(gateway, lane, after, rows, _schemas(connection, rows), want_id, complete, end)


def add_wants(connection: sqlite3.Connection, wants: Iterable[Want]) -> None:
    """Note what a far end asks for, once, within the caller's transaction."""
    for want in wants:
        connection.execute(
            "INSERT OR IGNORE INTO wants (id, lane, after_seq, through_seq, alarm) VALUES (?, ?, ?, ?, ?)",
            (want.id[:200], LANES.index(want.lane), want.after_seq, want.through_seq, want.alarm),
        )


def settle_lane(connection: sqlite3.Connection, lane: int, through_seq: int, kept: int) -> int:
    """The far end has a lane through a number; return how many rows that settles.

    The `kept` newest of the delivered rows stay in the file.
    """
    (sent,) = connection.execute("SELECT sent_seq FROM lanes WHERE lane = ?", (lane,)).fetchone()
    if through_seq <= sent:
        return 0
    bounds = (lane, sent, through_seq)
    gone = through_seq
    if kept:
        (settled,) = connection.execute(
            "SELECT count(*) FROM outbox WHERE lane = ? AND seq > ? AND seq <= ?", bounds
        ).fetchone()
        oldest_kept = connection.execute(
            "SELECT seq FROM outbox WHERE lane = ? AND seq <= ? ORDER BY seq DESC LIMIT 1 OFFSET ?",
            (lane, through_seq, kept),
        ).fetchone()
        gone = oldest_kept[0] if oldest_kept else 0
    removed = connection.execute("DELETE FROM outbox WHERE lane = ? AND seq <= ?", (lane, gone)).rowcount
    connection.execute("UPDATE lanes SET sent_seq = ? WHERE lane = ?", (through_seq, lane))
    return int(settled) if kept else removed


def settle_want(connection: sqlite3.Connection, batch: Batch, through_seq: int) -> int:
    """The far end has a part of its answer; return the number of rows that left the file."""
    (alarm,) = connection.execute("SELECT alarm FROM wants WHERE id = ?", (batch.want,)).fetchone() or ("",)
    number = LANES.index(batch.lane)
    removed = 0
    if alarm:
        removed = connection.execute(
            f"DELETE FROM outbox WHERE {OF_ALARM} AND seq <= ?", (number, alarm_text(alarm), through_seq)
        ).rowcount
    if batch.want_done and through_seq >= batch.through_seq:
        connection.execute("DELETE FROM wants WHERE id = ?", (batch.want,))
    else:
        connection.execute(
            "UPDATE wants SET after_seq = max(after_seq, ?) WHERE id = ?", (through_seq, batch.want)
        )
    return removed


def alarm_text(alarm: str) -> str:
    """How an alarm's id stands in the context of its waveforms."""
    return f'"alarm":{msgspec.json.encode(alarm).decode()}'


def to_row(lane: Lane, values: Sequence[Any]) -> Row:
    """A row of a query over `COLUMNS`; its time is the corrected one, where that is known."""
    seq, kind, subject, utc_ns, monotonic_ns, boot_id, trusted, body, schema_id, context, offset_ns = values
    if not trusted and offset_ns is not None:
        utc_ns, trusted = monotonic_ns + offset_ns, True
    stamp = Stamp(utc_ns, monotonic_ns, boot_id, bool(trusted))
    return Row(seq, lane, kind, subject, stamp, body, schema_id, context)


def _bounded(cursor: sqlite3.Cursor, lane: Lane, max_rows: int) -> tuple[tuple[Row, ...], bool]:
    """Rows within both bounds, and whether those were all."""
    rows: list[Row] = []
    size = 0
    for values in cursor:
        size += len(values[7])
        if rows and (len(rows) >= max_rows or size > BATCH_BYTES):
            cursor.close()
            return tuple(rows), False
        rows.append(to_row(lane, values))
    return tuple(rows), True


def _schemas(connection: sqlite3.Connection, rows: Sequence[Row]) -> Mapping[str, FeatureSchema]:
    schemas = {}
    for schema_id in sorted({row.schema_id for row in rows if row.schema_id}):
        names, units = connection.execute(
            "SELECT names, units FROM schemas WHERE id = ?", (schema_id,)
        ).fetchone()
        schemas[schema_id] = FeatureSchema(
            tuple(msgspec.json.decode(names)), tuple(msgspec.json.decode(units))
        )
    return schemas
