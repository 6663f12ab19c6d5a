"""Compact spectra of a sensor: what an analyst looks at, without the cost of the waveform.

They are made of the lines that the extractor has computed anyway, every so often and after each change of
the alarm's state: acceleration over all that the sensor can tell, velocity over the band that is
graded, and the envelope up to `ENVELOPE_TOP_HZ`. The power of each line is averaged over consecutive
windows of steady running; then lines are put together to a limited number of bins by peak-hold, so
that a tone keeps its amplitude, while the noise between reads a little high.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from pdm_edge.features.extractor import FeatureExtractor
from pdm_edge.features.spectrum import G_MM_S2
from pdm_edge.records import (
    GOOD,
    AmplitudeSpectrum,
    Float32Array,
    Quality,
    SpectrumQuantity,
    Stamp,
    Waveform,
    level_codes,
    worst,
)

ENVELOPE_TOP_HZ: Final = 1000.0
"""Five harmonics of an inner race line at 3000 rpm reach about this far."""

_FEWEST_BINS: Final = 8


@dataclass(frozen=True, slots=True)
class ReducedSpectrum:
    """RMS amplitude of the strongest line in each bin, shape ``(n_axes, n_bins)``, in ``unit``.

    Bin i holds the lines from ``first_hz + i * bin_hz`` up to, not including, that of the next.
    """

    quantity: SpectrumQuantity
    unit: str
    first_hz: float
    bin_hz: float
    amplitude: Float32Array


class SpectrumAverage:
    """The mean power of each line over windows of one extractor, which must have ``keeps_lines`` set.

    Averaging power, not amplitude, leaves a tone unchanged and makes noise steadier.
    """

    def __init__(self, extractor: FeatureExtractor) -> None:
        self.extractor = extractor
        self.count = 0
        self._power: Float32Array | None = None
        self._envelope: Float32Array | None = None

    def add(self) -> None:
        """Take in the window that went through the extractor last."""
        power = np.concatenate([part for part, _ in self.extractor.lines])
        envelopes = [part for _, part in self.extractor.lines if part is not None]
        self._power = power if self._power is None else self._power + power
        if envelopes:
            squared = np.square(np.concatenate(envelopes))
            self._envelope = squared if self._envelope is None else self._envelope + squared
        self.count += 1

    def reduced(self, bins: int) -> list[ReducedSpectrum]:
        """The spectra, each with at most so many bins."""
        if self._power is None:
            return []
        extractor, plan = self.extractor, self.extractor.plan
        amplitude = np.sqrt(self._power * np.float32(extractor.amplitude_scale**2 / self.count))
        line_hz = extractor.line_hz
        velocity_hz, _ = plan.velocity_band_hz()
        found: list[ReducedSpectrum | None] = []
        if plan.unit == "mm_s":
            found.append(
                _held("velocity", "mm_s", amplitude, line_hz, (plan.lowest_hz, plan.usable_hz), bins)
            )
        else:
            found.append(
                _held("acceleration", "g", amplitude, line_hz, (plan.lowest_hz, plan.usable_hz), bins)
            )
            omega = 2 * np.pi * line_hz * np.maximum(np.arange(amplitude.shape[-1]), 1)
            velocity = amplitude * (G_MM_S2 / omega).astype(np.float32)
            found.append(_held("velocity", "mm_s", velocity, line_hz, velocity_hz, bins))
        if self._envelope is not None and extractor.envelope_line_hz is not None:
            envelope = np.sqrt(self._envelope / np.float32(self.count))
            reach_hz = min(ENVELOPE_TOP_HZ, envelope.shape[-1] * extractor.envelope_line_hz)
            band_hz = (plan.lowest_hz, reach_hz)
            found.append(_held("envelope", "g", envelope, extractor.envelope_line_hz, band_hz, bins))
        return [each for each in found if each is not None]


def _held(
    quantity: SpectrumQuantity,
    unit: str,
    amplitude: Float32Array,
    line_hz: float,
    band_hz: tuple[float, float],
    bins: int,
) -> ReducedSpectrum | None:
    """Lines of a band put together by peak-hold; None if there are too few for a spectrum."""
    first = math.ceil(band_hz[0] / line_hz - 1e-9)
    end = min(math.floor(band_hz[1] / line_hz + 1e-9) + 1, amplitude.shape[-1])
    if end - first < _FEWEST_BINS:
        return None
    together = math.ceil((end - first) / bins)
    starts = np.arange(0, end - first, together)
    held = np.maximum.reduceat(amplitude[:, first:end], starts, axis=-1)
    return ReducedSpectrum(quantity, unit, first * line_hz, together * line_hz, held)


class SpectrumRecorder:
    """Says when spectra of one sensor are made, and makes them.

    Parameters
    ----------
    every_s
        Time from one to the next while the machine runs; 0: only after changes of the alarm's state.
    bins
        Highest number of bins of a spectrum.
    averages
        Windows that a spectrum is averaged over. If the machine stops or the data turn bad before, what an
        alarm has asked for is made of fewer; what was only due waits for better ones.
    """

    def __init__(self, *, every_s: float, bins: int, averages: int) -> None:
        self._every_ns = round(every_s * 1e9)
        self._bins = bins
        self._averages = averages
        self._due_ns: int | None = None  # at once
        self._average: SpectrumAverage | None = None
        self._latest: tuple[Waveform, FeatureExtractor, Quality, str, float] | None = None
        self._first: Waveform | None = None
        self._quality = GOOD
        self._alarm = ""

    def observe(
        self, window: Waveform, extractor: FeatureExtractor, *, quality: Quality, state: str, shaft_hz: float
    ) -> list[AmplitudeSpectrum]:
        """See the window that went through the extractor last; return spectra that are complete with it.

        `state` is the operating state, `shaft_hz` the speed, NaN if it is not known.
        """
        usable = quality.level != "bad" and state.startswith("running")
        changed = self._average is not None and self._average.extractor is not extractor
        out = [] if usable and not changed else self.rest()
        self._latest = (window, extractor, quality, state, shaft_hz) if usable else None
        if not usable:
            return out
        if self._average is None and self._is_due(window.stamp):
            self._begin(extractor, "")
        if self._average is not None:
            out += self._add()
        return out

    def ask(self, alarm: str) -> list[AmplitudeSpectrum]:
        """The alarm's state has changed with the latest window: spectra of it and of those that follow.

        Returns what an earlier change has asked for, as far as it has come.
        """
        out = self.rest()
        if self._latest is not None:
            self._begin(self._latest[1], alarm)
            out += self._add()
        return out

    def rest(self) -> list[AmplitudeSpectrum]:
        """What an alarm has asked for, of the windows that have come; nothing else is under way then."""
        return self._finish() if self._alarm else self._drop()

    def _is_due(self, now: Stamp) -> bool:
        return self._every_ns > 0 and (self._due_ns is None or now.monotonic_ns >= self._due_ns)

    def _begin(self, extractor: FeatureExtractor, alarm: str) -> None:
        self._average, self._alarm = SpectrumAverage(extractor), alarm
        self._first, self._quality = None, GOOD

    def _drop(self) -> list[AmplitudeSpectrum]:
        self._average, self._alarm = None, ""
        return []

    def _add(self) -> list[AmplitudeSpectrum]:
        assert self._average is not None
        assert self._latest is not None
        self._first = self._first or self._latest[0]
        self._quality = worst(self._quality, self._latest[2])
        self._average.add()
        return self._finish() if self._average.count >= self._averages else []

    def _finish(self) -> list[AmplitudeSpectrum]:
        average, first, alarm = self._average, self._first, self._alarm
        if average is None or first is None or self._latest is None:
            return self._drop()
        _, _, _, state, shaft_hz = self._latest
        out = []
        for each in average.reduced(self._bins):
            if not np.isfinite(each.amplitude).all():
                continue  # the window held what is no number; the quality of its features says so
            top, levels = level_codes(each.amplitude)
            out.append(
                AmplitudeSpectrum(
                    sensor=first.sensor,
                    quantity=each.quantity,
                    unit=each.unit,
                    axes=first.axes,
                    top=top,
                    levels=levels,
                    first_hz=each.first_hz,
                    bin_hz=each.bin_hz,
                    resolution_hz=first.sample_rate_hz / first.n_samples,
                    sample_rate_hz=first.sample_rate_hz,
                    averages=average.count,
                    stamp=first.stamp,
                    shaft_hz=None if math.isnan(shaft_hz) else shaft_hz,
                    state=state,
                    quality=self._quality,
                    alarm=alarm,
                )
            )
        if self._every_ns:
            self._due_ns = first.stamp.monotonic_ns + self._every_ns
        self._drop()
        return out
