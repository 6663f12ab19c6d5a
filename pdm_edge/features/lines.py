"""Lines in a spectrum: how strong, and how far above the noise around them.

A bearing slips by 1 to 2 %, a speed is known to some per mille: each line is looked for in a
window around its nominal place, and held against the median of the lines beside that window.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from pdm_edge.features.time_domain import FloatArray

SLIP: Final = 0.02
"""Half width of the search window around a nominal line, relative."""

_FEWEST_BESIDE: Final = 4
"""Lines beside a window without which its floor cannot be told."""

_TINY: Final = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True, slots=True, eq=False)
class LineTrace:
    """What stands at a line, its harmonics and their sidebands, in one spectrum.

    All arrays have shape ``(n_found,)``: the harmonics that the spectrum reaches, in order, then
    the sidebands. ``order`` is the multiple of the line, ``sideband`` how many spacings beside it.
    """

    order: npt.NDArray[np.int64]
    sideband: npt.NDArray[np.int64]
    frequency_hz: npt.NDArray[np.float64]
    amplitude: npt.NDArray[np.float64]
    level_db: npt.NDArray[np.float64]


class LinePlan:
    """Where to look for some lines and their harmonics in spectra of one length.

    Parameters
    ----------
    n_lines, line_hz
        Length and spacing of the spectrum.
    frequencies_hz
        Nominal frequency of each line, more than zero.
    harmonics
        How many multiples of each to add; those beyond the spectrum are left out.
    slip
        Half width of the search window, relative.
    """

    def __init__(
        self,
        n_lines: int,
        line_hz: float,
        frequencies_hz: Sequence[float],
        *,
        harmonics: int = 3,
        slip: float = SLIP,
    ) -> None:
        self.n_lines = n_lines
        found: list[tuple[slice, slice]] = []
        self.counts: list[int] = []
        for frequency_hz in frequencies_hz:
            rows = len(found)
            for order in range(1, harmonics + 1):
                window = line_window(n_lines, line_hz, order * frequency_hz, slip)
                if window is None:
                    break
                found.append(window)
            self.counts.append(len(found) - rows)
        self._reached = np.flatnonzero(self.counts)
        self._starts = np.concatenate(([0], np.cumsum(self.counts)[:-1]))[self._reached].astype(np.intp)
        self._divisor = np.array(self.counts, dtype=np.float64)[self._reached]
        inner = [np.arange(a.start, a.stop) for a, _ in found]
        outer = [np.r_[b.start : a.start, a.stop : b.stop] for a, b in found]
        self._n_inner = max((len(i) for i in inner), default=0)
        n_outer = max((len(o) for o in outer), default=0)
        self._index = np.zeros((len(found), self._n_inner + n_outer), dtype=np.intp)
        # Rows are of different width; what is filled in sorts behind all that counts.
        self._padding = np.zeros((len(found), n_outer), dtype=np.float32)
        for row, (i, o) in enumerate(zip(inner, outer, strict=True)):
            self._index[row, : self._n_inner] = np.resize(i, self._n_inner)
            self._index[row, self._n_inner : self._n_inner + len(o)] = o
            self._padding[row, len(o) :] = np.inf
        widths = np.array([len(o) for o in outer], dtype=np.intp)
        rows_at = np.arange(len(found)) * n_outer
        self._middle = np.stack((rows_at + (widths - 1) // 2, rows_at + widths // 2))

    def measure(self, amplitude: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Amplitude and level of each line, both of shape ``(..., n_frequencies)``.

        See `line_amplitudes` for what they are. `amplitude` has shape ``(..., n_lines)``.
        """
        leading = amplitude.shape[:-1]
        if not len(self._reached):
            nothing = np.full((*leading, len(self.counts)), np.nan)
            return nothing, nothing.copy()
        gathered = amplitude.take(self._index, axis=-1)
        strongest = np.maximum.reduce(gathered[..., : self._n_inner], axis=-1)
        around = gathered[..., self._n_inner :]
        around += self._padding
        around.sort(axis=-1)
        middle = around.reshape(*leading, -1).take(self._middle, axis=-1)
        floor = 0.5 * (middle[..., 0, :] + middle[..., 1, :])
        level = 20 * np.log10(np.maximum(strongest, _TINY) / np.maximum(floor, _TINY))
        amplitudes = np.sqrt(np.add.reduceat(strongest * strongest, self._starts, axis=-1))
        levels_db = np.add.reduceat(level, self._starts, axis=-1) / self._divisor
        if len(self._reached) == len(self.counts):
            return amplitudes, levels_db
        total = np.full((*leading, len(self.counts)), np.nan)
        level_db = total.copy()
        total[..., self._reached], level_db[..., self._reached] = amplitudes, levels_db
        return total, level_db


