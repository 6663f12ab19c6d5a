"""Opening a buffer file: ours, foreign, damaged, or new."""

from __future__ import annotations

import logging
import sqlite3
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pdm_edge.errors import StoreError
from pdm_edge.store.known_schema import PAGE_BYTES, is_ours, prepare
from pdm_edge.store.log_check import lost_commits
from pdm_edge.store.migrations import APPLICATION_ID, LAST_SEQ

logger = logging.getLogger(__name__)

_MAGIC: Final = b"SQLite format 3\x00"
_APPLICATION_ID_AT: Final = 68  # offset in the header, https://www.sqlite.org/fileformat.html
_WAL_SHARE: Final = 20
_WAL_PAGES_MOST: Final = 1000


@dataclass(frozen=True, slots=True)
class Plan:
    """How a byte cap is shared out, in pages: the file, its write-ahead log (room for two), the ballast.

    The ballast has room for a log, and for what a full log makes the file grow by.
    """

    cap_pages: int

    @property
    def wal_pages(self) -> int:
        return max(min(self.cap_pages // _WAL_SHARE, _WAL_PAGES_MOST), 16)

    @property
    def ballast_bytes(self) -> int:
        return 2 * self.wal_pages * PAGE_BYTES

    @property
    def max_pages(self) -> int:
        return self.cap_pages - 4 * self.wal_pages


def plan(max_mb: int) -> Plan:
    return Plan(max_mb * 1_000_000 // PAGE_BYTES)


def open_file(
    path: Path, shares: Plan, check: bool, condemned: bool
) -> tuple[sqlite3.Connection, Path | None, int]:
    """Open or make a buffer file.

    It is checked whole if it was not closed cleanly, or with `check`; if it is `condemned` it counts as
    damaged. Returns the connection, the path under which a damaged file was set aside (None if there was
    none), and how many commits were lost with a damaged log.

    Raises
    ------
    StoreError
        If the file is not a buffer of ours, or cannot be opened.
    """
    set_aside_as, lost = None, 0
    is_new = not path.exists() or path.stat().st_size == 0
    if not is_new:
        log = path.with_name(path.name + "-wal")
        unclean = log.exists() and log.stat().st_size > 0
        is_damaged = condemned or _is_without_head(path)
        lost = 0 if is_damaged else lost_commits(path)  # after which there may be no log any more
        if is_damaged or not _is_sound(path, check or unclean):
            set_aside_as = _set_aside(path)
            is_new = True
    try:
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=5.0)
        if is_new:
            prepare(connection)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA temp_store = MEMORY")  # the disk for temporary files may be full too
        connection.execute(f"PRAGMA wal_autocheckpoint = {shares.wal_pages}")
        connection.execute(f"PRAGMA journal_size_limit = {shares.wal_pages * PAGE_BYTES}")
        connection.execute(f"PRAGMA max_page_count = {shares.max_pages}")
    except sqlite3.Error as error:
        raise StoreError(
            f"cannot be opened: {error}", where=str(path), mend="Check that its folder is there and writable"
        ) from error
    return connection, set_aside_as, lost


def is_damage(error: BaseException) -> bool:
    """Whether SQLite says that the file itself is broken."""
    text = str(error)
    return isinstance(error, sqlite3.DatabaseError) and ("malformed" in text or "not a database" in text)


def _set_aside(path: Path) -> Path:
    """Rename a damaged file with its companions; return its new name."""
    aside = path.with_name(f"{path.name}.corrupt-{time.time_ns()}")
    path.rename(aside)
    for suffix in ("-wal", "-shm"):
        companion = path.with_name(path.name + suffix)
        if companion.exists():
            companion.rename(aside.with_name(aside.name + suffix))
    logger.error("damaged buffer set aside as %s; a new one is made", aside)
    return aside


def _is_without_head(path: Path) -> bool:
    """Whether it is a buffer of ours whose first page is damaged; a file of somebody else's is refused."""
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
    if not what:
        return False
    if is_ours(path):
        logger.error("%s is damaged: it %s, but has the tables of a buffer behind its first page", path, what)
        return True
    if header.count(0) == len(header):
        return False  # no file of anybody's: blocks that a power cut has left empty
    raise StoreError(what, where=str(path), mend="It was left untouched; name another file in store.path")


def _is_sound(path: Path, check_all: bool) -> bool:
    """Whether SQLite finds the file whole; without `check_all` only the schema is read."""
    check = "PRAGMA quick_check(1)" if check_all else "SELECT count(*) FROM sqlite_master"
    connection = sqlite3.connect(path, timeout=5.0)
    try:
        found = connection.execute(check).fetchone()
        connection.execute(LAST_SEQ).fetchone()
    except sqlite3.DatabaseError as error:
        if "no such table" in str(error):
            return True  # made, but cut before its first migration
        if not is_damage(error):
            raise StoreError(f"cannot be opened: {error}", where=str(path)) from error
        logger.error("%s is damaged: %s", path, error)
        return False
    finally:
        connection.close()
    return not check.startswith("PRAGMA") or found[0] == "ok"
