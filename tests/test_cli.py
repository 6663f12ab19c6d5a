"""The command line: exit status, stdout for results, stderr for talk, and one line for a known failure."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pdm_edge.acquire.simulate import VibrationSimulator
from pdm_edge.acquire.simulated_devices import SimulatedSensor
from pdm_edge.store import read_status
from pdm_edge.sync.receive_http import HttpReceiver
from pdm_edge.sync.receiver import Receiver

PDM_EDGE = str(Path(sys.executable).parent / "pdm-edge")

CONFIG = """
[gateway]
id = "g"
[[machine]]
id = "pump-1"
window_s = 0.25
detect = {{ learn_windows = 20 }}
[[machine.sensor]]
id = "drive-end"
source = "serial://{port}?baud=921600"
[store]
path = "pump.db"
"""


def run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [PDM_EDGE, *arguments], capture_output=True, text=True, check=False, cwd=cwd, timeout=100
    )


def recording(path: Path, severity: float, seed: int, *, stated: bool = True) -> None:
    """20 s of a simulated pump; `stated`: the file says its rate and unit."""
    pump = VibrationSimulator(sample_rate_hz=12_800.0, strike_hz=88.4, seed=seed)
    pump.severity = severity
    samples = np.concatenate([pump.block(1280) for _ in range(200)])
    about = {"sample_rate_hz": np.float64(12_800.0), "unit": np.str_("g")} if stated else {}
    np.savez(path, x=samples, **about)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recordings")
    recording(folder / "healthy.npz", 0.0, 1)
    recording(folder / "later.npz", 0.0, 2)
    recording(folder / "faulty.npz", 0.3, 3)
    recording(folder / "silent.npz", 0.0, 4, stated=False)
    return folder


def test_replay_is_silent_on_a_healthy_recording_and_alarms_on_a_faulty_one(files: Path) -> None:
    healthy = run("replay", "later.npz", "--learn", "healthy.npz", "--window-s", "0.5", cwd=files)
    assert (healthy.returncode, healthy.stderr) == (0, "learned from 40 healthy windows\n")
    assert healthy.stdout.startswith("later.npz: 40 windows of 0.5 s, worst state: normal; score median 0.")
    faulty = run("replay", "faulty.npz", "--learn", "healthy.npz", "--window-s", "0.5", cwd=files)
    assert faulty.returncode == 1
    assert "faulty: normal -> alarm" in faulty.stdout


def test_replay_as_json_is_one_object_a_line(files: Path) -> None:
    told = run("replay", "faulty.npz", "--learn", "healthy.npz", "--window-s", "0.5", "--json", cwd=files)
    rows = [json.loads(line) for line in told.stdout.splitlines()]
    assert [row["record"] for row in rows[-2:]] == ["advisory", "replay"]
    assert rows[-1]["worst_state"] == "alarm"
    assert rows[-1]["windows"] == 40


def test_replay_names_the_race_when_speed_and_bearing_are_known(files: Path) -> None:
    bearing = ("--speed-rpm", "1480", "--bearing", "6205")
    told = run("replay", "faulty.npz", "--learn", "healthy.npz", "--window-s", "0.5", *bearing, cwd=files)
    assert "outer race line (BPFO)" in told.stdout


def test_replay_by_the_standard_alone_grades_without_a_model(files: Path) -> None:
    told = run("replay", "later.npz", "--group", "2", "--support", "rigid", cwd=files)
    assert told.returncode == 0
    assert "mm/s RMS, ISO zone" in told.stdout


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["later.npz"], "nothing to judge the recording by. Give --learn HEALTHY_FILE"),
        (["silent.npz", "--learn", "healthy.npz"], "does not state its sample_rate_hz. Give sample_rate_hz="),
        (["silent.npz", "--sample-rate-hz", "9", "--model", "simulated-pump"], "does not state its unit"),
        (["absent.npz", "--model", "simulated-pump"], "absent.npz: there is no such file"),
        (["later.npz", "--model", "no-such"], "there is no model 'no-such'"),
        (["later.npz", "--model", "simulated-pump"], "does not fit this machine"),
        (["later.npz", "--learn", "healthy.npz", "--window-s", "4"], "5 windows are too few"),
        (["later.npz", "--group", "2"], "needs --group and --support"),
        (["later.npz", "--learn", "x.npz", "--model", "m"], "exclude each other"),
        (["later.npz", "--learn", "healthy.npz", "--bearing", "9999"], "'9999' is not in the catalogue"),
        (["later.npz", "--learn", "healthy.npz?rate=3"], "unknown option 'rate'"),
    ],
)
def test_a_replay_that_cannot_be_says_why_and_exits_with_2(
    arguments: list[str], says: str, files: Path
) -> None:
    told = run("replay", *arguments, cwd=files)
    assert told.returncode == 2, told.stdout
    assert says in told.stderr
    assert "Traceback" not in told.stderr


def test_run_monitors_a_real_line_until_sigterm_and_keeps_the_rows(tmp_path: Path) -> None:
    pump = VibrationSimulator(sample_rate_hz=12_800.0, strike_hz=88.4, seed=1)
    sensor = SimulatedSensor(pump)
    sensor.start()
    (tmp_path / "machine.toml").write_text(CONFIG.format(port=sensor.port))
    command = [PDM_EDGE, "run", "machine.toml", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=tmp_path) as monitor:
        assert monitor.stdout is not None
        learned = json.loads(monitor.stdout.readline())
        assert (learned["previous"], learned["state"]) == ("learning", "normal")
        pump.severity = 0.5
        states = []
        while "alarm" not in states:
            states.append(json.loads(monitor.stdout.readline())["state"])
        monitor.send_signal(signal.SIGTERM)
        rest, _ = monitor.communicate(timeout=30)
    sensor.close()
    assert monitor.returncode == 1  # the machine is in alarm
    counters = json.loads(rest.splitlines()[-1])
    assert counters[f"serial {sensor.port}: bad_crc"] == 0
    assert counters.get("lost samples", 0) == 0
    found = run("status", "pump.db", "--json", cwd=tmp_path)
    status = json.loads(found.stdout)
    assert status["lanes"]["alarm"]["rows"] >= 2
    assert status["lanes"]["feature"]["rows"] >= 20
    assert "pump-1: alarm" in status["last_alarm"]
    for_people = run("status", "pump.db", cwd=tmp_path)
    assert "last alarm: pump-1: alarm" in for_people.stdout


def test_run_for_a_while_ends_with_0_when_nothing_is_wrong(tmp_path: Path) -> None:
    sensor = SimulatedSensor(VibrationSimulator(sample_rate_hz=12_800.0, strike_hz=88.4, seed=1))
    sensor.start()
    (tmp_path / "machine.toml").write_text(CONFIG.format(port=sensor.port))
    told = run("run", "machine.toml", "--for", "3", cwd=tmp_path)
    sensor.close()
    assert told.returncode == 0
    assert "pump-1" in told.stderr  # the table is talk; advisories are results


def test_a_machine_that_is_not_heard_is_unknown_and_no_success(tmp_path: Path) -> None:
    text = CONFIG.format(port="/dev/does-not-exist").replace(
        "window_s = 0.25", "window_s = 0.25\nalarm = { stale_after_s = 1 }"
    )
    (tmp_path / "machine.toml").write_text(text)
    told = run("run", "machine.toml", "--for", "4", cwd=tmp_path)
    assert told.returncode == 2
    assert "learning -> unknown: no usable data" in told.stdout
    assert "could not open port /dev/does-not-exist" in told.stderr


def test_what_waits_is_delivered_by_sync_and_stays_if_the_far_end_is_down(tmp_path: Path) -> None:
    sensor = SimulatedSensor(VibrationSimulator(sample_rate_hz=12_800.0, strike_hz=88.4, seed=1))
    sensor.start()
    receiver = Receiver(tmp_path / "received.db")
    with HttpReceiver(receiver) as server:
        port = server.port
    text = CONFIG.format(port=sensor.port) + f'[sync]\nurl = "http://127.0.0.1:{port}/"\n'
    (tmp_path / "machine.toml").write_text(text)
    run("run", "machine.toml", "--for", "3", cwd=tmp_path)
    sensor.close()
    waiting = read_status(tmp_path / "pump.db").rows
    assert waiting > 0
    down = run("sync", "machine.toml", cwd=tmp_path)
    assert down.returncode == 2
    assert "not delivered" in down.stderr
    assert read_status(tmp_path / "pump.db").rows == waiting
    with HttpReceiver(receiver, port=port):
        done = run("sync", "machine.toml", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, f"{waiting} rows delivered, 0 left\n")
    assert receiver.count() == waiting
    receiver.close()


def test_a_monitor_killed_at_any_moment_loses_and_doubles_nothing_it_stored(tmp_path: Path) -> None:
    sensor = SimulatedSensor(VibrationSimulator(sample_rate_hz=12_800.0, strike_hz=88.4, seed=1))
    sensor.start()
    receiver = Receiver(tmp_path / "received.db")
    with HttpReceiver(receiver) as server:
        text = CONFIG.format(port=sensor.port) + f'[sync]\nurl = "http://127.0.0.1:{server.port}/"\n'
        (tmp_path / "machine.toml").write_text(text)
        for round_ in range(4):
            before = receiver.count()
            monitor = subprocess.Popen([PDM_EDGE, "run", "machine.toml"], cwd=tmp_path, stderr=-3)
            wait_for(lambda before=before: receiver.count() > before + 3)  # type: ignore[misc]
            time.sleep(0.07 * round_)
            os.kill(monitor.pid, signal.SIGKILL)
            monitor.wait()
        sensor.stop()
        done = run("sync", "machine.toml", cwd=tmp_path)
    sensor.close()
    assert done.returncode == 0, done.stderr
    status = read_status(tmp_path / "pump.db")
    assert status.rows == 0
    # Every number that the buffer has ever given to a row is at the far end, once.
    assert receiver.count() == status.last_seq
    receiver.close()


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["run", "absent.toml"], "absent.toml"),
        (["status", "absent.db"], "absent.db: there is no such file"),
        (["status", "foreign.db"], "foreign.db: is no buffer"),
        (["run", "typo.toml"], "unknown key 'machin'. Did you mean 'machine'?"),
        (["sync", "no-sync.toml"], "there is no [sync] table"),
        (["run", "foreign.toml"], "foreign.db: is not an SQLite file. It was left untouched"),
        (["frobnicate"], "No such command 'frobnicate'"),
    ],
)
def test_a_command_that_cannot_be_done_says_what_where_and_how_to_mend_it(
    arguments: list[str], says: str, tmp_path: Path
) -> None:
    good = CONFIG.format(port="/dev/null")
    (tmp_path / "foreign.db").write_bytes(b"holiday pictures" * 100)
    (tmp_path / "typo.toml").write_text(good.replace("[[machine]]", "[[machin]]"))
    (tmp_path / "no-sync.toml").write_text(good)
    (tmp_path / "foreign.toml").write_text(good.replace("pump.db", "foreign.db"))
    told = run(*arguments, cwd=tmp_path)
    assert told.returncode == 2
    assert says in told.stderr.replace("\n", " ")
    assert "Traceback" not in told.stderr
    assert (tmp_path / "foreign.db").read_bytes() == b"holiday pictures" * 100


def test_ports_prints_json_lines(tmp_path: Path) -> None:
    told = run("ports", "--json", cwd=tmp_path)
    assert told.returncode == 0
    for line in told.stdout.splitlines():
        assert json.loads(line)["device"].startswith("/dev/")


def test_every_command_has_a_help_text(tmp_path: Path) -> None:
    from pdm_edge.cli import cli

    for name in cli.list_commands(None):  # type: ignore[arg-type]
        told = run(name, "--help", cwd=tmp_path)
        assert told.returncode == 0
        assert told.stdout.startswith(f"Usage: pdm-edge {name}")


def test_real_healthy_recordings_are_silent_and_real_faults_alarm(recordings: Path) -> None:
    mfpt = recordings / "mfpt"
    common = ("--learn", str(mfpt / "baseline_1.mat"), "--resample-hz", "48828", "--window-s", "0.2")
    assert run("replay", str(mfpt / "baseline_2.mat"), *common, cwd=recordings).returncode == 0
    for name in ("OuterRaceFault_vload_1", "OuterRaceFault_vload_3", "InnerRaceFault_vload_5"):
        assert run("replay", str(mfpt / f"{name}.mat"), *common, cwd=recordings).returncode == 1
