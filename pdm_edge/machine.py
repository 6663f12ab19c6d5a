"""One machine, from a measurement to an advisory: the five stages joined, without any thread.

Everything that happens to a measurement can be read here from top to bottom; `monitor` feeds it.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from pdm_edge.advise import AlarmCycle, PartWatch, StandingAlarm, advisory, finding
from pdm_edge.assess import assess
from pdm_edge.config import MachineConfig
from pdm_edge.detect.explain import explained
from pdm_edge.detect.life import ModelLife
from pdm_edge.errors import ModelError
from pdm_edge.features.iso20816 import Zone
from pdm_edge.features.join import ScalarSlot, VectorJoiner
from pdm_edge.features.operating import OperatingTracker
from pdm_edge.grading import graded, highest_velocity, zone_c_mm_s
from pdm_edge.hearing import heard
from pdm_edge.looking import Looks
from pdm_edge.records import (
    Advisory,
    AlarmState,
    Evidence,
    FeatureVector,
    Gap,
    Health,
    Measurement,
    Reading,
    Record,
    Score,
    Stamp,
    Waveform,
)
from pdm_edge.sensing import VibrationSensor

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class MachineStatus:
    """What a person or a PLC reads of a machine.

    ``finding`` is what stands out in the latest window, empty unless the state is alert or alarm.
    ``raised_utc_ns`` is when the standing alert or alarm was raised first, also by an earlier run.
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
    raised_utc_ns: int | None = None


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
        self._sensors = {s.id: VibrationSensor(s, config) for s in config.sensor if s.is_waveform}
        slots = [
            ScalarSlot(sensor.id, scalar.quantity, scalar.unit, sensor.max_age_s)
            for sensor in config.sensor
            for scalar in sensor.scalars
        ]
        self._joiner = VectorJoiner(config.id, tuple(self._sensors), slots, config.window_s)
        self._slot_names = {slot.name for slot in slots}
        self._speed_name = next((slot.name for slot in slots if slot.unit == "rpm"), None)
        self._tracker = OperatingTracker(
            rated_speed_rpm=config.rated_speed_rpm, stopped_below_mm_s=config.stopped_below_mm_s
        )
        self._looks = Looks(config)
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
            quantize=config.detect.quantize,
            hears=heard(config, f"machine {config.id!r}"),
        )
        self._alarm = AlarmCycle(config.alarm.settings(), learning=self._is_learning)
        self._part = PartWatch()
        self._raised: Stamp | None = None
        self._headline = ""
        self._reopened = False
        self._heard_ns: int | None = None
        self._windows = 0
        self._operating = "unknown"
        self._score = self._velocity_mm_s = math.nan
        self._zone: Zone | None = None
        self._health: Health | None = None
        self._misread: dict[str, str] = {}

    def take(self, measurement: Measurement) -> list[Record]:
        """Work one measurement through all stages; return every record that came of it, in order."""
        if isinstance(measurement, Waveform):
            records = self._take_waveform(measurement)
            records += self._sensors[measurement.sensor].keep(measurement)
        elif isinstance(measurement, Reading):
            records = self._take_reading(measurement)
        else:
            records = [measurement]
        for change in [r for r in records if isinstance(r, Advisory) and r.state != r.previous]:
            raised = change.state in ("alert", "alarm")
            for sensor in self._sensors.values():
                records += sensor.changed(change.id, raised=raised)
        return records

    def rest(self) -> list[Record]:
        """Evidence that is under way when the monitor ends."""
        return [record for sensor in self._sensors.values() for record in sensor.rest()]

    def close(self) -> None:
        """End what runs beside the pipeline: a training. Its windows are kept and make a model next time."""
        self.model.stop_training()

    def resume(self, standing: StandingAlarm) -> None:
        """Take up the alarm that stood when the last run ended. It is not told again."""
        self._alarm.resume(standing.level, silent=standing.silent)
        self._part.resume(standing.told, could_wait=standing.could_wait)
        self._raised, self._headline = standing.raised, standing.headline
        # What judged it is gone, and nothing else could end it: the baseline was reopened meanwhile.
        self._reopened = self.model.learning and (standing.by_model or self.config.iso20816 is None)

    def tick(self, now: Stamp) -> list[Record]:
        """Notice silence: to be called about once a second, whether or not data came."""
        out: list[Record] = []
        if self.model.refresh() or self._reopened:
            self._note, self._reopened = "", False
            if self.model.learning and self._alarm.state != "unknown":
                before = self._alarm.state
                reopened = self._alarm.learning()
                if reopened is not None:
                    out.append(self._told(advisory(self.id, reopened, before, now)))
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
        self._forget()
        return [*out, self._told(advisory(self.id, changed, previous, now, silent_s=silent_s))]

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
            zone=self._zone,
            learned=self.model.collected,
            to_learn=self.config.detect.learn_windows if self._is_learning else 0,
            note=self._note or self._waiting_note(),
            finding=self._finding(score) if stands_out else self.model.slow_change,
            raised_utc_ns=None if self._raised is None else self._raised.utc_ns,
        )

    def _finding(self, score: float | None) -> str:
        """Of the latest window; of an earlier run's as long as nothing was judged in this one."""
        return finding(self._health, score) if self._health else self._headline

    # acquire -> features

    def _take_waveform(self, waveform: Waveform) -> list[Record]:
        sensor = self._sensors[waveform.sensor]
        out: list[Record] = []
        for window in sensor.windows(waveform):
            if isinstance(window, Gap):
                out.append(window)
                continue
            self._feed(window)
            try:
                extractor = sensor.extractor(window)
            except ValueError as error:
                sensor.doubt(f"no features: {error}")
                continue
            speed_rpm = math.nan
            if self._speed_name:  # the lines are the same whichever way the shaft turns
                speed_rpm = abs(self._joiner.value(self._speed_name, window.stamp))
            values, quality = sensor.features(extractor, window, speed_rpm)
            if quality.level != "bad":
                self._looks.feed(window)
            vectors = self._joiner.add_features(sensor.id, extractor.schema, values, window.stamp, quality)
            for vector in vectors:
                out.extend(self._judge(vector))
            out.extend(sensor.spectra(window, quality, state=self._operating, speed_rpm=speed_rpm))
        return out

    def _take_reading(self, reading: Reading) -> list[Record]:
        out: list[Record] = []
        name = f"{reading.sensor}/{reading.quantity}"
        if name not in self._slot_names:
            out.append(reading)
            return out
        try:
            vectors = self._joiner.add_reading(reading)
        except ValueError as error:
            if name not in self._misread:
                logger.warning("machine %s: %s; such values are dropped", self.id, error)
            self._misread[name] = str(error)
            return out
        self._misread.pop(name, None)
        for vector in vectors:
            out.extend(self._judge(vector))
        return out

    # detect -> assess -> advise

    def _judge(self, vector: FeatureVector) -> list[Record]:
        self._windows += 1
        velocity_mm_s, band = highest_velocity(vector)
        speed_rpm = abs(vector.as_dict()[self._speed_name]) if self._speed_name else math.nan
        operating = self._tracker.observe(velocity_mm_s=velocity_mm_s, speed_rpm=speed_rpm)
        still = operating.kind == "stopped" and not math.isnan(speed_rpm)
        if vector.quality.level == "bad" and not still:
            # Not heard: a machine whose sensors lie goes to unknown as one whose sensors are silent.
            self._forget()
            return [vector]
        self._heard_ns = vector.stamp.monotonic_ns + round(vector.window_s * 1e9)
        self._velocity_mm_s = velocity_mm_s
        seen = self._looks.look(vector, operating, speed_rpm, self.model)
        vector, self._operating = seen.vector, seen.vector.state
        if not vector.state.startswith("running"):
            self._score, self._zone = math.nan, None
            return [vector]
        zone, basis = graded(self.config.iso20816, velocity_mm_s, band)
        self._zone = zone
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
            more=seen.standing,
        )
        unsure = seen.unsure if self._score >= 1.0 else ()
        health = replace(health, evidence=(*health.evidence, *unsure, *self.model.findings()))
        previous, previous_zone = self._alarm.state, self._health.zone if self._health else None
        self._health = health
        changed = self._alarm.observe(self._severity(zone, seen.standing))
        if changed is not None or zone != previous_zone:
            records.append(health)
        if changed is not None:
            self._part.told(health)
        elif previous in ("alert", "alarm") and self._part.observe(health):
            changed = previous
        if changed is not None:
            scored = None if math.isnan(self._score) else self._score
            told = advisory(self.id, changed, previous, vector.stamp, health=health, score=scored)
            records.append(self._told(told))
        return records

    def _told(self, told: Advisory) -> Advisory:
        """Keep since when an alarm stands; silence neither begins nor ends one."""
        if told.state in ("alert", "alarm"):
            self._raised, self._headline = self._raised or told.stamp, told.headline
        elif told.state != "unknown":
            self._raised = None
        return told

    @property
    def _is_learning(self) -> bool:
        return self.model.learning and not self._note

    def _learn(self, vector: FeatureVector, zone: Zone | None) -> list[Record]:
        """Collect the baseline; train when there is enough of it."""
        out: list[Record] = []
        previous = self._alarm.state
        resumed = self._alarm.learning()
        if resumed is not None:
            out.append(self._told(advisory(self.id, resumed, previous, vector.stamp)))
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
        self._note = ""
        changed = self._alarm.learned()
        return [] if changed is None else [self._told(advisory(self.id, changed, "learning", now))]

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

    def _forget(self) -> None:
        """Nothing that was last known still holds: the machine is not heard."""
        self._score, self._velocity_mm_s, self._operating, self._zone = math.nan, math.nan, "unknown", None

    def _severity(self, zone: Zone | None, standing: tuple[Evidence, ...] = ()) -> float:
        """Normalised: the worst of score, ISO zone, what is beside the score, and what stands out by
        itself; NaN if none is known."""
        levels = {"C": self.config.alarm.alert_at, "D": self.config.alarm.alarm_at}
        by_zone = math.nan if zone is None else levels.get(zone, 0.0)
        beside = math.nan if math.isnan(self._score) else self.model.severity(self.config.alarm.alert_at)
        known = [severity for severity in (self._score, by_zone, beside) if not math.isnan(severity)]
        known += [item.ratio for item in standing if item.unit == "db"]
        return max(known) if known else math.nan

    def _say(self, text: str) -> None:
        if text != self._note:
            logger.error("machine %s: %s", self.id, text)
            self._note = text

    def _waiting_note(self) -> str:
        doubts = ((sensor.id, sensor.doubts) for sensor in self._sensors.values())
        told = [f"sensor {sensor!r}: {kinds}" for sensor, kinds in doubts if kinds]
        told += self._misread.values()
        waiting = self._joiner.waiting_for
        if waiting:
            return "; ".join([f"waiting for {', '.join(waiting)}", *told])
        if self.model.unkept or self.model.training:
            return self.model.unkept or f"training on {self.model.training} windows"
        if self.model.manifest is not None and not self.model.knows(self._operating):
            return f"{self._operating} was never learned, it is not scored"
        return "; ".join(told)
