"""Batches out of the file: what is next in a lane, and what a far end has asked for."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

from pdm_edge.records import LANES, Batch, FeatureSchema, Lane, Row, Stamp, Want
from pdm_edge.store.leaving import remove

BATCH_BYTES: Final = 262_144
"""A batch ends before its bodies are larger than this; a single row may be."""

_OF_ALARM: Final = "header IN (SELECT id FROM headers WHERE kind = 'waveform' AND instr(context, ?))"


def select(lane: Lane) -> str:
    """A query for rows of a lane, in the order that `to_row` takes; conditions are to follow."""
    return (
        "SELECT seq, kind, subject, from_monotonic_ns + after_ns + from_offset_ns + offset_ns,"
        " from_monotonic_ns + after_ns, headers.boot_id, clock_trusted, body, schema_id, context,"
        f" utc_minus_monotonic_ns FROM outbox_{lane} JOIN headers ON headers.id = header"
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
            f"{select(lane)} WHERE {_OF_ALARM} AND seq > ? ORDER BY seq LIMIT ?",
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


def add_wants(connection: sqlite3.Connection, wants: Iterable[Want]) -> None:
    """Note what a far end asks for, once, within the caller's transaction."""
    for want in wants:
        connection.execute(
            "INSERT OR IGNORE INTO wants (id, lane, after_seq, through_seq, alarm) VALUES (?, ?, ?, ?, ?)",
            (want.id[:200], LANES.index(want.lane), want.after_seq, want.through_seq, want.alarm),
        )


def settle_lane(
    connection: sqlite3.Connection, batch: Batch, through_seq: int, most: int, kept: int | None
) -> tuple[int, int | None]:
    """The far end has the lane of a batch through a number; return how many rows that settles and are kept.

    The `most` newest of the delivered rows stay in the file. `kept` is what was returned last, None
    if rows have left in another way since.
    """
    lane, number = batch.lane, LANES.index(batch.lane)
    (sent,) = connection.execute("SELECT sent_seq FROM lanes WHERE lane = ?", (number,)).fetchone()
    if through_seq <= sent:
        return 0, kept
    count = f"SELECT count(*) FROM outbox_{lane} WHERE seq > ? AND seq <= ?"
    if (sent, through_seq) == (batch.after_seq, batch.through_seq):
        settled = len(batch.rows)  # none of which was given up meanwhile: it was on its way
    else:
        (settled,) = connection.execute(count, (sent, through_seq)).fetchone()
    if kept is None:
        (kept,) = connection.execute(count, (-1, sent)).fetchone()
    kept += settled
    through = removed = 0
    if not most:
        through = through_seq
    elif kept > most:
        (through,) = connection.execute(
            f"SELECT seq FROM outbox_{lane} ORDER BY seq LIMIT 1 OFFSET ?", (kept - most - 1,)
        ).fetchone()
    if through:
        removed = connection.execute(f"DELETE FROM outbox_{lane} WHERE seq <= ?", (through,)).rowcount
    connection.execute(
        "UPDATE lanes SET sent_seq = ?, gone = gone + ?, gone_through = max(gone_through, ?) WHERE lane = ?",
        (through_seq, removed, through if removed else 0, number),
    )
    return settled, kept - removed


def settle_want(connection: sqlite3.Connection, batch: Batch, through_seq: int) -> int:
    """The far end has a part of its answer; return the number of rows that left the file."""
    (alarm,) = connection.execute("SELECT alarm FROM wants WHERE id = ?", (batch.want,)).fetchone() or ("",)
    removed = 0
    if alarm:
        found = connection.execute(
            f"SELECT seq FROM outbox_{batch.lane} WHERE {_OF_ALARM} AND seq <= ? ORDER BY seq",
            (alarm_text(alarm), through_seq),
        ).fetchall()
        removed = remove(connection, batch.lane, [seq for (seq,) in found])
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
    """A row of a query by `select`; its time is the corrected one, where that is known."""
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
