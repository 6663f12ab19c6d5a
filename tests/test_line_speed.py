"""Another speed is told by the lines where no speed is measured, and what stands out needs no history."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest

from pdm_edge.acquire.simulate import VibrationSimulator
from pdm_edge.assess import standing
from pdm_edge.config import DetectConfig, MachineConfig, SensorConfig
from pdm_edge.config_bearing import BearingConfig
from pdm_edge.detect.anomaly import AnomalyDetector
from pdm_edge.detect.bundle import Bundle, load_bundle
from pdm_edge.detect.commission import commission
from pdm_edge.detect.line_speed import HELD_LOOKS, LineSpeed, learn_lines
from pdm_edge.errors import ModelError
from pdm_edge.features import CATALOGUE, envelope_spectrum
from pdm_edge.features.look import Lines, Span, band_kurtosis, steadiest_repetition, strongest_lines
from pdm_edge.looking import Looks
from pdm_edge.machine import Machine
from pdm_edge.records import Advisory, FeatureSchema, FeatureVector, Score, Stamp, Waveform

RATE_HZ = 12800.0
ORDERS = (1.0, 2.0, 3.0, 7.0, 7.9, 14.0, 22.5, 31.0)


def noise_lines(seed: int, share: float = 1.0) -> Lines:
    """Lines as noise has them."""
    found = strongest_lines(np.random.default_rng(seed).standard_normal((1, 12800)), RATE_HZ)
    return found[: round(share * len(found))]


def turning(speed_hz: float, seed: int, *, buried: int = 0) -> Lines:
    """Lines of a shaft among some of noise; the first `buried` orders are not seen."""
    own = [(round(order * speed_hz, 1), 15.0) for order in ORDERS[buried:] if order * speed_hz < 2000]
    return tuple(sorted([*own, *noise_lines(seed, 0.5)]))


LEARNED = learn_lines([turning(24.7, i) for i in range(12)])


@pytest.mark.parametrize("ratio", [0.6, 0.8, 0.9, 1.1, 1.2, 1.5, 1.9])
def test_lines_that_all_stand_elsewhere_give_the_ratio_of_the_speeds(ratio: float) -> None:
    told = LineSpeed(LEARNED).observe(turning(24.7 * ratio, 100))
    assert told.kind == "other"
    assert told.ratio == pytest.approx(ratio, rel=0.005)


@pytest.mark.parametrize("ratio", [0.97, 1.0, 1.03])
def test_a_speed_within_a_bin_of_the_learned_one_is_the_learned_one(ratio: float) -> None:
    assert LineSpeed(LEARNED).observe(turning(24.7 * ratio, 101)).kind == "learned"


def test_noise_is_hardly_ever_taken_for_another_speed() -> None:
    speed = LineSpeed(LEARNED)
    kinds = [speed.observe(noise_lines(seed)).kind for seed in range(200, 500)]
    assert kinds.count("undecided") >= 298


def test_a_fault_that_adds_lines_and_buries_some_is_no_other_speed() -> None:
    """Race lines and sidebands, 50 of them, stronger than those of the shaft; up to all orders buried."""
    for buried in range(len(ORDERS) + 1):
        for strike_hz in (60.3, 88.4, 133.6):
            added = tuple((round(k * strike_hz, 1), 25.0) for k in range(1, round(2000 / strike_hz)))
            lines = tuple(sorted({*turning(24.7, 600 + buried, buried=buried), *added}))
            assert LineSpeed(LEARNED).observe(lines).kind != "other", (buried, strike_hz)


def test_another_speed_goes_on_while_its_lines_are_hidden_but_not_for_long() -> None:
    speed = LineSpeed(LEARNED)
    assert [speed.observe(turning(28.0, i)).kind for i in (1, 2)] == ["other", "other"]
    kinds = [speed.observe(noise_lines(700 + i)).kind for i in range(HELD_LOOKS + 1)]
    assert kinds == ["other"] * HELD_LOOKS + ["undecided"]


def test_several_learned_speeds_are_learned_and_the_one_between_is_not() -> None:
    windows = [turning(hz, i) for hz in (20.0, 25.0, 30.0) for i in range(8)]
    references = learn_lines(windows)
    assert [round(math.sqrt(a * b), 2) for a, b in references[0].ratios] == [1.0, 1.25, 1.5]
    speed = LineSpeed(references)
    kinds = {hz: LineSpeed(references).observe(turning(hz, 90)).kind for hz in (20, 22.4, 25, 27.5, 30, 33)}
    assert kinds == {20: "learned", 22.4: "other", 25: "learned", 27.5: "other", 30: "learned", 33: "other"}
    assert (
        speed.state("running", speed.observe(turning(25.0, 91))) == "running at 1.25 times the learned speed"
    )


def test_without_lines_that_recur_no_speed_is_told() -> None:
    assert learn_lines([noise_lines(i) for i in range(20)]) == ()
    assert learn_lines([()] * 20) == ()
    assert LineSpeed(()).observe(turning(24.7, 1)).kind == "undecided"


def window(first: int, n: int, *, rate_hz: float = RATE_HZ) -> Waveform:
    samples = np.random.default_rng(first).standard_normal((1, n)).astype(np.float32)
    return Waveform("de", samples, rate_hz, "g", ("x",), Stamp(0, first, "b", True), first_sample=first)


def test_a_second_is_put_together_of_short_windows_and_starts_anew_after_a_gap() -> None:
    span = Span()

    def fed(first: int) -> tuple[bool, bool]:
        span.feed(window(first, 1280))
        return span.full, span.filling

    assert [fed(1280 * i) for i in range(10)] == [(False, True)] * 9 + [(True, False)]
    assert span.samples.shape == (1, 12800)
    assert len(span.lines) > 5
    assert fed(20000) == (False, True)  # it was whole before the gap, it will be again
    assert not span.lines
    assert fed(30000) == (False, False)  # bursts: there will never be a whole second


def test_strikes_are_repeated_and_impulsive_and_noise_is_neither() -> None:
    pump = VibrationSimulator(sample_rate_hz=RATE_HZ, strike_hz=88.0, seed=1)
    levels = {}
    for severity in (0.0, 0.5):
        pump.severity = severity
        x = pump.block(12800)[None, :].astype(np.float64)
        frequencies_hz, envelope = envelope_spectrum(x, RATE_HZ, (500.0, 5000.0))
        rate_hz, level_db = steadiest_repetition(envelope[0], float(frequencies_hz[1]))
        levels[severity] = level_db, float(band_kurtosis(x, RATE_HZ, (500.0, 5000.0))[0])
    assert levels[0.0][0] < 9
    assert levels[0.0][1] == pytest.approx(3.0, abs=0.3)
    assert levels[0.5][0] > 12
    assert levels[0.5][1] > 4
    assert min(abs(rate_hz * k - 88.0) for k in (1, 0.5, 2)) < 2


def test_a_bearing_line_stands_alone_only_if_it_is_strong_or_strikes() -> None:
    def found(level_db: float, kurtosis: float) -> list[str]:
        return [e.what for e in standing("de/x", lines_db={"bpfo": level_db}, kurtosis=kurtosis)]

    assert found(13.0, 3.0) == []  # beats of a healthy motor reach that
    assert found(19.0, 3.0) == ["outer race line (BPFO) at de/x"]
    assert found(13.0, 5.0) == ["outer race line (BPFO) at de/x"]
    assert found(11.0, 5.0) == []
    assert standing("de/x", lines_db={}, kurtosis=5.0, strikes_db=14.0)[0].what == "repeated impacts at de/x"
    assert standing("de/x", lines_db={}, kurtosis=3.5, strikes_db=19.0) == ()


# the machine as a whole


def machine(folder: Path, *, window_s: float = 1.0, bearing: bool = True) -> Machine:
    geometry = BearingConfig(designation="6205") if bearing else None
    sensor = SensorConfig(id="de", source="replay://x", bearing=geometry)
    detect = DetectConfig(learn_windows=30)
    config = MachineConfig(
        id="pump", sensor=(sensor,), rated_speed_rpm=1500, window_s=window_s, detect=detect
    )
    return Machine(config, models=folder)


class Plant:
    """A pump whose speed and health can be set; its samples follow each other without a gap."""

    def __init__(self, pump: Machine) -> None:
        self.machine = pump
        self._sample = 0
        self._seed = 0

    def run(self, shaft_hz: float, length_s: float, severity: float = 0.0) -> list[object]:
        self._seed += 1
        strike_hz = CATALOGUE["6205"].frequencies(shaft_hz).bpfo_hz
        pump = VibrationSimulator(
            sample_rate_hz=RATE_HZ, shaft_hz=shaft_hz, strike_hz=strike_hz, seed=self._seed
        )
        pump.severity = severity
        records: list[object] = []
        for _ in range(round(length_s)):
            samples = pump.block(12800)
            if shaft_hz != 25.0:
                samples = samples * np.float32((shaft_hz / 25.0) ** 2)
            time_ns = round(1e9 * self._sample / RATE_HZ)
            stamp = Stamp(1_700_000_000_000_000_000 + time_ns, time_ns, "b", True)
            records += self.machine.take(
                Waveform("de", samples[None], RATE_HZ, "g", ("x",), stamp, first_sample=self._sample)
            )
            self._sample += 12800
        return records


def alarms(records: list[object]) -> list[Advisory]:
    return [r for r in records if isinstance(r, Advisory) and r.state in ("alert", "alarm")]


@pytest.mark.parametrize("window_s", [1.0, 0.5])
def test_a_healthy_machine_at_another_speed_is_not_judged_and_raises_no_alarm(
    tmp_path: Path, window_s: float
) -> None:
    plant = Plant(machine(tmp_path, window_s=window_s))
    plant.run(25.0, 40)
    assert plant.machine.status.state == "normal"
    records = plant.run(29.0, 30)
    assert not alarms(records)
    scores = [r for r in records if isinstance(r, Score)]
    unlearned = ["unlearned" in score.quality.reasons for score in scores]
    assert np.mean(unlearned) > 0.95
    ratio = re.fullmatch(r"running at (\S+) times the learned speed", plant.machine.status.operating)
    assert ratio
    assert float(ratio[1]) == pytest.approx(1.16, abs=0.01)
    assert "was never learned" in plant.machine.status.note
    assert not alarms(plant.run(25.0, 10))
    assert plant.machine.status.operating == "running"


def test_a_fault_at_a_speed_never_learned_is_named_by_its_line(tmp_path: Path) -> None:
    plant = Plant(machine(tmp_path))
    plant.run(25.0, 40)
    plant.run(29.0, 10)
    raised = alarms(plant.run(29.0, 10, severity=0.3))
    assert raised
    assert raised[0].headline.startswith("outer race line (BPFO) at de/x stands")
    assert raised[0].score is None


def test_a_fault_at_a_speed_never_learned_is_heard_without_geometry(tmp_path: Path) -> None:
    plant = Plant(machine(tmp_path, bearing=False))
    plant.run(25.0, 40)
    raised = alarms(plant.run(29.0, 15, severity=0.3))
    assert raised
    assert "repeated impacts at de/x" in raised[0].headline


def test_a_fault_at_the_learned_speed_is_scored_and_its_state_is_not_doubted(tmp_path: Path) -> None:
    plant = Plant(machine(tmp_path))
    plant.run(25.0, 40)
    raised = alarms(plant.run(25.0, 10, severity=0.3))
    assert raised
    assert "not known" not in raised[0].headline


def test_an_alarm_whose_state_the_lines_do_not_tell_says_so(tmp_path: Path) -> None:
    pump = machine(tmp_path)
    rng = np.random.default_rng(3)
    records: list[object] = []
    for i in range(60):
        level = 0.05 if i < 45 else 0.2
        stamp = Stamp(1_700_000_000_000_000_000 + i * 10**9, i * 10**9, "b", True)
        samples = (level * rng.standard_normal((1, 12800))).astype(np.float32)
        records += pump.take(Waveform("de", samples, RATE_HZ, "g", ("x",), stamp, first_sample=12800 * i))
    raised = alarms(records)
    assert raised
    assert "the operating state is not known: no speed is measured" in raised[0].headline


def test_a_machine_that_strikes_is_not_learned_unless_told(tmp_path: Path) -> None:
    plant = Plant(machine(tmp_path, bearing=False))
    plant.run(25.0, 35, severity=0.3)
    assert "repeated impacts at de/x in" in plant.machine.status.note
    assert "--anyway" in plant.machine.status.note
    assert not (tmp_path / "pump").exists()
    plant.machine.finish_learning(Stamp(0, 0, "b", True), anyway=True)
    manifest = plant.machine.model.manifest
    assert manifest is not None
    assert "repeated impacts" in manifest.training.warnings[0]


def test_what_was_overruled_while_learning_raises_no_alarm_at_another_speed(tmp_path: Path) -> None:
    plant = Plant(machine(tmp_path, bearing=False))
    plant.run(25.0, 35, severity=0.3)
    plant.machine.finish_learning(Stamp(0, 0, "b", True), anyway=True)
    assert not alarms(plant.run(29.0, 15, severity=0.3))


def test_each_learned_speed_has_its_own_normal_and_an_untold_one_fits_the_nearest() -> None:
    schema = FeatureSchema(("de/x/rms", "de/x/peak"), ("g", "g"))
    rng = np.random.default_rng(1)

    def vector(
        hz: float, level: float, state: str = "running", lines: tuple[tuple[float, float], ...] = ()
    ) -> FeatureVector:
        values = level * (1 + 0.03 * rng.standard_normal(2)) * np.array([1.0, 3.0])
        return FeatureVector("m", values, schema, Stamp(0, 0, "b", True), 1.0, state, lines=lines)

    learned = [
        vector(hz, hz / 20, lines=turning(hz, 10 * i + int(hz))) for i in range(20) for hz in (20.0, 40.0)
    ]
    model, manifest = commission(learned, name="m")
    slow, fast = "running at 1.00 times the learned speed", "running at 2.00 times the learned speed"
    assert set(manifest.states) == {slow, fast}
    detector = AnomalyDetector(Bundle(Path(), manifest, model))
    assert detector.score(vector(20, 1.0, slow)).value < 1
    assert detector.score(vector(20, 1.0, fast)).value > 1
    for level in (1.0, 2.0):
        assert detector.score(vector(20, level, "running")).value < 1
    assert detector.score(vector(20, 4.0, "running")).value > 1
    assert math.isnan(detector.score(vector(20, 1.5, "running at 1.50 times the learned speed")).value)


def test_a_restart_while_learning_loses_neither_lines_nor_doubts(tmp_path: Path) -> None:
    plant = Plant(machine(tmp_path, bearing=False))
    plant.run(25.0, 20, severity=0.3)
    again = Plant(machine(tmp_path, bearing=False))
    again.run(25.0, 15, severity=0.3)
    assert "in 30 of 30 windows" in again.machine.status.note
    again.machine.finish_learning(Stamp(0, 0, "b", True), anyway=True)
    assert load_bundle(tmp_path / "pump").manifest.speeds
    with pytest.raises(ModelError):
        again.machine.finish_learning(Stamp(0, 0, "b", True))


def test_a_silent_sensor_tells_no_speed_and_holds_up_nothing() -> None:
    """Its last lines would hold the machine at a speed that it has left, and hide what is wrong there."""
    sensors = tuple(SensorConfig(id=name, source="replay://x") for name in ("de", "nde"))
    looks = Looks(MachineConfig(id="pump", sensor=sensors, rated_speed_rpm=1500))
    teller = LineSpeed(LEARNED)

    def feed(sensor: str, second: float, n: int, speed_hz: float) -> None:
        time_s = second + np.arange(n) / RATE_HZ
        x = sum(0.1 * np.sin(2 * np.pi * order * speed_hz * time_s + order) for order in ORDERS)
        x = np.asarray(x) + 0.01 * np.random.default_rng(round(10 * second)).standard_normal(n)
        at = round(second * RATE_HZ)
        stamp = Stamp(0, round(1e9 * second), "b", True)
        looks.feed(Waveform(sensor, x[None].astype(np.float32), RATE_HZ, "g", ("x",), stamp, first_sample=at))

    feed("nde", 0.0, 12800, 28.0)
    feed("de", 0.0, 12800, 28.0)
    assert looks.placed("running", teller)[0] == "running at 1.13 times the learned speed"
    for second in range(1, 6):
        feed("de", second, 12800, 24.7)
    assert looks.placed("running", teller)[0] == "running"
    assert teller.observe(looks.lines()).kind == "learned"
    feed("nde", 6.0, 1280, 24.7)  # back, and not whole yet
    assert looks.placed("running", teller)[0] == "running"
