"""The loop that joins the stages: nothing that a source, a sink or a far end does ends it."""

from __future__ import annotations

import logging
import math
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import pdm_edge as pdm
from pdm_edge.acquire.simulate import VibrationSimulator
from pdm_edge.clock import SystemClock
from pdm_edge.records import Measurement, Record

RATE_HZ = 12_800.0


def machine(
    folder: Path, *, learn_windows: int = 40, iso: dict[str, object] | None = None, family: str = "linear"
) -> pdm.Machine:
    raw: dict[str, object] = {
        "id": "pump-1",
        "window_s": 0.25,
        "sensor": [{"id": "drive-end", "source": "host://"}],
        "detect": {"learn_windows": learn_windows, "family": family},
    }
    if iso is not None:
        raw["iso20816"] = iso
    return pdm.Machine(pdm.parse_machine(raw, where="test"), models=folder)


class Pump:
    """A source of the host: blocks of 0.25 s; its fault begins at `faulty_from` blocks."""

    def __init__(self, *, blocks: int, faulty_from: int = 1_000_000, scale: float = 1.0) -> None:
        self.name = "pump"
        self._clock = pdm.FixedClock()
        self._vibration = VibrationSimulator(sample_rate_hz=RATE_HZ, strike_hz=88.4, seed=5)
        self._left, self._faulty_in, self._scale = blocks, faulty_from, scale
        self._sample = 0
        self.closed = False

    @property
    def ended(self) -> bool:
        return self._left == 0

    def read(self, timeout_s: float) -> Sequence[Measurement]:
        self._left -= 1
        self._faulty_in -= 1
        self._vibration.severity = 0.5 if self._faulty_in < 0 else 0.0
        n_samples = round(RATE_HZ / 4)
        samples = self._vibration.block(n_samples)[None, :] * np.float32(self._scale)
        stamp = self._clock.stamp()
        self._clock.advance(0.25)
        self._sample += n_samples
        return (pdm.Waveform("drive-end", samples, RATE_HZ, "g", ("x",), stamp, self._sample - n_samples),)

    def counters(self) -> Mapping[str, int]:
        return {"blocks": self._sample}

    def close(self) -> None:
        self.closed = True


class Notes:
    """A sink that keeps what it is given; `failing` says when it refuses."""

    def __init__(self, failing: Callable[[], bool] = lambda: False) -> None:
        self.records: list[Record] = []
        self._failing = failing
        self.closed = False

    def write(self, records: Sequence[Record]) -> None:
        if self._failing():
            raise pdm.StoreError("refused by the test")
        self.records.extend(records)

    def close(self) -> None:
        self.closed = True

    def of(self, kind: type) -> list[Record]:
        return [record for record in self.records if isinstance(record, kind)]


def test_healthy_is_learned_in_silence_and_a_fault_becomes_an_alarm(tmp_path: Path) -> None:
    pump, notes = Pump(blocks=120, faulty_from=90), Notes()
    with pdm.Monitor([machine(tmp_path)], patient=[pump], sinks=[notes]) as monitor:
        states = [advisory.state for advisory in monitor]
    assert states == ["normal", "alarm"]
    assert len(notes.of(pdm.FeatureVector)) == 120
    assert len(notes.of(pdm.Score)) == 80
    assert pump.closed
    assert notes.closed


class LivePump(Pump):
    """The pump as a line that does not wait: a block every 20 ms, stamped as it comes."""

    def read(self, timeout_s: float) -> Sequence[Measurement]:
        time.sleep(0.02)
        now = SystemClock().stamp()
        return [replace(m, stamp=now) for m in super().read(timeout_s) if isinstance(m, pdm.Waveform)]


