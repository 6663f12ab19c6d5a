"""What is at the edges of the product: files, ports and numbers that cannot be, and what is said of them."""

from __future__ import annotations

import math
import os
import socket
import subprocess
import sys
import time
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_cli_learning import plant, run
from test_replay import X, npz, play

import pdm_edge as pdm
from pdm_edge.acquire import open_source
from pdm_edge.acquire.recordings import load_recording
from pdm_edge.clock import FixedClock, SystemClock
from pdm_edge.config_file import parse_config
from pdm_edge.detect.runtime import RUNTIMES, TfliteModel, installed_runtimes
from pdm_edge.errors import ConfigError, ModelError, SourceError
from pdm_edge.store.export import export_npz
from pdm_edge.sync import open_uploader
from pdm_edge.wiring import lines_of

__all__ = ["plant"]

GATEWAY = '[gateway]\nid = "gw"\n'
MACHINE = '[[machine]]\nid = "pump"\n[[machine.sensor]]\nid = "de"\nsource = "replay://healthy.npz"\n'
STORE = '[store]\npath = "gw.db"\n'


def pdm_edge(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from pdm_edge.cli import main; main()", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ)


# exit status


def test_what_cannot_be_used_ends_with_2_and_one_line(plant: Path) -> None:
    folder = plant.parent
    (folder / "file").write_bytes(b"")
    pdm.Buffer(folder / "b.db", gateway="gw", clock=SystemClock()).close()
    plant.write_text(plant.read_text().replace('path = "gw.db"', 'path = "file/gw.db"'))
    recording = folder / "healthy.npz"
    for arguments, says in (
        (("export", folder / "b.db", folder / "nowhere" / "out.csv"), "out.csv: cannot be written"),
        (("run", plant), "file/gw.db: cannot be used"),
        (("analyze", recording, "--window-s", "0.001"), "healthy.npz: "),
        (("analyze", recording, "--window-s", "nan"), "nan is no number above 0"),
        (("analyze", recording, "--window-s", "inf"), "inf is no number above 0"),
        (("analyze", recording, "--speed-rpm", "nan"), "nan is no number above 0"),
        (("receive", folder / "fleet.db", "--from", "http://127.0.0.1:99999"), "--from: "),
    ):
        done = pdm_edge(*arguments)
        assert done.returncode == 2, (arguments, done.stderr)
        assert says in done.stderr
        assert "Traceback" not in done.stderr


def test_a_fault_of_the_program_is_neither_an_alarm_nor_a_usage_error(tmp_path: Path) -> None:
    code = (
        "import pdm_edge.cli as c, click\n"
        "c.cli.callback = lambda **_: 1 / 0\n"
        "import sys; sys.argv = ['pdm-edge', 'profiles']\n"
        "c.main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 70
    assert "ZeroDivisionError" in done.stderr


def test_a_reader_that_leaves_is_no_fault() -> None:
    command = [sys.executable, "-c", "from pdm_edge.cli import main; main()", "profiles", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        running.stdout.close()
        assert running.stderr is not None
        told = running.stderr.read()
    assert told == ""
    assert running.returncode == 141


# replay


def test_a_recording_too_short_to_raise_an_alarm_is_not_called_healthy(plant: Path) -> None:
    short = npz(
        plant.parent, x=80 * np.sin(np.arange(2600) * 2 * math.pi * 50 / 12800), sample_rate_hz=12800.0
    )
    told = ("--unit", "g", "--window-s", "0.1")
    for judge in (("--learn", plant.parent / "healthy.npz"), ("--group", "2", "--support", "rigid")):
        with pytest.raises(ModelError, match=r"not judged: [02] of 3 windows needed"):
            run("replay", short, *told, *judge)


def test_a_model_learned_live_judges_a_recording_of_its_sensor(plant: Path) -> None:
    assert run("learn", plant).exit_code == 0
    model = plant.parent / "models" / "pump"
    told = ("--window-s", "0.1", "--speed-rpm", "1480", "--json")
    judged = run("replay", plant.parent / "healthy.npz", "--model", model, *told)
    assert judged.exit_code == 0, judged.output
    assert '"worst_state":"normal"' in judged.output.replace(" ", "")
    assert (
        run("replay", plant.parent / "healthy.npz", "--model", model, "--sensor", "de", *told).exit_code == 0
    )
    with pytest.raises(ModelError, match=r"--sensor"):
        run("replay", plant.parent / "healthy.npz", "--model", model, "--sensor", "nde", *told)


def test_a_dead_sensor_in_a_recording_is_told_as_one(plant: Path) -> None:
    stuck = npz(plant.parent, x=np.full(128000, 0.5), sample_rate_hz=12800.0, unit="g")
    with pytest.raises(ModelError, match="Look at the sensor, its cable and its mount"):
        run("replay", stuck, "--group", "2", "--support", "rigid", "--window-s", "0.1")


def test_rolling_back_without_a_previous_model_says_so(plant: Path) -> None:
    assert run("learn", plant).exit_code == 0
    with pytest.raises(ModelError, match="there is no previous model to go back to"):
        run("models", "rollback", plant)


# recordings


def test_an_array_of_velocity_is_not_taken_for_times(tmp_path: Path) -> None:
    recording = load_recording(npz(tmp_path, velocity_mm_s=X, start_utc_s=X, sample_rate_hz=5000.0))
    assert recording.unit == "mm_s"


def test_the_axes_of_an_npz_are_those_it_names(tmp_path: Path) -> None:
    two = np.stack([X, X])
    of_all = npz(tmp_path, a=two, sample_rate_hz=5000.0, unit="g", axes="axial,radial")
    assert load_recording(of_all).axes == ("axial", "radial")
    each = npz(
        tmp_path, a=two, b=X[None], sample_rate_hz=5000.0, unit="g", axes=np.array(["axial,radial", "z"])
    )
    assert load_recording(each, variable="a").axes == ("axial", "radial")
    assert load_recording(each, variable="b").axes == ("z",)
    assert load_recording(npz(tmp_path, a=two, sample_rate_hz=5.0, unit="g", axes="z")).axes == ("x", "y")


def test_what_is_exported_is_replayed_with_its_own_axes(tmp_path: Path) -> None:
    stamp = SystemClock().stamp()
    buffer = pdm.Buffer(tmp_path / "b.db", gateway="gw", clock=SystemClock())
    for sensor, axes in (("de", ("y", "z")), ("nde", ("z",))):
        samples = np.ones((len(axes), 512), dtype=np.float32)
        buffer.write([pdm.Waveform(sensor, samples, 5000.0, "g", axes, stamp)])
    buffer.close()
    out = tmp_path / "out.npz"
    assert export_npz(tmp_path / "b.db", out) == 2
    with np.load(out) as archive:
        assert abs(archive["start_utc_s"][0] - time.time()) < 3600
        names = [name for name in archive.files if name.startswith(("de_", "nde_"))]
    assert [load_recording(out, variable=name).axes for name in names] == [("y", "z"), ("z",)]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("x;y\n0,25;1,5\n", "writes numbers with decimal commas. Write them with a point"),
        ("x,y\n1,2\n1,2\n3\n4,5\n", "line 4: has 1 of 2 cells. Mend or remove that line"),
        ("x,y\n1,2\n1,2\n3", "line 4: has 1 of 2 cells. Is the file cut short?"),
        ("x,y\n1,2\n1,-\n3,4\n", "line 3: 'y' is '-', no number. Mend or remove that line"),
    ],
)
def test_a_csv_that_cannot_be_read_is_told_by_its_line(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "r.csv"
    file.write_text(text)
    with pytest.raises((ConfigError, SourceError)) as caught:
        load_recording(file, sample_rate_hz=100.0, unit="g", variable="y")
    assert says in str(caught.value)


def test_a_wav_of_floats_is_told_as_one(tmp_path: Path) -> None:
    from scipy.io import wavfile

    wavfile.write(tmp_path / "r.wav", 5000, X.astype(np.float32))
    with pytest.raises(SourceError, match=r"no whole numbers.*Save it as PCM"):
        load_recording(tmp_path / "r.wav", unit="g")
    with wave.open(str(tmp_path / "cut.wav"), "wb") as stream:
        stream.setparams((1, 2, 5000, 0, "NONE", ""))
        stream.writeframes(X.astype("<i2").tobytes())
    (tmp_path / "cut.wav").write_bytes((tmp_path / "cut.wav").read_bytes()[:20])
    with pytest.raises(SourceError, match="Is it cut short"):
        load_recording(tmp_path / "cut.wav", unit="g")


def test_readings_in_real_time_take_their_time(tmp_path: Path) -> None:
    file = tmp_path / "r.csv"
    file.write_text("t\n" + "1\n" * 20)
    url = f"replay://{file}?columns=t:degc&sample_rate_hz=40"
    before_s = time.monotonic()
    assert len(play(open_source(url, clock=FixedClock(), sensor="s"))) == 20
    at_once_s = time.monotonic() - before_s
    before_s = time.monotonic()
    assert len(play(open_source(f"{url}&realtime=1", clock=SystemClock(), sensor="s"))) == 20
    assert at_once_s < 0.4 < time.monotonic() - before_s


def test_a_column_that_names_no_quantity_is_refused_once(tmp_path: Path) -> None:
    file = tmp_path / "r.csv"
    file.write_text("Température\n1\n", encoding="utf-8")
    url = f"replay://{file}?columns=Température:degc&sample_rate_hz=1"
    with pytest.raises(ConfigError, match=r"column 'Température' names no quantity.*Rename it"):
        open_source(url, clock=FixedClock(), sensor="s")


# configuration


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("batch_rows = 0", "sync.batch_rows: batch_rows is 0: nothing would be sent"),
        ("timeout_s = 0.0", "timeout_s is 0"),
    ],
)
def test_a_sync_that_could_send_nothing_is_refused(line: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(f'{GATEWAY}{MACHINE}{STORE}[sync]\nurl = "http://h"\n{line}\n')
    assert says in str(caught.value)


def test_a_port_that_cannot_be_is_refused() -> None:
    for table in ('[sync]\nurl = "http://h:99999"\n', '[modbus_server]\nurl = "modbus+tcp://h:99999"\n'):
        with pytest.raises(ConfigError, match="Port out of range"):
            parse_config(f"{GATEWAY}{MACHINE}{STORE}{table}")
    with pytest.raises(ConfigError, match=r"sync\.url: .*Port out of range"):
        open_uploader("mqtt://h:99999", gateway="gw")


def modbus(*sources: str) -> str:
    register = 'quantity = "t"\nunit = "degc"\naddress = 0\ntype = "int16"\ntable = "input"\n'
    sensors = "".join(
        f'[[machine.sensor]]\nid = "s{i}"\nsource = "{source}"\n[[machine.sensor.register]]\n{register}'
        for i, source in enumerate(sources)
    )
    return f'{GATEWAY}[[machine]]\nid = "pump"\n{sensors}{STORE}'


def test_one_port_is_one_line_however_its_options_are_ordered() -> None:
    port = "modbus+rtu:///dev/ttyUSB0"
    config = parse_config(
        modbus(
            f"{port}?baud=9600&parity=N&device=1",
            f"{port}?device=2&parity=N&baud=9600",
            f"{port}1?baud=19200&device=1",
        )
    )
    assert [len(sensors) for sensors in lines_of(config).values()] == [2, 1]


def test_one_port_with_two_settings_is_refused() -> None:
    port = "modbus+rtu:///dev/ttyUSB0"
    with pytest.raises(ConfigError, match=r"'s0' and 's1' open /dev/ttyUSB0 differently"):
        parse_config(modbus(f"{port}?baud=9600&device=1", f"{port}?baud=19200&device=2"))


def test_a_monitor_that_cannot_be_opened_leaves_no_port_taken(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    np.savez(tmp_path / "healthy.npz", x=X, sample_rate_hz=5000.0, unit="g")
    (tmp_path / "gw.db").write_bytes(b"no buffer at all" * 300)
    text = f'{GATEWAY}{MACHINE}{STORE}[modbus_server]\nurl = "modbus+tcp://127.0.0.1:{port}"\n'
    for _ in range(2):
        with pytest.raises(pdm.StoreError):
            pdm.Monitor.from_config(parse_config(text, base=str(tmp_path)))
        with socket.create_server(("127.0.0.1", port)):
            pass
    text = text.replace('"gw.db"', '"other.db"')
    with socket.create_server(("127.0.0.1", port)), pytest.raises(pdm.PdmError):
        pdm.Monitor.from_config(parse_config(text, base=str(tmp_path)))
    with pdm.Monitor.from_config(parse_config(text, base=str(tmp_path))) as monitor:
        assert list(monitor) == []


# runtimes


def test_a_runtime_that_is_not_there_is_told_beside_those_that_are() -> None:
    missing = set(RUNTIMES) - set(installed_runtimes())
    assert missing
    for name in missing:
        with pytest.raises(ModelError, match=f"runtime {name}: .*Working here: {installed_runtimes()[0]}"):
            TfliteModel(b"", runtime=name)


# the public names


def test_what_can_be_imported_is_listed() -> None:
    listed: Any = dir(pdm)
    assert {"Monitor", "load_config", "AlarmState", "Measurement"} <= set(listed)
    assert all(getattr(pdm, name) is not None for name in pdm.__all__)
