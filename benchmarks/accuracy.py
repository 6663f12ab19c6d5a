"""Accuracy on real recordings and simulated machines, every family beside the yardsticks.

python benchmarks/accuracy.py [--json FILE]; the protocol is docs/accuracy.md. All methods learn from
the same healthy windows, get their threshold by the same rule and the same defaults everywhere.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import accuracy_data as data
import accuracy_failure
import accuracy_faint
import accuracy_speed
import numpy as np
from accuracy_methods import Judge, Scores, always, methods, network, vector, yardstick

from pdm_edge.detect.beside import Beside
from pdm_edge.detect.drift import Cusum
from pdm_edge.detect.thresholds import agreeing
from pdm_edge.detect.yardsticks import Mahalanobis, RobustZ


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    data_set: str
    method: str
    auc: float
    detected: float
    """Share of faulty windows above the threshold."""
    faults_alarmed: str
    false_per_1000: float
    false_alarms: int
    """Whether the held-back healthy windows raised an alarm (3 of 5)."""
    auc_by_fault: dict[str, float]
    slow: str
    """Faults of which the CUSUM of the score tells, after how many windows (median), and whether it does on
    the held-back healthy ones."""


def main(arguments: list[str]) -> None:
    logging.basicConfig(level=logging.ERROR)
    rows, means = [], []
    for data_set in data.all_sets():
        print(f"\n{data_set.name}: {data_set.what}")
        for name, view, learn in methods(data_set):
            rows.append(measured(data_set.name, name, view, learn(view, data_set.window_s)))
            print(line(rows[-1]), flush=True)
        means.append(in_the_mean(data_set))
        print(f"  {'mean of 50 windows':26s} {means[-1]['told']}", flush=True)
    depths = accuracy_faint.depths()
    lengths = accuracy_faint.lines_by_length()
    speeds = accuracy_speed.report()
    life = accuracy_failure.femto()
    lives = accuracy_failure.simulated()
    healthy = accuracy_failure.healthy()
    process = process_data()
    if arguments[:1] == ["--json"]:
        content = {
            "table": [asdict(row) for row in rows],
            "means": means,
            "depths": depths,
            "lengths": lengths,
            "speeds": speeds,
            "life": life,
            "lives": lives,
            "healthy": healthy,
            "process": process,
        }
        Path(arguments[1]).write_text(json.dumps(content, indent=1))


def measured(data_set: str, method: str, view: data.View, judge: Judge) -> Row:
    later = judge(view.later)
    faults = {name: judge(rows) for name, rows in view.faults.items()}
    together = np.concatenate(list(faults.values()))
    alarmed = sum(alarms(scores) for scores in faults.values())
    return Row(
        data_set,
        method,
        auc(later, together),
        float(np.mean(together >= 1)),
        f"{alarmed} of {len(faults)}",
        1000 * float(np.mean(later >= 1)),
        int(alarms(later)),
        {name: auc(later, scores) for name, scores in faults.items()},
        slow_change(judge, later, faults),
    )


def slow_change(judge: Judge, later: Scores, faults: dict[str, Scores]) -> str:
    """What the CUSUM of a score tells."""

    def told_after(scores: Scores) -> int | None:
        cusum = Cusum(judge.log_mean, judge.log_std)
        for index, score in enumerate(scores):
            cusum.observe(float(score))
            if cusum.has_risen:
                return index + 1
        return None

    return _counted(told_after(later), [told_after(scores) for scores in faults.values()])


def in_the_mean(data_set: data.DataSet) -> dict[str, Any]:
    """What the product tells of impacts that only the mean of many windows shows: lines and kurtosis."""
    view = data_set.features
    manifest = network("linear", True)(view, data_set.window_s).manifest
    assert manifest is not None

    def told_after(rows: Any) -> int | None:
        beside = Beside(manifest)
        for index, row in enumerate(rows):
            beside.observe(vector(row, view.schema, data_set.window_s), 0.1)
            if any(item.unit == "mean" for item in beside.findings()):
                return index + 1
        return None

    faults = {name: told_after(rows) for name, rows in view.faults.items()}
    told = _counted(told_after(view.later), list(faults.values()))
    return {"data_set": data_set.name, "told": told, "after_windows": faults, "windows": len(view.later)}


def _counted(later: int | None, faults: list[int | None]) -> str:
    found = [at for at in faults if at is not None]
    after = f" after {np.median(found):.0f} windows" if found else ""
    return f"{len(found)} of {len(faults)}{after}{', AND ON HEALTHY' if later is not None else ''}"


def line(row: Row) -> str:
    return (
        f"  {row.method:26s} AUC {row.auc:.4f}  detected {100 * row.detected:5.1f} %  "
        f"faults alarmed {row.faults_alarmed:7s} false/1000 {row.false_per_1000:6.1f}  "
        f"false alarm {'YES' if row.false_alarms else 'no'}  slow change {row.slow}"
    )


def process_data() -> list[dict[str, Any]]:
    """SKAB: scalars at 1 Hz, learned from the first 400 rows of each file, the rest judged."""
    schema, files = data.skab()
    print("\nSKAB, process data at 1 Hz: learned from rows 0-399 of each file, the rest judged")
    found = []
    for name, learn in [
        ("linear int8", network("linear", True)),
        ("dense int8", network("dense", True)),
        ("robust z", yardstick(RobustZ)),
        ("Mahalanobis", yardstick(Mahalanobis)),
        ("always anomalous", always),
    ]:
        high, truth = [], []
        for rows, anomalous in files.values():
            judge = learn(data.View(schema, rows[:400], rows[400:], {}), 1.0)
            high.append(judge(rows[400:]) >= 1)
            truth.append(anomalous[400:])
        flagged, wanted = np.concatenate(high), np.concatenate(truth)
        hits = int((flagged & wanted).sum())
        entry: dict[str, Any] = {
            "method": name,
            "f1": 2 * hits / (int(flagged.sum()) + int(wanted.sum())),
            "false_alarm_rate": float((flagged & ~wanted).sum() / (~wanted).sum()),
            "missed_alarm_rate": float((~flagged & wanted).sum() / wanted.sum()),
        }
        found.append(entry)
        print(
            f"  {name:22s} F1 {entry['f1']:.3f}  false alarms {100 * entry['false_alarm_rate']:5.1f} %  "
            f"missed {100 * entry['missed_alarm_rate']:5.1f} %",
            flush=True,
        )
    return found


def alarms(scores: Scores) -> bool:
    """Whether three of any five neighbouring windows are at or above the threshold."""
    return bool((agreeing(scores, 3, 5) >= 1).any())


def auc(healthy: Scores, faulty: Scores) -> float:
    """Area under the ROC curve; ties count half."""
    order = np.sort(healthy)
    below = np.searchsorted(order, faulty, side="left")
    up_to = np.searchsorted(order, faulty, side="right")
    return float((below + up_to).mean() / (2 * len(healthy)))


if __name__ == "__main__":
    if not data.DATA.is_dir():
        sys.exit(f"The recordings are not here ({data.DATA}); docs/accuracy.md says where they come from")
    started = time.monotonic()
    main(sys.argv[1:])
    print(f"\n{time.monotonic() - started:.0f} s")
