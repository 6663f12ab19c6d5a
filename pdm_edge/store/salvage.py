"""What can still be read of a damaged buffer file, moved into a new one under the same numbers.

How many rows are lost follows from what the file counts, not from what is seen to be missing: each
number from the first to the last was a row's, and the file knows how many have left it, and how many
of those that it still has were delivered. The last number is known from the ends of the lanes, from
who had the file open, or from a note of its last close.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from pdm_edge.errors import StoreError
from pdm_edge.records import LANES, Lane
from pdm_edge.store.around import BEYOND, CHUNK_BYTES, COLUMNS, LaneReader, Values
from pdm_edge.store.known_schema import readable_copy
from pdm_edge.store.migrations import LAST_SEQ
from pdm_edge.store.refused import COLUMNS as REFUSED_COLUMNS

logger = logging.getLogger(__name__)

_ROW_BYTES: Final = 24  # of a row beside its body
_HEADERS: Final = (
    "id, boot_id, clock_trusted, kind, subject, schema_id, context, from_monotonic_ns, offset_ns"
)
_FLOAT_BYTES: Final = 4
_TO_BE_SURE: Final = 1_000_000
_UNKNOWN: Final = "nobody knows how many"


@dataclass(frozen=True, slots=True)
class Salvaged:
    """What became of the rows.

    ``bound`` is empty if `lost` is exact, else "at least", "at most" or "nobody knows how many". ``first``
    and ``last`` are the numbers between which rows were lost, if any were.
    """

    saved: int = 0
    lost: int = 0
    bound: str = _UNKNOWN
    first: int | None = None
    last: int | None = None

    @property
    def told(self) -> str:
        """In words."""
        lost = self.bound if self.bound == _UNKNOWN else f"{self.bound} {self.lost}".strip()
        return f"{self.saved} rows were saved from it, {lost} were not"


class _Lane(NamedTuple):
    sent_seq: int
    delivered: int
    evicted: int
    kept: int
    gone: int
    gone_through: int


class _Accounts(NamedTuple):
    """What the file says about itself, as far as that can be read."""

    first: int | None
    noted_last: int | None
    lanes: Sequence[_Lane] | None


def salvage(damaged: Path, into: sqlite3.Connection, known_last: int | None) -> Salvaged:
    """Copy readable rows into a migrated, empty buffer file, outside of a transaction.

    `known_last` is the last number that the file has given, if somebody knows it. Nothing is raised for
    what cannot be read.
    """
    try:
        with closing(
            sqlite3.connect(f"{damaged.resolve().as_uri()}?mode=rw", uri=True, timeout=5.0)
        ) as source:
            if _has_tables(source):
                return _copy(source, into, known_last)
        with readable_copy(damaged) as copy, closing(sqlite3.connect(copy, timeout=5.0)) as source:
            return _copy(source, into, known_last)
    except (sqlite3.Error, OSError, StoreError) as error:
        logger.error("%s: nothing more can be read: %s", damaged, error)
        return Salvaged()


def _has_tables(source: sqlite3.Connection) -> bool:
    try:
        found = {name for (name,) in source.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    except sqlite3.Error as error:
        logger.error("salvage: the list of tables cannot be read: %s", error)
        return False
    return found >= {"gateway", "lanes", "headers", "schemas", *(f"outbox_{lane}" for lane in LANES)}


def _copy(source: sqlite3.Connection, into: sqlite3.Connection, known_last: int | None) -> Salvaged:
    accounts = _read_accounts(source)
    with _transaction(into):
        headers = _copy_about(source, into)
        # New numbers begin behind those that are there; how many those are, the first number says.
        into.execute("UPDATE lanes SET gone_through = (SELECT first_seq FROM gateway)")
    saved = unsent = 0
    known = max(known_last or 0, accounts.noted_last or 0)
    readers = []

    def fits(row: Values) -> bool:
        return _fits(row, headers)

    numbered = {number for (number,) in _table(source, "headers", "id")}

    def is_end(row: Values) -> bool:
        # Where headers or schemas are lost no row fits, but the numbers still say how many there were.
        return _has_types(row) and (row[1] in numbered or not numbered)

    for lane in LANES:
        reader = LaneReader(source, lane, known or BEYOND, fits, is_end)
        readers.append(reader)
        for rows in _chunks(reader.rows()):
            try:
                unsent += len(rows) - _save(into, lane, rows)
            except sqlite3.Error as error:
                logger.error("salvage: %d rows of lane %s cannot be stored: %s", len(rows), lane, error)
                continue
            saved += len(rows)
    tops = [reader.last for reader in readers]
    tops += [number for lane in accounts.lanes or () for number in (lane.gone_through, lane.sent_seq)]
    last = known or max(tops)
    result = _account(into, accounts, readers, saved, unsent, last, known > 0)
    with _transaction(into):
        (begin,) = into.execute("SELECT max(gone_through) FROM lanes").fetchone()
        _leave_out(into, begin, last + (_TO_BE_SURE if result.bound else 0))
    return result


def leave_numbers_out(connection: sqlite3.Connection) -> int:
    """Begin well behind numbers that may have been given, within the caller's transaction.

    Returns the last one that is known.
    """
    (last,) = connection.execute(LAST_SEQ).fetchone()
    _leave_out(connection, last, last + _TO_BE_SURE)
    return int(last)


def _leave_out(into: sqlite3.Connection, last: int, through: int) -> None:
    """Numbers behind the last and through another were no row's, or are told as lost: none comes again."""
    _move_first(into, max(through - last, 0))
    into.execute("UPDATE lanes SET gone_through = max(gone_through, ?)", (through,))


