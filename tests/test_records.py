"""Records are checked when they are made, and cannot be changed afterwards."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest

from pdm_edge import (
    Advisory,
    FeatureSchema,
    FeatureVector,
    FixedClock,
    Gap,
    Health,
    PdmError,
    Quality,
    Reading,
    RecordError,
    Score,
    Stamp,
    SystemClock,
    Waveform,
)
from pdm_edge.delivery import Batch
from pdm_edge.records import bad, check_id, uncertain, worst

STAMP = Stamp(1_000, 2_000, "boot", clock_trusted=True)


def waveform(**changes: Any) -> Waveform:
    values: dict[str, Any] = {
        "sensor": "de-h",
        "samples": np.zeros((1, 8), dtype=np.float32),
        "sample_rate_hz": 25600.0,
        "unit": "g",
        "axes": ("x",),
        "stamp": STAMP,
    }
    return Waveform(**{**values, **changes})


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"sample_rate_hz": 0.0}, "sample rate of 'de-h' is 0.0 Hz. Give the true sample rate"),
        ({"sample_rate_hz": math.nan}, "sample rate"),
        ({"sample_rate_hz": None}, "never guessed"),
        ({"unit": "V"}, "unit of 'de-h' is 'V'. Give one of g, m_s2, mm_s"),
        ({"unit": None}, "never guessed"),
        ({"sensor": ""}, "not a usable id"),
        ({"sensor": "a/b"}, "not a usable id"),
        ({"stamp": None}, "no time stamp"),
        ({"samples": np.zeros(8, dtype=np.float32)}, "not (n_axes, n_samples)"),
        ({"samples": np.zeros((1, 0), dtype=np.float32)}, "not (n_axes, n_samples)"),
        ({"axes": ("x", "y")}, "names 2 axes for 1 rows"),
    ],
)
def test_a_waveform_without_rate_unit_sensor_time_or_shape_is_refused(
    changes: dict[str, Any], says: str
) -> None:
    with pytest.raises(RecordError) as caught:
        waveform(**changes)
    assert says in str(caught.value)
    assert isinstance(caught.value, PdmError)
    assert isinstance(caught.value, ValueError)


def test_samples_are_read_only_and_not_shared_with_the_caller() -> None:
    samples = np.ones((1, 8), dtype=np.float32)
    record = waveform(samples=samples)
    samples[0, 0] = 9
    assert record.samples[0, 0] == 1
    with pytest.raises(ValueError, match="read-only"):
        record.samples[0, 0] = 5
    with pytest.raises(dataclasses.FrozenInstanceError):
        record.unit = "mm_s"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("changes", "says"),
    [({"unit": ""}, "has no unit"), ({"quantity": ""}, "quantity"), ({"value": math.nan}, "not marked bad")],
)
def test_a_reading_without_unit_quantity_or_value_is_refused(changes: dict[str, Any], says: str) -> None:
    values: dict[str, Any] = {"sensor": "t1", "quantity": "temperature", "value": 40.0, "unit": "degc"}
    with pytest.raises(RecordError, match=says):
        Reading(**{**values, **changes}, stamp=STAMP)


def test_a_nan_reading_is_allowed_if_it_says_that_it_is_bad() -> None:
    assert math.isnan(Reading("t1", "temperature", math.nan, "degc", STAMP, bad("stale")).value)


def test_quality_joins_to_the_worst_with_every_reason() -> None:
    joined = worst(Quality(), uncertain("gap"), bad("stuck"), uncertain("gap", "clipped"))
    assert joined == Quality("bad", ("gap", "stuck", "clipped"))
    assert worst() == Quality()
    assert str(uncertain("gap")) == "uncertain (gap)"


@pytest.mark.parametrize(("level", "reasons"), [("fine", ()), ("bad", ()), ("bad", ("because",))])
def test_quality_needs_known_words(level: Any, reasons: tuple[str, ...]) -> None:
    with pytest.raises(RecordError):
        Quality(level, reasons)


def test_the_schema_id_depends_on_names_order_and_units() -> None:
    a = FeatureSchema(("rms", "peak"), ("g", "g"))
    assert a.id == FeatureSchema(("rms", "peak"), ("g", "g")).id
    others = [
        FeatureSchema(("peak", "rms"), ("g", "g")),
        FeatureSchema(("rms", "peak"), ("g", "mm_s")),
        FeatureSchema(("rms",), ("g",)),
    ]
    assert len({a.id, *(other.id for other in others)}) == 4


@pytest.mark.parametrize(("names", "units"), [(("a", "a"), ("g", "g")), (("a",), ()), ((), ())])
def test_a_schema_with_double_or_missing_names_is_refused(
    names: tuple[str, ...], units: tuple[str, ...]
) -> None:
    with pytest.raises(RecordError):
        FeatureSchema(names, units)


def test_a_vector_must_fit_its_schema() -> None:
    schema = FeatureSchema(("rms",), ("g",))
    with pytest.raises(RecordError, match="shape"):
        FeatureVector("pump", np.zeros(2, dtype=np.float32), schema, STAMP, 1.0)


def test_numbers_of_numpy_are_numbers() -> None:
    samples = np.zeros((1, 4), dtype=np.float32)
    for rate_hz in (np.float32(25_600), np.int64(25_600)):
        assert Waveform("de-h", samples, rate_hz, "g", ("x",), STAMP).duration_s == 4 / 25_600
    assert Reading("de-t", "temperature", np.float32(40.5), "degc", STAMP).value == 40.5


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (Reading, {"sensor": "t", "quantity": "temperature", "value": None, "unit": "degc", "stamp": STAMP}),
        (Gap, {"origin": "m", "what": "rows", "lost": 1, "why": "", "stamp": 5}),
        (Score, {"machine": "m", "value": 1.0, "model": "x", "stamp": None}),
        (
            Health,
            {"machine": "m", "stamp": 0, "zone": "A", "zone_basis": "", "evidence": (), "confidence": "low"},
        ),
        (
            Health,
            {
                "machine": "m",
                "stamp": STAMP,
                "zone": "E",
                "zone_basis": "",
                "evidence": (),
                "confidence": "low",
            },
        ),
        (
            Advisory,
            {
                "machine": "m",
                "state": "burning",
                "previous": "normal",
                "stamp": STAMP,
                "headline": "",
                "advice": "",
            },
        ),
    ],
)
def test_no_record_is_born_without_a_stamp_or_with_unknown_words(kind: Any, fields: dict[str, Any]) -> None:
    with pytest.raises(RecordError):
        kind(**fields)


@pytest.mark.parametrize("window_s", [-1.0, 0.0, float("nan")])
def test_a_vector_covers_some_time(window_s: float) -> None:
    with pytest.raises(RecordError, match="covers"):
        FeatureVector("pump", np.zeros(1, np.float32), FeatureSchema(("rms",), ("g",)), STAMP, window_s)


@pytest.mark.parametrize("value", ["", "a b", "#", "+", "$SYS", "x" * 65, "../etc", "ä"])
def test_ids_cannot_break_topics_paths_or_tables(value: str) -> None:
    with pytest.raises(RecordError):
        check_id(value, "machine")


def test_a_gap_cannot_be_negative_and_a_batch_cannot_be_empty() -> None:
    with pytest.raises(RecordError):
        Gap("de-h", "samples", -1, "why", STAMP)
    with pytest.raises(RecordError):
        Batch("gw", "alarm", 0, ())


def test_stamps_of_the_system_clock_go_forward_and_name_the_boot() -> None:
    clock = SystemClock()
    first, second = clock.stamp(), clock.stamp()
    assert second.monotonic_ns >= first.monotonic_ns
    assert first.boot_id == second.boot_id == SystemClock().stamp().boot_id
    assert SystemClock(trusted=True).stamp().clock_trusted
    assert not SystemClock(trusted=False).stamp().clock_trusted


def test_a_fixed_clock_is_set_by_its_recording() -> None:
    clock = FixedClock(5_000_000_000)
    clock.advance(0.25)
    stamp = clock.stamp()
    assert (stamp.utc_ns, stamp.monotonic_ns) == (5_250_000_000, 250_000_000)
    assert stamp.earlier(0.25).monotonic_ns == 0
