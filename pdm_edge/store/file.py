"""The open SQLite file under a buffer: transactions, its cap, and a disk that is full or broken."""

from __future__ import annotations

import logging
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from pdm_edge.errors import StoreError, StoreFullError
from pdm_edge.store.ballast import Ballast
from pdm_edge.store.known_schema import PAGE_BYTES
from pdm_edge.store.migrations import migrate
from pdm_edge.store.opening import is_damage, open_file, plan

logger = logging.getLogger(__name__)

_EVICT_ABOVE: Final = 0.85
_FREE_PAGES: Final = 256
SHARES: Final = 50  # one eviction frees about one part in so many of the cap
_DISK_LOW_BYTES: Final = 262_144
_UNKNOWN_PAGES: Final = 1 << 60


class DamagedError(StoreError):
    """SQLite finds the file broken."""


class BufferFile:
    """A buffer's file of one gateway, opened and migrated; `connection` may change by `renew`."""

    def __init__(self, path: Path, gateway: str, max_mb: int) -> None:
        self.path = path
        self._path_text = str(path)  # looked at with each write: as a text that takes half the time
        self._gateway = gateway
        self._plan = plan(max_mb)
        self._held_pages: int | None = None
        self._noted_pages = _UNKNOWN_PAGES
        self._unasked_bytes = 0
        self._may_be_too_large = True
        self._given_bytes = 0
        self._opened_as: tuple[int, int] | None = None
        self.is_suspect = False
        self.lost_commits = 0
        """Transactions that were lost with a damaged write-ahead log, and are not told yet."""
        self.ballast = Ballast(path.with_name(path.name + "-ballast"), self._plan.ballast_bytes)
        self.connection: sqlite3.Connection
        try:
            self.set_aside = self._open()
        except BaseException:
            self.ballast.remove()
            raise

    def renew(self, *, condemned: bool = False) -> Path | None:
        """Close the file, check it and open it again.

        If it is damaged, or `condemned`, it is set aside and a new one made; returns where the old one
        is, or None.
        """
        self.connection.close()
        self.is_suspect = True
        aside = self._open(check=True, condemned=condemned)
        self.is_suspect = False
        return aside

    def bring_back(self) -> bool:
        """If somebody has deleted the file while it is open, write it anew from what is open.

        SQLite would go on writing into the deleted file, without an error, until nothing is left of it.
        """
        if self._opened_as is None or not self._is_deleted():
            return False
        logger.error("%s was deleted while in use; it is written anew", self.path)
        try:
            for suffix in ("-wal", "-shm"):
                self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)
            copy = sqlite3.connect(self.path)
            try:
                self.connection.backup(copy)
            finally:
                copy.close()
        except (sqlite3.Error, OSError) as error:
            raise StoreError(
                f"was deleted and cannot be brought back: {error}", where=str(self.path)
            ) from error
        self.is_suspect = True
        return True

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing, durable at the end.

        Raises
        ------
        StoreFullError
            If disk or cap are full.
        DamagedError
            If the file is broken.
        StoreError
            If it cannot be written for another reason.
        """
        connection = self.connection
        try:
            connection.execute("BEGIN IMMEDIATE")
            yield connection
            connection.execute("COMMIT")
        except BaseException as error:
            with suppress(sqlite3.ProgrammingError):  # closed: it could not be opened again
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
            if isinstance(error, sqlite3.Error):
                raise self.explained(error) from error
            raise

    def explained(self, error: sqlite3.Error) -> StoreError:
        """What an error of SQLite means for the user of a buffer."""
        where = str(self.path)
        if "full" in str(error):
            mend = "Free disk space, or raise store.max_mb"
            return StoreFullError("disk or byte cap is full", where=where, mend=mend)
        if is_damage(error):
            return DamagedError(f"is damaged: {error}", where=where)
        if "disk I/O" in str(error) or "closed database" in str(error):
            # Not always: what a failed sync left in the log would come back as if it had been stored.
            self.is_suspect = self._identity() != self._opened_as
        return StoreError(f"cannot be written: {error}", where=where, mend="Check disk and permissions")

    def note_written(self, n_bytes: int) -> None:
        """Within a transaction, where asking for the size takes no lock of its own.

        It is asked for when what was written since may take half of the room that there was.
        """
        self._unasked_bytes -= n_bytes
        if self._unasked_bytes <= 0:
            (self._noted_pages,) = self.connection.execute("PRAGMA page_count").fetchone()
            room_pages = int(_EVICT_ABOVE * self._plan.max_pages) - self._noted_pages
            self._unasked_bytes = room_pages * PAGE_BYTES // 2

    @property
    def is_crowded(self) -> bool:
        """Whether rows must be given up before more come."""
        if self._held_pages is None and self._noted_pages <= _EVICT_ABOVE * self._plan.max_pages:
            return False
        if self._held_pages is not None and not self._disk_is_low(beside_bytes=self._given_bytes):
            self._hold(None)
        (total,) = self.connection.execute("PRAGMA page_count").fetchone()
        if total <= _EVICT_ABOVE * self._max_pages:
            return False
        (free,) = self.connection.execute("PRAGMA freelist_count").fetchone()
        return bool(total - free > _EVICT_ABOVE * self._max_pages)

    @property
    def share_bytes(self) -> int:
        """About how much one eviction should free."""
        return self._max_pages * PAGE_BYTES // SHARES

    def relieve(self) -> None:
        """Something did not fit. If it is the disk, not the cap, make do with the size the file has.

        The ballast goes, so that the write-ahead log has room in which rows can be given up.
        """
        if self._disk_is_low():
            if self.ballast.release():
                self._given_bytes = self._plan.ballast_bytes
            # Before others take the room: the log into the file, so that it begins anew.
            try:
                self.connection.execute("PRAGMA wal_checkpoint(RESTART)")
            except sqlite3.Error as error:
                logger.warning("%s: the log stays as it is: %s", self.path, error)
            (total,) = self.connection.execute("PRAGMA page_count").fetchone()
            # Half of what the ballast leaves beside the log, for alarms that keep coming.
            self._hold(total + (self._plan.wal_pages // 2 if self._given_bytes else 0))

    def shrink(self, *, emptied: bool) -> None:
        """Give free pages back to the disk if there are many, or if nothing is stored any more."""
        if self._held_pages is not None:
            return  # others would take them
        try:
            (free,) = self.connection.execute("PRAGMA freelist_count").fetchone()
            if free > (0 if emptied else _FREE_PAGES) or (self._may_be_too_large and self._is_too_large()):
                # Gives pages back one by one; only executescript steps through all of them.
                self.connection.executescript("PRAGMA incremental_vacuum")
                self.connection.execute(f"PRAGMA max_page_count = {self._plan.max_pages}")
        except sqlite3.Error as error:
            logger.warning("%s: could not be made smaller: %s", self.path, error)

    def close(self) -> None:
        self.connection.close()
        self.ballast.remove()

    def _is_too_large(self) -> bool:
        """After the cap was lowered; SQLite does not set its own below the size of the file."""
        (total,) = self.connection.execute("PRAGMA page_count").fetchone()
        self._may_be_too_large = total > self._plan.max_pages
        return self._may_be_too_large

    @property
    def _max_pages(self) -> int:
        return self._plan.max_pages if self._held_pages is None else self._held_pages

    def _hold(self, pages: int | None) -> None:
        if pages is None:
            self._given_bytes = 0
            self.ballast.restore(at_once=True)
        self._held_pages = pages
        self.connection.execute(f"PRAGMA max_page_count = {self._max_pages}")

    def _disk_is_low(self, *, beside_bytes: int = 0) -> bool:
        low_bytes = min(_DISK_LOW_BYTES, self._plan.ballast_bytes)
        return self.ballast.free_bytes() < beside_bytes + low_bytes

    def _is_deleted(self) -> bool:
        if os.access(self._path_text, os.F_OK):
            return False
        try:
            os.stat(self._path_text)
        except FileNotFoundError:
            return self.path.parent.is_dir()
        except OSError:
            return False  # the disk does not answer: another matter
        return False

    def _identity(self) -> tuple[int, int] | None:
        """Device and number of the file that the path leads to."""
        try:
            found = self.path.stat()
        except OSError:
            return None
        return found.st_dev, found.st_ino

    def _open(self, *, check: bool = False, condemned: bool = False) -> Path | None:
        try:
            self._noted_pages, self._unasked_bytes = _UNKNOWN_PAGES, 0
            self.connection, aside, lost = open_file(self.path, self._plan, check, condemned)
        except OSError as error:
            raise StoreError(f"cannot be opened: {error}", where=str(self.path)) from error
        try:
            migrate(self.connection, str(self.path))
            self._check_gateway()
        except sqlite3.Error as error:
            self.connection.close()
            raise self.explained(error) from error
        except BaseException:
            self.connection.close()
            raise
        self._opened_as = self._identity()
        self.lost_commits += lost
        return aside

    def _check_gateway(self) -> None:
        found = self.connection.execute("SELECT id FROM gateway").fetchone()
        if found is None:
            with self.transaction() as connection:
                # A file that is made anew must not give numbers again that an earlier one gave: start at
                # the time in milliseconds. Less than 2^53, so that JSON readers hold it exactly.
                start = time.time_ns() // 1_000_000
                connection.execute(
                    "INSERT INTO gateway (id, first_seq) VALUES (?, ?)", (self._gateway, start)
                )
                connection.execute("UPDATE link SET first_seq = ?", (start,))
        elif found[0] != self._gateway:
            raise StoreError(
                f"belongs to gateway {found[0]!r}, this one is {self._gateway!r}",
                where=str(self.path),
                mend="Name another file in store.path, or put the gateway's id back",
            )
