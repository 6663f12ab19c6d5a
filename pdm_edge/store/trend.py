"""The table that people open: one line a minute and machine, means and highest values in plain columns.

It is made from the feature vectors as they are stored, and stays on the gateway. A minute that is
under way when the power goes is not in it; the rows it is made of are.
"""

from __future__ import annotations

import itertools
import logging
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from pdm_edge.records import FeatureSchema, FeatureVector, Stamp

logger = logging.getLogger(__name__)

MINUTE_NS: Final = 60_000_000_000
_MOST_COLUMNS: Final = 1990  # SQLite's default limit is 2000
_SHARE: Final = 10
_AT_ONCE_BYTES: Final = 49_152
_BYTES_A_VALUE: Final = 10


class Stretch(NamedTuple):
    """Vectors that were stored one behind the other and differ in time and values only."""

    like: FeatureVector
    """The first of them."""
    from_ns: int
    """What their times are counted from, on the monotonic clock."""
    after_ns: Sequence[int]
    body: bytes
    """Their values end to end, float32 little endian, as they are stored."""

    def bodies(self) -> list[bytes]:
        """The values of each."""
        if len(self.after_ns) == 1:
            return [self.body]
        size = len(self.body) // len(self.after_ns)
        return [self.body[i : i + size] for i in range(0, len(self.body), size)]


@dataclass(slots=True)
class _Minute:
    schema: FeatureSchema
    stamp: Stamp
    minute: int
    waiting: list[bytes]
    total: npt.NDArray[np.float64]
    seen: npt.NDArray[np.int64]
    highest: npt.NDArray[np.float32]
    windows: int = 0
    waiting_bytes: int = 0

    def fold(self) -> None:
        """Work off what waits, many at a time: one by one would cost as much as storing them."""
        if not self.waiting:
            return
        values = np.frombuffer(b"".join(self.waiting), dtype="<f4").reshape(-1, len(self.total))
        total = np.ones(len(values)) @ values.astype(np.float64)
        if np.isfinite(total).all():
            self.total += total
            self.seen += len(values)
            self.highest = np.maximum(self.highest, values.max(axis=0))
        else:
            known = np.isfinite(values)
            self.total += np.where(known, values, 0.0).sum(axis=0, dtype=np.float64)
            self.seen += known.sum(axis=0)
            self.highest = np.maximum(self.highest, np.where(known, values, -np.inf).max(axis=0))
        self.windows += len(values)
        self.waiting = []
        self.waiting_bytes = 0


