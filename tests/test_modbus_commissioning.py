"""Commissioning: probe finds, recognises and shows what is on a line; size tells what a plan needs."""

from __future__ import annotations

import json
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner
from modbus_peers import Arrivals, BadLine, RtuLine, TcpServer

from pdm_edge.acquire.modbus_probe import is_plausible, views
from pdm_edge.acquire.modbus_url import line_settings
from pdm_edge.acquire.registers import Block
from pdm_edge.cli import cli
from pdm_edge.clock import SystemClock
from pdm_edge.config_file import parse_config
from pdm_edge.errors import ConfigError
from pdm_edge.records import Reading
from pdm_edge.sizing import request_s, size_of
from pdm_edge.wiring import open_sources

# ATR144: device type 473, 85.3 degC. Beside it a float 1480.5 with its words swapped.
LOW_FIRST = struct.unpack(">HH", struct.pack(">f", 1480.5))[::-1]
ATR144 = {0: 473, 1000: 853, 1003: 0, **dict(enumerate(LOW_FIRST, start=200))}


@pytest.fixture
def atr144(node_modules: Path) -> Iterator[TcpServer]:
    server = TcpServer(node_modules, "map.js")
    server.arguments = [json.dumps({"holding": ATR144, "input": {}})]
    server.start()
    yield server
    server.kill()


def probe(*arguments: str) -> tuple[int, list[dict[str, object]], str]:
    done = CliRunner().invoke(cli, ["probe", "--json", "--pause-ms", "0", *arguments])
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    return done.exit_code, [json.loads(line) for line in lines], done.output


def test_a_device_is_found_recognised_and_written_down(atr144: TcpServer, tmp_path: Path) -> None:
    rows = tmp_path / "rows.toml"
    code, told, _ = probe(atr144.url, "--ids", "5", "--rows", str(rows))
    assert code == 0
    assert {"found": 5, "how": "answers", "url": atr144.url} in told
    matches = [line for line in told if "profile" in line]
    assert (matches[0]["profile"], matches[0]["sure"]) == ("pixsys-atr144", True)
    assert matches[0]["values"] == [["temperature", "degc", pytest.approx(85.3)]]
    text = rows.read_text()
    assert f"{atr144.url}?device=5" in text
    config = f'[gateway]\nid="g"\n[[machine]]\nid="m"\n{text}\n[store]\npath="x.db"\n'
    (sensor,) = parse_config(config).machine[0].sensor
    assert sensor.profile == "pixsys-atr144"


def test_a_register_is_shown_in_every_order_and_the_likely_one_is_marked(atr144: TcpServer) -> None:
    code, told, _ = probe(atr144.url, "--ids", "5", "--at", "200", "--count", "2")
    assert code == 0
    floats = {str(v["letters"]): v for v in told if v.get("type") == "float32"}
    assert set(floats) == {"ABCD", "CDAB", "BADC", "DCBA"}
    assert floats["CDAB"]["value"] == 1480.5
    assert [letters for letters, view in floats.items() if view["plausible"]] == ["CDAB"]


def test_a_single_register_is_marked_once(atr144: TcpServer) -> None:
    _, told, _ = probe(atr144.url, "--ids", "5", "--at", "1000", "--count", "1")
    marked = [(v["type"], v["letters"], v["value"]) for v in told if v.get("plausible")]
    assert marked == [("int16", "AB", 853)]


def test_a_number_of_a_manual_gets_the_address_that_is_meant(atr144: TcpServer) -> None:
    _, _, output = probe(atr144.url, "--ids", "5", "--at", "41001", "--count", "1")
    assert "if that is a number in a manual, ask --at 1000" in output


def test_refused_registers_are_left_out_of_the_view(atr144: TcpServer) -> None:
    _, told, _ = probe(atr144.url, "--ids", "5", "--at", "199", "--count", "4")
    assert {v["address"] for v in told if "address" in v} == {200, 201}


def test_a_serial_line_is_scanned_and_its_device_found(rtu: RtuLine) -> None:
    url = f"modbus+rtu://{rtu.near}?baud=19200"
    code, told, _ = probe(url, "--ids", "1-3", "--at", "10", "--count", "2", "--table", "input")
    assert code == 0
    assert [line["found"] for line in told if "found" in line] == [1]
    assert any(v.get("type") == "float32" and v.get("value") == 1.5 and v["plausible"] for v in told)


