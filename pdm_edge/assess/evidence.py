"""From numbers to findings: each a measured value beside the limit it is held against.

A score is not evidence of a fault mode. A bearing race is named only when its line stands out of
the envelope spectrum, and even then with the confidence that one window can give.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Final, Literal

from pdm_edge.records import Evidence, Health, Stamp

LINE_LEVEL_DB: Final = 12.0
"""Mean level of three harmonics above their noise floor from which a bearing line counts. Over
4,000 windows of pure noise it is 5 dB, at most 10.2; of the healthy MFPT bearings at most 10.0 (mains
hum falls into the window of a line); of the race faults of MFPT and CWRU 18 to 40 dB."""

BESIDE_DB: Final = 10.0
"""Lines so much weaker than the strongest at the same place are sums and differences of it."""

STRIKES_DB: Final = 12.0
"""Mean level of five harmonics of a repetition in the envelope, from which it counts. The strongest of all
repetitions is 6 to 8 dB in 500 seconds of noise, 7 dB in healthy MFPT bearings."""
STRIKES_KURTOSIS: Final = 4.0
"""Of the samples in the resonance band. Noise has 3, a healthy bearing 2.7 to 3.5; repetitions that do not
strike, such as beats of shaft and mains, stand out of the envelope of a healthy motor by 19 dB and leave
it there. The race faults of MFPT, CWRU and UESTC have 4.7 to 63."""

ALONE_DB: Final = 18.0
"""Level from which a bearing line stands without history though nothing strikes: twice the amplitude of the
limit. Lines of a healthy motor that beat against each other reached 14.7 dB where a race line belongs; the
race faults of MFPT and CWRU have 20 to 40 dB."""

_LINE = re.compile(r"(?P<place>.+)/envelope_(?P<line>bpfo|bpfi|bsf|ftf)_level\Z")
LINE_NAMES: Final = {
    "bpfo": "outer race line (BPFO)",
    "bpfi": "inner race line (BPFI)",
    "bsf": "rolling element line (2 x BSF)",
    "ftf": "cage line (FTF)",
}


def assess(
    machine: str,
    stamp: Stamp,
    values: Mapping[str, float],
    *,
    score: float,
    contributions: tuple[tuple[str, float], ...] = (),
    zone: Literal["A", "B", "C", "D"] | None = None,
    zone_basis: str = "not graded: no machine group and support configured",
    velocity_mm_s: float = math.nan,
    zone_limit_mm_s: float = math.nan,
    more: tuple[Evidence, ...] = (),
) -> Health:
    """Collect the evidence of one vector, strongest first.

    Parameters
    ----------
    values
        Feature values by name, as the machine's schema gives them.
    score
        Normalised anomaly score, NaN if there is none.
    contributions
        Features that carry the score, with their share.
    zone, zone_basis
        ISO 20816-3 zone, and what it was graded on.
    velocity_mm_s, zone_limit_mm_s
        Highest broadband velocity, and the limit B/C it is held against.
    more
        Evidence found elsewhere, such as that of `standing`; it goes before the same found here.
    """
    evidence = []
    if math.isfinite(velocity_mm_s) and zone is not None:
        evidence.append(
            Evidence("vibration velocity against zone B/C", velocity_mm_s, zone_limit_mm_s, "mm_s")
        )
    evidence.extend(more)
    found = {item.what for item in more}
    evidence.extend(item for item in _lines(values) if item.what not in found)
    if math.isfinite(score):
        evidence.append(Evidence("anomaly score", score, 1.0, "1"))
    evidence.sort(key=lambda item: item.ratio, reverse=True)
    if score >= 1.0 and contributions:
        name, share = contributions[0]
        evidence.append(Evidence(f"carried most by {name}", share, 1.0, "share"))
    return Health(machine, stamp, zone, zone_basis, tuple(evidence), _confidence(evidence, score, zone))


def standing(
    place: str,
    *,
    lines_db: Mapping[str, float],
    kurtosis: float = math.nan,
    strikes_db: float = math.nan,
) -> tuple[Evidence, ...]:
    """What is out of order at one place by limits that need no history of the machine.

    Parameters
    ----------
    place
        Sensor and axis.
    lines_db
        Mean level of each bearing line (`LINE_NAMES`) over its floor; empty without geometry or speed.
    kurtosis, strikes_db
        Of the resonance band, and level of the steadiest repetition in its envelope: both together say
        that something strikes again and again.
    """
    found = _lines({f"{place}/envelope_{line}_level": level for line, level in lines_db.items()})
    if kurtosis >= STRIKES_KURTOSIS:
        if not found and strikes_db >= STRIKES_DB:
            found = [Evidence(f"repeated impacts at {place}", strikes_db, STRIKES_DB, "db")]
        return tuple(found)
    return tuple(item for item in found if item.value >= ALONE_DB)


def _lines(values: Mapping[str, float]) -> list[Evidence]:
    """Bearing lines that stand out, at each place those about as strong as the strongest."""
    places: dict[str, dict[str, float]] = {}
    for name, level_db in values.items():
        match = _LINE.match(name)
        if match and level_db >= LINE_LEVEL_DB:
            places.setdefault(match["place"], {})[match["line"]] = level_db
    return [
        Evidence(f"{LINE_NAMES[line]} at {place}", level_db, LINE_LEVEL_DB, "db")
        for place, levels in places.items()
        for line, level_db in levels.items()
        if level_db >= max(levels.values()) - BESIDE_DB
    ]


def _confidence(evidence: list[Evidence], score: float, zone: str | None) -> Literal["low", "medium", "high"]:
    """How many independent methods agree that something is wrong."""
    line = any(item.unit == "db" for item in evidence)
    agreeing = sum((line, score >= 1.0, zone in ("C", "D")))
    if agreeing >= 3:
        return "high"
    return "medium" if agreeing == 2 else "low"
