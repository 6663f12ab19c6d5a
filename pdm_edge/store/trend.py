"""The table that people open: one line a minute and machine, means and highest values in plain columns.

It is made from the feature vectors as they are stored, and stays on the gateway. A minute that is
under way when the power goes is not in it; the rows it is made of are.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Final

import numpy as np
import numpy.typing as npt

from pdm_edge.records import FeatureSchema, FeatureVector, Stamp

logger = logging.getLogger(__name__)

MINUTE_NS: Final = 60_000_000_000
_MOST_COLUMNS: Final = 1990  # SQLite's default limit is 2000
_SHARE: Final = 10
_AT_ONCE: Final = 500
_BYTES_A_VALUE: Final = 10


@dataclass(slots=True)
class _Minute:
    schema: FeatureSchema
    stamp: Stamp
    total: npt.NDArray[np.float64]
    seen: npt.NDArray[np.int64]
    highest: npt.NDArray[np.float32]
    windows: int = 0


class Trend:
    """Gathers minutes; `write` puts those that are over into the table.

    Parameters
    ----------
    cap_bytes
        Cap of the whole file; the table keeps the newest lines within a tenth of it.
    """

    def __init__(self, cap_bytes: int) -> None:
        self._cap_bytes = cap_bytes
        self._waiting: list[FeatureVector] = []
        self._minutes: dict[tuple[str, str], _Minute] = {}
        self._columns: set[str] | None = None
        self._new_columns: set[str] = set()
        self._over: list[tuple[str, _Minute]] = []
        self._lines = 0

    def add(self, vectors: Sequence[FeatureVector]) -> None:
        """Take in vectors that were stored."""
        self._waiting += vectors
        if not self._waiting:
            return
        span_ns = self._waiting[-1].stamp.monotonic_ns - self._waiting[0].stamp.monotonic_ns
        if len(self._waiting) >= _AT_ONCE or not 0 <= span_ns < MINUTE_NS:
            self._fold()

    def _fold(self) -> None:
        """Work off what waits, many at a time: one by one would cost as much as storing them."""
        vectors, self._waiting = self._waiting, []
        alike: dict[tuple[str, str, str, int], list[FeatureVector]] = {}
        for vector in vectors:
            minute = vector.stamp.monotonic_ns // MINUTE_NS
            alike.setdefault((vector.machine, vector.schema.id, vector.stamp.boot_id, minute), []).append(
                vector
            )
        for (machine, schema_id, boot_id, minute), group in alike.items():
            held = self._minutes.get((machine, schema_id))
            if held is not None and (held.stamp.boot_id, held.stamp.monotonic_ns // MINUTE_NS) != (
                boot_id,
                minute,
            ):
                self._over.append((machine, held))
                held = None
            if held is None:
                n = len(group[0].values)
                held = _Minute(
                    group[0].schema,
                    group[0].stamp,
                    np.zeros(n),
                    np.zeros(n, dtype=np.int64),
                    np.full(n, -np.inf, dtype=np.float32),
                )
                self._minutes[machine, schema_id] = held
            values = np.stack([vector.values for vector in group])
            known = np.isfinite(values)
            held.total += np.where(known, values, 0.0).sum(axis=0)
            held.seen += known.sum(axis=0)
            held.highest = np.maximum(held.highest, np.where(known, values, -np.inf).max(axis=0))
            held.windows += len(group)

    def end_minutes(self) -> None:
        """Let those that are under way count as over."""
        self._fold()
        self._over += [(machine, minute) for (machine, _), minute in self._minutes.items()]
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
