"""Rows into the file, within the caller's transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from pdm_edge.records import LANES, FeatureSchema
from pdm_edge.store import trend
from pdm_edge.store.rows import Stored, clock_row

_INSERT: Final = (
    "INSERT INTO outbox (lane, header, utc_ns, monotonic_ns, clock_trusted, body) VALUES (?, ?, ?, ?, ?, ?)"
)
_HEADER: Final = "boot_id = ? AND kind = ? AND subject = ? AND schema_id = ? AND context = ?"
_LANE_NUMBERS: Final = {lane: number for number, lane in enumerate(LANES)}


class RowWriter:
    """Knows which headers, schemas and boots the file has already.

    What a transaction added counts as known only after `keep`; after a failure call `forget`.
    """

    def __init__(self) -> None:
        self._headers: dict[tuple[str, ...], int] = {}
        self._schemas: set[str] = set()
        self._boots: dict[str, int | None] = {}
        self._new_headers: dict[tuple[str, ...], int] = {}
        self._new_schemas: set[str] = set()
        self._new_boots: dict[str, int | None] = {}

    def load(self, connection: sqlite3.Connection) -> None:
        self.__init__()  # type: ignore[misc]
        self._boots = dict(connection.execute("SELECT boot_id, utc_minus_monotonic_ns FROM boots"))

    def keep(self) -> None:
        self._headers |= self._new_headers
        self._schemas |= self._new_schemas
        self._boots |= self._new_boots
        self.forget()

    def forget(self) -> None:
        self._new_headers, self._new_schemas, self._new_boots = {}, set(), {}

    def insert(
        self,
        connection: sqlite3.Connection,
        rows: Sequence[Stored],
        schemas: Mapping[str, FeatureSchema],
    ) -> None:
        """Write rows; those of schemas must be given."""
        for schema_id, schema in schemas.items():
            if schema_id not in self._schemas:
                self._write_schema(connection, schema)
        values = []
        clock_rows: list[Stored] = []
        headers = self._headers
        for row in rows:
            lane, kind, subject, stamp, context, body, schema_id = row
            # Settled boots are the rule: nothing to do for their rows.
            boot_id, trusted = stamp.boot_id, stamp.clock_trusted
            if self._boots.get(boot_id, 0 if trusted else None) is None:
                clock_rows += self._learn_boot(connection, row)
            key = (boot_id, kind, subject, schema_id, context)
            header = headers.get(key) or self._header(connection, key)
            values.append((_LANE_NUMBERS[lane], header, stamp.utc_ns, stamp.monotonic_ns, trusted, body))
        connection.executemany(_INSERT, values)
        for row in clock_rows:
            self.insert_one(connection, row)

    def insert_one(self, connection: sqlite3.Connection, row: Stored) -> int:
        """Write one row; return its number."""
        stamp = row.stamp
        header = self._header(connection, (stamp.boot_id, row.kind, row.subject, row.schema_id, row.context))
        values = (_LANE_NUMBERS[row.lane], header, stamp.utc_ns, stamp.monotonic_ns, int(stamp.clock_trusted))
        return int(connection.execute(_INSERT, (*values, row.body)).lastrowid or 0)

    def _learn_boot(self, connection: sqlite3.Connection, row: Stored) -> list[Stored]:
        """Note a boot whose clock is not right yet; once it is, what its rows are to be corrected with."""
        stamp = row.stamp
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

    def _header(self, connection: sqlite3.Connection, key: tuple[str, ...]) -> int:
        known = self._headers.get(key) or self._new_headers.get(key)
        if known is not None:
            return known
        found = connection.execute(f"SELECT id FROM headers WHERE {_HEADER}", key).fetchone()
        if found is None:
            cursor = connection.execute(
                "INSERT INTO headers (boot_id, kind, subject, schema_id, context) VALUES (?, ?, ?, ?, ?)", key
            )
            found = (cursor.lastrowid,)
        self._new_headers[key] = int(found[0])
        return self._new_headers[key]

    def _write_schema(self, connection: sqlite3.Connection, schema: FeatureSchema) -> None:
        connection.execute(
            "INSERT OR IGNORE INTO schemas (id, names, units) VALUES (?, ?, ?)",
            (schema.id, msgspec.json.encode(schema.names), msgspec.json.encode(schema.units)),
        )
        self._new_schemas.add(schema.id)
