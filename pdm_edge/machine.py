"""One machine, from a measurement to an advisory: the five stages joined, without any thread.

Everything that happens to a measurement can be read here from top to bottom; `monitor` feeds it.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from pdm_edge.acquire.ring import EvidenceRing
from pdm_edge.acquire.windows import Windower
from pdm_edge.advise import AlarmCycle, PartWatch, advisory, finding
from pdm_edge.assess import assess
from pdm_edge.config import MachineConfig, SensorConfig
from pdm_edge.detect.explain import explained
from pdm_edge.detect.life import ModelLife
from pdm_edge.errors import ModelError
from pdm_edge.features import FeatureExtractor, FeaturePlan
from pdm_edge.features.iso20816 import Zone
from pdm_edge.features.join import ScalarSlot, VectorJoiner
from pdm_edge.features.operating import OperatingTracker
from pdm_edge.features.self_check import self_check
from pdm_edge.grading import graded, highest_velocity, zone_c_mm_s
from pdm_edge.records import (
    Advisory,
    AlarmState,
    FeatureVector,
    Gap,
    Health,
    Measurement,
    Quality,
    Reading,
    Record,
    Score,
    Stamp,
    Waveform,
    worst,
)

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class MachineStatus:
    """What a person or a PLC reads of a machine.

    ``finding`` is what stands out in the latest window, empty unless the state is alert or alarm.
    """

    machine: str
    state: AlarmState
    operating: str
    windows: int
    score: float
    velocity_mm_s: float
    zone: Zone | None
    learned: int
    to_learn: int
    note: str
    finding: str = ""


class Machine:
    """The pipeline of one machine.

    Parameters
    ----------
    config
        Its part of the configuration.
    models
        Folder in which a learned bundle is kept, one sub-folder a machine. A bundle that is there
        already is used, so that a restart does not learn anew.

    Raises
    ------
    ModelError
        If the configured bundle is damaged or missing. A bundle that turns out not to fit the
        features of the running machine stops the scores of this machine, visibly, and nothing else.
    """

    def __init__(self, config: MachineConfig, *, models: Path) -> None:
        self.config = config
        self.id = config.id
        self._sensors = {sensor.id: sensor for sensor in config.sensor}
        self._windowers = {s.id: Windower(config.window_s) for s in config.sensor if s.is_waveform}
        before_s, after_s = config.evidence.before_s, config.evidence.after_s
        self._rings = {sensor: EvidenceRing(before_s, after_s) for sensor in self._windowers}
        self._extractors: dict[str, FeatureExtractor] = {}
        slots = [
            ScalarSlot(sensor.id, scalar.quantity, scalar.unit, sensor.max_age_s)
            for sensor in config.sensor
            for scalar in sensor.scalars
        ]
        self._joiner = VectorJoiner(config.id, tuple(self._windowers), slots, config.window_s)
        self._slot_names = {slot.name for slot in slots}
        self._speed_name = next((slot.name for slot in slots if slot.unit == "rpm"), None)
        self._tracker = OperatingTracker(
            rated_speed_rpm=config.rated_speed_rpm, stopped_below_mm_s=config.stopped_below_mm_s
        )
        self._doubts: dict[str, str] = {}
        self._note = ""
        self.model = ModelLife(
            config.id,
            models,
            given=config.detect.model,
            learn_windows=config.detect.learn_windows,
            alarm_n=config.alarm.n,
            alarm_m=config.alarm.m,
            false_alarms_per_month=config.detect.false_alarms_per_month,
            family=config.detect.family,
        )
        self._alarm = AlarmCycle(config.alarm.settings(), learning=self._is_learning)
        self._part = PartWatch()
        self._heard_ns: int | None = None
        self._windows = 0
        self._operating = "unknown"
        self._score = math.nan
        self._velocity_mm_s = math.nan
        self._health: Health | None = None

    def take(self, measurement: Measurement) -> list[Record]:
        """Work one measurement through all stages; return every record that came of it, in order."""
        if isinstance(measurement, Waveform):
            records = self._take_waveform(measurement)
            records += self._rings[measurement.sensor].push(measurement)
        elif isinstance(measurement, Reading):
            records = self._take_reading(measurement)
        else:
            records = [measurement]
        changes = [r for r in records if isinstance(r, Advisory) and r.state != r.previous]
        for raised in [change for change in changes if change.state in ("alert", "alarm")]:
            for ring in self._rings.values():
                records += ring.release(raised.id)
        return records

    def rest(self) -> list[Record]:
        """Evidence that is under way when the monitor ends."""
        return [waveform for ring in self._rings.values() for waveform in ring.rest()]

    def close(self) -> None:
        """End what runs beside the pipeline: a training. Its windows are kept and make a model next time."""
        self.model.stop_training()

    def tick(self, now: Stamp) -> list[Record]:
        """Notice silence: to be called about once a second, whether or not data came."""
        out: list[Record] = []
        if self.model.refresh():
            self._note = ""
            if self.model.learning and self._alarm.state != "unknown":
                before = self._alarm.state
                reopened = self._alarm.learning()
                if reopened is not None:
                    out.append(advisory(self.id, reopened, before, now))
        out += self._train(self.model.trained, now)
        if self._heard_ns is None:
            self._heard_ns = now.monotonic_ns
        silent_s = (now.monotonic_ns - self._heard_ns) / 1e9
        if silent_s < self.config.alarm.stale_after_s:
            return out
        previous = self._alarm.state
        changed = self._alarm.silent()
        if changed is None:
            return out
        self._operating, self._score, self._velocity_mm_s = "unknown", math.nan, math.nan
        return [*out, advisory(self.id, changed, previous, now, silent_s=silent_s)]

    @property
    def status(self) -> MachineStatus:
        score = None if math.isnan(self._score) else self._score
        stands_out = self._alarm.state in ("alert", "alarm")
        return MachineStatus(
            machine=self.id,
            state=self._alarm.state,
            operating=self._operating,
            windows=self._windows,
            score=self._score,
            velocity_mm_s=self._velocity_mm_s,
            zone=self._health.zone if self._health else None,
            learned=self.model.collected,
            to_learn=self.config.detect.learn_windows if self._is_learning else 0,
            note=self._note or self._waiting_note(),
            finding=finding(self._health, score) if stands_out else self.model.slow_change,
        )

    # acquire -> features

    def _take_waveform(self, waveform: Waveform) -> list[Record]:
        sensor = self._sensors[waveform.sensor]
        out: list[Record] = []
        for window in self._windowers[sensor.id].feed(waveform):
            if isinstance(window, Gap):
                out.append(window)
                continue
            self._feed(window)
            extractor = self._extractor(sensor, window)
            if extractor is None:
                continue
            speed_rpm = self._joiner.value(self._speed_name, window.stamp) if self._speed_name else math.nan
            values = extractor(window.samples, speed_rpm / 60 if speed_rpm > 0 else None)
            quality = worst(window.quality, self._self_check(window))
            vectors = self._joiner.add_features(sensor.id, extractor.schema, values, window.stamp, quality)
            for vector in vectors:
                out.extend(self._judge(vector))
        return out

    def _take_reading(self, reading: Reading) -> list[Record]:
        out: list[Record] = []
        if f"{reading.sensor}/{reading.quantity}" not in self._slot_names:
            out.append(reading)
            return out
        try:
            vectors = self._joiner.add_reading(reading)
        except ValueError as error:
            self._say(str(error))
            return out
        for vector in vectors:
            out.extend(self._judge(vector))
        return out

    def _self_check(self, window: Waveform) -> Quality:
        """Doubts about the sensor itself; a change of them is told once."""
        check = self_check(
            window.samples,
            window.sample_rate_hz,
            window.unit,
            axes=window.axes,
            full_scale=self._sensors[window.sensor].full_scale,
        )
        doubts = [f for f in check.findings if f.level != "hint"]
        kinds = ", ".join(sorted({f.what for f in doubts}))
        if kinds != self._doubts.get(window.sensor, ""):
            told = "; ".join(map(str, doubts)) or "in order again"
            logger.warning("machine %s: sensor %r: %s", self.id, window.sensor, told)
        self._doubts[window.sensor] = kinds
        return check.quality

    def _extractor(self, sensor: SensorConfig, window: Waveform) -> FeatureExtractor | None:
        """The extractor planned for such windows; planned anew when the device changes its rate."""
        held = self._extractors.get(sensor.id)
        if held is not None and (held.plan.sample_rate_hz, held.plan.unit, held.plan.axes) == (
            window.sample_rate_hz,
            window.unit,
            window.axes,
        ):
            return held
        speed_rpm = self.config.rated_speed_rpm
        try:
            extractor = FeatureExtractor(
                FeaturePlan(
                    sample_rate_hz=window.sample_rate_hz,
                    n_samples=window.n_samples,
                    unit=window.unit,
                    axes=window.axes,
                    shaft_hz=None if speed_rpm is None else speed_rpm / 60,
                    bearing=None if sensor.bearing is None else sensor.bearing.geometry(),
                    envelope_band_hz=sensor.envelope_band_hz,
                )
            )
        except ValueError as error:
            self._say(f"sensor {sensor.id!r} gives no features: {error}")
            return None
        self._extractors[sensor.id] = extractor
        return extractor

    # detect -> assess -> advise

    def _judge(self, vector: FeatureVector) -> list[Record]:
        self._windows += 1
        velocity_mm_s, band = highest_velocity(vector)
        speed_rpm = vector.as_dict()[self._speed_name] if self._speed_name else math.nan
        operating = self._tracker.observe(velocity_mm_s=velocity_mm_s, speed_rpm=speed_rpm)
        still = operating.kind == "stopped" and not math.isnan(speed_rpm)
        if vector.quality.level == "bad" and not still:
            # Not heard: a machine whose sensors lie goes to unknown as one whose sensors are silent.
            self._score, self._velocity_mm_s, self._operating = math.nan, math.nan, "unknown"
            return [vector]
        self._heard_ns = vector.stamp.monotonic_ns + round(vector.window_s * 1e9)
        self._velocity_mm_s = velocity_mm_s
        self._operating = str(operating)
        vector = replace(vector, state=self._operating)
        if operating.kind != "running":
            self._score = math.nan
            return [vector]
        zone, basis = graded(self.config.iso20816, velocity_mm_s, band)
        if self._is_learning and zone not in ("C", "D") and self._alarm.state not in ("alert", "alarm"):
            return [vector, *self._learn(vector, zone)]
        # While it learns, the limits of the standard judge alone; a window in zone C or D is not healthy
        # and is not learned.
        score = self._scored(vector)
        records: list[Record] = [vector]
        if score is not None:
            records.append(score)
        self._score = math.nan if score is None else score.value
        health = assess(
            self.id,
            vector.stamp,
            vector.as_dict(),
            score=self._score,
            contributions=() if score is None else explained(score),
            zone=zone,
            zone_basis=basis,
            velocity_mm_s=velocity_mm_s,
            zone_limit_mm_s=zone_c_mm_s(self.config.iso20816),
        )
        health = replace(health, evidence=(*health.evidence, *self.model.findings()))
        previous, previous_zone = self._alarm.state, self._health.zone if self._health else None
        self._health = health
        changed = self._alarm.observe(self._severity(zone))
        if changed is not None or zone != previous_zone:
            records.append(health)
        if changed is not None:
            self._part.told(health)
        elif previous in ("alert", "alarm") and self._part.observe(health):
            changed = previous
        if changed is not None:
            scored = None if math.isnan(self._score) else self._score
            records.append(advisory(self.id, changed, previous, vector.stamp, health=health, score=scored))
        return records

    @property
    def _is_learning(self) -> bool:
        return self.model.learning and not self._note

    def _learn(self, vector: FeatureVector, zone: Zone | None) -> list[Record]:
        """Collect the baseline; train when there is enough of it."""
        out: list[Record] = []
        previous = self._alarm.state
        resumed = self._alarm.learning()
        if resumed is not None:
            out.append(advisory(self.id, resumed, previous, vector.stamp))
        if zone is not None:
            self._alarm.observe(self._severity(zone))  # good windows between bad ones count, too
        return out + self._train(lambda: self.model.learn(vector), vector.stamp)

    def _train(self, learned: Callable[[], bool], now: Stamp) -> list[Advisory]:
        try:
            return self._learned(now) if learned() else []
        except ModelError as error:
            self._say(f"no model could be learned: {error}")
            return []

    def finish_learning(self, now: Stamp, *, anyway: bool = False) -> list[Advisory]:
        """Make a model of the windows collected so far, keep it, and judge by it from now on.

        Raises
        ------
        ModelError
            If there are too few, they look faulty and `anyway` was not said, or no model comes of them.
        """
        self.model.finish(anyway=anyway)
        return self._learned(now)

    def _learned(self, now: Stamp) -> list[Advisory]:
        changed = self._alarm.learned()
        return [] if changed is None else [advisory(self.id, changed, "learning", now)]

    def _scored(self, vector: FeatureVector) -> Score | None:
        try:
            return self.model.score(vector)
        except ModelError as error:
            # The sensor set or its rates have changed since the model was made.
            self._say(f"model does not fit this machine any more: {error}")
            return None

    def _feed(self, window: Waveform) -> None:
        try:
            self.model.feed(window)
        except ModelError as error:
            self._say(f"model cannot be fed: {error}")

    def _severity(self, zone: Zone | None) -> float:
        """Normalised: the score, or the ISO zone where that is worse. NaN if neither is known."""
        levels = {"C": self.config.alarm.alert_at, "D": self.config.alarm.alarm_at}
        by_zone = math.nan if zone is None else levels.get(zone, 0.0)
        known = [severity for severity in (self._score, by_zone) if not math.isnan(severity)]
        return max(known) if known else math.nan

    def _say(self, text: str) -> None:
        if text != self._note:
            logger.error("machine %s: %s", self.id, text)
            self._note = text

    def _waiting_note(self) -> str:
        waiting = self._joiner.waiting_for
        if waiting:
            return f"waiting for {', '.join(waiting)}"
        if self.model.training:
            return f"training on {self.model.training} windows"
        if self.model.manifest is not None and not self.model.knows(self._operating):
            return f"{self._operating} was never learned, it is not scored"
        return "; ".join(f"sensor {sensor!r}: {kinds}" for sensor, kinds in self._doubts.items() if kinds)


__all__ = ["Advisory", "Machine", "MachineStatus"]