def test_without_a_rate_the_usual_ones_are_tried(rtu: RtuLine) -> None:
    """A pseudo terminal has no rate, so the first one finds the device, and the search ends."""
    code, told, output = probe(f"modbus+rtu://{rtu.near}", "--ids", "1")
    assert code == 0
    assert "baud=9600&parity=N" in str(told[0]["url"])
    assert output.count("asking") == 1


def test_nobody_there_is_exit_status_2_with_advice(tcp: TcpServer) -> None:
    code, told, output = probe(tcp.url, "--ids", "7,9")
    assert (code, told) == (2, [])
    assert "Check A/B wiring" in output
    assert "--wait-ms 1000" in output


@pytest.mark.parametrize("ids", ["x", "1-", "0-300"])
def test_ids_that_cannot_be_are_refused(ids: str) -> None:
    done = CliRunner().invoke(cli, ["probe", "modbus+tcp://127.0.0.1", "--ids", ids])
    assert done.exit_code == 2


def test_the_wrong_order_of_a_float_is_rarely_plausible() -> None:
    words = struct.unpack(">HH", struct.pack(">f", 61.37))
    marked = {v.letters for v in views(dict(enumerate(words))) if v.type == "float32" and v.plausible}
    assert "ABCD" in marked
    assert "CDAB" not in marked
    assert not is_plausible("float32", float("nan"))
    assert not is_plausible("int32", 0)


SIZE = """
[gateway]
id = "g"
[[machine]]
id = "pump"
iso20816 = { group = 2, support = "rigid" }
[[machine.sensor]]
id = "de"
source = "serial:///dev/ttyACM0?baud=921600"
[[machine.sensor]]
id = "t"
source = "modbus+rtu:///dev/ttyUSB1?baud=9600&device=3"
profile = "isma-sfar-s-6ti"
[store]
path = "x.db"
max_mb = 100
"""


def test_a_plan_is_sized_from_line_to_upload() -> None:
    size = size_of(parse_config(SIZE), sample_rate_hz=5000, n_axes=1)
    serial, modbus = size.lines
    assert serial.values_s == 5000
    assert serial.use == pytest.approx(5000 * 2.1 * 10 / 921600)
    # One request of six registers a second: 8 and 17 characters of 10 bits, silence and turnaround.
    wire_s = 3.5 * 11 / 9600 + 25 * 10 / 9600 + 0.01
    assert modbus.use == pytest.approx(wire_s)
    assert (modbus.requests_s, modbus.values_s, modbus.devices) == (1, 6, 1)
    (machine,) = size.machines
    assert machine.windows_s == 1
    assert machine.features > 6
    assert 0 < size.cpu < 1
    assert size.stored_bytes_day > size.sent_bytes_day > 86400
    assert size.days_offline == pytest.approx(100e6 / size.stored_bytes_day)


def test_a_rate_that_is_needed_and_not_given_is_asked_for() -> None:
    with pytest.raises(ConfigError, match="--sample-rate"):
        size_of(parse_config(SIZE))


def test_an_overloaded_line_is_told_and_is_exit_status_1(tmp_path: Path) -> None:
    file = tmp_path / "m.toml"
    slow = SIZE.replace("baud=9600", "baud=1200").replace('profile = "isma', 'poll_s = 0.1\nprofile = "isma')
    file.write_text(slow)
    done = CliRunner().invoke(cli, ["size", str(file), "--sample-rate", "1000", "--json"])
    assert done.exit_code == 1
    rows = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    modbus = next(row for row in rows if row.get("kind") == "modbus")
    assert modbus["use"] > 1
    assert "raise poll_s" in modbus["note"]
    assert [row["record"] for row in rows] == ["line", "line", "machine", "total"]


BURSTS = """
[gateway]
id = "g"
[[machine]]
id = "pump"
window_s = 1.0
[[machine.sensor]]
id = "de"
source = "modbus+rtu:///dev/ttyUSB1?baud=9600&parity=E&device=3"
burst = { every_s = 60 }
[store]
path = "x.db"
"""


