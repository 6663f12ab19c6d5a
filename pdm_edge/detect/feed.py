"""What a model made elsewhere is fed with, from a window of one sensor: band levels, or the samples."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Final

import numpy as np
import scipy.fft

from pdm_edge.detect.bundle import Manifest, ModelInput
from pdm_edge.errors import ModelError
from pdm_edge.records import FeatureSchema, FeatureVector, Float32Array, Waveform, worst

LOWEST_DB: Final = -200.0
FEWEST_LINES: Final = 1


SPECTRAL: Final = ("mobilenet", "squeezenet")
"""Families that learn from the spectrum of one sensor, not from the machine's vector."""

SPECTRUM_BANDS: Final = 64
USABLE: Final = 2.56
"""Sample rate over highest usable frequency, by convention of vibration analysers."""


def spectrum_of(window: Waveform, axis: str = "") -> ModelInput:
    """What the spectral families are fed with: 64 bands from zero to the highest usable frequency.

    Raises
    ------
    ModelError
        If the sensor has several axes and none is named, or not the one that is.
    """
    if axis not in window.axes and (axis or len(window.axes) > 1):
        raise ModelError(
            f"sensor {window.sensor!r} has the axes {', '.join(window.axes)}"
            + (f", not {axis!r}" if axis else ", and a model of the spectrum hears one"),
            mend=f'Say which: detect = {{ hears = "{window.sensor}/{window.axes[0]}" }}',
        )
    return ModelInput(
        kind="spectrum",
        sensor=window.sensor,
        axis=window.axes.index(axis) if axis else 0,
        bands=SPECTRUM_BANDS,
        low_hz=0.0,
        high_hz=window.sample_rate_hz / USABLE,
    )


class Feed:
    """Turns windows into the input that a manifest names; planned anew for another rate or length."""

    def __init__(self, given: ModelInput) -> None:
        self.given = given
        self._key: tuple[float, str, int] | None = None
        self._schema: FeatureSchema | None = None
        self._levels: BandLevels | None = None

    def vector(self, window: Waveform, machine: str) -> FeatureVector | None:
        """The input of one window, None if it is of another sensor.

        Raises
        ------
        ModelError
            If such a window cannot be turned into it.
        """
        if window.sensor != self.given.sensor:
            return None
        if self.given.axis >= len(window.axes):
            raise ModelError(f"the model is fed with axis {self.given.axis}, {window.sensor!r} has no such")
        key = (window.sample_rate_hz, window.unit, window.n_samples)
        if key != self._key or self._schema is None:
            self._plan(*key)
            self._key = key
        assert self._schema is not None
        samples = window.samples[self.given.axis]
        values = samples if self._levels is None else self._levels(samples)
        duration_s = window.n_samples / window.sample_rate_hz
        return FeatureVector(machine, values, self._schema, window.stamp, duration_s, quality=window.quality)

    def _plan(self, sample_rate_hz: float, unit: str, n_samples: int) -> None:
        given = self.given
        self._schema = FeatureSchema(*input_names(given, n_samples, sample_rate_hz, unit))
        self._levels = None
        if given.kind != "waveform":
            self._levels = BandLevels(given, n_samples, sample_rate_hz)


class Ear:
    """Hears the windows for a model that is not fed with the machine's vector.

    Parameters
    ----------
    machine, family
        Id of the machine, and kind of model that it learns.
    sensor, axis
        What a model of the spectrum is to learn from; empty where there is only one.
    """

    def __init__(self, machine: str, family: str, sensor: str, axis: str) -> None:
        self._machine = machine
        self._spectral = family in SPECTRAL
        self._sensor = sensor
        self._axis = axis
        self._feed: Feed | None = None
        self._heard: FeatureVector | None = None

    def listen(self, window: Waveform, manifest: Manifest | None, *, learning: bool) -> None:
        """Take a window for the model of `manifest`, or for the one that is being learned.

        Raises
        ------
        ModelError
            If the input of the model cannot be made of it.
        """
        if manifest is None and not (learning and self._spectral):
            return
        if manifest is not None and manifest.input.kind == "features":
            return
        if self._feed is None:
            if manifest is not None:
                self._feed = Feed(manifest.input)
            elif window.sensor == (self._sensor or window.sensor):
                self._feed = Feed(spectrum_of(window, self._axis))
        if self._feed is not None:
            self._heard = self._feed.vector(window, self._machine) or self._heard

    @property
    def given(self) -> ModelInput | None:
        """What the model is fed with, None before a window has told it."""
        return self._feed.given if self._feed else None

    def vector(self, vector: FeatureVector) -> FeatureVector | None:
        """What was heard last, with all else that the machine's own vector says; None if nothing was."""
        if self._heard is None:
            return None
        return replace(
            self._heard,
            state=vector.state,
            quality=worst(self._heard.quality, vector.quality),
            lines=vector.lines,
            faults=vector.faults,
        )


