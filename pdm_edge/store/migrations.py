"""The schema of the buffer file, as named steps that are applied once each. `docs/store.md` describes it.

A file that knows a step which this version does not was made by a newer one, and is refused.
"""

from __future__ import annotations

import sqlite3
import time
from typing import TYPE_CHECKING, Final

from pdm_edge.errors import StoreError
from pdm_edge.records import LANES

if TYPE_CHECKING:
    from sqlite_utils import Database, Migrations

APPLICATION_ID: Final = 0x50444D45  # "PDME", in the header of the file
_SET: Final = "pdm_edge.buffer"


def migrate(connection: sqlite3.Connection, where: str) -> None:
    """Bring a file to this version's schema.

    Raises
    ------
    StoreError
        If the file was made by a newer version.
    """
    from sqlite_utils import Database

    database = Database(connection)
    steps = _steps()
    applied = [step.name for step in steps.applied(database)]
    newer = [name for name in applied if name not in _NAMES]
    if newer:
        raise StoreError(
            f"was made by a newer version (step {newer[0]!r} is unknown)",
            where=where,
            mend="Update pdm-edge, or name another file",
        )
    if len(applied) < len(_NAMES):
        steps.apply(database)


def _steps() -> Migrations:
    from sqlite_utils import Migrations

    steps = Migrations(_SET)
    steps(name="0001_outbox")(_outbox)
    steps(name="0002_wants_boots_trend")(_wants_boots_trend)
    return steps


_NAMES: Final = frozenset({"0001_outbox", "0002_wants_boots_trend"})


def _outbox(db: Database) -> None:
    db["gateway"].create({"id": str}, pk="id")  # type: ignore[union-attr]
    db["schemas"].create({"id": str, "names": str, "units": str}, pk="id")  # type: ignore[union-attr]
    # What repeats from row to row is kept once: boot, kind, subject, schema, state and quality.
    headers = {"id": int, "boot_id": str, "kind": str, "subject": str, "schema_id": str, "context": str}
    db["headers"].create(headers, pk="id")  # type: ignore[union-attr]
    db["lanes"].insert_all(  # type: ignore[union-attr]
        [{"lane": i, "name": n, "sent_seq": 0, "delivered": 0, "evicted": 0} for i, n in enumerate(LANES)],
        pk="lane",
    )
    # AUTOINCREMENT: a number that was given once never comes back, though its row is gone.
    db.execute(
        "CREATE TABLE outbox (seq INTEGER PRIMARY KEY AUTOINCREMENT, lane INTEGER NOT NULL,"
        " header INTEGER NOT NULL REFERENCES headers(id), utc_ns INTEGER NOT NULL,"
        " monotonic_ns INTEGER NOT NULL, clock_trusted INTEGER NOT NULL, body BLOB NOT NULL)"
    )


def _wants_boots_trend(db: Database) -> None:
    # The index of a lane holds the row's number anyway, in order.
    db.execute("DROP INDEX IF EXISTS idx_outbox_lane_seq")
    db.execute("CREATE INDEX outbox_by_lane ON outbox (lane)")
    db.execute("ALTER TABLE gateway ADD COLUMN first_seq INTEGER NOT NULL DEFAULT 0")
    db.execute("ALTER TABLE lanes ADD COLUMN on_request INTEGER NOT NULL DEFAULT 0")
    # A file that is made anew must not give numbers again that an earlier one gave: start at the
    # time in milliseconds. Less than 2^53, so that JSON readers hold it exactly.
    if not db.execute("SELECT 1 FROM sqlite_sequence WHERE name = 'outbox'").fetchone():
        start = time.time_ns() // 1_000_000
        db.execute("INSERT INTO sqlite_sequence (name, seq) VALUES ('outbox', ?)", (start,))
    db.execute("CREATE TABLE boots (boot_id TEXT PRIMARY KEY, utc_minus_monotonic_ns INTEGER)")
    db.execute(
        "CREATE TABLE wants (id TEXT PRIMARY KEY, lane INTEGER NOT NULL, after_seq INTEGER NOT NULL,"
        " through_seq INTEGER NOT NULL, alarm TEXT NOT NULL)"
    )
    db.execute(
        "CREATE TABLE link (one INTEGER PRIMARY KEY CHECK (one = 1), last_receipt_utc_ns INTEGER,"
        " rows_per_s REAL, last_error TEXT NOT NULL DEFAULT '')"
    )
    db.execute("INSERT INTO link (one) VALUES (1)")
    db.execute("CREATE TABLE traffic (day TEXT PRIMARY KEY, bytes INTEGER NOT NULL)")
    db.execute(
        "CREATE TABLE trend (utc TEXT NOT NULL, machine TEXT NOT NULL, windows INTEGER NOT NULL,"
        " boot_id TEXT NOT NULL, monotonic_ns INTEGER NOT NULL, clock_trusted INTEGER NOT NULL)"
    )
    db.execute(
        "CREATE VIEW records AS SELECT seq, strftime('%Y-%m-%dT%H:%M:%fZ', coalesce(CASE WHEN clock_trusted"
        " THEN NULL ELSE monotonic_ns + utc_minus_monotonic_ns END, utc_ns) / 1e9, 'unixepoch') AS utc,"
        " lanes.name AS lane, kind, subject, context, CASE WHEN kind IN ('features', 'waveform') THEN NULL"
        " ELSE CAST(body AS TEXT) END AS body, length(body) AS body_bytes FROM outbox"
        " JOIN headers ON headers.id = header JOIN lanes ON lanes.lane = outbox.lane"
        " LEFT JOIN boots ON boots.boot_id = headers.boot_id"
    )
