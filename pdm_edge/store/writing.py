"""Rows into the file, within the caller's transaction."""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np

from pdm_edge.records import LANES, FeatureSchema, FeatureVector, Lane, Stamp
from pdm_edge.store import trend
from pdm_edge.store.migrations import LAST_SEQ
from pdm_edge.store.rows import About, Stored, about_features, clock_row

_ROW: Final = {
    lane: f"INSERT INTO outbox_{lane} (seq, header, after_ns, body) VALUES (?, ?, ?, ?)" for lane in LANES
}
# A stretch of vectors in one statement takes a third of the time that they take one by one: their times
# are an array, their values lie end to end. Behind its first row SQLite gives the numbers, and is faster so.
_STRETCH: Final = (
    "INSERT INTO outbox_feature (seq, header, after_ns, body)"
    " SELECT CASE WHEN key = 0 THEN ?1 END, ?2, value, substr(?3, 1 + key * ?4, ?4) FROM json_each(?5)"
)
_STRETCH_LEAST: Final = 8
_ROW_BYTES: Final = 24  # of a row beside its body: its number, header, time and places in the page
_HEADER: Final = "boot_id, clock_trusted, kind, subject, schema_id, context"
# SQLite stores whole numbers below this in 6 bytes.
_AFTER_MOST_NS: Final = 1 << 47

CLOCK_TOLERANCE_NS: Final = 1_000_000
"""How far the wall time of a stored row may be off the stamp's.

The difference of wall and monotonic time is kept once for many rows: between two jumps it is the same,
and what it seems to vary by is the time between reading the one clock and the other. Only a change
of more than this is taken for one, and noted exactly. Monotonic times are always exact.
"""


class _Header(NamedTuple):
    """A row of the table `headers`, with what the times of its rows are counted from."""

    id: int
    from_monotonic_ns: int
    offset_ns: int

    def covers(self, stamp: Stamp) -> bool:
        """Whether a row of this time can be kept under it."""
        after_ns = stamp.monotonic_ns - self.from_monotonic_ns
        return (
            -_AFTER_MOST_NS < after_ns < _AFTER_MOST_NS
            and abs(stamp.utc_ns - stamp.monotonic_ns - self.offset_ns) <= CLOCK_TOLERANCE_NS
        )


