"""The schema of the buffer file, as named steps that are applied once each. `docs/store.md` describes it.

A file that knows a step which this version does not was made by another one, and is refused.
"""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Final

from pdm_edge.errors import StoreError
from pdm_edge.records import LANES

if TYPE_CHECKING:
    from sqlite_utils import Database, Migrations

APPLICATION_ID: Final = 0x50444D45  # "PDME", in the header of the file
_SET: Final = "pdm_edge.buffer"

LAST_SEQ: Final = (
    "SELECT max(coalesce((SELECT first_seq FROM gateway), 0), (SELECT max(gone_through) FROM lanes), "
    + ", ".join(f"coalesce((SELECT max(seq) FROM outbox_{lane}), 0)" for lane in LANES)
    + ")"
)
"""The highest number that the file has given: a row's that is there, or that has left."""


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
    steps(name="0001_buffer")(_buffer)
    steps(name="0002_refused")(_refused)
    return steps


_NAMES: Final = frozenset({"0001_buffer", "0002_refused"})


def _buffer(db: Database) -> None:
    # Kept short: SQLite holds these texts in the first page, as long as they fit (the trend's
    # columns may be too many); then no damage behind that page hides the tables.
    db.execute("CREATE TABLE gateway (id TEXT, first_seq INTEGER)")
    db.execute("CREATE TABLE schemas (id TEXT PRIMARY KEY, names TEXT, units TEXT)")
    db.execute("CREATE TABLE boots (boot_id TEXT PRIMARY KEY, utc_minus_monotonic_ns INTEGER) WITHOUT ROWID")
    # What repeats from row to row is kept once, and what its times are counted from.
    db.execute(
        "CREATE TABLE headers (id INTEGER PRIMARY KEY, boot_id TEXT, clock_trusted INTEGER, kind TEXT,"
        " subject TEXT, schema_id TEXT, context TEXT, from_monotonic_ns INTEGER, from_offset_ns INTEGER)"
    )
    db.execute(
        "CREATE TABLE lanes (lane INTEGER PRIMARY KEY, name TEXT, sent_seq INTEGER DEFAULT 0,"
        " delivered INTEGER DEFAULT 0, evicted INTEGER DEFAULT 0, on_request INTEGER DEFAULT 0,"
        " gone INTEGER DEFAULT 0, gone_through INTEGER DEFAULT 0, receipt_utc_ns INTEGER, rows_per_s REAL)"
    )
    # A table a lane: rows come at its end and leave at its beginning, so that pages are full and no
    # index is needed. A number is the file's, not the table's: see RowWriter.
    for number, lane in enumerate(LANES):
        db.execute("INSERT INTO lanes (lane, name) VALUES (?, ?)", (number, lane))
        db.execute(
            f"CREATE TABLE outbox_{lane} (seq INTEGER PRIMARY KEY, header INTEGER, after_ns INTEGER,"
            " offset_ns INTEGER, body BLOB NOT NULL)"
        )
    db.execute(
        "CREATE TABLE wants (id TEXT PRIMARY KEY, lane INTEGER, after_seq INTEGER, through_seq INTEGER,"
        " alarm TEXT)"
    )
    db.execute("CREATE TABLE link (last_error TEXT)")
    db.execute("INSERT INTO link VALUES ('')")
    db.execute("CREATE TABLE traffic (day TEXT PRIMARY KEY, bytes INTEGER) WITHOUT ROWID")
    db.execute(
        "CREATE TABLE trend (utc TEXT, machine TEXT, windows INTEGER, boot_id TEXT, monotonic_ns INTEGER,"
        " clock_trusted INTEGER)"
    )
    each = " UNION ALL ".join(f"SELECT {n} AS lane, * FROM outbox_{lane}" for n, lane in enumerate(LANES))
    db.execute(
        "CREATE VIEW outbox AS SELECT seq, lane, header, monotonic_ns + from_offset_ns + offset_ns AS utc_ns,"
        " monotonic_ns, body FROM (SELECT *, from_monotonic_ns + after_ns AS monotonic_ns"
        f" FROM ({each}) JOIN headers ON id = header)"
    )
    db.execute(
        "CREATE VIEW records AS SELECT seq, strftime('%Y-%m-%dT%H:%M:%fZ', coalesce(CASE WHEN clock_trusted"
        " THEN NULL ELSE monotonic_ns + utc_minus_monotonic_ns END, utc_ns) / 1e9, 'unixepoch') AS utc,"
        " name AS lane, kind, subject, context, CASE WHEN kind IN ('features', 'waveform') THEN NULL"
        " ELSE CAST(body AS TEXT) END AS body, length(body) AS body_bytes FROM outbox"
        " JOIN headers ON id = header JOIN lanes USING (lane) LEFT JOIN boots USING (boot_id)"
    )


def _refused(db: Database) -> None:
    # Whole rows, which need no other table: see `refused`.
    db.execute(
        "CREATE TABLE refused (seq INTEGER PRIMARY KEY, lane INTEGER, kind TEXT, subject TEXT, boot_id TEXT,"
        " utc_ns INTEGER, monotonic_ns INTEGER, clock_trusted INTEGER, schema_id TEXT, context TEXT,"
        " body BLOB, why TEXT)"
    )