@contextmanager
def _transaction(into: sqlite3.Connection) -> Iterator[None]:
    into.execute("BEGIN IMMEDIATE")
    try:
        yield
        into.execute("COMMIT")
    except BaseException:
        if into.in_transaction:
            into.execute("ROLLBACK")
        raise


def _chunks(rows: Iterator[Values]) -> Iterator[list[Values]]:
    """Pieces that neither the memory nor the write-ahead log need fear."""
    chunk: list[Values] = []
    size = 0
    for row in rows:
        chunk.append(row)
        size += len(row[3]) + _ROW_BYTES
        if size >= CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _save(into: sqlite3.Connection, lane: Lane, rows: Sequence[Values]) -> int:
    """Store rows; return how many of them were delivered before."""
    with _transaction(into):
        into.executemany(f"INSERT INTO outbox_{lane} ({COLUMNS}) VALUES (?, ?, ?, ?)", rows)
        (sent,) = into.execute("SELECT sent_seq FROM lanes WHERE name = ?", (lane,)).fetchone()
        kept = sum(row[0] <= sent for row in rows)
        into.execute("UPDATE lanes SET kept = kept + ? WHERE name = ?", (kept, lane))
        _move_first(into, -len(rows))
    return int(kept)


def _move_first(into: sqlite3.Connection, by: int) -> None:
    for table in ("gateway", "link"):
        into.execute(f"UPDATE {table} SET first_seq = first_seq + ?", (by,))


def _account(
    into: sqlite3.Connection,
    accounts: _Accounts,
    readers: Sequence[LaneReader],
    saved: int,
    unsent: int,
    last: int,
    last_is_known: bool,
) -> Salvaged:
    """How many rows are neither saved, nor delivered, nor told as lost before."""
    last_is_known = last_is_known or all(reader.end_is_known for reader in readers)
    floor = accounts.first
    if floor is None:
        (floor,) = into.execute("SELECT coalesce(min(seq) - 1, ?) FROM outbox", (last,)).fetchone()
    holes = _merged(
        (max(before, floor), min(behind, last + 1)) for reader in readers for before, behind in reader.holes
    )
    if accounts.first is not None and accounts.lanes is not None:
        left = sum(lane.gone + lane.kept for lane in accounts.lanes)
        lost, bound = last - accounts.first - left - unsent, "" if last_is_known else "at least"
    else:
        # Every number in the holes that is no row's that was saved: also of those that had left before.
        is_above = last_is_known and accounts.first is not None
        lost, bound = sum(_missing(into, *hole) for hole in holes), "at most" if is_above else "at least"
        bound = bound if any(reader.holes for reader in readers) else ""
    if lost <= 0 or not holes:
        return Salvaged(saved, max(lost, 0), bound)
    return Salvaged(saved, lost, bound, holes[0][0] + 1, holes[-1][1] - 1)


