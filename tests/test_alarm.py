"""The alarm life cycle: on-delay, deadband, silence."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pdm_edge.advise import AlarmCycle, AlarmSettings, PartWatch, advisory
from pdm_edge.assess import assess
from pdm_edge.records import AlarmState, Evidence, Health, Stamp

STAMP = Stamp(0, 0, "boot", True)


def run(cycle: AlarmCycle, severities: list[float]) -> list[AlarmState]:
    return [change for severity in severities if (change := cycle.observe(severity)) is not None]


def normal() -> AlarmCycle:
    cycle = AlarmCycle(AlarmSettings())
    assert run(cycle, [0.1, 0.1, 0.1]) == ["normal"]
    return cycle


def test_two_high_windows_of_five_raise_nothing_and_three_raise_an_alert() -> None:
    cycle = normal()
    assert run(cycle, [1.2, 0.1, 1.2, 0.1, 0.1]) == []
    assert run(cycle, [1.2, 0.1, 1.2, 0.1, 1.2]) == ["alert"]


def test_a_clear_fault_goes_to_alarm() -> None:
    assert run(normal(), [5.0, 5.0, 5.0]) == ["alarm"]


def test_a_value_dancing_at_the_limit_does_not_flicker() -> None:
    cycle = normal()
    assert run(cycle, [1.05, 1.05, 1.05]) == ["alert"]
    assert run(cycle, [0.95, 1.05] * 50) == []
    assert run(cycle, [0.85] * 5) == ["normal"]


def test_an_alarm_steps_down_through_alert() -> None:
    cycle = normal()
    assert run(cycle, [3.0] * 3) == ["alarm"]
    assert run(cycle, [1.5] * 6) == ["alert"]
    assert run(cycle, [0.1] * 6) == ["normal"]


def test_silence_is_unknown_never_normal_and_told_once() -> None:
    cycle = normal()
    assert cycle.silent() == "unknown"
    assert cycle.silent() is None
    assert run(cycle, [0.1, 0.1]) == []
    assert run(cycle, [0.1]) == ["normal"]


def test_a_machine_never_heard_of_is_told_unknown_once() -> None:
    cycle = AlarmCycle(AlarmSettings())
    assert [cycle.silent(), cycle.silent()] == ["unknown", None]


def test_an_alarm_that_stood_before_a_silence_stands_after_it() -> None:
    cycle = normal()
    run(cycle, [5.0] * 3)
    cycle.silent()
    assert run(cycle, [0.1]) == ["alarm"]
    assert run(cycle, [0.1] * 5) == ["normal"]


def test_learning_resumes_after_silence() -> None:
    cycle = AlarmCycle(AlarmSettings(), learning=True)
    assert cycle.silent() == "unknown"
    assert cycle.learning() == "learning"
    assert cycle.learned() == "normal"


def test_nan_is_no_judgement() -> None:
    cycle = normal()
    assert run(cycle, [5.0, math.nan, 5.0, math.nan]) == []
    assert run(cycle, [5.0]) == ["alarm"]


def test_negative_severity_is_refused() -> None:
    with pytest.raises(ValueError, match="negative"):
        normal().observe(-0.1)


@pytest.mark.parametrize(
    "bad", [{"n": 6}, {"n": 0}, {"alert_at": 2.0}, {"clear_below": 1.5}, {"stale_after_s": 0}]
)
def test_settings_that_make_no_sense_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"n=|alert_at|clear_below|stale"):
        AlarmSettings(**bad)  # type: ignore[arg-type]


@given(st.lists(st.floats(0, 10), max_size=200))
def test_every_change_is_a_real_change_and_no_alarm_without_n_high_windows(severities: list[float]) -> None:
    cycle = AlarmCycle(AlarmSettings())
    states: list[AlarmState] = [cycle.state]
    for index, severity in enumerate(severities):
        change = cycle.observe(severity)
        if change is not None:
            states.append(change)
        if change == "alarm":
            assert sum(s >= 2.0 for s in severities[max(0, index - 4) : index + 1]) >= 3
    assert all(a != b for a, b in pairwise(states))


def test_advice_names_a_part_only_on_evidence_for_it() -> None:
    line = Evidence("outer race line (BPFO) at de/x", 14.0, 10.0, "db")
    with_line = Health("pump", STAMP, "B", "1.90 mm/s RMS", (line,), "medium")
    text = str(advisory("pump", "alarm", "normal", STAMP, health=with_line, score=4.2))
    assert "outer race" in text
    assert "14 dB" in text
    assert "4.2 times" in text
    bare = Health("pump", STAMP, None, "not graded", (), "low")
    text = str(advisory("pump", "alert", "normal", STAMP, health=bare, score=1.3))
    assert "race" not in text
    assert "bearing" not in text
    assert "1.3 times" in text


def test_unknown_says_how_long_and_what_to_check() -> None:
    text = str(advisory("pump", "unknown", "normal", STAMP, silent_s=61.0))
    assert "61 s" in text
    assert "cable" in text


def test_an_alarm_that_named_no_part_says_so_once_the_evidence_does() -> None:
    vague = assess("m", STAMP, {}, score=5.0)
    outer = assess("m", STAMP, {"de/x/envelope_bpfo_level": 25.0}, score=5.0)
    inner = assess("m", STAMP, {"de/x/envelope_bpfi_level": 25.0}, score=5.0)
    watch = PartWatch()
    watch.told(vague)
    seen = [watch.observe(h) for h in (vague, outer, inner, outer, outer, outer, outer, inner, inner, inner)]
    # One window of a race is chance, three in a row are told, and each part only once.
    assert seen == [False] * 5 + [True] + [False] * 3 + [True]
    watch.told(outer)
    assert not any(watch.observe(outer) for _ in range(10))
