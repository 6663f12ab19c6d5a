"""A standing alarm outlives a restart: it is not told again, keeps its time, and ends by evidence only."""

from __future__ import annotations

import json
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import numpy as np
import pytest

import pdm_edge as pdm
from pdm_edge.advise import AlarmCycle, AlarmMemory, AlarmSettings, StandingAlarm, advisory
from pdm_edge.records import AlarmState, Evidence, Gap, Health, Stamp

STAMP = Stamp(1_700_000_000_000_000_000, 5_000_000_000, "boot", True)
LATER = Stamp(1_700_000_100_000_000_000, 9_000_000_000, "other-boot", True)


def told(new: AlarmState, previous: AlarmState, stamp: Stamp = STAMP, part: str = "") -> pdm.Advisory:
    evidence = (Evidence(part, 20.0, 12.0, "db"),) if part else ()
    health = Health("pump", stamp, "D", "", evidence, "high")
    return advisory("pump", new, previous, stamp, health=health, score=3.0)


def taken_up(folder: Path) -> StandingAlarm | Gap | None:
    return AlarmMemory(folder).take_up("pump", LATER)


def test_what_stands_is_taken_up_with_the_time_it_was_raised(tmp_path: Path) -> None:
    memory = AlarmMemory(tmp_path / "models")
    assert taken_up(tmp_path / "models") is None
    memory.note([told("alert", "normal")], by_model=True)
    raised = told("alarm", "alert", LATER, part="outer race line at x")
    memory.note([raised], by_model=True)
    found = taken_up(tmp_path / "models")
    assert isinstance(found, StandingAlarm)
    assert (found.level, found.raised, found.alarm) == ("alarm", STAMP, raised.id)
    assert found.told == ("outer race line at x",)
    memory.note([told("normal", "alarm", LATER)], by_model=True)
    assert taken_up(tmp_path / "models") is None
    assert list((tmp_path / "models").iterdir()) == []


def test_silence_hides_a_standing_alarm_and_does_not_end_it(tmp_path: Path) -> None:
    memory = AlarmMemory(tmp_path)
    memory.note([told("alarm", "normal"), told("unknown", "alarm", LATER)], by_model=False)
    found = taken_up(tmp_path)
    assert isinstance(found, StandingAlarm)
    assert (found.level, found.silent, found.raised) == ("alarm", True, STAMP)
    cycle = AlarmCycle(AlarmSettings())
    cycle.resume(found.level, silent=found.silent)
    assert cycle.state == "unknown"
    assert cycle.silent() is None  # it was told before the restart
    assert cycle.observe(0.1) == "alarm"  # one quiet window is no evidence


def test_an_alarm_that_was_taken_up_falls_by_as_much_evidence_as_any_other() -> None:
    cycle = AlarmCycle(AlarmSettings())
    cycle.resume("alarm", silent=False)
    assert [cycle.observe(0.1) for _ in range(4)] == [None] * 4
    assert cycle.observe(0.1) == "normal"
    standing = AlarmCycle(AlarmSettings())
    standing.resume("alarm", silent=False)
    assert [standing.observe(3.0) for _ in range(50)] == [None] * 50


GOOD = msgspec.json.encode(StandingAlarm("pump", "alarm", STAMP, "pump@boot:5", "shakes"))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "malformed|truncated"),
        (GOOD[: len(GOOD) // 2], "truncated"),
        (b"\0" * 300, "malformed"),
        (b"\xff" + bytes(range(256)), "malformed|invalid|JSON"),
        (GOOD.replace(b'"machine":"pump"', b'"machine":"fan"'), "of machine 'fan'"),
        (GOOD.replace(b'"level":"alarm"', b'"level":"panic"'), "level"),
        (GOOD.replace(b'"format":1', b'"format":2'), "format 2"),
        (GOOD.replace(b'"boot_id":"boot"', b'"boot_id":""'), "boot_id"),
        (b"[" * 200_000, "larger"),
        (b"[" * 50_000, "malformed|expected|depth|recursion"),
    ],
)
def test_a_damaged_or_foreign_file_is_refused_set_aside_and_told(
    tmp_path: Path, content: bytes, says: str
) -> None:
    (tmp_path / "pump.alarm").write_bytes(content)
    found = taken_up(tmp_path)
    assert isinstance(found, Gap)
    assert re.search(says, found.why, re.IGNORECASE), found.why
    assert (tmp_path / "pump.alarm.refused").read_bytes() == content
    assert taken_up(tmp_path) is None


def test_a_folder_in_the_place_of_the_file_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "pump.alarm").mkdir()
    assert isinstance(taken_up(tmp_path), Gap)
    memory = AlarmMemory(tmp_path)
    memory.note([told("alarm", "normal")], by_model=True)
    assert isinstance(taken_up(tmp_path), StandingAlarm)


def test_what_cannot_be_written_is_written_as_soon_as_it_can(tmp_path: Path) -> None:
    blocked = tmp_path / "models"
    blocked.write_text("a file where the folder should be")
    memory = AlarmMemory(blocked)
    memory.note([told("alarm", "normal")], by_model=True)
    blocked.unlink()
    assert taken_up(blocked) is None
    memory.save()
    assert isinstance(taken_up(blocked), StandingAlarm)