class Trend:
    """Gathers minutes; `write` puts those that are over into the table.

    Parameters
    ----------
    cap_bytes
        Cap of the whole file; the table keeps the newest lines within a tenth of it.
    """

    def __init__(self, cap_bytes: int) -> None:
        self._cap_bytes = cap_bytes
        self._minutes: dict[tuple[str, str], _Minute] = {}
        self._columns: set[str] | None = None
        self._new_columns: set[str] = set()
        self._over: list[tuple[str, _Minute]] = []
        self._lines = 0

    def add(self, stretches: Sequence[Stretch]) -> None:
        """Take in vectors that were stored."""
        for stretch in stretches:
            like, from_ns, after_ns, body = stretch
            first = (from_ns + min(after_ns)) // MINUTE_NS
            if first == (from_ns + max(after_ns)) // MINUTE_NS:
                self._take_in(like, like.stamp.monotonic_ns, first, body)
                continue
            rows = zip(after_ns, stretch.bodies(), strict=True)
            for minute, group in itertools.groupby(rows, key=lambda row: (from_ns + row[0]) // MINUTE_NS):
                begin, *rest = group
                bodies = [begin[1], *(piece for _, piece in rest)]
                self._take_in(like, from_ns + begin[0], minute, b"".join(bodies))

    def _take_in(self, like: FeatureVector, monotonic_ns: int, minute: int, body: bytes) -> None:
        """Values of one minute; `monotonic_ns` is the time of the first."""
        key = like.machine, like.schema.id
        held = self._minutes.get(key)
        if held is None or held.minute != minute or held.stamp.boot_id != like.stamp.boot_id:
            if held is not None:
                self._end(like.machine, held)
            n = len(like.values)
            after_ns = monotonic_ns - like.stamp.monotonic_ns
            held = self._minutes[key] = _Minute(
                like.schema,
                replace(like.stamp, utc_ns=like.stamp.utc_ns + after_ns, monotonic_ns=monotonic_ns),
                minute,
                [],
                np.zeros(n),
                np.zeros(n, dtype=np.int64),
                np.full(n, -np.inf, dtype=np.float32),
            )
        held.waiting.append(body)
        held.waiting_bytes += len(body)
        if held.waiting_bytes >= _AT_ONCE_BYTES:
            held.fold()

    def _end(self, machine: str, minute: _Minute) -> None:
        minute.fold()
        self._over.append((machine, minute))

    def end_minutes(self) -> None:
        """Let those that are under way count as over."""
        for (machine, _), minute in self._minutes.items():
            self._end(machine, minute)
        self._minutes.clear()

    def write(self, connection: sqlite3.Connection) -> None:
        """Put minutes that are over into the table, within the caller's transaction.

        They count as written only after `written`.
        """
        self._new_columns.clear()
        for machine, minute in self._over:
            row: dict[str, object] = {
                "utc": _utc(minute.stamp.utc_ns),
                "machine": machine,
                "windows": minute.windows,
                "boot_id": minute.stamp.boot_id,
                "monotonic_ns": minute.stamp.monotonic_ns,
                "clock_trusted": int(minute.stamp.clock_trusted),
            }
            named = zip(minute.schema.names, minute.schema.units, strict=True)
            for i, (name, unit) in enumerate(named):
                if minute.seen[i]:
                    row[f"{name} [{unit}] mean"] = round(float(minute.total[i] / minute.seen[i]), 9)
                    row[f"{name} [{unit}] max"] = round(float(minute.highest[i]), 9)
            known = self._known_columns(connection, list(row))
            fields = [name for name in row if name in known]
            columns, marks = ", ".join(map(_quoted, fields)), ", ".join("?" * len(fields))
            connection.execute(
                f"INSERT INTO trend ({columns}) VALUES ({marks})",
                [row[name] for name in fields],
            )
            self._keep_newest(connection, len(fields))

    def written(self) -> None:
        """The transaction has held."""
        if self._columns is not None:
            self._columns |= self._new_columns
        self._over.clear()

    def forget_columns(self) -> None:
        """The file is another one now."""
        self._columns = None

    def _known_columns(self, connection: sqlite3.Connection, wanted: Sequence[str]) -> set[str]:
        if self._columns is None:
            self._columns = {row[1] for row in connection.execute("PRAGMA table_info(trend)")}
        for name in wanted:
            if name in self._columns or name in self._new_columns:
                continue
            if len(self._columns) + len(self._new_columns) >= _MOST_COLUMNS:
                logger.warning("trend: no column left for %r", name)
                break
            connection.execute(f"ALTER TABLE trend ADD COLUMN {_quoted(name)} REAL")
            self._new_columns.add(name)
        return self._columns | self._new_columns

    def _keep_newest(self, connection: sqlite3.Connection, n_values: int) -> None:
        self._lines += 1
        if self._lines % 60 != 1:
            return
        lines = max(self._cap_bytes // _SHARE // (n_values * _BYTES_A_VALUE), 60)
        connection.execute(
            "DELETE FROM trend WHERE rowid <= (SELECT max(rowid) FROM trend) - ?",
            (lines,),
        )


def correct(connection: sqlite3.Connection, boot_id: str, utc_minus_monotonic_ns: int) -> None:
    """Give the lines of a boot the time they should have had."""
    connection.execute(
        "UPDATE trend SET clock_trusted = 1, utc = strftime('%Y-%m-%dT%H:%M:%SZ',"
        " (monotonic_ns + ?) / 1000000000, 'unixepoch') WHERE boot_id = ? AND NOT clock_trusted",
        (utc_minus_monotonic_ns, boot_id),
    )


def _utc(utc_ns: int) -> str:
    return datetime.fromtimestamp(utc_ns // 1_000_000_000, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
