"""What a second of signal shows by itself: its strongest lines, and whether something strikes.

The lines tell whether the machine turns as fast as when it was learned (`detect.line_speed`); strikes
and bearing lines say without any history that a machine is not in order (`assess.evidence`). Both
need lines of about 1 Hz, so that short windows are put together to a second first.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
import scipy.fft

from pdm_edge.features.spectrum import amplitude_spectrum
from pdm_edge.features.speed import levels_above_floor_db
from pdm_edge.features.time_domain import FloatArray, kurtosis
from pdm_edge.records import Waveform

SPAN_S: Final = 1.0
LONGEST_S: Final = 4.0
"""Of a longer window the first part: a speed that wanders by 0.1 % widens what lies above 250 Hz."""

HIGHEST_HZ: Final = 2000.0
"""Lines above are smeared over more than one of 1 Hz as soon as the speed wanders by 0.05 %."""
MOST_LINES: Final = 50
LINE_DB: Final = 8.0
"""Above the median of its neighbours; one line of noise in 80 reaches it (Rayleigh distribution)."""

SLOWEST_HZ: Final = 8.0
FASTEST_HZ: Final = 400.0
"""Strikes a second that are looked for: a race fault has 3 to 10 a turn."""
_HARMONICS: Final = 5
_CAP_DB: Final = 30.0

Lines = tuple[tuple[float, float], ...]
"""Frequency in Hz, level above the floor in dB; by rising frequency."""


class Span:
    """The last second of one sensor, put together from its windows; a gap starts it anew."""

    def __init__(self) -> None:
        self._held: list[Waveform] = []
        self._new = 0
        self._lines: Lines = ()
        self._continuous = True

    def feed(self, window: Waveform) -> None:
        """Take the next window."""
        last = self._held[-1] if self._held else None
        if last is not None and not (
            window.first_sample == last.first_sample + last.n_samples
            and (window.sample_rate_hz, window.axes) == (last.sample_rate_hz, last.axes)
        ):
            self._continuous = self.full
            self._held, self._lines = [], ()
        self._held.append(window)
        self._new += window.n_samples
        needed = round(SPAN_S * window.sample_rate_hz)
        while sum(w.n_samples for w in self._held[1:]) >= needed:
            self._held.pop(0)
        if self.full and self._new >= needed / 2:  # shorter windows would look at the same second again
            self._new = 0
            self._lines = strongest_lines(self.samples, window.sample_rate_hz)

    @property
    def full(self) -> bool:
        """Whether there is a whole second."""
        return bool(self._held) and sum(w.duration_s for w in self._held) >= SPAN_S * (1 - 1e-9)

    @property
    def filling(self) -> bool:
        """Whether the second will soon be whole: not for a sensor that has gaps before it is."""
        return self._continuous and not self.full

    @property
    def samples(self) -> FloatArray:
        """Shape ``(n_axes, n_samples)``, without the mean."""
        longest = round(LONGEST_S * self._held[-1].sample_rate_hz)
        joined = np.concatenate([w.samples for w in self._held], axis=1)[:, :longest].astype(np.float64)
        return np.asarray(joined - joined.mean(axis=1, keepdims=True))

    @property
    def lines(self) -> Lines:
        """Its strongest lines, of all axes; empty before the second is whole."""
        return self._lines


def strongest_lines(samples: npt.ArrayLike, sample_rate_hz: float) -> Lines:
    """Up to `MOST_LINES` lines below `HIGHEST_HZ` that stand `LINE_DB` above their neighbours.

    `samples` has shape ``(n_axes, n_samples)``; a line counts with its highest level of all axes.
    """
    frequencies_hz, amplitude = amplitude_spectrum(np.asarray(samples), sample_rate_hz)
    line_hz = float(frequencies_hz[1])
    reach = min(round(HIGHEST_HZ / line_hz), amplitude.shape[-1])
    level_db = np.max([levels_above_floor_db(axis[:reach], line_hz) for axis in amplitude], axis=0)
    at = np.arange(4, reach - 1)  # below, the mean and its neighbours
    peaks = at[(level_db[at] >= np.maximum(level_db[at - 1], LINE_DB)) & (level_db[at] > level_db[at + 1])]
    peaks = np.sort(peaks[np.argsort(-level_db[peaks], kind="stable")[:MOST_LINES]])
    return tuple((round(float(i * line_hz), 2), round(float(level_db[i]), 1)) for i in peaks)


def band_kurtosis(samples: npt.ArrayLike, sample_rate_hz: float, band_hz: tuple[float, float]) -> FloatArray:
    """Pearson's kurtosis of what lies within a band, shape ``(...)``: 3 for noise, more if it strikes."""
    x = np.asarray(samples, dtype=np.float64)
    bins = scipy.fft.rfft(x, axis=-1)
    at_hz = scipy.fft.rfftfreq(x.shape[-1], 1 / sample_rate_hz)
    bins[..., (at_hz < band_hz[0]) | (at_hz > band_hz[1])] = 0
    return kurtosis(scipy.fft.irfft(bins, n=x.shape[-1], axis=-1))


def steadiest_repetition(envelope: FloatArray, line_hz: float) -> tuple[float, float]:
    """The repetition that stands out most of an envelope spectrum of shape ``(n_lines,)``.

    Returns its rate in Hz, and the mean level of its first five harmonics above the floor in dB.
    """
    reach = min(len(envelope), round(_HARMONICS * FASTEST_HZ / line_hz) + 1)
    level_db = np.clip(levels_above_floor_db(envelope[:reach], line_hz), 0.0, _CAP_DB)
    level_db[:3] = 0.0
    candidates_hz = np.arange(SLOWEST_HZ, FASTEST_HZ, line_hz / (2 * _HARMONICS))
    at = np.rint(np.outer(candidates_hz, np.arange(1, _HARMONICS + 1)) / line_hz).astype(np.intp)
    families = np.where(at < reach, level_db[np.minimum(at, reach - 1)], 0.0).mean(axis=-1)
    best = int(families.argmax())
    return float(candidates_hz[best]), float(families[best])
