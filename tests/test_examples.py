"""Every example runs as its first lines say, and does what they say."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import pdm_edge as pdm
from pdm_edge.sync import drain, open_uploader

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "examples"

SHORT = ("--window-s", "0.25", "--learn-windows", "20", "--for-s", "14")


def run(name: str, *arguments: str, folder: Path) -> str:
    command = [sys.executable, str(EXAMPLES / name), *arguments]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=folder, timeout=100, env=os.environ
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def test_every_example_has_a_test() -> None:
    text = Path(__file__).read_text()
    for example in EXAMPLES.glob("*.py"):
        assert f'"{example.name}"' in text


def test_monitor_replay_is_silent_on_the_healthy_and_alarms_on_the_other(tmp_path: Path) -> None:
    healthy, today = run("monitor_replay.py", "--simulate", folder=tmp_path).strip().split("\n\n")
    assert healthy.endswith("healthy: 80 windows, normal, last score " + healthy.split()[-1])
    assert "alarm" not in healthy
    assert "-> alarm" in today


def test_monitor_serial_learns_from_a_real_line(tmp_path: Path) -> None:
    told = run("monitor_serial.py", "--simulate", *SHORT, folder=tmp_path)
    assert re.search(r"pump-7: learning, [0-9.]+ mm/s, score nan, learned \d+ of 20 windows", told)
    assert "pump-7: learning -> normal: baseline learned" in told
    assert (tmp_path / "pump-7.db").is_file()
    assert (tmp_path / "models" / "pump-7" / "model.tflite").is_file()


def test_monitor_modbus_learns_from_scalars_alone(tmp_path: Path) -> None:
    told = run("monitor_modbus.py", "--simulate", *SHORT, folder=tmp_path)
    assert "gearbox-2: learning -> normal: baseline learned" in told
    reads = re.search(r"reads: (\d+)", told)
    assert reads is not None
    assert int(reads[1]) > 20


def test_embed_in_controller_ends_with_a_red_lamp(tmp_path: Path) -> None:
    told = run("embed_in_controller.py", folder=tmp_path).splitlines()
    assert told[0].startswith("lamp green: baseline learned")
    assert any(line.startswith("lamp red: ") for line in told)
    assert "rows kept: " in told[-1]


def test_cloud_receiver_takes_what_a_gateway_sends(tmp_path: Path) -> None:
    buffer = pdm.Buffer(tmp_path / "b.db", gateway="plant1-gw3", clock=pdm.SystemClock())
    stamp = pdm.SystemClock().stamp()
    buffer.write([pdm.Reading("oil-sump", "temperature", 40.0 + i, "degc", stamp) for i in range(50)])
    advisory = pdm.Advisory("pump-7", "alarm", "alert", stamp, "far above its limit", "Stop it soon")
    buffer.write([advisory])
    command = [sys.executable, str(EXAMPLES / "cloud_receiver.py"), "--port", "0", "--database", "fleet.db"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=tmp_path) as receiver:
        assert receiver.stdout is not None
        url = receiver.stdout.readline().removeprefix("listening on ").strip()
        uploader = open_uploader(url, gateway="plant1-gw3")
        assert drain(buffer, uploader) == 51
        uploader.close()
        receiver.send_signal(signal.SIGTERM)
        told, _ = receiver.communicate(timeout=30)
    buffer.close()
    assert "plant1-gw3 pump-7: alarm: far above its limit" in told
    assert "51 rows in fleet.db" in told


def test_custom_feature_is_learned_and_carries_the_score(tmp_path: Path) -> None:
    told = run("custom_feature.py", folder=tmp_path)
    assert "healthy: compressor: learning -> normal" in told
    assert "today: compressor: normal -> alarm: " in told
    shown = re.search(r"today: score [0-9.]+, carried by valve/impacts (\d+)%", told)
    assert shown is not None
    assert int(shown[1]) > 30


@pytest.mark.parametrize("name", ["monitor_replay.py", "monitor_serial.py", "monitor_modbus.py"])
def test_an_example_without_arguments_says_what_it_wants(name: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name)], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.returncode == 2
    assert "--simulate" in done.stderr
