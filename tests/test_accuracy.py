"""On real recordings, with the defaults: every labelled fault alarms, nothing that is healthy does."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def accuracy() -> ModuleType:
    """benchmarks/accuracy.py, which measures what docs/accuracy.md says."""
    sys.path.insert(0, str(BENCHMARKS))
    try:
        spec = importlib.util.spec_from_file_location("accuracy", BENCHMARKS / "accuracy.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules["accuracy"] = module
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(BENCHMARKS))
    return module


@pytest.mark.recordings
@pytest.mark.parametrize("name", ["mfpt", "cwru", "uestc"])
def test_every_labelled_fault_alarms_and_no_healthy_recording_does(
    accuracy: ModuleType, recordings: Path, name: str
) -> None:
    assert recordings.is_dir()
    data_set = getattr(accuracy.data, name)()
    rows = {}
    for quantize in (True, False):
        judge = accuracy.network("linear", quantize)(data_set.features, data_set.window_s)
        rows[quantize] = accuracy.measured(name, "linear", data_set.features, judge)
    alarmed, faults = rows[True].faults_alarmed.split(" of ")
    assert alarmed == faults
    assert rows[True].false_alarms == 0
    assert rows[True].false_per_1000 < 10  # one window of 131 holds a knock
    assert rows[True].auc > 0.999
    assert abs(rows[True].auc - rows[False].auc) < 0.005


@pytest.mark.recordings
@pytest.mark.parametrize("share", [0.1, 0.2, 0.3])
def test_a_run_to_failure_is_told_in_its_second_half_and_never_later_than_by_twice_the_level(
    accuracy: ModuleType, recordings: Path, share: float
) -> None:
    assert recordings.is_dir()
    failure = accuracy.accuracy_failure
    run = accuracy.data.femto()
    known = round(share * len(run.rows))
    severities = dict(failure.judged(run, share, trained=False))
    at = {name: known + failure.first_of(s, "alert", "alarm") for name, s in severities.items()}
    assert at["product"] <= at["RMS x 2"]
    assert run.time_s[at["product"]] > 0.5 * run.time_s[-1]  # clean
    assert run.time_s[-1] - run.time_s[at["product"]] > 40 * 60  # ten times the 4 min of RMS x 2 elsewhere


@pytest.mark.parametrize("seed", [50, 51])
def test_simulated_lives_are_told_once_the_fault_grows_and_not_before(
    accuracy: ModuleType, seed: int
) -> None:
    failure = accuracy.accuracy_failure
    run = failure.life(seed)
    severities = dict(failure.judged(run, 0.3, trained=False))
    at = {name: 180 + failure.first_of(s, "alert", "alarm") for name, s in severities.items()}
    assert run.onset <= at["product"] < at["RMS x 2"]


@pytest.mark.recordings
@pytest.mark.parametrize("name", ["mfpt", "cwru", "uestc"])
def test_impacts_in_the_mean_are_not_told_of_healthy_recordings(
    accuracy: ModuleType, recordings: Path, name: str
) -> None:
    assert recordings.is_dir()
    told = accuracy.in_the_mean(getattr(accuracy.data, name)(faint=True))
    assert "HEALTHY" not in told["told"]


def test_the_area_under_the_curve_counts_ties_half(accuracy: ModuleType) -> None:
    import numpy as np

    assert accuracy.auc(np.array([1.0, 1.0]), np.array([1.0, 1.0])) == 0.5
    assert accuracy.auc(np.array([0.0, 1.0]), np.array([2.0, 3.0])) == 1.0
    assert accuracy.auc(np.array([0.0, 2.0]), np.array([1.0])) == 0.5
