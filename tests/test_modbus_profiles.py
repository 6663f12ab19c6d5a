"""Profiles: each names its document, decodes that document's examples, and reads from a real server."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from modbus_peers import TcpServer, opened, poll

from pdm_edge.acquire.modbus_frames import read_request, rtu_frame
from pdm_edge.acquire.profiles import FOLDER, Profile, all_profiles, load_profile, read_profile
from pdm_edge.acquire.registers import blocks
from pdm_edge.cli import cli
from pdm_edge.config_file import parse_config
from pdm_edge.errors import ConfigError

PROFILES = {profile.id: profile for profile in all_profiles()}

OWN = """
id = "our-sensor"
vendor = "Us"
device = "prototype"
[document]
title = "our list"
revision = "1"
seen = ["here"]
[[register]]
quantity = "temperature"
unit = "degc"
address = 7
type = "int16"
table = "input"
scale = 0.5
stated = "7"
[[example]]
quantity = "temperature"
words = [3]
value = 1.5
"""

CONFIG = """
[gateway]
id = "g"
[[machine]]
id = "m"
[[machine.sensor]]
id = "s"
source = "modbus+tcp://127.0.0.1:502?device=1"
profile = "NAME"
[store]
path = "x.db"
"""


@pytest.mark.parametrize("profile", PROFILES.values(), ids=PROFILES)
def test_a_profile_names_its_document_and_decodes_its_examples(profile: Profile) -> None:
    assert profile.document.title
    assert profile.document.revision
    assert profile.document.seen
    assert all(row.stated for row in profile.register)
    for example in profile.example:
        (register,) = profile.registers("s", 1, [example.quantity])
        value, quality = register.decode(example.words)
        if example.value is None:
            assert quality.level == "bad"
        else:
            assert quality.level == "good"
            assert value == pytest.approx(example.value, rel=1e-9)


def test_every_temperature_has_an_example_and_a_range() -> None:
    for profile in PROFILES.values():
        assert any("temperature" in example.quantity for example in profile.example), profile.id
        for row in profile.register:
            if row.quantity == "temperature":
                assert row.minimum is not None, profile.id
                assert row.maximum is not None, profile.id


FRAMES = [  # profile, quantities, and the request that the vendor's document prints for them
    ("witmotion-wtvb01-485-sdk", ["velocity_x", "velocity_y", "velocity_z"], "50 03 00 3A 00 03 28 47"),
    ("witmotion-wtvb01-485-sdk", ["temperature"], "50 03 00 40 00 01 88 5F"),
    (
        "witmotion-wtvb01-485-sdk",
        ["displacement_x", "displacement_y", "displacement_z"],
        "50 03 00 41 00 03 58 5E",
    ),
    ("witmotion-wtvb01-485-sdk", ["frequency_x", "frequency_y", "frequency_z"], "50 03 00 44 00 03 48 5F"),
]


@pytest.mark.parametrize(("name", "quantities", "frame"), FRAMES)
def test_a_profile_asks_as_its_document_does(name: str, quantities: list[str], frame: str) -> None:
    profile = PROFILES[name]
    assert profile.line.device is not None
    registers = profile.registers("s", profile.line.device, quantities)
    (block,) = blocks(registers, max_words=profile.max_words, merge_gap=profile.merge_gap)
    asked = rtu_frame(profile.line.device, read_request(block.table, block.address, block.count).pdu)
    assert asked == bytes.fromhex(frame)


def test_a_vibration_sensor_is_read_in_metric_units_with_every_value_in_a_range() -> None:
    measuring = {id for id, p in PROFILES.items() if any(r.unit == "mm_s" for r in p.register)}
    assert measuring >= {"banner-qm30vt2", "witmotion-wtvb02-485", "witmotion-wtvb01-485", "bestsens-bemos"}
    for id in measuring:
        for row in PROFILES[id].register:
            assert row.minimum is not None, (id, row.quantity)
            assert row.maximum is not None, (id, row.quantity)
            if "rms" in row.quantity and not row.extra:
                assert row.unit in ("mm_s", "g"), (id, row.quantity)


def test_metric_and_other_units_of_a_banner_sensor_say_the_same() -> None:
    """What one real QM30VT2 sent: 21.96 degC and 71.53 degF at the same time."""
    profile = PROFILES["banner-qm30vt2"]
    celsius, _ = profile.registers("s", 1, ["temperature"])[0].decode([2196])
    fahrenheit, _ = profile.registers("s", 1, ["temperature_f"])[0].decode([7153])
    assert fahrenheit == pytest.approx(celsius * 1.8 + 32, abs=0.01)


def test_eight_rtd_inputs_are_read_by_one_request() -> None:
    """Channels 1 to 8 at 68H to 6FH, as the vendor's table has them."""
    profile = PROFILES["comwintop-cwt-tm-8pt"]
    (block,) = blocks(profile.registers("s", 1), max_words=profile.max_words, merge_gap=profile.merge_gap)
    assert (block.table, block.address, block.count) == ("holding", 0x68, 8)


class MapServer(TcpServer):
    """Serves the given registers."""

    def __init__(self, folder: Path, tables: dict[str, dict[int, int]]) -> None:
        super().__init__(folder, "map.js")
        self.arguments = [json.dumps(tables)]


@pytest.fixture
def serve(node_modules: Path) -> Iterator[Callable[[dict[str, dict[int, int]]], str]]:
    servers: list[MapServer] = []

    def start(tables: dict[str, dict[int, int]]) -> str:
        servers.append(MapServer(node_modules, tables))
        servers[-1].start()
        return servers[-1].url

    yield start
    for server in servers:
        server.kill()


