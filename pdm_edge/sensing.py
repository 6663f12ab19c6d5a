"""One vibration sensor of a machine, from its waveforms to features, spectra and evidence."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence

from pdm_edge.acquire.ring import EvidenceRing
from pdm_edge.acquire.windows import Windower
from pdm_edge.config import MachineConfig, SensorConfig
from pdm_edge.features import FeatureExtractor, FeaturePlan
from pdm_edge.features.self_check import self_check
from pdm_edge.features.spectra import SpectrumRecorder
from pdm_edge.records import AmplitudeSpectrum, Float32Array, Gap, Quality, Record, Waveform, worst

logger = logging.getLogger(__name__)


class VibrationSensor:
    """Cuts windows, computes their features, and keeps what an alarm will want to show."""

    def __init__(self, config: SensorConfig, machine: MachineConfig) -> None:
        self.id = config.id
        self.doubts = ""
        self._config = config
        self._machine = machine
        self._windower = Windower(machine.window_s)
        self._ring = EvidenceRing(machine.evidence.before_s, machine.evidence.after_s)
        self._extractor: FeatureExtractor | None = None
        how = machine.spectrum
        self._spectra: SpectrumRecorder | None = None
        if how.bins:
            self._spectra = SpectrumRecorder(every_s=how.every_s, bins=how.bins, averages=how.averages)

    def windows(self, waveform: Waveform) -> Sequence[Gap | Waveform]:
        return self._windower.feed(waveform)

    def keep(self, waveform: Waveform) -> Sequence[Record]:
        """Keep a waveform as evidence of what may come; return evidence that is complete with it."""
        return self._ring.push(waveform)

    def extractor(self, window: Waveform) -> FeatureExtractor:
        """The extractor planned for such windows; planned anew when the device changes its rate.

        Raises
        ------
        ValueError
            If such windows give no features.
        """
        held = self._extractor
        if held is not None and (held.plan.sample_rate_hz, held.plan.unit, held.plan.axes) == (
            window.sample_rate_hz,
            window.unit,
            window.axes,
        ):
            return held
        speed_rpm, bearing = self._machine.rated_speed_rpm, self._config.bearing
        extractor = FeatureExtractor(
            FeaturePlan(
                sample_rate_hz=window.sample_rate_hz,
                n_samples=window.n_samples,
                unit=window.unit,
                axes=window.axes,
                shaft_hz=None if speed_rpm is None else speed_rpm / 60,
                bearing=None if bearing is None else bearing.geometry(),
                envelope_band_hz=self._config.envelope_band_hz,
                extras=self._config.features.extras,
                more_bands_hz=self._config.features.more_bands_hz,
                orders=self._config.features.orders,
            )
        )
        extractor.keeps_lines = self._spectra is not None
        self._extractor = extractor
        return extractor

    def features(
        self, extractor: FeatureExtractor, window: Waveform, speed_rpm: float
    ) -> tuple[Float32Array, Quality]:
        """Features of a window, and how far they may be trusted. `speed_rpm` is NaN if it is not known."""
        values = extractor(window.samples, speed_rpm / 60 if speed_rpm > 0 else None)
        return values, worst(window.quality, self._self_check(window))

    def spectra(
        self, window: Waveform, quality: Quality, *, state: str, speed_rpm: float
    ) -> list[AmplitudeSpectrum]:
        """Spectra that are complete with the window whose features were made last."""
        if self._spectra is None or self._extractor is None:
            return []
        known_rpm = speed_rpm if speed_rpm > 0 else self._machine.rated_speed_rpm or float("nan")
        return self._spectra.observe(
            window, self._extractor, quality=quality, state=state, shaft_hz=known_rpm / 60
        )

    def changed(self, alarm: str, *, raised: bool) -> Iterator[Record]:
        """The alarm's state has changed: the waveforms that led to it if it rose, and spectra in any case."""
        if raised:
            yield from self._ring.release(alarm)
        if self._spectra is not None:
            yield from self._spectra.ask(alarm)

    def rest(self) -> Iterator[Record]:
        """Evidence that is under way when the monitor ends."""
        yield from self._ring.rest()
        if self._spectra is not None:
            yield from self._spectra.rest()

    def _self_check(self, window: Waveform) -> Quality:
        """Doubts about the sensor itself; a change of them is told once."""
        check = self_check(
            window.samples,
            window.sample_rate_hz,
            window.unit,
            axes=window.axes,
            full_scale=self._config.full_scale,
        )
        doubts = [f for f in check.findings if f.level != "hint"]
        self.doubt(", ".join(sorted({f.what for f in doubts})), "; ".join(map(str, doubts)))
        return check.quality

    def doubt(self, kinds: str, told: str = "") -> None:
        """Note what is wrong with the sensor, empty for nothing; a change is told once."""
        if kinds != self.doubts:
            told = told or kinds or "in order again"
            logger.warning("machine %s: sensor %r: %s", self._machine.id, self.id, told)
        self.doubts = kinds