class BandLevels:
    """Levels of neighbouring bands of equal width, of a window or of its frames one after the other.

    A level is ``20 log10(RMS of the band / 1 unit)``, from a Hann-windowed spectrum; nothing at all
    is -200 dB.

    Raises
    ------
    ModelError
        If the bands are narrower than what a frame can tell, or lie beyond half the sample rate.
    """

    def __init__(self, given: ModelInput, n_samples: int, sample_rate_hz: float) -> None:
        self._frames = given.frames if given.kind == "spectrogram" else 1
        self._size = n_samples // max(self._frames, 1)
        if self._size < 8 or given.bands < 1 or not 0 <= given.low_hz < given.high_hz <= sample_rate_hz / 2:
            raise ModelError(
                f"{given.bands} bands from {given.low_hz:g} to {given.high_hz:g} Hz cannot be made of "
                f"{self._frames} frames of {self._size} samples at {sample_rate_hz:g} Hz"
            )
        edges_hz = np.linspace(given.low_hz, given.high_hz, given.bands + 1)
        lines_hz = scipy.fft.rfftfreq(self._size, 1 / sample_rate_hz)
        self._edges = np.searchsorted(lines_hz, edges_hz)
        if (np.diff(self._edges) < FEWEST_LINES).any():
            raise ModelError(
                f"bands of {edges_hz[1] - edges_hz[0]:.3g} Hz are narrower than a line of "
                f"{sample_rate_hz / self._size:.3g} Hz",
                mend="Longer windows, fewer bands or fewer frames",
            )
        turn = 2 * np.pi * np.arange(self._size) / self._size
        self._window = (0.5 - 0.5 * np.cos(turn)).astype(np.float32)
        self._scale = 2.0 / (self._size * float(np.square(self._window).sum(dtype=np.float64)))

    def __call__(self, samples: Float32Array) -> Float32Array:
        """Levels of one window, shape ``(frames * bands,)``, frame after frame, in dB."""
        frames = samples[: self._frames * self._size].reshape(self._frames, self._size)
        centred = frames - frames.mean(axis=1, keepdims=True, dtype=np.float64).astype(np.float32)
        bins = scipy.fft.rfft(centred * self._window, axis=1)
        power = np.square(np.abs(bins))[:, : self._edges[-1]]
        sums = np.add.reduceat(power, self._edges[:-1], axis=1) * self._scale
        levels: Float32Array = (10 * np.log10(np.maximum(sums, 10 ** (LOWEST_DB / 10)))).astype(np.float32)
        return levels.ravel()


def input_names(
    given: ModelInput, n_samples: int, sample_rate_hz: float, unit: str
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names and units of what is made of a window: rate and unit are part of them, so that a sensor
    with another rate does not pass for the one that the model was made for."""
    at, rate = f"{given.sensor}/{given.axis}", f"{sample_rate_hz:g}hz"
    if given.kind == "waveform":
        return tuple(f"{at}/sample_{i}_of_{rate}" for i in range(n_samples)), (unit,) * n_samples
    edges = np.linspace(given.low_hz, given.high_hz, max(given.bands, 1) + 1)
    frames = given.frames if given.kind == "spectrogram" else 1
    names = tuple(
        f"{at}/frame_{frame}/level_{low:.6g}_{high:.6g}hz_of_{rate}"
        for frame in range(frames)
        for low, high in itertools.pairwise(edges)
    )
    return names, (f"db_{unit}",) * len(names)
