"""A block decoded at once gives what each register says by itself, in records as checked as any."""

from __future__ import annotations

import math
import pickle
from dataclasses import FrozenInstanceError
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from modbus_peers import register

import pdm_edge
from pdm_edge.acquire.modbus_decode import BlockReader
from pdm_edge.acquire.reading_plan import ReadingPlan
from pdm_edge.acquire.registers import FORMATS, Register, blocks
from pdm_edge.errors import RecordError
from pdm_edge.records import GOOD, Quality, Reading, Stamp

NOW = Stamp(1_700_000_000_000_000_000, 5, "boot", clock_trusted=True)
ORDERS = ("big", "little")


@st.composite
def a_map(draw: st.DrawFn) -> list[Register]:
    """Registers anywhere in a small space, over each other too, in all types and orders."""
    out = []
    for n in range(draw(st.integers(1, 12))):
        kind = draw(st.sampled_from(sorted(FORMATS)))
        options: dict[str, Any] = {
            "word_order": draw(st.sampled_from(ORDERS)),
            "byte_order": draw(st.sampled_from(ORDERS)),
            "scale": draw(st.sampled_from([1, 1.0, 0.1, -2.5, 1e300])),
            "offset": draw(st.sampled_from([0.0, -40.0, 7])),
            "minimum": draw(st.sampled_from([None, None, -100.0, 0])),
            "maximum": draw(st.sampled_from([None, None, 300, 1e6])),
            "invalid": draw(st.sampled_from([(), (0,), (0x7FFF, 0xFFFF)])),
        }
        if kind.startswith("uint") and draw(st.booleans()):
            options.update(bit=draw(st.integers(0, 7)), bit_count=draw(st.integers(1, 8)))
        out.append(register(f"q{n}", draw(st.integers(0, 20)), type=kind, **options))
    return out


words = st.one_of(st.integers(0, 0xFFFF), st.sampled_from([0, 0x7FFF, 0xFFFF, 0x7FC0, 0x7F80, 0xFF80]))


@settings(max_examples=400)
@given(a_map(), st.lists(words, min_size=40, max_size=40))
def test_a_block_says_what_its_registers_say(registers: list[Register], memory: list[int]) -> None:
    n = 0
    for block in blocks(registers, max_words=16, merge_gap=3):
        reader = BlockReader(block)
        got, n_bad = reader.readings(memory[block.address : block.address + block.count], NOW)
        n += len(got)
        assert n_bad == sum(reading.quality.level == "bad" for reading in got)
        for own, reading in zip(block.registers, got, strict=True):
            value, quality = own.decode(memory[own.address : own.address + own.words])
            assert (reading.sensor, reading.quantity, reading.unit) == (own.sensor, own.quantity, own.unit)
            assert (reading.stamp, reading.quality) == (NOW, quality)
            assert reading.value == value or (math.isnan(reading.value) and math.isnan(value))
            assert type(reading.value) is float
    assert n == len(registers)


def test_bits_of_a_coil_table_are_values() -> None:
    coils = [register(f"c{n}", n, type="bool", table="coil", unit="1") for n in range(9)]
    (block,) = blocks(coils)
    got, _ = BlockReader(block).readings([1, 0, 0, 1, 1, 0, 0, 0, 1], NOW)
    assert [reading.value for reading in got] == [1, 0, 0, 1, 1, 0, 0, 0, 1]


# No record goes unchecked


def test_a_planned_reading_is_a_reading() -> None:
    plan = ReadingPlan([("s", "a", "degc"), ("s", "b", "bar")])
    made = plan.good([1.5, 1e308], NOW)
    assert made == [Reading("s", "a", 1.5, "degc", NOW), Reading("s", "b", 1e308, "bar", NOW)]
    assert [hash(reading) for reading in made] == [
        hash(Reading(r.sensor, r.quantity, r.value, r.unit, r.stamp, r.quality)) for r in made
    ]
    assert repr(made[0]) == repr(Reading("s", "a", 1.5, "degc", NOW))
    assert pickle.loads(pickle.dumps(made)) == made
    assert {type(reading) for reading in made} == {Reading}
    with pytest.raises(FrozenInstanceError):
        made[0].value = 2.0  # type: ignore[misc]


@pytest.mark.parametrize(
    "name", [("", "a", "g"), ("s", "a b", "g"), ("s", "a", ""), ("s", None, "g"), ("s", "a", None)]
)
def test_a_plan_refuses_what_a_reading_refuses(name: Any) -> None:
    with pytest.raises(RecordError) as by_plan:
        ReadingPlan([("s", "fine", "g"), name])
    with pytest.raises(RecordError) as by_reading:
        Reading(name[0], name[1], 1.0, name[2], NOW)
    assert str(by_plan.value) == str(by_reading.value)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_plan_makes_no_good_reading_of_what_is_no_number(value: float) -> None:
    plan = ReadingPlan([("s", "a", "g"), ("s", "b", "g")])
    for values in ([1.0, value], [value, -value]):
        with pytest.raises(RecordError, match="not finite"):
            plan.good(values, NOW)
    assert plan.good([1.7e308, 1.7e308], NOW)[1].value == 1.7e308  # their sum is not finite, they are


@pytest.mark.parametrize("stamp", [None, 5, "now"])
def test_a_plan_needs_a_stamp_and_a_value_for_each_quantity(stamp: Any) -> None:
    plan = ReadingPlan([("s", "a", "g")])
    with pytest.raises(RecordError, match="no time stamp"):
        plan.good([1.0], stamp)
    for values in ([], [1.0, 2.0]):
        with pytest.raises(RecordError, match="values for 1 quantities"):
            plan.good(values, NOW)
    with pytest.raises(TypeError):
        plan.good(["1.0"], NOW)  # type: ignore[list-item]


def test_the_names_of_a_plan_are_its_own() -> None:
    names = [("s", "a", "g")]
    plan = ReadingPlan(names)
    names[0] = ("s", "a", "")
    assert plan.good([1.0], NOW)[0].unit == "g"
    assert plan.good([1.0], NOW)[0].quality == GOOD == Quality()


def test_the_public_api_offers_no_way_around_the_checks() -> None:
    assert "ReadingPlan" not in pdm_edge.__all__
    for missing in ("sensor", "quantity", "unit", "stamp"):
        fields: dict[str, Any] = {"sensor": "s", "quantity": "a", "value": 1.0, "unit": "g", "stamp": NOW}
        with pytest.raises(TypeError, match=missing):
            pdm_edge.Reading(**{name: value for name, value in fields.items() if name != missing})
        with pytest.raises(RecordError):
            pdm_edge.Reading(**{**fields, missing: ""})
