"""The schema of the buffer file, as named steps that are applied once each.

A file that knows a step which this version does not was made by a newer one, and is refused.
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
    known = {step.name for step in steps.pending(database)} | {s.name for s in steps.applied(database)}
    newer = [s.name for s in steps.applied(database) if s.name not in _NAMES]
    if newer:
        raise StoreError(
            f"was made by a newer version (step {newer[0]!r} is unknown)",
            where=where,
            mend="Update pdm-edge, or name another file",
        )
    assert known >= _NAMES
    steps.apply(database)


def _steps() -> Migrations:
    from sqlite_utils import Migrations

    steps = Migrations(_SET)
    steps(name="0001_outbox")(_outbox)
    return steps


_NAMES: Final = frozenset({"0001_outbox"})


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
    db["outbox"].create_index(["lane", "seq"])  # type: ignore[union-attr]
