"""Where a receiver keeps its rows: an SQLite file by default, PostgreSQL by URL; one set of statements."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, Protocol

from pdm_edge.errors import ConfigError, StoreError, SyncError

_TABLES: Final = (
    "CREATE TABLE IF NOT EXISTS received (gateway TEXT NOT NULL, boot_id TEXT NOT NULL, seq BIGINT NOT NULL,"
    " lane TEXT NOT NULL, kind TEXT NOT NULL, subject TEXT NOT NULL, utc_ns BIGINT NOT NULL,"
    " monotonic_ns BIGINT NOT NULL, clock_trusted INTEGER NOT NULL, context TEXT NOT NULL,"
    " body TEXT NOT NULL, PRIMARY KEY (gateway, boot_id, seq))",
    "CREATE TABLE IF NOT EXISTS progress (gateway TEXT NOT NULL, lane TEXT NOT NULL,"
    " through_seq BIGINT NOT NULL, rows_received BIGINT NOT NULL, received_utc_ns BIGINT NOT NULL,"
    " newest_utc_ns BIGINT NOT NULL, PRIMARY KEY (gateway, lane))",
    "CREATE TABLE IF NOT EXISTS wants (gateway TEXT NOT NULL, id TEXT NOT NULL, lane TEXT NOT NULL,"
    " after_seq BIGINT NOT NULL, through_seq BIGINT NOT NULL, alarm TEXT NOT NULL, answered INTEGER NOT NULL,"
    " PRIMARY KEY (gateway, id))",
    "CREATE TABLE IF NOT EXISTS machines (gateway TEXT NOT NULL, machine TEXT NOT NULL, state TEXT NOT NULL,"
    " headline TEXT NOT NULL, alarm TEXT NOT NULL, utc_ns BIGINT NOT NULL, seq BIGINT NOT NULL,"
    " PRIMARY KEY (gateway, machine))",
    "CREATE TABLE IF NOT EXISTS refused (gateway TEXT NOT NULL, received_utc_ns BIGINT NOT NULL,"
    " why TEXT NOT NULL, batch_base64 TEXT NOT NULL, PRIMARY KEY (gateway, received_utc_ns))",
)


class Cursor(Protocol):
    """What both databases' cursors have in common."""

    @property
    def rowcount(self) -> int: ...

    def fetchone(self) -> Any: ...

    def fetchall(self) -> list[Any]: ...


class Session(Protocol):
    """Statements within a transaction; parameters are written as ``?``."""

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> Cursor: ...

    def executemany(self, sql: str, rows: Sequence[Sequence[Any]]) -> Cursor: ...


class Archive(Protocol):
    """A database of a receiver. Used by one thread at a time."""

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """All or nothing, durable at the end; StoreError if that fails, SyncError for impossible values."""
        ...

    def close(self) -> None: ...


def open_archive(target: str) -> Archive:
    """Open or make the tables in a file, or in a ``postgresql://`` database.

    Raises
    ------
    StoreError
        If it cannot be opened.
    ConfigError
        If PostgreSQL's driver is not installed.
    """
    if target.startswith(("postgresql://", "postgres://")):
        return PostgresArchive(target)
    return SqliteArchive(target)


class SqliteArchive:
    """An SQLite file, synced at each commit."""

    def __init__(self, path: str) -> None:
        self._path = path
        try:
            self._connection = sqlite3.connect(
                path, isolation_level=None, check_same_thread=False, timeout=10
            )
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = FULL")
            for table in _TABLES:
                self._connection.execute(f"{table} WITHOUT ROWID")
        except sqlite3.Error as error:
            raise StoreError(f"cannot be opened: {error}", where=path) from error

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            yield self._connection
            self._connection.execute("COMMIT")
        except BaseException as error:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            if isinstance(error, sqlite3.Error):
                raise StoreError(f"cannot be written: {error}", where=self._path) from error
            raise

    def close(self) -> None:
        self._connection.close()


class PostgresArchive:
    """A PostgreSQL database; a connection that was lost is made again at the next use."""

    def __init__(self, url: str) -> None:
        try:
            import psycopg
        except ImportError as error:
            raise ConfigError(
                "the PostgreSQL driver is not installed", mend="pip install 'pdm-edge[postgres]'"
            ) from error
        self._url = url
        self._where = f"postgresql://{url.partition('://')[2].rpartition('@')[2]}"  # no password in any text
        self._psycopg = psycopg
        self._connection: psycopg.Connection[Any] | None = None
        with self.transaction() as session:
            for table in _TABLES:
                session.execute(table)

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        try:
            if self._connection is None or self._connection.closed:
                self._connection = self._psycopg.connect(self._url, connect_timeout=10)
            with self._connection.transaction():
                yield _PostgresSession(self._connection)
        except self._psycopg.DataError as error:
            # Not the database's fault: it will never take this, however often it is tried.
            raise SyncError(f"holds what PostgreSQL cannot store: {error}") from error
        except self._psycopg.Error as error:
            self.close()
            raise StoreError(f"cannot be written: {error}", where=self._where) from error

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class _PostgresSession:
    """Statements with PostgreSQL's own mark for parameters."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> Cursor:
        cursor: Cursor = self._connection.execute(sql.replace("?", "%s"), parameters)
        return cursor

    def executemany(self, sql: str, rows: Sequence[Sequence[Any]]) -> Cursor:
        cursor = self._connection.cursor()
        cursor.executemany(sql.replace("?", "%s"), rows)
        opened: Cursor = cursor
        return opened
