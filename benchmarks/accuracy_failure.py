"""Runs to failure: when the first alert and the first alarm come, and what comes while nothing is wrong.

Alert and alarm are those of the product (3 of 5 windows at 1.0 and 2.0, ISA-18.2 words), for every
method; "product" is the default model with the criteria beside it, as a machine is judged.
"""

from __future__ import annotations

from typing import Any

import accuracy_data as data
import numpy as np
from accuracy_life import EVERY_S, SNAPSHOTS, life
from accuracy_methods import Judge, Learn, Scores, network, rms_twice, vector, yardstick

from pdm_edge.advise import AlarmCycle, AlarmSettings
from pdm_edge.detect.beside import Beside
from pdm_edge.detect.yardsticks import Mahalanobis, RobustZ

SHARES = (0.1, 0.2, 0.3)
LIVES = 10
TRAINED_LIVES = 3
SLOW = (1.0, 2.5)
HEALTHY_LIVES = 8
HEALTHY_SNAPSHOTS = 2400
Entry = dict[str, Any]

METHODS: list[tuple[str, Learn]] = [
    ("linear int8, score alone", network("linear", True)),
    ("robust z", yardstick(RobustZ)),
    ("Mahalanobis", yardstick(Mahalanobis)),
    ("RMS x 2", rms_twice),
]
TRAINED: list[tuple[str, Learn, bool]] = [
    ("dense int8, score alone", network("dense", True), False),
    ("MobileNet-style, 64 bands", network("mobilenet", True), True),
    ("SqueezeNet-style, 64 bands", network("squeezenet", True), True),
]


def product_severities(judge: Judge, run: data.Life, first: int) -> Scores:
    """What the alarm cycle of the product is fed with: the worse of the score and of what is beside it."""
    assert judge.manifest is not None
    beside, alert_at = Beside(judge.manifest), AlarmSettings().alert_at
    found = []
    for row, score in zip(run.rows[first:], judge(run.rows[first:]), strict=True):
        beside.observe(vector(row, run.schema, data.WINDOW_S), float(score))
        found.append(max(float(score), np.nan_to_num(beside.severity(alert_at))))
    return np.array(found)


def first_of(severities: Scores, *states: str) -> int | None:
    """Index of the window in which one of these states is reached first."""
    cycle = AlarmCycle(AlarmSettings())
    for index, severity in enumerate(severities):
        if cycle.observe(float(severity)) in states:
            return index
    return None


def raised(severities: Scores) -> int:
    """How often the state leaves normal."""
    cycle, count = AlarmCycle(AlarmSettings()), 0
    for severity in severities:
        before = cycle.state
        count += cycle.observe(float(severity)) in ("alert", "alarm") and before in ("unknown", "normal")
    return count


def judged(run: data.Life, share: float, *, trained: bool) -> list[tuple[str, Scores]]:
    """Severities by each method after learning the first part of a run."""
    known = round(share * len(run.rows))
    view = data.View(run.schema, run.rows[:known], run.rows[known:], {})
    found = []
    for name, learn in METHODS:
        judge = learn(view, data.WINDOW_S)
        found.append((name, judge(view.later)))
        if name.startswith("linear"):
            found.append(("product", product_severities(judge, run, known)))
    if trained:  # takes seconds each
        wide = data.View(run.bands_schema, run.bands[:known], run.bands[known:], {})
        for name, learn, bands in TRAINED:
            seen = wide if bands else view
            found.append((name, learn(seen, data.WINDOW_S)(seen.later)))
    return found


def femto() -> list[Entry]:
    """First alert and alarm of the FEMTO bearing, learned from the first 10, 20 and 30 % of its life."""
    run = data.femto()
    end_s = float(run.time_s[-1])
    print("\nFEMTO bearing 1_1, run to failure: first alert and alarm (3 of 5), minutes before the end")
    found = []
    for share in SHARES:
        known = round(share * len(run.rows))
        for name, severities in judged(run, share, trained=True):
            entry: Entry = {"learned": share, "method": name}
            for what, states in (("alert", ("alert", "alarm")), ("alarm", ("alarm",))):
                at = first_of(severities, *states)
                when_s = float("nan") if at is None else float(run.time_s[known + at])
                entry[f"{what}_share_of_life"] = when_s / end_s
                entry[f"{what}_before_end_min"] = (end_s - when_s) / 60
            found.append(entry)
            early = " in the first half of life" if entry["alert_share_of_life"] < 0.5 else ""
            print(
                f"  learned {100 * share:.0f} %  {name:28s} alert {entry['alert_before_end_min']:6.1f} "
                f"({100 * entry['alert_share_of_life']:.1f} % of life)  alarm "
                f"{entry['alarm_before_end_min']:6.1f} ({100 * entry['alarm_share_of_life']:.1f} %){early}",
                flush=True,
            )
    return found


