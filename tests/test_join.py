"""One vector of a machine from several sensors: aligned, and honest about what is missing."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pdm_edge.features.join import ScalarSlot, VectorJoiner
from pdm_edge.records import GOOD, FeatureSchema, FeatureVector, Reading, Stamp, bad, uncertain

SCHEMA = FeatureSchema(("x/rms", "x/peak"), ("g", "g"))
TEMPERATURE = ScalarSlot("temp", "temperature", "degc", max_age_s=10.0)


def at(seconds_s: float) -> Stamp:
    return Stamp(round(seconds_s * 1e9), round(seconds_s * 1e9), "boot", True)


def reading(value: float, seconds_s: float, unit: str = "degc") -> Reading:
    quality = bad("stale") if math.isnan(value) else GOOD
    return Reading("temp", "temperature", value, unit, at(seconds_s), quality)


def window(joiner: VectorJoiner, sensor: str, value: float, seconds_s: float) -> list[FeatureVector]:
    values = np.array([value, 2 * value], dtype=np.float32)
    return joiner.add_features(sensor, SCHEMA, values, at(seconds_s), GOOD)


def test_a_vector_waits_for_all_sensors_and_names_them() -> None:
    joiner = VectorJoiner("pump", ["de", "nde"], [TEMPERATURE], 1.0)
    assert joiner.waiting_for == ("de", "nde")
    assert window(joiner, "de", 1.0, 0.0) == []
    joiner.add_reading(reading(40.0, 0.5))
    (vector,) = window(joiner, "nde", 2.0, 0.0)
    assert vector.as_dict() == {
        "de/x/rms": 1.0,
        "de/x/peak": 2.0,
        "nde/x/rms": 2.0,
        "nde/x/peak": 4.0,
        "temp/temperature": 40.0,
    }
    assert vector.schema.units == ("g", "g", "g", "g", "degc")
    assert vector.quality == GOOD


def test_a_sensor_that_falls_silent_does_not_silence_the_others() -> None:
    joiner = VectorJoiner("pump", ["de", "nde"], [], 1.0)
    window(joiner, "de", 1.0, 0.0)
    window(joiner, "nde", 2.0, 0.0)
    assert window(joiner, "de", 3.0, 1.0) == []
    (vector,) = window(joiner, "de", 4.0, 2.0)
    assert vector.as_dict()["de/x/rms"] == 3.0
    assert math.isnan(vector.as_dict()["nde/x/rms"])
    assert vector.quality == uncertain("missing")


def test_a_sensor_that_lies_does_not_silence_the_others() -> None:
    joiner = VectorJoiner("pump", ["de", "nde"], [], 1.0)
    values = np.ones(2, dtype=np.float32)
    joiner.add_features("de", SCHEMA, values, at(0.0), bad("stuck"))
    (vector,) = joiner.add_features("nde", SCHEMA, values, at(0.0), GOOD)
    assert math.isnan(vector.as_dict()["de/x/rms"])
    assert vector.as_dict()["nde/x/rms"] == 1.0
    assert vector.quality == uncertain("stuck")
    joiner.add_features("de", SCHEMA, values, at(1.0), bad("stuck"))
    (vector,) = joiner.add_features("nde", SCHEMA, values, at(1.0), bad("open_circuit"))
    assert vector.quality == bad("stuck", "open_circuit")


def test_an_old_temperature_does_not_pass_for_a_fresh_one() -> None:
    joiner = VectorJoiner("pump", ["de"], [TEMPERATURE], 1.0)
    joiner.add_reading(reading(40.0, 0.0))
    (fresh,) = window(joiner, "de", 1.0, 0.0)
    assert fresh.as_dict()["temp/temperature"] == 40.0
    (held,) = window(joiner, "de", 1.0, 8.0)
    assert held.as_dict()["temp/temperature"] == 40.0
    (stale,) = window(joiner, "de", 1.0, 20.0)
    assert math.isnan(stale.as_dict()["temp/temperature"])
    assert stale.quality == uncertain("stale")


def test_a_bad_reading_is_not_used() -> None:
    joiner = VectorJoiner("pump", ["de"], [TEMPERATURE], 1.0)
    joiner.add_reading(reading(40.0, 0.0))
    joiner.add_reading(reading(math.nan, 0.5))
    (vector,) = window(joiner, "de", 1.0, 0.0)
    assert vector.as_dict()["temp/temperature"] == 40.0


def test_a_machine_with_scalars_only_gets_the_mean_of_each_window() -> None:
    joiner = VectorJoiner("pump", [], [TEMPERATURE], 5.0)
    vectors = [v for second in range(11) for v in joiner.add_reading(reading(40.0 + second, second))]
    assert [v.as_dict()["temp/temperature"] for v in vectors] == [42.0, 47.0]
    assert [v.stamp.utc_ns for v in vectors] == [0, 5_000_000_000]


def test_a_vector_of_nothing_is_bad_so_that_the_machine_does_not_count_as_heard() -> None:
    joiner = VectorJoiner("pump", [], [TEMPERATURE], 5.0)
    vectors = [v for second in range(30) for v in joiner.add_reading(reading(math.nan, second))]
    assert [v.quality.level for v in vectors] == ["bad"] * 5


def test_the_last_value_of_a_device_that_fell_silent_does_not_pass_for_a_window() -> None:
    joiner = VectorJoiner("pump", [], [TEMPERATURE], 1.0)
    values = [40.0, 41.0, math.nan, math.nan, math.nan]
    vectors = [v for second, value in enumerate(values) for v in joiner.add_reading(reading(value, second))]
    assert [v.quality.level for v in vectors] == ["good", "good", "bad", "bad"]
    assert math.isnan(vectors[2].as_dict()["temp/temperature"])


@pytest.mark.parametrize("poll_s", [1.0, 0.25, 0.1])
def test_as_many_windows_come_as_fit_although_polls_are_never_on_time(poll_s: float) -> None:
    """A poll a window that comes now early, now late, must not make every other window twice as long."""
    joiner = VectorJoiner("pump", [], [TEMPERATURE], 1.0)
    late_s = np.random.default_rng(3).normal(0.0, 0.01, round(400 / poll_s))
    vectors = [v for n, e in enumerate(late_s) for v in joiner.add_reading(reading(40.0, 1 + n * poll_s + e))]
    assert 398 <= len(vectors) <= 401
    apart_s = np.diff([v.stamp.monotonic_ns for v in vectors]) / 1e9
    assert apart_s.min() > 0.85
    assert apart_s.max() < 1.15


def test_readings_that_come_seldom_make_a_window_each() -> None:
    joiner = VectorJoiner("pump", [], [TEMPERATURE], 1.0)
    vectors = [v for n in range(10) for v in joiner.add_reading(reading(40.0 + n, 60.0 * n))]
    assert [v.as_dict()["temp/temperature"] for v in vectors] == [40.0 + n for n in range(9)]


def test_another_unit_than_configured_is_refused() -> None:
    joiner = VectorJoiner("pump", ["de"], [TEMPERATURE], 1.0)
    with pytest.raises(ValueError, match="'k', its machine expects 'degc'"):
        joiner.add_reading(reading(313.0, 0.0, unit="k"))


def test_a_reading_of_no_slot_is_left_alone() -> None:
    joiner = VectorJoiner("pump", ["de"], [], 1.0)
    assert joiner.add_reading(reading(40.0, 0.0)) == []


def test_a_machine_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="neither"):
        VectorJoiner("pump", [], [], 1.0)
