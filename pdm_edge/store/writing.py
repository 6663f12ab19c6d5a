"""Rows into the file, within the caller's transaction."""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Sequence
from typing import Final, NamedTuple

import msgspec

from pdm_edge.records import GOOD, LANES, FeatureSchema, FeatureVector, Lane, Stamp
from pdm_edge.store import trend
from pdm_edge.store.migrations import LAST_SEQ
from pdm_edge.store.rows import About, Stored, about_features, clock_row

_FIRST: Final = {
    lane: f"INSERT INTO outbox_{lane} (header, after_ns, offset_ns, body, seq) VALUES (?, ?, ?, ?, ?)"
    for lane in LANES
}
# Behind a row of the same lane, SQLite gives the next number by itself, and is faster so.
_NEXT: Final = {
    lane: f"INSERT INTO outbox_{lane} (header, after_ns, offset_ns, body) VALUES (?, ?, ?, ?)"
    for lane in LANES
}
_LITTLE: Final = sys.byteorder == "little"
_FEATURES: Final[Lane] = "feature"
_HEADER: Final = "boot_id, clock_trusted, kind, subject, schema_id, context"
# SQLite stores whole numbers of up to 6 bytes below the one, of up to 4 below the other.
_AFTER_MOST_NS: Final = 1 << 47
_OFFSET_MOST_NS: Final = 1 << 31


class _Header(NamedTuple):
    """A row of the table `headers`, with what the times of its rows are counted from."""

    id: int
    from_monotonic_ns: int
    from_offset_ns: int


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
        self._seq = self._kept_seq = 0
        self._version = self._kept_version = -1

    def load(self, connection: sqlite3.Connection) -> None:
        self.__init__()  # type: ignore[misc]
        self._boots = dict(connection.execute("SELECT boot_id, utc_minus_monotonic_ns FROM boots"))

    def keep(self) -> None:
        self._headers |= self._new_headers
        self._boots |= self._new_boots
        self._kept_seq, self._kept_version = self._seq, self._version
        self.forget()

    def forget(self) -> None:
        self._new_headers, self._new_boots = {}, {}
        self._seq, self._version = self._kept_seq, self._kept_version

    def insert(self, connection: sqlite3.Connection, rows: Sequence[FeatureVector | Stored]) -> int:
        """Write rows, in this order; return the number of the last."""
        self._check_numbers(connection)
        runs: list[tuple[Lane, int, list[tuple[int, int, int, bytes]]]] = []
        values: list[tuple[int, int, int, bytes]] = []
        latest: Lane | None = None
        clock_rows: list[Stored] = []
        seen: dict[object, _Header] = {}  # in this batch: what is alike is looked up once
        seq = self._seq
        key: object
        for row in rows:
            stamp = row.stamp
            if isinstance(row, FeatureVector):
                good = row.quality is GOOD
                state = row.state if good else (row.state, row.quality)
                key = (row.machine, row.schema.id, state, row.window_s, stamp.boot_id, stamp.clock_trusted)
                body, lane = (row.values if _LITTLE else row.values.astype("<f4")).tobytes(), _FEATURES
            else:
                key = (row.about, stamp.boot_id, stamp.clock_trusted)
                body, lane = row.body, row.about.lane
            header = seen.get(key)
            if header is None:
                clock_rows += self._learn_boot(connection, stamp)
                header = seen[key] = self._header(connection, row)
            number, from_ns, from_offset_ns = header
            monotonic_ns = stamp.monotonic_ns
            seq += 1
            if lane != latest:
                values, latest = [], lane
                runs.append((lane, seq, values))
            values.append(
                (number, monotonic_ns - from_ns, stamp.utc_ns - monotonic_ns - from_offset_ns, body)
            )
        for lane, first_seq, values in runs:
            connection.execute(_FIRST[lane], (*values[0], first_seq))
            if len(values) > 1:
                connection.executemany(_NEXT[lane], values[1:])
        self._seq = seq
        if clock_rows:
            self.insert(connection, clock_rows)
        return seq

    def _check_numbers(self, connection: sqlite3.Connection) -> None:
        """Another process may have written since, or this one has only begun."""
        (version,) = connection.execute("PRAGMA data_version").fetchone()
        if version != self._version:
            (self._seq,) = connection.execute(LAST_SEQ).fetchone()
            self._version = version

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
        """The header of a row; a new one if its times would take much room with the latest."""
        stamp = row.stamp
        about = about_features(row) if isinstance(row, FeatureVector) else row.about
        key = (about, stamp.boot_id, stamp.clock_trusted)
        known = self._new_headers.get(key) or self._headers.get(key)
        if known is None:
            if isinstance(row, FeatureVector):
                self._write_schema(connection, row.schema)
            where = " AND ".join(f"{name} = ?" for name in _HEADER.split(", "))
            found = connection.execute(
                f"SELECT id, from_monotonic_ns, from_offset_ns FROM headers WHERE {where} ORDER BY id DESC",
                (stamp.boot_id, stamp.clock_trusted, *about[1:]),
            ).fetchone()
            if found is not None:
                known = self._new_headers[key] = _Header(*found)
        if known is not None:
            after_ns = stamp.monotonic_ns - known.from_monotonic_ns
            offset_ns = stamp.utc_ns - stamp.monotonic_ns - known.from_offset_ns
            if abs(after_ns) < _AFTER_MOST_NS and abs(offset_ns) < _OFFSET_MOST_NS:
                return known
        return self._add_header(connection, about, stamp)

    def _add_header(self, connection: sqlite3.Connection, about: About, stamp: Stamp) -> _Header:
        """A new one, whose times are counted from the stamp's."""
        offset_ns = stamp.utc_ns - stamp.monotonic_ns
        cursor = connection.execute(
            f"INSERT INTO headers ({_HEADER}, from_monotonic_ns, from_offset_ns)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
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
