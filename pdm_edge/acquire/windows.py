"""Blocks of samples, as they happen to arrive, become windows of one length."""

from __future__ import annotations

import numpy as np

from pdm_edge.records import GOOD, Float32Array, Gap, Quality, Stamp, Waveform, worst


class Windower:
    """Cuts the stream of one sensor into windows.

    No window holds a seam: where samples are missing, or rate, unit or axes change, the window
    begun is given up, and what it held is told as a Gap.

    Parameters
    ----------
    window_s
        Length of a window; rounded to whole samples at the sensor's rate.
    overlap
        Share of a window that the next one repeats, from 0 to below 1.
    """

    def __init__(self, window_s: float, *, overlap: float = 0.0) -> None:
        if not window_s > 0:
            raise ValueError(f"window_s is {window_s!r}; it must be positive")
        if not 0 <= overlap < 1:
            raise ValueError(f"overlap is {overlap!r}; it must be from 0 to below 1")
        self._window_s = window_s
        self._overlap = overlap
        self._held: Float32Array = np.empty((0, 0), dtype=np.float32)
        self._filled = 0
        self._repeated = 0  # samples at the start that a window has delivered already
        self._next_sample: int | None = None
        self._kind: tuple[object, ...] = ()
        self._start: Stamp | None = None
        self._first_sample = 0
        self._quality = GOOD

    def feed(self, waveform: Waveform) -> list[Waveform | Gap]:
        """Take the next samples; return the windows that they complete."""
        out: list[Waveform | Gap] = []
        kind = (waveform.sample_rate_hz, waveform.unit, waveform.axes)
        if kind != self._kind:
            out.extend(self._give_up(waveform, "a change of rate, unit or axes"))
            self._kind = kind
            n_samples = max(round(self._window_s * waveform.sample_rate_hz), 1)
            self._held = np.empty((len(waveform.axes), n_samples), dtype=np.float32)
        elif waveform.first_sample != self._next_sample:
            out.extend(self._give_up(waveform, "missing samples"))
        self._next_sample = waveform.first_sample + waveform.n_samples
        taken = 0
        while taken < waveform.n_samples:
            if self._start is None:
                self._start = waveform.stamp.earlier(-taken / waveform.sample_rate_hz)
                self._first_sample = waveform.first_sample + taken
            quality = _without_gap(waveform.quality) if self._filled == taken == 0 else waveform.quality
            self._quality = worst(self._quality, quality)
            n = min(waveform.n_samples - taken, self._held.shape[1] - self._filled)
            self._held[:, self._filled : self._filled + n] = waveform.samples[:, taken : taken + n]
            self._filled += n
            taken += n
            if self._filled == self._held.shape[1]:
                out.append(self._window(waveform))
        return out

    def _window(self, waveform: Waveform) -> Waveform:
        assert self._start is not None
        n_samples = self._held.shape[1]
        hop = max(round(n_samples * (1 - self._overlap)), 1)
        window = Waveform(
            sensor=waveform.sensor,
            samples=self._held,
            sample_rate_hz=waveform.sample_rate_hz,
            unit=waveform.unit,
            axes=waveform.axes,
            stamp=self._start,
            first_sample=self._first_sample,
            quality=self._quality,
        )
        self._filled = self._repeated = n_samples - hop
        self._held[:, : self._filled] = self._held[:, hop:].copy()
        self._start = self._start.earlier(-hop / waveform.sample_rate_hz) if self._filled else None
        self._first_sample += hop
        self._quality = GOOD
        return window

    def _give_up(self, waveform: Waveform, why: str) -> list[Gap]:
        unused = self._filled - self._repeated
        self._filled = self._repeated = 0
        self._start, self._quality = None, GOOD
        if unused <= 0:
            return []
        return [Gap(waveform.sensor, "samples", unused, f"window broken by {why}", waveform.stamp)]


def _without_gap(quality: Quality) -> Quality:
    """A gap before the first sample of a window is none within it."""
    rest = tuple(reason for reason in quality.reasons if reason != "gap")
    return Quality(quality.level, rest) if rest else GOOD
