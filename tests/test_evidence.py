"""A race is named when its line stands out, and the echoes of a line are not named beside it."""

from __future__ import annotations

import math

from pdm_edge.assess import assess
from pdm_edge.records import Stamp

STAMP = Stamp(0, 0, "boot", True)


def named(**levels_db: float) -> list[str]:
    values = {f"de/x/envelope_{line}_level": level for line, level in levels_db.items()}
    health = assess("pump", STAMP, values, score=math.nan)
    return [evidence.what.split(" line")[0] for evidence in health.evidence]


def test_a_line_within_what_noise_reaches_is_no_evidence() -> None:
    assert named(bpfo=10.2, bpfi=11.0, ftf=math.nan) == []


def test_a_race_is_named_and_its_echoes_are_not() -> None:
    # Levels of one second of a real outer race fault (CWRU 130).
    assert named(bpfo=38.4, bpfi=20.5, bsf=22.5, ftf=10.8) == ["outer race"]


def test_two_faults_that_are_about_as_strong_are_both_named_strongest_first() -> None:
    assert named(bpfo=25.0, bpfi=28.0) == ["inner race", "outer race"]


def test_places_are_judged_apart() -> None:
    values = {"de/x/envelope_bpfo_level": 38.0, "nde/x/envelope_bpfi_level": 20.0}
    health = assess("pump", STAMP, values, score=math.nan)
    assert [e.what for e in health.evidence] == [
        "outer race line (BPFO) at de/x",
        "inner race line (BPFI) at nde/x",
    ]