class RowWriter:
    """Knows which number comes next, and which headers and boots the file has already.

    A number that was given never comes back: it is one more than those of all rows that are there
    and of all that have left (`lanes.gone_through`, noted in the transaction that removes them). So
    nothing but the row has to be written when one is given.

    What a transaction added counts as known only after `keep`; after a failure call `forget`.
    """

    def __init__(self) -> None:
        self._headers: dict[tuple[About, str, bool], _Header] = {}
        self._boots: dict[str, int | None] = {}
        self._new_headers: dict[tuple[About, str, bool], _Header] = {}
        self._new_boots: dict[str, int | None] = {}
        self._stretches: list[trend.Stretch] = []
        self.inserted_bytes = 0
        """About what the rows of this transaction take in the file."""
        self._seq = self._kept_seq = 0
        self._version = self._kept_version = -1

    def load(self, connection: sqlite3.Connection) -> None:
        self._headers, self._boots = {}, {}
        self._kept_seq, self._kept_version = 0, -1
        self.forget()
        self._boots = dict(connection.execute("SELECT boot_id, utc_minus_monotonic_ns FROM boots"))

    def keep(self) -> list[trend.Stretch]:
        """The transaction has held; returns the feature vectors that it stored."""
        stretches = self._stretches
        self._headers |= self._new_headers
        self._boots |= self._new_boots
        self._kept_seq, self._kept_version = self._seq, self._version
        self.forget()
        return stretches

    def forget(self) -> None:
        self._new_headers, self._new_boots, self._stretches = {}, {}, []
        self.inserted_bytes = 0
        self._seq, self._version = self._kept_seq, self._kept_version

    def insert(self, connection: sqlite3.Connection, rows: Sequence[FeatureVector | Stored]) -> int:
        """Write rows, in this order; return the number of the last."""
        self._check_numbers(connection)
        clock_rows: list[Stored] = []
        singles: dict[Lane, list[tuple[int, int, int, bytes]]] = {}
        seen: dict[object, _Header] = {}  # in this batch: what is alike is looked up once
        seq = self._seq
        rest = iter(rows)
        row = next(rest, None)
        while row is not None:
            key = _key(row)
            header = seen.get(key)
            if header is None or not header.covers(row.stamp):
                clock_rows += self._learn_boot(connection, row.stamp)
                header = seen[key] = self._header(connection, row)
            if isinstance(row, FeatureVector):
                stretch, row = _stretch(row, rest, header)
                self._stretches.append(stretch)
                count, body = len(stretch.after_ns), stretch.body
                if count >= _STRETCH_LEAST:
                    times = msgspec.json.encode(stretch.after_ns).decode()
                    connection.execute(_STRETCH, (seq + 1, header.id, body, len(body) // count, times))
                else:
                    bodies = stretch.bodies()
                    for i in range(count):
                        one = (seq + 1 + i, header.id, stretch.after_ns[i], bodies[i])
                        singles.setdefault("feature", []).append(one)
            else:
                count, body = 1, row.body
                after_ns = row.stamp.monotonic_ns - header.from_monotonic_ns
                singles.setdefault(row.about.lane, []).append((seq + 1, header.id, after_ns, body))
                row = next(rest, None)
            self.inserted_bytes += len(body) + count * _ROW_BYTES
            seq += count
        for lane, values in singles.items():
            connection.executemany(_ROW[lane], values)
        self._seq = seq
        if clock_rows:
            self.insert(connection, clock_rows)
        return seq

    @property
    def last_seq(self) -> int | None:
        """The last number that was given and kept; None if that was not looked up yet."""
        return self._kept_seq if self._kept_version >= 0 else None

    def note_last(self, connection: sqlite3.Connection) -> None:
        """At a clean close: the last number, in two places, should the end of a lane become unreadable."""
        _note_last(connection, self._seq)

    def _check_numbers(self, connection: sqlite3.Connection) -> None:
        """Another process may have written since, or this one has only begun."""
        (version,) = connection.execute("PRAGMA data_version").fetchone()
        if version != self._version:
            (self._seq,) = connection.execute(LAST_SEQ).fetchone()
            self._version = version
            # From here on it would be wrong; and the ends of the lanes are in the write-ahead log.
            _note_last(connection, None)

    def _learn_boot(self, connection: sqlite3.Connection, stamp: Stamp) -> list[Stored]:
        """Note a boot whose clock is not right yet; once it is, what its rows are to be corrected with."""
        known = self._new_boots if stamp.boot_id in self._new_boots else self._boots
        if not stamp.clock_trusted:
            if stamp.boot_id not in known:
                connection.execute("INSERT OR IGNORE INTO boots (boot_id) VALUES (?)", (stamp.boot_id,))
                self._new_boots[stamp.boot_id] = None
            return []
        if known.get(stamp.boot_id, 0) is not None:
            return []
        offset_ns = stamp.utc_ns - stamp.monotonic_ns
        connection.execute(
            "UPDATE boots SET utc_minus_monotonic_ns = ? WHERE boot_id = ?", (offset_ns, stamp.boot_id)
        )
        trend.correct(connection, stamp.boot_id, offset_ns)
        self._new_boots[stamp.boot_id] = offset_ns
        return [clock_row(stamp)]

    def _header(self, connection: sqlite3.Connection, row: FeatureVector | Stored) -> _Header:
        """The header of a row; a new one if its times cannot be kept under the latest."""
        stamp = row.stamp
        about = about_features(row) if isinstance(row, FeatureVector) else row.about
        key = (about, stamp.boot_id, stamp.clock_trusted)
        known = self._new_headers.get(key) or self._headers.get(key)
        if known is None:
            if isinstance(row, FeatureVector):
                self._write_schema(connection, row.schema)
            where = " AND ".join(f"{name} = ?" for name in _HEADER.split(", "))
            found = connection.execute(
                f"SELECT id, from_monotonic_ns, offset_ns FROM headers WHERE {where} ORDER BY id DESC",
                (stamp.boot_id, stamp.clock_trusted, *about[1:]),
            ).fetchone()
            if found is not None:
                known = self._new_headers[key] = _Header(*found)
        if known is not None and known.covers(stamp):
            return known
        return self._add_header(connection, about, stamp)

    def _add_header(self, connection: sqlite3.Connection, about: About, stamp: Stamp) -> _Header:
        """A new one, whose times are counted from the stamp's."""
        offset_ns = stamp.utc_ns - stamp.monotonic_ns
        cursor = connection.execute(
            f"INSERT INTO headers ({_HEADER}, from_monotonic_ns, offset_ns) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (stamp.boot_id, stamp.clock_trusted, *about[1:], stamp.monotonic_ns, offset_ns),
        )
        header = _Header(int(cursor.lastrowid or 0), stamp.monotonic_ns, offset_ns)
        self._new_headers[about, stamp.boot_id, stamp.clock_trusted] = header
        return header

    def _write_schema(self, connection: sqlite3.Connection, schema: FeatureSchema) -> None:
        connection.execute(
            "INSERT OR IGNORE INTO schemas (id, names, units) VALUES (?, ?, ?)",
            (schema.id, msgspec.json.encode(schema.names), msgspec.json.encode(schema.units)),
        )


def _key(row: FeatureVector | Stored) -> object:
    """The same for rows that have a header in common."""
    boot = row.stamp.boot_id, row.stamp.clock_trusted
    if isinstance(row, FeatureVector):
        return row.machine, row.schema.id, row.state, row.window_s, row.quality, boot
    return row.about, boot


def _stretch(
    first: FeatureVector, rest: Iterator[FeatureVector | Stored], header: _Header
) -> tuple[trend.Stretch, FeatureVector | Stored | None]:
    """A vector, those behind it that differ in time and values only, and the row that follows them.

    Most rows of a gateway pass through here one by one.
    """
    machine, schema, state, window_s = first.machine, first.schema, first.state, first.window_s
    quality, boot_id, trusted = first.quality, first.stamp.boot_id, first.stamp.clock_trusted
    from_ns = header.from_monotonic_ns
    lowest_ns, highest_ns = header.offset_ns - CLOCK_TOLERANCE_NS, header.offset_ns + CLOCK_TOLERANCE_NS
    after_ns = [first.stamp.monotonic_ns - from_ns]
    values: list[Any] = [first.values]  # bytes-like, which NumPy does not declare for every Python
    follows = None
    for row in rest:
        stamp = row.stamp
        monotonic_ns = stamp.monotonic_ns
        if (
            type(row) is FeatureVector
            and row.schema is schema
            and row.machine == machine
            and row.state == state
            and row.window_s == window_s
            and row.quality is quality
            and stamp.boot_id == boot_id
            and stamp.clock_trusted is trusted
            and lowest_ns <= stamp.utc_ns - monotonic_ns <= highest_ns
        ):
            after_ns.append(monotonic_ns - from_ns)
            values.append(row.values)
        else:
            follows = row
            break
    body = b"".join(values)
    if sys.byteorder != "little":
        body = np.frombuffer(body, dtype=np.float32).astype("<f4").tobytes()
    return trend.Stretch(first, from_ns, after_ns, body), follows


def _note_last(connection: sqlite3.Connection, seq: int | None) -> None:
    for table in ("gateway", "link"):
        connection.execute(f"UPDATE {table} SET last_seq = ?", (seq,))
