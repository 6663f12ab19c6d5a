"""Reading a buffer file whose first page, or whose list of tables, is damaged: its schema is known.

The tables of every buffer file begin at the same pages, because the same steps made them in the same
order. So the first page of a new file, which holds where they begin, can stand in for the damaged one.
"""

from __future__ import annotations

import logging
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

from pdm_edge.errors import StoreError
from pdm_edge.records import LANES
from pdm_edge.store.migrations import APPLICATION_ID, migrate

logger = logging.getLogger(__name__)

PAGE_BYTES: Final = 4096
# Offsets in the first page, https://www.sqlite.org/fileformat.html
_PAGE_COUNT_AT: Final = 28
_PAGE_TYPE_AT: Final = 100
_LEAF_OF_TABLE: Final = 13
_PAGES_TO_LOOK_AT: Final = 64
_SIGNS: Final[Sequence[tuple[str, Sequence[object]]]] = (
    ("SELECT name FROM lanes ORDER BY lane", LANES),
    ("SELECT typeof(id) || typeof(first_seq) FROM gateway", ["textinteger"]),
    ("SELECT typeof(last_error) || typeof(first_seq) FROM link", ["textinteger"]),
)
"""Any of these says that it is a buffer: another one may be damaged too."""


@contextmanager
def readable_copy(damaged: Path, most_bytes: int = -1) -> Iterator[Path]:
    """A copy of a damaged file beside it, with the tables where they are known to be; it is removed again.

    `most_bytes` is how much of the file is copied, if not all.

    Raises
    ------
    StoreError, OSError, sqlite3.Error
        If it cannot be made, for want of room or because of the damage.
    """
    with tempfile.TemporaryDirectory(dir=damaged.parent, prefix=f"{damaged.name}-") as folder:
        copy, wal = Path(folder, "copy.db"), damaged.with_name(damaged.name + "-wal")
        first = _first_page(Path(folder))
        if most_bytes < 0:
            shutil.copyfile(damaged, copy)
        else:
            with damaged.open("rb") as stream:
                copy.write_bytes(stream.read(most_bytes))
        if wal.exists():
            shutil.copyfile(wal, copy.with_name("copy.db-wal"))
        _replace_first_page(copy, first)
        # Looked at once and closed, SQLite puts the log into the file; it may bring the damaged page back.
        with closing(sqlite3.connect(copy, timeout=5.0)) as connection:
            _is_there(connection, "SELECT count(*) FROM sqlite_master", [])
        _replace_first_page(copy, first)
        yield copy


def is_ours(path: Path) -> bool:
    """Whether a file that does not begin like an SQLite file has a buffer's tables behind its first page."""
    try:
        with (
            readable_copy(path, _PAGES_TO_LOOK_AT * PAGE_BYTES) as copy,
            closing(sqlite3.connect(copy, timeout=5.0)) as connection,
        ):
            return any(_is_there(connection, *one) for one in _SIGNS)
    except (sqlite3.Error, OSError, StoreError) as error:
        logger.info("%s: no tables of a buffer behind its first page: %s", path, error)
        return False


def _is_there(connection: sqlite3.Connection, sql: str, expected: Sequence[object]) -> bool:
    try:
        return [value for (value,) in connection.execute(sql)] == [*expected]
    except sqlite3.Error:
        return False


def prepare(connection: sqlite3.Connection) -> None:
    """What has to be set before anything is written into a new file."""
    connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
    connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")


def _first_page(folder: Path) -> bytes:
    path = folder / "new.db"
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        prepare(connection)
        connection.execute("PRAGMA journal_mode = WAL")
        migrate(connection, str(path))
    finally:
        connection.close()
    with path.open("rb") as stream:
        page = stream.read(PAGE_BYTES)
    if page[_PAGE_TYPE_AT] != _LEAF_OF_TABLE:
        raise StoreError("the schema of a new file does not fit into its first page")
    return page


def _replace_first_page(path: Path, page: bytes) -> None:
    pages = -(-path.stat().st_size // PAGE_BYTES)
    count = max(pages, 1).to_bytes(4, "big")
    with path.open("r+b") as stream:
        stream.write(page[:_PAGE_COUNT_AT] + count + page[_PAGE_COUNT_AT + 4 :])
