"""What a buffer file holds, as tables and arrays with units: CSV, Parquet, .npz.

Only read: a running monitor is not disturbed, and nothing leaves the buffer.
"""

from __future__ import annotations

import csv
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import msgspec
import numpy as np

from pdm_edge.delivery import Row
from pdm_edge.errors import ConfigError, StoreError
from pdm_edge.records import LANES
from pdm_edge.store import spectra
from pdm_edge.store.packing import unpack
from pdm_edge.store.reading import select, to_row
from pdm_edge.store.status import open_read_only

What: TypeAlias = Literal["features", "readings", "scores", "alarms", "gaps", "spectra", "trend"]
_KINDS: Final[dict[str, str]] = {
    "features": "features",
    "readings": "reading",
    "scores": "score",
    "alarms": "advisory",
    "gaps": "gap",
}
_OF_KIND: Final = "kind = ? AND (? = '' OR subject = ?)"


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table; `unit` is empty for text and counts."""

    name: str
    unit: str = ""

    @property
    def heading(self) -> str:
        return f"{self.name} [{self.unit}]" if self.unit else self.name


def export_csv(database: Path, out: Path, *, what: What = "features", subject: str = "") -> int:
    """Write a table as CSV, the unit in brackets behind each name; return the number of rows.

    Raises
    ------
    StoreError
        If the file is no buffer.
    """
    connection = _opened(database)
    try:
        columns, rows = _table(connection, what, subject)
        n = 0
        with out.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream)
            writer.writerow([column.heading for column in columns])
            for row in rows:
                writer.writerow(row)
                n += 1
        return n
    except sqlite3.Error as error:
        raise StoreError(f"cannot be read: {error}", where=str(database)) from error
    finally:
        connection.close()


def export_parquet(database: Path, out: Path, *, what: What = "features", subject: str = "") -> int:
    """Write a table as Parquet; units are in the names and in each field's metadata (``unit``).

    Raises
    ------
    StoreError
        If the file is no buffer.
    ConfigError
        If the Parquet library is not installed.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise ConfigError(
            "the Parquet library is not installed", mend="pip install 'pdm-edge[parquet]'"
        ) from error
    connection = _opened(database)
    try:
        columns, rows = _table(connection, what, subject)
        n, writer = 0, None
        schema = pa.schema([_field(pa, column) for column in columns])
        try:
            for chunk in _chunks(rows, 5000):
                if writer is None:
                    writer = pq.ParquetWriter(out, schema)
                arrays = [
                    pa.array([_typed(row[i], field.type, pa) for row in chunk], type=field.type)
                    for i, field in enumerate(schema)
                ]
                writer.write_table(pa.Table.from_arrays(arrays, schema=schema))
                n += len(chunk)
            if writer is None:
                pq.write_table(schema.empty_table(), out)
        finally:
            if writer is not None:
                writer.close()
        return n
    except sqlite3.Error as error:
        raise StoreError(f"cannot be read: {error}", where=str(database)) from error
    finally:
        connection.close()


def export_spectra_npz(database: Path, out: Path, *, subject: str = "", alarm: str = "") -> int:
    """Write spectra as arrays with all that describes them; see `spectra.write_npz`."""
    connection = _opened(database)
    try:
        return spectra.write_npz(connection, database, out, subject=subject, alarm=alarm)
    finally:
        connection.close()