def test_the_line_time_of_bursts_is_counted() -> None:
    """8,192 samples of one axis are 68 pages of 263 characters: 22 s of 60 at 9600 Bd 8E1 (BURST.md)."""
    config = parse_config(BURSTS)
    size = size_of(config, sample_rate_hz=8192, burst_samples=8192, turnaround_s=0.005)
    (line,) = size.lines
    assert line.burst_use == line.use == pytest.approx(22 / 60, rel=0.03)
    assert line.slowest_burst_s == pytest.approx(23, abs=0.6)
    assert line.devices == 1
    assert "1 x 8192 samples" in line.note
    (machine,) = size.machines
    assert machine.windows_s == pytest.approx(1 / 60)
    assert machine.samples_s == pytest.approx(8192 / 60)
    by_fifo = parse_config(BURSTS.replace("every_s = 60", "every_s = 60, fifo = true"))
    slower = size_of(by_fifo, sample_rate_hz=8192, burst_samples=8192, turnaround_s=0.005).lines[0]
    assert 1 < slower.burst_use / line.burst_use < 1.5
    chunk_s = (76 * 11 + 2 * 3.5 * 11) / 9600 + 0.005  # 6 and 70 characters, two silences, turnaround
    assert slower.burst_use * 60 == pytest.approx((8192 / 29 + 4) * chunk_s, rel=0.01)


def test_a_burst_that_takes_longer_than_its_time_is_told() -> None:
    size = size_of(parse_config(BURSTS), sample_rate_hz=25600, n_axes=3)
    (line,) = size.lines
    assert line.use is not None
    assert line.use > 1
    assert "longer than its every_s" in line.note
    assert "raise every_s" in line.note


def test_a_machine_of_scalars_gets_a_vector_a_window_however_often_it_is_polled() -> None:
    config = parse_config(SIZE.replace('id = "pump"', 'id = "pump"\nwindow_s = 5.0', 1))
    only = msgspec.structs.replace(config.machine[0], sensor=config.machine[0].sensor[1:])
    polled = size_of(msgspec.structs.replace(config, machine=(only,))).machines[0]
    assert polled.windows_s == pytest.approx(0.2, rel=0.1)


def test_line_use_is_what_a_line_of_that_speed_shows(bad_rtu: BadLine) -> None:
    """libmodbus behind a line whose replies come when their bytes could have come, against the plan."""
    baud, turnaround_s, busy_s = 9600, 0.02, 0.0
    url = bad_rtu.url.replace("19200", str(baud)) + "&device=1"
    rows = "".join(
        f'[[machine.sensor.register]]\nquantity="q{a}"\nunit="1"\naddress={a}\ntype="uint16"\ntable="input"\n'
        for a in (0, 5, 9)
    )
    text = f'''[gateway]
id = "g"
[[machine]]
id = "m"
[[machine.sensor]]
id = "s"
source = "{url}"
poll_s = 0.4
{rows}
[store]
path = "x.db"
'''
    config = parse_config(text)
    settings = line_settings(url)

    def paced(reply: bytes) -> Arrivals:
        nonlocal busy_s
        takes_s = settings.wire_s(8 + len(reply)) + turnaround_s
        busy_s += settings.turnaround_s + takes_s
        return [(takes_s, reply)]

    bad_rtu.fault = paced
    (line,) = size_of(config, turnaround_s=turnaround_s).lines
    (source,), _ = open_sources(config, SystemClock())
    n_values = 0
    try:
        started_s = time.monotonic()
        while time.monotonic() < started_s + 6:
            n_values += sum(isinstance(item, Reading) for item in source.read(0.05))
        took_s = time.monotonic() - started_s
    finally:
        source.close()
    assert line.use == pytest.approx(busy_s / took_s, rel=0.15)
    assert line.values_s == pytest.approx(n_values / took_s, rel=0.15)
    assert line.requests_s == pytest.approx(bad_rtu.replies / took_s, rel=0.15)


def test_request_times_are_those_of_the_wire() -> None:
    """A read of 125 registers at 9600 Bd 8E1: 263 characters of 11 bits are 301 ms."""
    settings = line_settings("modbus+rtu:///dev/x?baud=9600&parity=E")
    block = Block("holding", 0, 125, ())
    assert request_s(settings, block, 0.0) == pytest.approx((8 + 255) * 11 / 9600 + 3.5 * 11 / 9600)
    assert request_s(line_settings("modbus+tcp://10.0.0.1"), block, 0.005) == 0.005


def test_the_help_of_each_command_names_its_exit_status(require_tool: Callable[[str, str], str]) -> None:
    for name in ("probe", "size"):
        assert "exit status" in CliRunner().invoke(cli, [name, "--help"]).output
