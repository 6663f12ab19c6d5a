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
        If the file was made by a newer version, or by one from before the first release.
    """
    from sqlite_utils import Database

    database = Database(connection)
    steps = _steps()
    applied = [step.name for step in steps.applied(database)]
    former = [name for name in applied if name in _FORMER]
    if former:
        raise StoreError(
            f"was made by a development version from before the first release (step {former[0]!r}),"
            " whose tables this version does not read",
            where=where,
            mend="If its rows are still needed, deliver them with the version that made it;"
            " then name another file in store.path or move this one away. It was left untouched",
        )
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
    steps(name="0001_lanes")(_lanes)
    steps(name="0002_refused")(_refused)
    return steps


_NAMES: Final = frozenset({"0001_lanes", "0002_refused"})
_FORMER: Final = frozenset({"0001_outbox", "0002_wants_boots_trend", "0001_buffer"})
"""Steps of versions from before the first release: older, not newer than this one."""


def _lanes(db: Database) -> None:
    # Short texts: SQLite keeps them in the first page as long as they fit. The trend's columns may be
    # too many; what is then hidden by damage, `salvage` finds by the schema that it knows.
    # The last number is noted at a clean close, twice; while the file is in use it is NULL here, and
    # the ends of the lanes are in the write-ahead log.
    db.execute("CREATE TABLE gateway (id TEXT, first_seq INTEGER, last_seq INTEGER)")
    db.execute("CREATE TABLE schemas (id TEXT PRIMARY KEY, names TEXT, units TEXT)")
    db.execute("CREATE TABLE boots (boot_id TEXT PRIMARY KEY, utc_minus_monotonic_ns INTEGER) WITHOUT ROWID")
    # What repeats from row to row is kept once, and what its times are counted from.
    db.execute(
        "CREATE TABLE headers (id INTEGER PRIMARY KEY, boot_id TEXT, clock_trusted INTEGER, kind TEXT,"
        " subject TEXT, schema_id TEXT, context TEXT, from_monotonic_ns INTEGER, offset_ns INTEGER)"
    )
    db.execute(
        "CREATE TABLE lanes (lane INTEGER PRIMARY KEY, name TEXT, sent_seq INTEGER DEFAULT 0,"
        " delivered INTEGER DEFAULT 0, evicted INTEGER DEFAULT 0, on_request INTEGER DEFAULT 0,"
        " kept INTEGER DEFAULT 0, gone INTEGER DEFAULT 0, gone_through INTEGER DEFAULT 0,"
        " receipt_utc_ns INTEGER, rows_per_s REAL)"
    )
    # A table a lane: rows come at its end and leave at its beginning, so that pages are full and no
    # index is needed. A number is the file's, not the table's: see RowWriter.
    for number, lane in enumerate(LANES):
        db.execute("INSERT INTO lanes (lane, name) VALUES (?, ?)", (number, lane))
        db.execute(
            f"CREATE TABLE outbox_{lane} (seq INTEGER PRIMARY KEY, header INTEGER, after_ns INTEGER,"
            " body BLOB NOT NULL)"
        )
    db.execute(
        "CREATE TABLE wants (id TEXT PRIMARY KEY, lane INTEGER, after_seq INTEGER, through_seq INTEGER,"
        " alarm TEXT)"
    )
    db.execute("CREATE TABLE link (last_error TEXT, first_seq INTEGER, last_seq INTEGER)")
    db.execute("INSERT INTO link (last_error) VALUES ('')")
    db.execute("CREATE TABLE traffic (day TEXT PRIMARY KEY, bytes INTEGER) WITHOUT ROWID")
    db.execute(
        "CREATE TABLE trend (utc TEXT, machine TEXT, windows INTEGER, boot_id TEXT, monotonic_ns INTEGER,"
        " clock_trusted INTEGER)"
    )
    each = " UNION ALL ".join(f"SELECT {n} AS lane, * FROM outbox_{lane}" for n, lane in enumerate(LANES))
    db.execute(
        "CREATE VIEW outbox AS SELECT seq, lane, header, monotonic_ns + offset_ns AS utc_ns,"
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
