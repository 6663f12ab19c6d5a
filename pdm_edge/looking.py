"""What the sensors of one machine show by themselves, without a model: lines that tell the speed, and
faults by absolute limits.

Joins the look of `features` at a second of signal with the limits of `assess`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from pdm_edge.assess import standing
from pdm_edge.config import MachineConfig
from pdm_edge.detect.bundle import Manifest
from pdm_edge.detect.life import ModelLife
from pdm_edge.detect.line_speed import LineSpeed
from pdm_edge.features import FeaturePlan, envelope_spectrum, line_amplitudes
from pdm_edge.features.bearing import LINES
from pdm_edge.features.look import SPAN_S, Lines, Span, band_kurtosis, steadiest_repetition
from pdm_edge.features.operating import OperatingState
from pdm_edge.records import Evidence, FeatureVector, Waveform

UNCONFIRMED: Final = "the operating state is not known: no speed is measured, and the lines do not tell it"
"""Evidence beside a score; its value is the share of the learned lines that stand where they stood."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What there is to say of a vector beside its score: evidence that stands by absolute limits where the
    model gives none, and what makes a score unsure."""

    vector: FeatureVector
    standing: tuple[Evidence, ...]
    unsure: tuple[Evidence, ...]


class Looks:
    """The last second of each vibration sensor of a machine."""

    def __init__(self, config: MachineConfig) -> None:
        self._sensors = {sensor.id: sensor for sensor in config.sensor if sensor.is_waveform}
        self._rated_hz = None if config.rated_speed_rpm is None else config.rated_speed_rpm / 60
        self._spans = {sensor: Span() for sensor in self._sensors}
        self._latest: dict[str, Waveform] = {}
        self._teller: tuple[Manifest, LineSpeed] | None = None
        self._lines: tuple[Lines, ...] = ()
        self._merged: Lines = ()

    def feed(self, window: Waveform) -> None:
        """Take a window that its sensor's own check does not call bad."""
        self._spans[window.sensor].feed(window)
        self._latest[window.sensor] = window

    def look(
        self, vector: FeatureVector, operating: OperatingState, speed_rpm: float, model: ModelLife
    ) -> Seen:
        """The vector with its operating state and what its sensors show, and the evidence that its model
        cannot give: all of it in a state that it has not learned."""
        state, speed_hz = str(operating), None if math.isnan(speed_rpm) else speed_rpm / 60
        unsure: tuple[Evidence, ...] = ()
        if speed_hz is None and self._sensors:
            vector = replace(vector, lines=self.lines())
            if operating.kind == "running" and model.learned_here and model.manifest is not None:
                state, speed_hz, unsure = self.placed(state, self._teller_of(model.manifest))
        vector = replace(vector, state=state)
        if not state.startswith("running"):
            return Seen(vector, (), ())
        if model.learning:
            faults = tuple(item.what for item in self.standing(speed_hz))
            return Seen(replace(vector, faults=faults), (), ())
        if model.knows(state):
            return Seen(vector, (), unsure)
        overruled = model.manifest.training.warnings if model.manifest else ()
        standing = self.standing(speed_hz)
        return Seen(vector, tuple(i for i in standing if not any(i.what in told for told in overruled)), ())

    def lines(self) -> Lines:
        """Lines of all sensors together: what turns with the shaft stands in all of them. A sensor that has
        fallen silent says nothing."""
        seen = tuple(self._spans[sensor].lines for sensor in self._heard())
        if seen != self._lines:
            self._lines = seen
            self._merged = _merged(seen)
        return self._merged

    def standing(self, speed_hz: float | None = None) -> tuple[Evidence, ...]:
        """What is out of order by absolute limits, strongest first.

        Parameters
        ----------
        speed_hz
            Speed at which bearing lines are looked for: None for the rated one, NaN if no speed is known
            and they cannot be looked for.
        """
        found: list[Evidence] = []
        for sensor in self._heard():
            span = self._spans[sensor]
            if span.full:
                found.extend(self._at(sensor, span, self._rated_hz if speed_hz is None else speed_hz))
        return tuple(sorted(found, key=lambda item: -item.ratio))

    def placed(self, state: str, teller: LineSpeed | None) -> tuple[str, float | None, tuple[Evidence, ...]]:
        """The operating state by the lines, where no speed is measured.

        Returns it, the speed at which `standing` looks then, and what is to be said beside a score that
        may be that of another speed.
        """
        if teller is None:
            return state, None, (Evidence(UNCONFIRMED, 0.0, 1.0, "lines"),)
        answer = teller.observe(self.lines())
        heard = [self._spans[sensor] for sensor in self._heard()]
        if any(span.filling for span in heard) and not any(span.full for span in heard):
            return "transient", None, ()  # whether it is steady is known within a second
        unsure = (Evidence(UNCONFIRMED, answer.found, 1.0, "lines"),) if answer.kind == "undecided" else ()
        speed_hz = None
        if answer.kind == "other":
            # Of several learned speeds it is not known which one was the rated.
            known = self._rated_hz is not None and not teller.several
            speed_hz = self._rated_hz * answer.ratio if known and self._rated_hz else math.nan
        return teller.state(state, answer), speed_hz, unsure

    def _teller_of(self, manifest: Manifest) -> LineSpeed | None:
        """What tells the speed by the lines of this model, None if it has none."""
        if not manifest.speeds:
            return None
        if self._teller is None or self._teller[0] is not manifest:
            self._teller = manifest, LineSpeed(manifest.speeds)
        return self._teller[1]

    def _heard(self) -> list[str]:
        """Sensors whose last window is not much older than that of the others."""
        ends_ns = {
            sensor: window.stamp.monotonic_ns + round(1e9 * window.duration_s)
            for sensor, window in self._latest.items()
        }
        newest_ns = max(ends_ns.values(), default=0)
        return [
            sensor
            for sensor, end_ns in ends_ns.items()
            if newest_ns - end_ns <= 1e9 * (SPAN_S + self._latest[sensor].duration_s)
        ]

    def _at(self, sensor: str, span: Span, speed_hz: float | None) -> list[Evidence]:
        window, samples = self._latest[sensor], span.samples
        rate_hz = window.sample_rate_hz
        plan = FeaturePlan(
            rate_hz,
            samples.shape[-1],
            window.unit,
            window.axes,
            envelope_band_hz=self._sensors[sensor].envelope_band_hz,
        )
        band_hz = plan.resonance_band_hz()
        if band_hz is None:
            return []  # too slow, or a velocity sensor: nothing can be said
        bearing = self._sensors[sensor].bearing
        orders: dict[str, float] = {}
        if bearing is not None and speed_hz is not None and speed_hz > 0:
            frequencies = bearing.geometry().frequencies(speed_hz)
            orders = {line: getattr(frequencies, f"{line}_hz") for line in LINES}
            orders["bsf"] *= 2  # the rolling element strikes both races once per spin
        frequencies_hz, envelope = envelope_spectrum(samples, rate_hz, band_hz)
        line_hz = float(frequencies_hz[1])
        found: list[Evidence] = []
        for axis, kurtosis, spectrum in zip(
            window.axes, band_kurtosis(samples, rate_hz, band_hz), envelope, strict=True
        ):
            levels = {
                line: float(line_amplitudes(spectrum, line_hz, hz)[1])
                for line, hz in orders.items()
                if 4 * line_hz < hz < frequencies_hz[-1] / 1.1
            }
            found.extend(
                standing(
                    f"{sensor}/{axis}",
                    lines_db=levels,
                    kurtosis=float(kurtosis),
                    strikes_db=steadiest_repetition(spectrum, line_hz)[1],
                )
            )
        return found


def _merged(seen: Sequence[Lines]) -> Lines:
    """Lines of several sensors, each with its highest level."""
    if len(seen) < 2:
        return seen[0] if seen else ()
    highest: dict[float, float] = {}
    for frequency_hz, level_db in (line for lines in seen for line in lines):
        highest[frequency_hz] = max(level_db, highest.get(frequency_hz, 0.0))
    return tuple(sorted(highest.items()))