def _merged(holes: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """The same numbers in holes that do not overlap, in order; empty ones left out."""
    merged: list[tuple[int, int]] = []
    for before, behind in sorted(holes):
        if merged and before < merged[-1][1]:
            merged[-1] = (merged[-1][0], max(behind, merged[-1][1]))
        elif behind - before > 1:
            merged.append((before, behind))
    return merged


def _missing(into: sqlite3.Connection, before: int, behind: int) -> int:
    present = 0
    for lane in LANES:
        sql = f"SELECT count(*) FROM outbox_{lane} WHERE seq > ? AND seq < ?"
        present += into.execute(sql, (before, behind)).fetchone()[0]
    return behind - before - 1 - present


def _read_accounts(source: sqlite3.Connection) -> _Accounts:
    firsts: list[int] = []
    lasts: list[int] = []
    for table in ("gateway", "link"):
        for first, last in _table(source, table, "first_seq, last_seq"):
            firsts += [first] if _is_number(first) else []
            lasts += [last] if _is_number(last) else []
    columns = ", ".join(_Lane._fields)
    lanes = [_Lane(*row) for row in _table(source, "lanes", columns, "ORDER BY lane")]
    is_whole = len(lanes) == len(LANES) and all(_is_number(value) for lane in lanes for value in lane)
    return _Accounts(max(firsts, default=None), max(lasts, default=None), lanes if is_whole else None)


def _is_number(value: object) -> bool:
    return isinstance(value, int) and 0 <= value < BEYOND


def _copy_about(source: sqlite3.Connection, into: sqlite3.Connection) -> Mapping[int, int | None]:
    """Copy what the rows refer to; return the headers and the bytes of their rows' bodies, if fixed."""
    sizes: dict[str, int] = {}
    for row in _table(source, "schemas", "id, names, units"):
        try:
            names, units = (msgspec.json.decode(text, type=list[str]) for text in row[1:])
        except (msgspec.MsgspecError, TypeError, UnicodeDecodeError):
            continue
        if isinstance(row[0], str) and len(names) == len(units):
            sizes[row[0]] = _FLOAT_BYTES * len(names)
            _insert(into, "schemas", "id, names, units", row)
    headers: dict[int, int | None] = {}
    for row in _table(source, "headers", _HEADERS):
        number, boot_id, trusted, kind, subject, schema_id, context, *origin = row
        texts = (boot_id, kind, subject, schema_id, context)
        is_sound = all(isinstance(text, str) for text in texts) and trusted in (0, 1)
        if (
            is_sound
            and all(isinstance(value, int) for value in origin)
            and (not schema_id or schema_id in sizes)
        ):
            headers[number] = sizes.get(schema_id)
            _insert(into, "headers", _HEADERS, row)
    for row in _table(source, "boots", "boot_id, utc_minus_monotonic_ns"):
        _insert(into, "boots", "boot_id, utc_minus_monotonic_ns", row)
    # One whose note is lost may still be corrected, if its clock is set from here on.
    into.execute("INSERT OR IGNORE INTO boots (boot_id) SELECT boot_id FROM headers WHERE NOT clock_trusted")
    for table, columns in (("traffic", "day, bytes"), ("refused", REFUSED_COLUMNS)):
        for row in _table(source, table, columns):
            _insert(into, table, columns, row)
    for number, lane in enumerate(_table(source, "lanes", "sent_seq, delivered, evicted", "ORDER BY lane")):
        if all(map(_is_number, lane)):
            sql = "UPDATE lanes SET sent_seq = ?, delivered = ?, evicted = ? WHERE lane = ?"
            into.execute(sql, (*lane, number))
    return headers


def _fits(row: Values, headers: Mapping[int, int | None]) -> bool:
    """Whether a row can have been written so."""
    _, header, _, body = row
    if header not in headers or not _has_types(row):
        return False
    size = headers[header]
    return size is None or len(body) == size


def _has_types(row: Values) -> bool:
    _, header, after_ns, body = row
    return isinstance(header, int) and isinstance(after_ns, int) and isinstance(body, bytes)


def _insert(into: sqlite3.Connection, table: str, columns: str, row: Values) -> None:
    marks = ", ".join("?" * len(row))
    into.execute(f"INSERT OR IGNORE INTO {table} ({columns}) VALUES ({marks})", row)


def _table(source: sqlite3.Connection, table: str, columns: str, order: str = "") -> Iterator[Values]:
    try:
        yield from source.execute(f"SELECT {columns} FROM {table} {order}")
    except sqlite3.Error as error:
        logger.error("salvage: the rest of table %s cannot be read: %s", table, error)
