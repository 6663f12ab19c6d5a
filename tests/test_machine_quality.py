"""What the self-check and the operating state do to a machine: judged only when it can be judged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from pdm_edge.config_file import parse_config
from pdm_edge.machine import Machine
from pdm_edge.records import Advisory, FeatureVector, Health, Reading, Record, Stamp, Waveform

RATE_HZ = 4096.0
CONFIG = """
[gateway]
id = "gw"
[store]
path = "x.db"
[[machine]]
id = "pump"
rated_speed_rpm = 1480
iso20816 = { group = 2, support = "rigid" }
detect = { learn_windows = 20 }
alarm = { stale_after_s = 10.0 }
[[machine.sensor]]
id = "de"
source = "serial:///dev/null?baud=115200"
[[machine.sensor]]
id = "tacho"
source = "serial:///dev/zero?baud=115200"
waveform = false
quantity = [{ quantity = "speed", unit = "rpm" }]
"""


def at(second: int) -> Stamp:
    return Stamp(second * 10**9, second * 10**9, "boot", True)


def machine(folder: Path) -> Machine:
    return Machine(parse_config(CONFIG).machine[0], models=folder)


def running(second: int) -> npt.NDArray[np.float64]:
    t = np.arange(4096) / RATE_HZ
    random = np.random.default_rng(second)
    return np.asarray(0.02 * np.sin(2 * np.pi * 24.67 * t + second) + 0.01 * random.standard_normal(4096))


def hum(second: int) -> npt.NDArray[np.float64]:
    """A torn cable shield: 50 Hz and odd harmonics, which would grade as zone D."""
    t = np.arange(4096) / RATE_HZ
    return running(second) + sum(np.sin(2 * np.pi * 50 * k * t) / k for k in (1, 3, 5, 7))


def feed(pump: Machine, second: int, x: npt.NDArray[np.float64], speed_rpm: float = 1478.0) -> list[Record]:
    out = pump.take(Reading("tacho", "speed", speed_rpm, "rpm", at(second)))
    waveform = Waveform(
        "de", x.astype(np.float32)[None, :], RATE_HZ, "g", ("x",), at(second), first_sample=second * 4096
    )
    return [*out, *pump.take(waveform), *pump.tick(at(second + 1))]


def advisories(records: list[Record]) -> list[str]:
    return [record.state for record in records if isinstance(record, Advisory)]


def test_a_cable_fault_never_becomes_a_machine_fault(tmp_path: Path) -> None:
    pump = machine(tmp_path)
    told = [state for s in range(30) for state in advisories(feed(pump, s, running(s)))]
    assert told == ["normal"]
    assert pump.status.zone in ("A", "B")
    told = [state for s in range(30, 36) for state in advisories(feed(pump, s, hum(s)))]
    assert told == [], "not an alarm"
    assert pump.status.note == "sensor 'de': mains"
    assert pump.status.operating == "unknown"
    told = [state for s in range(36, 50) for state in advisories(feed(pump, s, hum(s)))]
    assert told == ["unknown"], "and not healthy either: a person has to look"
    told = [state for s in range(50, 60) for state in advisories(feed(pump, s, running(s)))]
    assert told == ["normal"]
    assert pump.status.note == ""


def test_a_run_up_is_neither_learned_nor_judged(tmp_path: Path) -> None:
    pump = machine(tmp_path)
    speeds = [0.0, 500.0, 1000.0, 1480.0, 1480.0, 1480.0]
    vectors = [r for s, rpm in enumerate(speeds) for r in feed(pump, s, running(s), rpm)]
    states = [vector.state for vector in vectors if isinstance(vector, FeatureVector)]
    assert states == ["stopped", *["transient"] * 3, *["running 1480 rpm"] * 2]
    assert pump.status.learned == 2


def test_a_sensor_at_its_configured_full_scale_is_marked_clipped(tmp_path: Path) -> None:
    config = CONFIG.replace(
        'source = "serial:///dev/null?baud=115200"',
        'source = "serial:///dev/null?baud=115200"\nfull_scale = 2.0',
    )
    pump = Machine(parse_config(config).machine[0], models=tmp_path)
    x = running(0)
    x[100] = 2.0
    (vector,) = (record for record in feed(pump, 0, x) if isinstance(record, FeatureVector))
    assert vector.quality.reasons == ("clipped",)
    assert vector.quality.level == "uncertain"


def test_a_coarse_sensor_that_does_not_move_at_a_measured_standstill_is_no_fault(tmp_path: Path) -> None:
    pump = machine(tmp_path)
    still = np.full(4096, 0.031)
    vectors = [r for s in range(15) for r in feed(pump, s, still, speed_rpm=0.0)]
    assert {vector.state for vector in vectors if isinstance(vector, FeatureVector)} == {"stopped"}
    assert advisories(vectors) == []
    told = [r for s in range(15, 30) for r in feed(pump, s, still)]
    assert advisories(told) == ["unknown"], "while it turns, it is"


SCALAR = """
[gateway]
id = "gw"
[store]
path = "x.db"
[[machine]]
id = "pump"
window_s = 1.0
iso20816 = { group = 2, support = "rigid" }
detect = { learn_windows = 0 }
[[machine.sensor]]
id = "de"
source = "modbus+tcp://127.0.0.1?device=1"
profile = "banner-qm30vt2"
take = ["velocity_rms_z", "velocity_peak_z", "temperature"]
"""


def test_a_sensor_that_measures_velocity_itself_is_graded_too(tmp_path: Path) -> None:
    pump = Machine(parse_config(SCALAR).machine[0], models=tmp_path)
    records: list[Record] = []
    for second in range(12):
        # The peak is higher than the limit of zone D and must not be taken for an RMS value.
        for quantity, value, unit in (
            ("velocity_rms_z", 3.0, "mm_s"),
            ("velocity_peak_z", 30.0, "mm_s"),
            ("temperature", 40.0, "degc"),
        ):
            records += pump.take(Reading("de", quantity, value, unit, at(second)))
    (health, *_) = [r for r in records if isinstance(r, Health)]
    assert health.zone == "C"  # 2.8 to 4.5 mm/s, ISO 20816-3 group 2 rigid
    assert "3.00 mm/s RMS, the sensor's own band" in health.zone_basis
    assert pump.status.velocity_mm_s == 3.0


def test_the_zone_is_that_of_the_latest_window_and_of_none_when_nothing_is_heard(tmp_path: Path) -> None:
    pump = machine(tmp_path)
    for s in range(2):
        feed(pump, s, 20 * running(s))
    raised = pump.status.zone
    for s in range(2, 8):
        feed(pump, s, running(s))
    assert (raised, pump.status.zone) == ("D", "A")
    for s in range(8, 22):
        pump.tick(at(s))
    assert (pump.status.state, pump.status.zone) == ("unknown", None)


def test_a_shaft_that_turns_backwards_shows_the_same_lines(tmp_path: Path) -> None:
    config = CONFIG.replace("baud=115200", 'baud=115200"\nbearing = { designation = "6205" }#', 1)
    values = []
    for speed_rpm in (1478.0, -1478.0):
        pump = Machine(parse_config(config).machine[0], models=tmp_path)
        records = [r for s in range(4) for r in feed(pump, s, running(s), speed_rpm)]
        vector = [r for r in records if isinstance(r, FeatureVector)][-1]
        values.append({n: v for n, v in vector.as_dict().items() if n.startswith("de/")})
    assert any("bpfo" in name for name in values[0])
    assert values[0] == values[1]


def test_one_value_in_another_unit_does_not_stop_the_learning(tmp_path: Path) -> None:
    pump = machine(tmp_path)
    for s in range(10):
        feed(pump, s, running(s))
    pump.take(Reading("tacho", "speed", 24.6, "hz", at(10)))
    assert "'hz'" in pump.status.note
    told = [state for s in range(10, 30) for state in advisories(feed(pump, s, running(s)))]
    assert told == ["normal"]
    assert pump.status.note == ""