def line_amplitudes(
    amplitude: npt.ArrayLike,
    line_hz: float,
    frequency_hz: float,
    *,
    harmonics: int = 3,
    slip: float = SLIP,
    sideband_hz: float | None = None,
    sidebands: int = 1,
) -> tuple[FloatArray, FloatArray]:
    """Strength of a line, its harmonics and sidebands in an amplitude spectrum.

    Parameters
    ----------
    amplitude
        RMS amplitudes, shape ``(..., n_lines)``.
    line_hz
        Spacing of the lines.
    frequency_hz
        Nominal frequency of the line.
    harmonics
        How many multiples to add; those beyond the spectrum are left out.
    slip
        Half width of the search window, relative to the frequency.
    sideband_hz
        Spacing of sidebands that belong to the line (shaft speed for an inner race, cage speed for
        a rolling element); None for none.
    sidebands
        How many on each side of each harmonic.

    Returns
    -------
    amplitude
        Root of the summed squares over harmonics and sidebands, shape ``(...)``; NaN if the
        spectrum does not reach `frequency_hz`.
    level_db
        Mean level of the harmonics above their local noise floor, shape ``(...)``, in dB. The
        floor is the median of the lines within 20 % of the harmonic and outside its window.
        Sidebands do not enter the level: they stand within the floor of their own harmonic.

    Raises
    ------
    ValueError
        If `frequency_hz` or `sideband_hz` is not positive.
    """
    if not frequency_hz > 0:
        raise ValueError(f"frequency_hz is {frequency_hz!r}; a line lies above zero")
    spectrum = np.array(amplitude, dtype=np.float64)
    plan = LinePlan(spectrum.shape[-1], line_hz, (frequency_hz,), harmonics=harmonics, slip=slip)
    total, level_db = plan.measure(spectrum)
    total, level_db = total[..., 0], level_db[..., 0]
    if sideband_hz is None or not plan.counts[0]:
        return total, level_db
    flat = spectrum.reshape(-1, spectrum.shape[-1])
    beside = np.zeros(len(flat))
    for index, one in enumerate(flat):
        trace = trace_lines(
            one, line_hz, frequency_hz, harmonics=harmonics, slip=slip,
            sideband_hz=sideband_hz, sidebands=sidebands,
        )  # fmt: skip
        beside[index] = np.sum(trace.amplitude[trace.sideband != 0] ** 2)
    return np.sqrt(total**2 + beside.reshape(total.shape)), level_db


def trace_lines(
    amplitude: npt.ArrayLike,
    line_hz: float,
    frequency_hz: float,
    *,
    harmonics: int = 3,
    slip: float = SLIP,
    sideband_hz: float | None = None,
    sidebands: int = 1,
) -> LineTrace:
    """Each harmonic and sideband of a line, where it was found and how it stands.

    Parameters are those of `line_amplitudes`, for one spectrum of shape ``(n_lines,)``. Sidebands
    are looked for beside the place where the harmonic was found, not beside the nominal one.
    """
    spectrum = np.asarray(amplitude, dtype=np.float64)
    if spectrum.ndim != 1:
        raise ValueError(f"amplitude has shape {spectrum.shape}; one spectrum is traced at a time")
    if sideband_hz is not None and not sideband_hz > 0:
        raise ValueError(f"sideband_hz is {sideband_hz!r}; it must be positive")
    rows: list[tuple[int, int, int, float]] = []
    for order in range(1, harmonics + 1):
        window = line_window(len(spectrum), line_hz, order * frequency_hz, slip)
        if window is None:
            break
        inner, outer = window
        at = inner.start + int(np.argmax(spectrum[inner]))
        floor = float(np.median(spectrum[np.r_[outer.start : inner.start, inner.stop : outer.stop]]))
        rows.append((order, 0, at, floor))
        for k in range(1, sidebands + 1) if sideband_hz is not None else ():
            for sign in (-1, 1):
                near = round(at + sign * k * (sideband_hz or 0.0) / line_hz)
                if 3 <= near <= len(spectrum) - 2:
                    place = near - 1 + int(np.argmax(spectrum[near - 1 : near + 2]))
                    rows.append((order, sign * k, place, floor))
    places = np.array([row[2] for row in rows], dtype=np.intp)
    found = spectrum[places].astype(np.float64)
    floors = np.array([row[3] for row in rows])
    return LineTrace(
        order=np.array([row[0] for row in rows], dtype=np.int64),
        sideband=np.array([row[1] for row in rows], dtype=np.int64),
        frequency_hz=np.multiply(places, line_hz, dtype=np.float64),
        amplitude=found,
        level_db=20 * np.log10(np.maximum(found, _TINY) / np.maximum(floors, _TINY)),
    )


def line_window(
    n_lines: int, line_hz: float, frequency_hz: float, slip: float = SLIP
) -> tuple[slice, slice] | None:
    """The lines in which to look for `frequency_hz`, and the wider span that holds its noise floor.

    Both are at least as wide as the main lobe of the Hann window. None if the spectrum ends
    before, or if the frequency is too close to zero to be told from the mean.
    """
    centre = frequency_hz / line_hz
    half = max(slip * centre, 1.0)
    lowest, highest = math.floor(centre - half), math.ceil(centre + half)
    if lowest < 2 or highest >= n_lines:
        return None
    wide = max(0.2 * centre, half + 8)
    first, last = max(math.floor(centre - wide), 2), min(math.ceil(centre + wide), n_lines - 1)
    if last - first - (highest - lowest) < _FEWEST_BESIDE:
        return None
    return slice(lowest, highest + 1), slice(first, last + 1)
