"""Batches out of the file: what is next in a lane, and what a far end has asked for."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from pdm_edge.delivery import Batch, Row
from pdm_edge.records import LANES, FeatureSchema, Lane, Stamp

BATCH_BYTES: Final = 262_144
"""A batch ends before its bodies are larger than this; a single row may be."""

OF_ALARM: Final = "header IN (SELECT id FROM headers WHERE kind = 'waveform' AND instr(context, ?))"


def select(lane: Lane) -> str:
    """A query for rows of a lane, in the order that `to_row` takes; conditions are to follow."""
    return (
        "SELECT seq, kind, subject, from_monotonic_ns + after_ns + offset_ns,"
        " from_monotonic_ns + after_ns, headers.boot_id, clock_trusted, body, schema_id, context,"
        f" utc_minus_monotonic_ns FROM outbox_{lane} LEFT JOIN headers ON headers.id = header"
        " LEFT JOIN boots ON boots.boot_id = headers.boot_id"
    )


def next_in_lane(
    connection: sqlite3.Connection, gateway: str, lane: Lane, max_rows: int, *, after: int | None = None
) -> Batch | None:
    """The oldest rows of a lane behind a number, by default those that were not delivered."""
    if after is None:
        number = LANES.index(lane)
        (after,) = connection.execute("SELECT sent_seq FROM lanes WHERE lane = ?", (number,)).fetchone()
    cursor = connection.execute(f"{select(lane)} WHERE seq > ? ORDER BY seq LIMIT ?", (after, max_rows))
    rows, _ = _bounded(cursor, lane, max_rows)
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
        cursor = connection.execute(
            f"{select(lane)} WHERE {OF_ALARM} AND seq > ? ORDER BY seq LIMIT ?",
            (alarm_text(alarm), after, max_rows + 1),
        )
    else:
        (sent,) = connection.execute("SELECT sent_seq FROM lanes WHERE lane = ?", (number,)).fetchone()
        # What was not sent yet comes by itself.
        cursor = connection.execute(
            f"{select(lane)} WHERE seq > ? AND seq <= ? ORDER BY seq LIMIT ?",
            (after, min(through, sent), max_rows + 1),
        )
    rows, complete = _bounded(cursor, lane, max_rows)
    end = max(through, after) if complete and not alarm else 0
    return Batch(gateway, lane, after, rows, _schemas(connection, rows), want_id, complete, end)


def alarm_text(alarm: str) -> str:
    """How an alarm's id stands in the context of its waveforms."""
    return f'"alarm":{msgspec.json.encode(alarm).decode()}'


def to_row(lane: Lane, values: Sequence[Any]) -> Row:
    """A row of a query by `select`; its time is the corrected one, where that is known.

    Raises
    ------
    sqlite3.DatabaseError
        If it cannot have been written so: the file is damaged.
    """
    seq, kind, subject, utc_ns, monotonic_ns, boot_id, trusted, body, schema_id, context, offset_ns = values
    if kind is None or type(body) is not bytes:
        raise sqlite3.DatabaseError(f"row {seq} of lane {lane} is malformed")
    if not trusted and offset_ns is not None:
        utc_ns, trusted = monotonic_ns + offset_ns, True
    stamp = Stamp(utc_ns, monotonic_ns, boot_id, bool(trusted))
    return Row(seq, lane, kind, subject, stamp, body, schema_id, context)


def _bounded(cursor: sqlite3.Cursor, lane: Lane, max_rows: int) -> tuple[tuple[Row, ...], bool]:
    """Rows within both bounds, and whether those were all."""
    rows: list[Row] = []
    size = 0
    for values in cursor:
        row = to_row(lane, values)
        size += len(row.body)
        if rows and (len(rows) >= max_rows or size > BATCH_BYTES):
            cursor.close()
            return tuple(rows), False
        rows.append(row)
    return tuple(rows), True


def _schemas(connection: sqlite3.Connection, rows: Sequence[Row]) -> Mapping[str, FeatureSchema]:
    schemas = {}
    for schema_id in sorted({row.schema_id for row in rows if row.schema_id}):
        found = connection.execute("SELECT names, units FROM schemas WHERE id = ?", (schema_id,)).fetchone()
        if found is None:
            raise sqlite3.DatabaseError(f"schema {schema_id} is not there: the file is malformed")
        names, units = found
        schemas[schema_id] = FeatureSchema(
            tuple(msgspec.json.decode(names)), tuple(msgspec.json.decode(units))
        )
    for row in rows:
        if row.schema_id and len(row.body) != 4 * len(schemas[row.schema_id].names):
            raise sqlite3.DatabaseError(f"row {row.seq} of lane {row.lane} is malformed")
    return schemas