def test_a_live_monitor_keeps_up_while_a_network_trains_and_uses_it_afterwards(tmp_path: Path) -> None:
    pump = machine(tmp_path, family="mobilenet")

    def step_until(reached: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 180
        while not reached():
            assert time.monotonic() < deadline, pump.status
            monitor.step(timeout_s=0.1)

    with pdm.Monitor([pump], live=[LivePump(blocks=1_000_000)], sinks=[Notes()]) as monitor:
        step_until(lambda: pump.model.training > 0)
        training = pump.model._training
        assert training is not None
        os.kill(training._child.pid, signal.SIGSTOP)  # a training that takes as long as this test wants
        before = pump.status
        assert (before.state, before.note) == ("learning", "training on 40 windows")
        step_until(lambda: pump.status.windows >= before.windows + 30)
        assert (pump.status.state, pump.status.note) == ("learning", before.note)
        assert pump.status.learned >= before.learned + 30
        os.kill(training._child.pid, signal.SIGCONT)
        step_until(lambda: not math.isnan(pump.status.score))
        assert pump.status.note == ""
    assert pump.model.manifest is not None
    made = pump.model.manifest.training
    assert (made.family, made.windows + made.left_out) == ("mobilenet", 40)


def test_the_same_recording_gives_the_same_records(tmp_path: Path) -> None:
    runs = []
    for name in ("a", "b"):
        notes = Notes()
        pump = Pump(blocks=70, faulty_from=60)
        with pdm.Monitor([machine(tmp_path / name)], patient=[pump], sinks=[notes]) as monitor:
            list(monitor)
        runs.append([(s.stamp, s.value) for s in notes.records if isinstance(s, pdm.Score)])
    assert runs[0] == runs[1]
    assert runs[0]


def test_a_restart_uses_the_model_that_was_learned(tmp_path: Path) -> None:
    with pdm.Monitor([machine(tmp_path)], patient=[Pump(blocks=45)]) as monitor:
        list(monitor)
    again = machine(tmp_path)
    assert again.status.to_learn == 0
    with pdm.Monitor([again], patient=[Pump(blocks=30, faulty_from=20)]) as monitor:
        assert [advisory.state for advisory in monitor][-1] == "alarm"


def test_a_damaged_learned_model_is_refused_and_learned_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pdm.Monitor([machine(tmp_path)], patient=[Pump(blocks=45)]) as monitor:
        list(monitor)
    model = tmp_path / "pump-1" / "model.tflite"
    model.write_bytes(model.read_bytes()[:-100])
    with caplog.at_level(logging.ERROR):
        again = machine(tmp_path)
    assert "its hash is wrong" in caplog.text
    assert again.status.to_learn == 40


def test_a_machine_that_is_bad_while_it_learns_is_told_and_not_learned(tmp_path: Path) -> None:
    bad = machine(tmp_path, iso={"group": 2, "support": "rigid"})
    with pdm.Monitor([bad], patient=[Pump(blocks=60, scale=3.0)]) as monitor:
        advisories = list(monitor)
    assert [advisory.state for advisory in advisories] == ["alarm"]
    assert advisories[0].zone == "D"
    assert bad.status.learned == 0


def test_a_source_that_raises_is_counted_and_read_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pdm_edge.acquire.collect._PAUSE_AFTER_FAULT_S", 0.01)
    pump = Pump(blocks=5)
    sound, faults = pump.read, [RuntimeError("broken driver"), ValueError("again")]

    def read(timeout_s: float) -> Sequence[Measurement]:
        if faults:
            raise faults.pop()
        return sound(timeout_s)

    monkeypatch.setattr(pump, "read", read)
    with caplog.at_level(logging.ERROR), pdm.Monitor([machine(tmp_path)], live=[pump]) as monitor:
        list(monitor)
        status = monitor.status()
    assert status.counters["pump: faults"] == 2
    assert status.machines[0].windows == 5
    assert "failed and is tried again" in caplog.text


def test_what_the_buffer_refuses_is_kept_and_written_when_it_can_be(tmp_path: Path) -> None:
    refusals = iter([True] * 3)
    first, second = Notes(lambda: next(refusals, False)), Notes()
    pump = Pump(blocks=40)
    with pdm.Monitor([machine(tmp_path)], patient=[pump], sinks=[first, second]) as monitor:
        while not monitor.ended:
            monitor.step(timeout_s=0.05)
        while monitor.status().unwritten:
            monitor.step(timeout_s=0.0)
        assert monitor.status().counters["write failures"] == 3
    stamps = [pdm.Stamp(i * 250_000_000, i * 250_000_000, "replay", False) for i in range(40)]
    for sink in (first, second):  # the one behind the buffer got each record once, and without waiting
        assert [v.stamp for v in sink.records if isinstance(v, pdm.FeatureVector)] == stamps


def test_a_sink_of_the_host_that_breaks_neither_ends_the_loop_nor_doubles_rows(tmp_path: Path) -> None:
    def broken() -> bool:
        raise ZeroDivisionError

    first = Notes()
    with pdm.Monitor([machine(tmp_path)], patient=[Pump(blocks=10)], sinks=[first, Notes(broken)]) as monitor:
        list(monitor)
        assert monitor.status().counters["write failures"] >= 1
    assert len(first.of(pdm.FeatureVector)) == 10


def test_beyond_the_limit_rows_are_dropped_and_told_and_advisories_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pdm_edge.monitor._UNWRITTEN_MAX", 20)
    refusing = True
    notes = Notes(lambda: refusing)
    pump = Pump(blocks=120, faulty_from=90)
    with pdm.Monitor([machine(tmp_path)], patient=[pump], sinks=[notes]) as monitor:
        told = list(monitor)
        made = 120 + 80 + 1 + len(told)  # vectors, scores, the health of the alarm, advisories
        assert monitor.status().unwritten == 20
        refusing = False
        monitor.step(timeout_s=0.0)
        assert monitor.status().unwritten == 0
    assert notes.of(pdm.Advisory) == told
    (gap,) = [g for g in notes.of(pdm.Gap) if isinstance(g, pdm.Gap)]
    waveforms = len(notes.of(pdm.Waveform))
    assert gap.lost == monitor.status().counters["lost records"]
    assert gap.lost >= made - 20
    assert len(notes.records) - 1 == 20
    assert waveforms <= 20


def test_a_waveform_of_a_sensor_without_one_is_dropped_and_counted(tmp_path: Path) -> None:
    raw = {
        "id": "pump-1",
        "sensor": [
            {
                "id": "drive-end",
                "source": "host://",
                "waveform": False,
                "quantity": [{"quantity": "temperature", "unit": "degc"}],
            }
        ],
    }
    scalar_only = pdm.Machine(pdm.parse_machine(raw, where="test"), models=tmp_path)
    notes = Notes()
    with pdm.Monitor([scalar_only], patient=[Pump(blocks=5)], sinks=[notes]) as monitor:
        list(monitor)
        assert monitor.status().counters["unwanted waveforms"] == 5
    assert notes.closed


def test_everything_is_closed_whatever_fails_on_the_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails() -> list[Record]:
        raise ZeroDivisionError

    pumped, notes = machine(tmp_path), Notes()
    monkeypatch.setattr(pumped, "rest", fails)
    monitor = pdm.Monitor([pumped], patient=[Pump(blocks=3)], sinks=[notes])
    list(monitor)
    with pytest.raises(ZeroDivisionError):
        monitor.close()
    assert notes.closed


def test_a_source_that_brings_something_else_is_a_fault_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pump = Pump(blocks=2)
    sound, odd = pump.read, [None, ["a string"]]
    monkeypatch.setattr(pump, "read", lambda timeout_s: odd.pop() if odd else sound(timeout_s))
    monkeypatch.setattr("pdm_edge.acquire.collect._PAUSE_AFTER_FAULT_S", 0.01)
    with pdm.Monitor([machine(tmp_path)], live=[pump]) as monitor:
        list(monitor)
        status = monitor.status()
    assert status.counters["pump: faults"] == 2
    assert status.machines[0].windows == 2


def test_what_does_not_fit_the_queue_is_counted_and_told_as_a_gap(tmp_path: Path) -> None:
    pump, notes = Pump(blocks=2000), Notes()
    monitor = pdm.Monitor([machine(tmp_path)], live=[pump], sinks=[notes])
    monitor.start()
    deadline = time.monotonic() + 60
    while not pump.ended:  # the pump is read as fast as it goes, and nobody takes from the queue
        assert time.monotonic() < deadline
        time.sleep(0.01)
    while not monitor.ended:
        monitor.step(timeout_s=0.05)
    monitor.close()
    dropped = monitor.status().counters["pump: dropped"]
    gaps = [gap for gap in notes.records if isinstance(gap, pdm.Gap) and gap.what == "records"]
    assert dropped > 0
    assert sum(gap.lost for gap in gaps) == dropped
    assert monitor.status().machines[0].windows == 2000 - dropped


def test_silence_is_told_as_unknown_and_never_as_normal(tmp_path: Path) -> None:
    class Quiet(Pump):
        def read(self, timeout_s: float) -> Sequence[Measurement]:
            time.sleep(0.01)
            return ()

    clock, quiet = pdm.FixedClock(), Quiet(blocks=10**9)
    with pdm.Monitor([machine(tmp_path)], live=[quiet], clock=clock) as monitor:
        told: list[pdm.Advisory] = []
        deadline = time.monotonic() + 30
        while not told:
            assert time.monotonic() < deadline
            told = monitor.step(timeout_s=0.05)
            clock.advance(10.0)
    assert [advisory.state for advisory in told] == ["unknown"]
    assert "Check power, cable and gateway" in told[0].advice


def test_data_of_a_sensor_that_no_machine_has_are_counted(tmp_path: Path) -> None:
    pump = Pump(blocks=3)
    other = pdm.parse_machine({"id": "fan", "sensor": [{"id": "other", "source": "host://"}]}, where="test")
    with pdm.Monitor([pdm.Machine(other, models=tmp_path)], patient=[pump]) as monitor:
        list(monitor)
        assert monitor.status().counters["unassigned"] == 3


def test_a_recording_beside_a_live_source_is_refused_with_the_mend(tmp_path: Path) -> None:
    np.savez(tmp_path / "r.npz", acceleration_g=np.zeros(100), sample_rate_hz=1000.0)
    config = tmp_path / "machine.toml"
    sensors = "".join(
        f'[[machine.sensor]]\nid = "{name}"\nsource = "{source}"\n'
        for name, source in (("a", "replay://r.npz"), ("b", "serial:///dev/null?baud=9600"))
    )
    config.write_text(f'[gateway]\nid = "g"\n[[machine]]\nid = "m"\n{sensors}[store]\npath = "m.db"\n')
    with pytest.raises(pdm.ConfigError, match="Add realtime=1"):
        pdm.Monitor.from_config(config)