def simulated() -> list[Entry]:
    """The same for simulated lives: how many are clean, and the median warning of those."""
    found = []
    for slow in SLOW:
        runs = [life(seed, slow=slow) for seed in range(LIVES)]
        growing = np.median([SNAPSHOTS - (run.onset or 0) for run in runs])
        print(
            f"\n{LIVES} simulated runs to failure, slow healthy change {slow:g} times as large; "
            f"the fault grows for {growing:.0f} min (median)"
        )
        for share in SHARES:
            known = round(share * SNAPSHOTS)
            at: dict[str, list[tuple[int | None, int | None, int]]] = {}
            for index, run in enumerate(runs):
                assert run.onset is not None
                trained = share == 0.2 and slow == 1 and index < TRAINED_LIVES
                for name, severities in judged(run, share, trained=trained):
                    times = [first_of(severities, *s) for s in (("alert", "alarm"), ("alarm",))]
                    alert, alarm = (None if t is None else known + t for t in times)
                    at.setdefault(name, []).append((alert, alarm, run.onset))
            for name, lives in at.items():
                found.append({"slow": slow, "learned": share, "method": name, **summary(lives)})
                print("  " + told(found[-1]), flush=True)
    return found


def summary(lives: list[tuple[int | None, int | None, int]]) -> Entry:
    """Of the first alert, the first alarm and the start of the fault in each life."""
    alerts = [(a, onset) for a, _, onset in lives if a is not None]
    alarms = [(a, onset) for _, a, onset in lives if a is not None]
    return {
        "lives": len(lives),
        "alerts_in_first_half": sum(a < SNAPSHOTS / 2 for a, _ in alerts),
        "alarms_in_first_half": sum(a < SNAPSHOTS / 2 for a, _ in alarms),
        "alerts_before_fault": sum(a < onset for a, onset in alerts),
        "alarms_before_fault": sum(a < onset for a, onset in alarms),
        "never_alarmed": len(lives) - len(alarms),
        "alert_before_end_min": _median_min([SNAPSHOTS - a for a, o in alerts if a >= o]),
        "alarm_before_end_min": _median_min([SNAPSHOTS - a for a, o in alarms if a >= o]),
    }


def _median_min(snapshots: list[int]) -> float:
    return float(np.median(snapshots)) * EVERY_S / 60 if snapshots else float("nan")


def told(entry: Entry) -> str:
    return (
        f"learned {100 * entry['learned']:.0f} %  {entry['method']:28s} "
        f"of {entry['lives']:2d} before the fault: alerts {entry['alerts_before_fault']}, "
        f"alarms {entry['alarms_before_fault']} "
        f"(first half {entry['alerts_in_first_half']}, {entry['alarms_in_first_half']})  "
        f"alert {entry['alert_before_end_min']:5.1f} min, alarm {entry['alarm_before_end_min']:5.1f} min "
        f"before the end, never alarmed {entry['never_alarmed']}"
    )


def healthy() -> list[Entry]:
    """Simulated machines that stay healthy: how often the state leaves normal."""
    share, found = 0.125, []
    windows = HEALTHY_LIVES * round(HEALTHY_SNAPSHOTS * (1 - share))
    for slow in SLOW:
        counts: dict[str, int] = {}
        for i in range(HEALTHY_LIVES):
            run = life(100 + i, fails=False, slow=slow, snapshots=HEALTHY_SNAPSHOTS)
            for name, severities in judged(run, share, trained=False):
                counts[name] = counts.get(name, 0) + raised(severities)
        print(
            f"\n{HEALTHY_LIVES} simulated machines that stay healthy, slow change {slow:g} times as large: "
            f"{windows} windows after 300 learned of each"
        )
        for name, count in counts.items():
            rate = 1000 * count / windows
            print(f"  {name:28s} {count} alerts or alarms, {rate:.2f} per 1,000 windows", flush=True)
            found.append({"slow": slow, "method": name, "raised": count, "windows": windows})
    return found
