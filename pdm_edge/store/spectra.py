"""Spectra as the buffer keeps them, and out of it again: as records, tables and arrays.

What is the same from one spectrum to the next is the row's context; its body holds the number of
windows, the speed, the highest amplitude of each axis and the coded levels, compressed.
"""

from __future__ import annotations

import base64
import sqlite3
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from pdm_edge.delivery import Row
from pdm_edge.errors import ConfigError, StoreError
from pdm_edge.records import SPECTRUM_UNITS, AmplitudeSpectrum, Quality
from pdm_edge.store.reading import select, to_row

_SHARED: Final = (
    "quantity",
    "unit",
    "axes",
    "first_hz",
    "bin_hz",
    "resolution_hz",
    "sample_rate_hz",
    "window",
)


def taken_apart(spectrum: AmplitudeSpectrum) -> tuple[dict[str, Any], dict[str, Any]]:
    """Context and body of a spectrum; its quality is left to the caller."""
    context = {name: getattr(spectrum, name) for name in _SHARED} | {"state": spectrum.state}
    if spectrum.alarm:
        context["alarm"] = spectrum.alarm
    levels = base64.b64encode(zlib.compress(spectrum.levels.tobytes(), 9)).decode()
    body = {"averages": spectrum.averages, "shaft_hz": spectrum.shaft_hz, "top": spectrum.top}
    return context, {**body, "levels": levels}


def put_together(row: Row) -> AmplitudeSpectrum:
    """The spectrum of a row."""
    about, body = msgspec.json.decode(row.context), msgspec.json.decode(row.body)
    axes = tuple(about.pop("axes"))
    quality = Quality(about.pop("quality", "good"), tuple(about.pop("reasons", ())))
    codes = np.frombuffer(zlib.decompress(base64.b64decode(body["levels"])), dtype=np.uint8)
    return AmplitudeSpectrum(
        sensor=row.subject,
        axes=axes,
        top=tuple(body["top"]),
        levels=codes.reshape(len(axes), -1).copy(),
        averages=body["averages"],
        shaft_hz=body["shaft_hz"],
        stamp=row.stamp,
        quality=quality,
        **about,
    )


def spectra(
    connection: sqlite3.Connection, subject: str, alarm: str = ""
) -> Iterator[tuple[Row, AmplitudeSpectrum]]:
    """All spectra of a sensor (of all, if it is empty), oldest first."""
    query = f"{select('spectrum')} WHERE kind = 'spectrum' AND (? = '' OR subject = ?) ORDER BY seq"
    for values in connection.execute(query, (subject, subject)):
        row = to_row("spectrum", values)
        spectrum = put_together(row)
        if alarm in ("", spectrum.alarm):
            yield row, spectrum


def table_rows(connection: sqlite3.Connection, subject: str) -> Iterator[tuple[Row, Sequence[Any]]]:
    """A line for each bin: see `COLUMNS`."""
    places = {quantity: place for place, quantity in enumerate(SPECTRUM_UNITS)}
    for row, spectrum in spectra(connection, subject):
        ends = spectrum.frequencies_hz
        for axis, amplitudes in zip(spectrum.axes, spectrum.amplitude, strict=True):
            for begin_hz, amplitude in zip(ends, amplitudes, strict=True):
                values: list[float | None] = [None] * len(places)
                values[places[spectrum.quantity]] = float(f"{amplitude:.4g}")
                about = (spectrum.alarm, spectrum.averages, axis, spectrum.shaft_hz)
                yield row, (*about, float(f"{begin_hz:.7g}"), spectrum.bin_hz, *values)


COLUMNS: Final = (
    ("alarm", ""),
    ("averages", ""),
    ("axis", ""),
    ("shaft", "hz"),
    ("bin begins", "hz"),
    ("bin width", "hz"),
    *SPECTRUM_UNITS.items(),
)


def write_npz(connection: sqlite3.Connection, database: Path, out: Path, *, subject: str, alarm: str) -> int:
    """Write spectra as arrays of shape (n_axes, n_bins); return their number.

    ``quantity``, ``unit``, ``first_hz``, ``bin_hz``, ``resolution_hz``, ``averages``, ``shaft_hz`` (NaN if
    not known), ``start_utc_s``, ``sensor``, ``axes``, ``state``, ``quality`` and ``alarm`` describe
    the arrays, in their order.

    Raises
    ------
    ConfigError
        If there is no such spectrum.
    StoreError
        If the file cannot be read.
    """
    try:
        found = [spectrum for _, spectrum in spectra(connection, subject, alarm)]
    except sqlite3.Error as error:
        raise StoreError(f"cannot be read: {error}", where=str(database)) from error
    if not found:
        raise ConfigError("holds no such spectrum", where=str(database))
    arrays: dict[str, Any] = {f"{s.sensor}_{s.quantity}_{i}": s.amplitude for i, s in enumerate(found)}
    for name in (
        "quantity",
        "unit",
        "first_hz",
        "bin_hz",
        "resolution_hz",
        "averages",
        "sensor",
        "state",
        "alarm",
    ):
        arrays[name] = np.array([getattr(s, name) for s in found])
    np.savez_compressed(
        out,
        **arrays,
        shaft_hz=np.array([np.nan if s.shaft_hz is None else s.shaft_hz for s in found]),
        start_utc_s=np.array([s.stamp.utc_ns / 1e9 for s in found]),
        axes=np.array([",".join(s.axes) for s in found]),
        quality=np.array([str(s.quality) for s in found]),
    )
    return len(found)
