"""Configuration errors name the file, the key and the mend."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pdm_edge.config_file import load_config, parse_config
from pdm_edge.errors import ConfigError

GOOD = """
[gateway]
id = "plant1-gw3"

[[machine]]
id = "pump-7"
rated_speed_rpm = 1480
iso20816 = { group = 2, support = "rigid" }

[[machine.sensor]]
id = "drive-end-h"
source = "serial:///dev/ttyACM0?baud=921600"
bearing = { designation = "6205" }

[[machine.sensor]]
id = "drive-end-temp"
source = "modbus+rtu:///dev/ttyUSB1?baud=19200&device=4"

[[machine.sensor.register]]
quantity = "temperature"
unit = "degc"
address = 0
type = "int16"
table = "input"
scale = 0.1

[store]
path = "pump-7.db"

[sync]
url = "http://127.0.0.1:8080/v1/batches"
"""


def test_a_good_file_is_read_and_paths_start_from_it(tmp_path: Path) -> None:
    file = tmp_path / "machine.toml"
    file.write_text(GOOD)
    config = load_config(file)
    machine = config.machine[0]
    assert machine.sensor[0].is_waveform
    assert not machine.sensor[1].is_waveform
    assert machine.sensor[1].scalars[0].unit == "degc"
    assert config.path(config.store.path) == tmp_path / "pump-7.db"
    bearing = machine.sensor[0].bearing
    assert bearing is not None
    assert bearing.geometry().balls == 9


@pytest.mark.parametrize(
    ("written", "rolling_elements"),
    [
        ('{ designation = "6205-2RS" }', 9),
        ('{ designation = "NU 206 ECP" }', 13),
        ('{ designation = "6210", balls = 10 }', 10),
        ("{ bpfo_order = 6.1852, bpfi_order = 8.8148, bsf_order = 2.7015 }", 15),
        ('{ designation = "made-up", bpfo_order = 8.02, bpfi_order = 10.98 }', 19),
        ("{ balls = 8, ball_diameter_mm = 7.9, pitch_diameter_mm = 34.5 }", 8),
    ],
)
def test_a_bearing_is_said_in_any_of_these_ways(tmp_path: Path, written: str, rolling_elements: int) -> None:
    file = tmp_path / "machine.toml"
    file.write_text(GOOD.replace('{ designation = "6205" }', written))
    bearing = load_config(file).machine[0].sensor[0].bearing
    assert bearing is not None
    assert bearing.geometry().balls == rolling_elements


@pytest.mark.parametrize(
    ("written", "says"),
    [
        ("{ bpfo_order = 3.58 }", "bpfo_order and bpfi_order together"),
        ("{ bpfo_order = 3.58, bpfi_order = 5.42, balls = 9 }", "no geometry beside them"),
        ("{ bpfo_order = 90.0, bpfi_order = 135.3 }", "not an order of the shaft"),
        ('{ designation = "22220" }', "as the maker publishes them"),
        ('{ designation = "6309 C3" }', "Name one of 6309-NTN, 6309-TIMKEN"),
        ('{ designation = "ER16K", balls = 8 }', "ER16K of the catalogue has 9 rolling elements, 8 were"),
        ('{ designation = "6804" }', "'6804' is not in the catalogue"),
        ('{ designation = "6205", contact_angle_deg = 15 }', "counts only beside"),
        ('{ designation = "NU310", balls = 13 }', "no boundary dimensions for 'NU310'"),
        ("{ balls = 8 }", "bpfo_order and bpfi_order, or balls"),
        ("{ bpfo = 3.58 }", "'bpfo'"),
    ],
)
def test_a_bearing_that_is_not_told_is_refused_with_the_mend(tmp_path: Path, written: str, says: str) -> None:
    file = tmp_path / "machine.toml"
    file.write_text(GOOD.replace('{ designation = "6205" }', written))
    with pytest.raises(ConfigError, match=re.escape(says)):
        load_config(file)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("rated_speed_rpm", "rated_sped_rpm"), ["machine[0]", "'rated_sped_rpm'", "mean 'rated_speed_rpm'"]),
        (("rated_speed_rpm = 1480", 'rated_speed_rpm = "fast"'), ["machine[0].rated_speed_rpm", "got `str`"]),
        (('unit = "degc"\n', ""), ["register[0]", "'unit' is missing", "not guessed"]),
        (('unit = "degc"', 'unit = ""'), ["drive-end-temp", "empty unit"]),
        (("group = 2", "group = 3"), ["iso20816.group", "3"]),
        ((', support = "rigid"', ""), ["iso20816", "'support' is missing"]),
        (('"6205"', '"9999"'), ["'9999' is not in the catalogue", "pitch_diameter_mm"]),
        (("rated_speed_rpm = 1480\n", ""), ["bearing lines need the speed"]),
        (('id = "pump-7"', 'id = "pump/7"'), ["'pump/7' is not a usable id"]),
        (('id = "drive-end-temp"', 'id = "drive-end-h"'), ["'drive-end-h' is used twice"]),
        (("[[machine.sensor.register]]", "[[machine.sensor.registers]]"), ["'registers'", "mean 'register'"]),
        (('path = "pump-7.db"', ""), ["store", "'path' is missing"]),
        (("[store]", "base = 1\n[store]"), ["'base'"]),
        (("speed_rpm = 1480", "speed_rpm = -1480"), ["machine[0].rated_speed_rpm", "> 0"]),
        (("speed_rpm = 1480", "speed_rpm = nan"), ["machine: rated_speed_rpm", "is nan", "finite"]),
        (("[[machine.sensor]]", "window_s = inf\n[[machine.sensor]]"), ["machine: window_s", "is inf"]),
        (("[[machine.sensor]]", "window_s = 1e9\n[[machine.sensor]]"), ["machine[0].window_s", "<= 3600"]),
        (("scale = 0.1", "scale = 0"), ["'temperature'", "scale is 0"]),
        (("scale = 0.1", "minimum = 9\nmaximum = 1"), ["minimum 9 is above maximum 1"]),
        (("address = 0", "address = -1"), ["register[0].address", ">= 0"]),
        (('bearing = { designation = "6205" }', "writable = [3]"), ["writable", "modbus"]),
        (('bearing = { designation = "6205" }', "envelope_band_hz = [4000, 500]"), ["4000 to 500"]),
        (('bearing = { designation = "6205" }', "full_scale = -2"), ["full_scale", "> 0"]),
        (("[gateway]", "[gateway"), ["is not TOML"]),
    ],
)
def test_a_mistake_is_told_with_place_and_mend(change: tuple[str, str], says: list[str]) -> None:
    text = GOOD.replace(*change)
    assert text != GOOD
    with pytest.raises(ConfigError) as caught:
        parse_config(text, where="machine.toml")
    message = str(caught.value)
    assert message.startswith("machine.toml")
    for part in says:
        assert part in message


def test_two_values_of_one_name_are_refused_since_their_mean_is_neither() -> None:
    row = GOOD[GOOD.index("[[machine.sensor.register]]") : GOOD.index("[store]")]
    with pytest.raises(ConfigError, match="quantity id 'temperature' is used twice"):
        parse_config(GOOD.replace(row, row + row.replace("address = 0", "address = 1")))


def test_a_modbus_sensor_without_registers_is_refused() -> None:
    text = GOOD[: GOOD.index("[[machine.sensor.register]]")] + '[store]\npath = "x.db"\n'
    with pytest.raises(ConfigError, match="reads nothing"):
        parse_config(text)


def test_a_missing_file_is_a_config_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(tmp_path / "absent.toml")
