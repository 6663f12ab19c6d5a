"""Opening a buffer file: ours, foreign, damaged, or new."""

from __future__ import annotations

import logging
import sqlite3
import time
from pathlib import Path
from typing import Final

from pdm_edge.errors import StoreError
from pdm_edge.store.migrations import APPLICATION_ID

logger = logging.getLogger(__name__)

_PAGE_BYTES: Final = 4096
_MAGIC: Final = b"SQLite format 3\x00"
_APPLICATION_ID_AT: Final = 68  # offset in the header, https://www.sqlite.org/fileformat.html
_WAL_SHARE: Final = 8
"""The write-ahead log is folded in at one part in so many of the cap, and has room for two."""


def open_file(path: Path, max_mb: int) -> tuple[sqlite3.Connection, int, Path | None]:
    """Open or make a buffer file.

    Returns the connection, the cap in pages of the file itself, and the path under which a damaged
    file was set aside (None if there was none).

    Raises
    ------
    StoreError
        If the file is not a buffer of ours, or cannot be opened.
    """
    set_aside = None
    is_new = not path.exists() or path.stat().st_size == 0
    if not is_new:
        _refuse_foreign(path)
        if not _is_sound(path):
            set_aside = _set_aside(path)
            is_new = True
    cap_pages = max_mb * 1_000_000 // _PAGE_BYTES
    wal_pages = max(min(cap_pages // _WAL_SHARE, 1000), 16)
    max_pages = cap_pages - 2 * wal_pages
    try:
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=5.0)
        if is_new:
            connection.execute(f"PRAGMA page_size = {_PAGE_BYTES}")
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(f"PRAGMA wal_autocheckpoint = {wal_pages}")
        connection.execute(f"PRAGMA journal_size_limit = {wal_pages * _PAGE_BYTES}")
        (granted,) = connection.execute(f"PRAGMA max_page_count = {max_pages}").fetchone()
    except sqlite3.Error as error:
        raise StoreError(
            f"cannot be opened: {error}", where=str(path), mend="Check that its folder is there and writable"
        ) from error
    return connection, max(int(granted), max_pages), set_aside


def _refuse_foreign(path: Path) -> None:
    try:
        with path.open("rb") as stream:
            header = stream.read(100)
    except OSError as error:
        raise StoreError(f"cannot be read: {error}", where=str(path)) from error
    what = ""
    if header[:16] != _MAGIC:
        what = "is not an SQLite file"
    elif int.from_bytes(header[_APPLICATION_ID_AT : _APPLICATION_ID_AT + 4], "big") != APPLICATION_ID:
        what = "is an SQLite file, but no buffer of pdm-edge"
    if what:
        raise StoreError(what, where=str(path), mend="It was left untouched; name another file in store.path")


def _is_sound(path: Path) -> bool:
    """Whether SQLite finds the file whole. After a clean close only the schema is read."""
    wal = path.with_name(path.name + "-wal")
    check = "PRAGMA quick_check(1)" if wal.exists() else "SELECT count(*) FROM sqlite_master"
    connection = sqlite3.connect(path, timeout=5.0)
    try:
        found = connection.execute(check).fetchone()
        connection.execute("SELECT max(seq) FROM outbox").fetchone()
    except sqlite3.DatabaseError as error:
        if "no such table" in str(error):
            return True  # made, but cut before its first migration
        if "locked" in str(error) or "unable to open" in str(error) or "readonly" in str(error):
            raise StoreError(f"cannot be opened: {error}", where=str(path)) from error
        logger.error("%s is damaged: %s", path, error)
        return False
    finally:
        connection.close()
    return not check.startswith("PRAGMA") or found[0] == "ok"


def _set_aside(path: Path) -> Path:
    aside = path.with_name(f"{path.name}.corrupt-{time.time_ns()}")
    path.rename(aside)
    for suffix in ("-wal", "-shm"):
        companion = path.with_name(path.name + suffix)
        if companion.exists():
            companion.rename(aside.with_name(aside.name + suffix))
    logger.error("damaged buffer set aside as %s; a new one is made", aside)
    return aside