def export_npz(database: Path, out: Path, *, subject: str = "", alarm: str = "") -> int:
    """Write waveforms as arrays of shape (n_axes, n_samples); return their number.

    Contiguous pieces are joined. All must have one sample rate and unit, which stand in
    ``sample_rate_hz`` and ``unit``, so that the file can be replayed; ``start_utc_s`` (seconds since
    1970), ``sensor``, ``alarm`` and ``axes`` (joined by commas) tell of each array, in their order.

    Raises
    ------
    ConfigError
        If there is no such waveform, or their rates or units differ.
    StoreError
        If the file is no buffer.
    """
    pieces = _pieces(database, subject, alarm)
    if not pieces:
        raise ConfigError("holds no such waveform", where=str(database))
    kinds = {(piece.rate_hz, piece.unit) for piece in pieces}
    if len(kinds) > 1:
        raise ConfigError(
            f"the waveforms have several rates or units: {sorted(kinds)}",
            where=str(database),
            mend="Name one sensor with --subject, or one alarm with --alarm",
        )
    ((rate_hz, unit),) = kinds
    arrays: dict[str, Any] = {
        f"{p.sensor}_{i}": np.concatenate(p.samples, axis=1) for i, p in enumerate(pieces)
    }
    np.savez_compressed(
        out,
        **arrays,
        sample_rate_hz=np.float64(rate_hz),
        unit=np.array(unit),
        start_utc_s=np.array([p.utc_ns / 1e9 for p in pieces]),
        sensor=np.array([p.sensor for p in pieces]),
        alarm=np.array([p.alarm for p in pieces]),
        axes=np.array([",".join(p.axes) for p in pieces]),
    )
    return len(pieces)


@dataclass(slots=True)
class _Piece:
    sensor: str
    alarm: str
    rate_hz: float
    unit: str
    axes: tuple[str, ...]
    utc_ns: int
    next_sample: int
    samples: list[Any]


def _pieces(database: Path, subject: str, alarm: str) -> list[_Piece]:
    connection = _opened(database)
    open_pieces: dict[tuple[str, str], _Piece] = {}
    pieces: list[_Piece] = []
    try:
        for row in _rows(connection, "waveform", subject):
            about = msgspec.json.decode(row.context)
            named = about.get("alarm", "")
            if alarm and named != alarm:
                continue
            axes = tuple(about["axes"])
            first = int.from_bytes(row.body[:8], "little")
            samples = unpack(row.body[8:], len(axes))
            held = open_pieces.get((row.subject, named))
            if held is None or (held.next_sample, held.rate_hz) != (first, about["sample_rate_hz"]):
                held = _Piece(
                    row.subject,
                    named,
                    about["sample_rate_hz"],
                    about["unit"],
                    axes,
                    row.stamp.utc_ns,
                    first,
                    [],
                )
                open_pieces[row.subject, named] = held
                pieces.append(held)
            held.samples.append(samples)
            held.next_sample = first + samples.shape[1]
    except sqlite3.Error as error:
        raise StoreError(f"cannot be read: {error}", where=str(database)) from error
    finally:
        connection.close()
    return pieces


def _table(
    connection: sqlite3.Connection, what: What, subject: str
) -> tuple[list[Column], Iterator[Sequence[Any]]]:
    if what == "trend":
        return _trend(connection, subject)
    if what == "features":
        return _features(connection, subject)
    if what == "spectra":
        about = [Column("utc"), Column("seq"), Column("subject"), Column("quality")]
        of_bins = ([*_about(row), *values] for row, values in spectra.table_rows(connection, subject))
        return [*about, *(Column(*column) for column in spectra.COLUMNS)], of_bins
    names = {
        "readings": ("quantity", "value", "unit"),
        "scores": ("value", "model"),
        "alarms": ("state", "previous", "headline", "advice", "score", "zone"),
        "gaps": ("what", "lost", "first", "last", "why"),
    }[what]
    columns = [Column("utc"), Column("seq"), Column("subject"), Column("quality"), *map(Column, names)]

    def rows() -> Iterator[Sequence[Any]]:
        for row in _rows(connection, _KINDS[what], subject):
            body = msgspec.json.decode(row.body)
            yield [*_about(row), *(body.get(name) for name in names)]

    return columns, rows()


