"""What a mechanic reads: what was seen, what to check, and how soon."""

from __future__ import annotations

from pdm_edge.advise.part import only_in_mean
from pdm_edge.records import Advisory, AlarmState, Evidence, Health, Stamp

_URGENCY: dict[AlarmState, str] = {
    "alert": "Plan an inspection within days and watch the trend",
    "alarm": "Inspect at the next possible stop; do not wait for the planned one",
}
_NO_HURRY = "No single window is beyond its limit: look at it on the next round, and watch the trend"


def advisory(
    machine: str,
    new: AlarmState,
    previous: AlarmState,
    stamp: Stamp,
    *,
    health: Health | None = None,
    score: float | None = None,
    silent_s: float | None = None,
) -> Advisory:
    """Put a change of state into words.

    The headline states evidence. A part is named only where evidence names it; an anomaly score
    alone says that something has changed, and no more.
    """
    headline, advice = _words(new, previous, health, score, silent_s)
    return Advisory(
        machine=machine,
        state=new,
        previous=previous,
        stamp=stamp,
        headline=headline,
        advice=advice,
        score=score,
        zone=health.zone if health else None,
        evidence=health.evidence if health else (),
    )


def _words(
    new: AlarmState, previous: AlarmState, health: Health | None, score: float | None, silent_s: float | None
) -> tuple[str, str]:
    if new == "unknown":
        heard = "nothing heard yet" if silent_s is None else f"no usable data for {silent_s:.0f} s"
        return heard, "Check power, cable and gateway of its sensors; its condition is not known"
    if new == "learning":
        return "learning what healthy looks like", "Run it as usual, in good condition"
    if new == "normal":
        if previous == "learning":
            return "baseline learned, now watching", "Nothing to do"
        if previous == "unknown":
            return "data are back and look as learned", "Nothing to do"
        return "back within what was learned", "Find out what changed before calling it repaired"
    urgency = _NO_HURRY if new == "alert" and only_in_mean(health) else _URGENCY[new]
    return finding(health, score), f"{_check(health)}. {urgency}"


def finding(health: Health | None, score: float | None) -> str:
    """What stands out in the latest window, strongest evidence of a part first."""
    parts = []
    line = _line(health)
    if line:
        parts.append(line)
    if health and health.zone in ("C", "D"):
        parts.append(f"vibration in ISO 20816-3 zone {health.zone} ({health.zone_basis})")
    parts += [f"{item.what} is {item.value:.1f} {item.unit}" for item in _levels(health)]
    if only_in_mean(health):
        parts += [item.what for item in _means(health)]
    if score is not None and score >= 1.0:
        parts.append(f"{_times(score)} the learned threshold")
        carried = [e.what for e in health.evidence if e.unit == "share"] if health else []
        if carried and not line:
            parts.append(carried[0])
        parts += [item.what for item in health.evidence if item.unit == "lines"] if health else []
    elif score is not None and not (_levels(health) or _means(health)):
        parts.append("recent windows above the limit")
    return ", ".join(parts) or "above its limit"


def _levels(health: Health | None) -> list[Evidence]:
    """Overall levels beyond their limit."""
    return [item for item in health.evidence if item.unit == "times its baseline"] if health else []


def _means(health: Health | None) -> list[Evidence]:
    """Impacts that only the mean of many windows shows."""
    return [item for item in health.evidence if item.unit == "mean"] if health else []


def _times(score: float) -> str:
    """A score as a person reads it: far above the threshold, its digits mean nothing."""
    return "over 100 times" if score >= 100 else f"{score:.0f} times" if score >= 10 else f"{score:.1f} times"


def _line(health: Health | None) -> str:
    for item in health.evidence if health else ():
        if item.unit == "db":
            return f"{item.what} stands {item.value:.0f} dB above its noise floor"
    return ""


def _check(health: Health | None) -> str:
    line = _line(health)
    if "race" in line or "rolling element" in line:
        return "Consistent with bearing damage: listen at the bearing, check its temperature and grease"
    if "cage" in line:
        return "Consistent with cage wear or poor lubrication: check the grease"
    if "impacts" in line:
        return "Something strikes again and again: listen at bearings and gears, check for looseness"
    if health and health.zone in ("C", "D"):
        return "Check balance, alignment and foundation bolts"
    if _means(health):
        return "Something may strike: listen at bearings and gears, look for loose parts"
    return "Compare with the last good run: speed, load, mounting of the sensor, then the machine"