def machine(folder: Path, *, iso: bool, learn_windows: int) -> pdm.Machine:
    raw: dict[str, object] = {
        "id": "pump",
        "window_s": 0.25,
        "sensor": [{"id": "de", "source": "host://"}],
        "detect": {"learn_windows": learn_windows},
    }
    if iso:
        raw["iso20816"] = {"group": 2, "support": "rigid"}
    return pdm.Machine(pdm.parse_machine(raw, where="test"), models=folder)


def test_an_alarm_whose_judge_is_gone_gives_way_to_learning(tmp_path: Path) -> None:
    standing = StandingAlarm("pump", "alert", STAMP, "pump@boot:5", "shakes", by_model=True)
    pump = machine(tmp_path, iso=False, learn_windows=40)
    pump.resume(standing)
    assert pump.status.state == "alert"
    (change,) = pump.tick(LATER)
    assert isinstance(change, pdm.Advisory)
    assert (change.previous, change.state) == ("alert", "learning")
    assert pump.status.raised_utc_ns is None


def test_until_something_is_judged_the_old_finding_is_shown(tmp_path: Path) -> None:
    pump = machine(tmp_path, iso=True, learn_windows=0)
    pump.resume(StandingAlarm("pump", "alarm", STAMP, "pump@boot:5", "shakes"))
    status = pump.status
    assert (status.state, status.finding, status.raised_utc_ns) == ("alarm", "shakes", STAMP.utc_ns)


# a real run, killed


def recording(path: Path, velocity_mm_s: float) -> None:
    """40 s of a tone at 50 Hz with so much velocity, and a little noise."""
    t = np.arange(40 * 4096) / 4096
    peak_g = np.sqrt(2) * velocity_mm_s * 2 * np.pi * 50 / 9806.65
    noise = np.random.default_rng(3).normal(0, 0.001, t.size)
    np.savez(path, x=(peak_g * np.sin(2 * np.pi * 50 * t) + noise).astype(np.float32))


@contextmanager
def running(config: Path, *more: str) -> Iterator[subprocess.Popen[str]]:
    program = str(Path(sys.executable).with_name("pdm-edge"))
    command = [program, "run", str(config), "--json", *more]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def advisories(out: str) -> list[tuple[str, str]]:
    lines = [json.loads(line) for line in out.splitlines()]
    return [(line["previous"], line["state"]) for line in lines if line["record"] == "advisory"]


def stored(database: Path) -> list[tuple[str, str]]:
    connection = sqlite3.connect(database)
    bodies = [
        json.loads(b) for (b,) in connection.execute("SELECT body FROM records WHERE kind = 'advisory'")
    ]
    connection.close()
    return [(body["previous"], body["state"]) for body in bodies]


def test_after_kill_9_of_a_run_its_alarm_stands_is_not_told_again_and_ends_by_evidence(
    tmp_path: Path,
) -> None:
    recording(tmp_path / "now.npz", 20.0)
    config = tmp_path / "machine.toml"
    config.write_text(
        '[gateway]\nid = "gw"\n[[machine]]\nid = "pump"\nrated_speed_rpm = 3000\nwindow_s = 0.5\n'
        'iso20816 = { group = 2, support = "rigid" }\ndetect = { learn_windows = 0 }\n'
        '[[machine.sensor]]\nid = "de"\n'
        'source = "replay://now.npz?sample_rate_hz=4096&unit=g&variable=x&realtime=1"\n'
        '[store]\npath = "pump.db"\n'
    )
    memory = tmp_path / "models" / "pump.alarm"
    with running(config) as first:
        assert first.stdout is not None
        line = json.loads(first.stdout.readline())
        assert (line["previous"], line["state"]) == ("unknown", "alarm")
        deadline = time.monotonic() + 10
        while not memory.exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        first.send_signal(signal.SIGKILL)
        first.wait()
    raised = msgspec.json.decode(memory.read_bytes(), type=StandingAlarm).raised
    assert raised.utc_ns == line["stamp"]["utc_ns"]
    program = Path(sys.executable).with_name("pdm-edge")
    shown = subprocess.run(
        [program, "status", tmp_path / "pump.db"], capture_output=True, text=True, check=True
    )
    assert "standing: pump: alarm since 20" in shown.stdout

    with running(config, "--for", "4") as second:
        out, said = second.communicate(timeout=60)
    assert second.returncode == 1, said
    assert advisories(out) == []
    assert "still stands" in said
    assert stored(tmp_path / "pump.db") == [("unknown", "alarm")]
    assert msgspec.json.decode(memory.read_bytes(), type=StandingAlarm).raised == raised

    recording(tmp_path / "now.npz", 0.5)
    with running(config, "--for", "6") as third:
        out, said = third.communicate(timeout=60)
    assert third.returncode == 0, said
    assert advisories(out) == [("alarm", "normal")]
    assert not memory.exists()

    memory.write_bytes(b"\x00damaged")
    with running(config, "--for", "5") as fourth:
        out, said = fourth.communicate(timeout=60)
    assert fourth.returncode == 0, said
    assert "refused" in said
    connection = sqlite3.connect(tmp_path / "pump.db")
    gaps = [
        b for (b,) in connection.execute("SELECT body FROM records WHERE kind = 'gap' AND subject = 'pump'")
    ]
    connection.close()
    assert sum("standing alarm is refused" in gap for gap in gaps) == 1