def test_every_profile_is_read_from_a_server_that_holds_only_its_registers(
    serve: Callable[[dict[str, dict[int, int]]], str],
) -> None:
    for profile in PROFILES.values():
        tables: dict[str, dict[int, int]] = {"holding": {}, "input": {}}
        expected: dict[str, float] = {}
        for row in profile.register:
            for n in range(profile.registers("s", 1, [row.quantity])[0].words):
                tables[row.table].setdefault(row.address + n, 0)
        for example in profile.example:
            (register,) = profile.registers("s", 1, [example.quantity])
            tables[register.table].update({register.address + n: w for n, w in enumerate(example.words)})
        for register in profile.registers("s", 1):
            words = [tables[register.table][register.address + n] for n in range(register.words)]
            expected[register.quantity] = register.decode(words)[0]
        with opened(serve(tables), list(profile.registers("s", 1))) as source:
            n_registers = len(profile.registers("s", 1))
            got = poll(source, lambda got, n=n_registers: len(got) >= n)  # type: ignore[misc]
            assert "exception_2" not in source.counters(), profile.id
        for reading in got:
            wanted = expected[reading.quantity]
            assert reading.value == wanted or (math.isnan(reading.value) and math.isnan(wanted)), profile.id


def test_a_configuration_names_a_profile_and_gets_its_registers() -> None:
    sensor = parse_config(CONFIG.replace("NAME", "pixsys-atr144")).machine[0].sensor[0]
    assert [(r.quantity, r.unit, r.address) for r in sensor.register] == [("temperature", "degc", 1000)]
    assert sensor.max_words == 50
    assert not sensor.is_waveform


def test_take_chooses_also_among_the_extra_ones() -> None:
    text = CONFIG.replace('profile = "NAME"', 'profile = "pixsys-atr144"\ntake = ["sensor_error"]')
    (row,) = parse_config(text).machine[0].sensor[0].register
    assert (row.quantity, row.bit) == ("sensor_error", 0)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('profile = "unheard-of"', "no profile 'unheard-of'"),
        ('profile = "pixsys-atr144"\ntake = ["speed"]', "no quantity 'speed'"),
        ('take = ["temperature"]', "take chooses from a profile"),
    ],
)
def test_a_mistake_with_a_profile_names_the_sensor_and_the_mend(line: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        parse_config(CONFIG.replace('profile = "NAME"', line))
    assert "sensor 's'" in str(caught.value)


@pytest.mark.parametrize(
    ("meant", "near"),
    [
        ("banner-qm42vt", "banner-qm30vt2"),
        ("wtvb01-485", "witmotion-wtvb01-485"),
        ("our-senzor", "our-sensor"),
    ],
)
def test_an_unknown_profile_is_answered_with_the_nearest_names(meant: str, near: str, tmp_path: Path) -> None:
    (tmp_path / "profiles").mkdir()
    (tmp_path / "profiles" / "our-sensor.toml").write_text("not even TOML: it must not hide the hint")
    with pytest.raises(ConfigError) as caught:
        parse_config(CONFIG.replace("NAME", meant), base=str(tmp_path))
    assert caught.value.mend is not None
    assert near in caught.value.mend
    assert f"{meant}.toml" in caught.value.mend


def test_a_name_near_to_nothing_gets_no_suggestion() -> None:
    with pytest.raises(ConfigError) as caught:
        load_profile("unheard-of")
    assert "Near names" not in str(caught.value)


@pytest.mark.parametrize("place", ["", "profiles"])
def test_own_profiles_stand_beside_the_configuration(place: str, tmp_path: Path) -> None:
    folder = tmp_path / place
    folder.mkdir(exist_ok=True)
    (folder / "our-sensor.toml").write_text(OWN)
    config = parse_config(CONFIG.replace("NAME", "our-sensor"), base=str(tmp_path))
    assert config.machine[0].sensor[0].register[0].scale == 0.5


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("our-sensor", "another"), "must agree"),
        (('type = "int16"', 'type = "int17"'), "int17"),
        (('unit = "degc"\n', ""), "unit"),
        (("scale", "skale"), "skale"),
        (('seen = ["here"]\n', ""), "seen"),
    ],
)
def test_a_broken_profile_names_file_and_fault(change: tuple[str, str], says: str, tmp_path: Path) -> None:
    file = tmp_path / "our-sensor.toml"
    file.write_text(OWN.replace(*change))
    with pytest.raises(ConfigError, match=says) as caught:
        read_profile(file)
    assert "our-sensor.toml" in str(caught.value)


def test_the_command_lists_one_line_each_and_shows_one(tmp_path: Path) -> None:
    (tmp_path / "profiles").mkdir()
    (tmp_path / "profiles" / "our-sensor.toml").write_text(OWN)
    done = CliRunner().invoke(cli, ["profiles", "--json", "--beside", str(tmp_path)])
    assert done.exit_code == 0
    rows = [json.loads(line) for line in done.output.splitlines()]
    assert {row["id"] for row in rows} == {*PROFILES, "our-sensor"}
    assert all(row["document"] and row["revision"] for row in rows)
    shown = CliRunner().invoke(cli, ["profiles", "comet-t33xx"])
    assert "IE-SNC-T33(4)11" in shown.output
    assert "holding 48 int16" in shown.output


def test_profiles_are_part_of_the_package() -> None:
    assert len(list(FOLDER.glob("*.toml"))) == len(PROFILES) >= 8
    assert load_profile("comet-t33xx").registers("s", 1)[0].address == 0x30
