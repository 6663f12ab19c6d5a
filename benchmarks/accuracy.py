"""Accuracy on real recordings and simulated machines, every family beside the yardsticks.

python benchmarks/accuracy.py [--json FILE]; the protocol is docs/accuracy.md. All methods learn from
the same healthy windows, get their threshold by the same rule and the same defaults everywhere.
"""

from __future__ import annotations

import itertools
import json
import logging
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import accuracy_data as data
import numpy as np
import numpy.typing as npt

from pdm_edge.detect.anomaly import AnomalyDetector
from pdm_edge.detect.bundle import Bundle
from pdm_edge.detect.commission import BLOCKS, commission
from pdm_edge.detect.scaling import floors, knocks, logarithmic, transformed
from pdm_edge.detect.thresholds import agreeing, find_threshold
from pdm_edge.detect.yardsticks import Mahalanobis, RobustZ
from pdm_edge.records import FeatureVector, Stamp

Rows = npt.NDArray[np.float32]
Scores = npt.NDArray[np.float64]
Judge = Callable[[Rows], Scores]
"""Normalised scores of rows; 1.0 is the threshold."""


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


def main(arguments: list[str]) -> None:
    logging.basicConfig(level=logging.ERROR)
    rows = []
    for data_set in data.all_sets():
        print(f"\n{data_set.name}: {data_set.what}")
        for name, view, learn in methods(data_set):
            rows.append(measured(data_set.name, name, view, learn(view, data_set.window_s)))
            print(line(rows[-1]), flush=True)
    life = run_to_failure()
    process = process_data()
    if arguments[:1] == ["--json"]:
        content = {"table": [asdict(row) for row in rows], "life": life, "process": process}
        Path(arguments[1]).write_text(json.dumps(content, indent=1))


Learn = Callable[[data.View, float], Judge]


def methods(data_set: data.DataSet) -> list[tuple[str, data.View, Learn]]:
    """Every method with the view of the data that it is made for."""
    found: list[tuple[str, data.View, Learn]] = [
        ("linear int8", data_set.features, network("linear", True)),
        ("linear float32", data_set.features, network("linear", False)),
        ("dense int8", data_set.features, network("dense", True)),
        ("pruned int8", data_set.features, network("pruned", True)),
        ("dense float32", data_set.features, network("dense", False)),
        ("robust z", data_set.features, yardstick(RobustZ)),
        ("Mahalanobis", data_set.features, yardstick(Mahalanobis)),
        ("RMS x 2", data_set.features, rms_twice),
    ]
    if data_set.spectrum is not None:
        found += [
            ("mobilenet int8, 64 bands", data_set.spectrum, network("mobilenet", True)),
            ("squeezenet int8, 64 bands", data_set.spectrum, network("squeezenet", True)),
            ("dense int8, 64 bands", data_set.spectrum, network("dense", True)),
            ("Mahalanobis, 64 bands", data_set.spectrum, yardstick(Mahalanobis)),
        ]
    return found


def network(family: Any, quantize: bool) -> Learn:
    """What `pdm-edge learn` does."""

    def learn(view: data.View, window_s: float) -> Judge:
        stamp = Stamp(0, 0, "benchmark", True)
        vectors = [FeatureVector("m", row, view.schema, stamp, window_s) for row in view.healthy]
        model, manifest = commission(vectors, name="m", family=family, quantize=quantize)
        detector = AnomalyDetector(Bundle(Path(), manifest, model))
        fill = np.array(manifest.baseline, dtype=np.float32)
        return lambda rows: np.concatenate(
            [detector.score_rows(np.where(np.isfinite(row), row, fill)[None]) for row in rows]
        )

    return learn


def yardstick(kind: Any) -> Learn:
    """The same rejection of knocks, scaling, blocks of time and threshold, without a network."""

    def learn(view: data.View, window_s: float) -> Judge:
        levels = logarithmic(view.schema.names, view.schema.units)
        fill = np.nan_to_num(np.nanmedian(np.where(np.isfinite(view.healthy), view.healthy, np.nan), axis=0))

        def prepared(rows: Rows) -> Scores:
            return transformed(np.where(np.isfinite(rows), rows, fill), levels)

        y = prepared(view.healthy)
        smallest = floors(view.schema.names, view.schema.units, np.median(y, axis=0))
        y = y[~knocks(y, smallest, levels)]
        edges = np.linspace(0, len(y), BLOCKS + 1).round().astype(int)
        held = []
        for first, last in itertools.pairwise(edges):
            fitted = kind.fit(np.concatenate([y[:first], y[last:]]), smallest)
            held.append(agreeing(fitted.scores(y[first:last]), 3, 5))
        threshold = find_threshold(np.concatenate(held), window_s=window_s, per_month=1.0).value
        fitted = kind.fit(y, smallest)
        return lambda rows: fitted.scores(prepared(rows)) / threshold

    return learn


def rms_twice(view: data.View, _window_s: float) -> Judge:
    """The rule of thumb: RMS above twice its baseline."""
    at = [i for i, name in enumerate(view.schema.names) if name.endswith("/rms")]
    baseline = np.median(view.healthy[:, at], axis=0)
    return lambda rows: (rows[:, at] / (2 * baseline)).max(axis=1).astype(np.float64)


def always(_view: data.View, _window_s: float) -> Judge:
    """Flags everything: what a figure of merit must be better than."""
    return lambda flagged: np.ones(len(flagged))


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
    )


def line(row: Row) -> str:
    return (
        f"  {row.method:26s} AUC {row.auc:.4f}  detected {100 * row.detected:5.1f} %  "
        f"faults alarmed {row.faults_alarmed:7s} false/1000 {row.false_per_1000:6.1f}  "
        f"false alarm {'YES' if row.false_alarms else 'no'}"
    )


def run_to_failure() -> list[dict[str, Any]]:
    """First alarm in a run to failure, learned from the first 10, 20 and 30 % of life."""
    schema, rows, time_s = data.femto()
    end_s = float(time_s[-1])
    print("\nFEMTO bearing 1_1, run to failure: first alarm (3 of 5) after learning the first part of life")
    found = []
    for share in (0.1, 0.2, 0.3):
        known = round(share * len(rows))
        view = data.View(schema, rows[:known], rows[known:], {})
        for name, learn in [
            ("linear int8", network("linear", True)),
            ("dense int8", network("dense", True)),
            ("robust z", yardstick(RobustZ)),
            ("Mahalanobis", yardstick(Mahalanobis)),
            ("RMS x 2", rms_twice),
        ]:
            together = agreeing(learn(view, data.WINDOW_S)(rows[known:]), 3, 5)
            at = np.flatnonzero(together >= 1)
            when_s = float(time_s[known + at[0] + 4]) if at.size else float("nan")
            entry: dict[str, Any] = {
                "learned": share,
                "method": name,
                "share_of_life": when_s / end_s,
                "before_end_min": (end_s - when_s) / 60,
            }
            found.append(entry)
            clean = "in the first half of life" if entry["share_of_life"] < 0.5 else ""
            print(
                f"  learned {100 * share:.0f} %  {name:22s} alarm at {100 * entry['share_of_life']:5.1f} % "
                f"of life, {entry['before_end_min']:6.1f} min before the end  {clean}",
                flush=True,
            )
    return found


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