def _features(connection: sqlite3.Connection, subject: str) -> tuple[list[Column], Iterator[Sequence[Any]]]:
    """One column for each feature of any machine; empty where a machine has none of the name."""
    schemas: dict[str, list[str]] = {}
    columns: dict[str, Column] = {}
    used = "SELECT schema_id FROM headers WHERE kind = 'features' AND (? = '' OR subject = ?)"
    for schema_id, names, units in connection.execute(
        f"SELECT id, names, units FROM schemas WHERE id IN ({used}) ORDER BY rowid", (subject, subject)
    ):
        found = [
            Column(name, unit)
            for name, unit in zip(msgspec.json.decode(names), msgspec.json.decode(units), strict=True)
        ]
        schemas[schema_id] = [column.heading for column in found]
        columns.update({column.heading: column for column in found})
    places = {heading: i for i, heading in enumerate(columns)}
    fixed = [Column("utc"), Column("seq"), Column("machine"), Column("quality"), Column("state")]

    def rows() -> Iterator[Sequence[Any]]:
        for row in _rows(connection, "features", subject):
            values: list[float | None] = [None] * len(places)
            for heading, value in zip(
                schemas[row.schema_id], np.frombuffer(row.body, dtype="<f4"), strict=True
            ):
                values[places[heading]] = float(f"{value:.7g}") if np.isfinite(value) else None
            yield [*_about(row), msgspec.json.decode(row.context)["state"], *values]

    return [*fixed, *columns.values()], rows()


def _trend(connection: sqlite3.Connection, subject: str) -> tuple[list[Column], Iterator[Sequence[Any]]]:
    names = [row[1] for row in connection.execute("PRAGMA table_info(trend)")]
    shown = [name for name in names if name not in ("boot_id", "monotonic_ns", "clock_trusted")]
    quoted = ", ".join('"' + name.replace('"', '""') + '"' for name in shown)
    rows = connection.execute(
        f"SELECT {quoted} FROM trend WHERE (? = '' OR machine = ?) ORDER BY rowid", (subject, subject)
    )
    return [Column(name) for name in shown], iter(rows)


def _rows(connection: sqlite3.Connection, kind: str, subject: str) -> Iterator[Row]:
    for lane in LANES:  # a kind is in one lane only
        query = f"{select(lane)} WHERE {_OF_KIND} ORDER BY seq"
        for values in connection.execute(query, (kind, subject, subject)):
            yield to_row(lane, values)


def _about(row: Row) -> list[Any]:
    seconds, rest_ns = divmod(row.stamp.utc_ns, 1_000_000_000)
    utc = datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S")
    quality = msgspec.json.decode(row.context).get("quality", "good")
    if not row.stamp.clock_trusted:
        quality = f"{quality}, clock not trusted"
    return [f"{utc}.{rest_ns // 1_000_000:03d}Z", row.seq, row.subject, quality]


def _opened(database: Path) -> sqlite3.Connection:
    connection = open_read_only(database)
    try:
        connection.execute("SELECT 1 FROM outbox JOIN headers ON headers.id = header LIMIT 1").fetchone()
    except sqlite3.Error as error:
        connection.close()
        raise StoreError(f"is no buffer of pdm-edge: {error}", where=str(database)) from error
    return connection


def _chunks(rows: Iterator[Sequence[Any]], size: int) -> Iterator[list[Sequence[Any]]]:
    chunk: list[Sequence[Any]] = []
    for row in rows:
        chunk.append(row)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


_TEXT: Final = frozenset(
    {"utc", "subject", "machine", "quality", "state", "quantity", "unit", "model", "previous", "headline"}
    | {"advice", "zone", "what", "why", "alarm", "axis"}
)
_COUNTS: Final = frozenset({"seq", "lost", "first", "last", "windows", "averages"})


def _field(pa: Any, column: Column) -> Any:
    kind = pa.string() if column.name in _TEXT and not column.unit else pa.float64()
    if column.name in _COUNTS and not column.unit:
        kind = pa.int64()
    return pa.field(column.heading, kind, metadata={"unit": column.unit} if column.unit else None)


def _typed(value: Any, kind: Any, pa: Any) -> Any:
    return None if value is None else (str(value) if kind == pa.string() else value)
