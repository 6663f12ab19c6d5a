"""The promises of the detect stage, each as a ratio against a bound or a peer in the same run."""

from __future__ import annotations

import importlib
import importlib.util
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pdm_edge.detect.anomaly import AnomalyDetector
from pdm_edge.detect.bundle import Bundle
from pdm_edge.detect.commission import commission
from pdm_edge.records import FeatureSchema, FeatureVector, Stamp

K = 64
WINDOWS = 2000
STAMP = Stamp(0, 0, "bench", True)


def main() -> None:
    random = np.random.default_rng(0)
    y = random.standard_normal((WINDOWS, 6)) @ random.standard_normal((6, K))
    x = np.exp(0.1 * (y + 0.3 * random.standard_normal(y.shape))).astype(np.float32)
    schema = FeatureSchema(tuple(f"de/x/band_{i}" for i in range(K)), ("g",) * K)
    vectors = [FeatureVector("m", row, schema, STAMP, 1.0, "running") for row in x]
    for family in ("linear", "dense"):
        start = time.process_time()
        model, manifest = commission(vectors, name="m", family=family)
        taken_s = time.process_time() - start
        print(
            f"{family}: {WINDOWS} windows of {K} learned in {taken_s:.1f} s CPU (bound 300), {len(model)} B"
        )
        detector = AnomalyDetector(Bundle(Path(), manifest, model))
        report(detector, vectors, x)
    print(
        f"memory: the detect stage adds {memory_mb():.1f} MB to a process with NumPy and a runtime (bound 10)"
    )


def report(detector: AnomalyDetector, vectors: list[FeatureVector], x: npt.NDArray[np.float32]) -> None:
    vector, row, batch = vectors[0], x[:1], x[:64]
    bare_us = 1e6 * per_call(detector.invoke_only(row), 20_000)
    score_us = 1e6 * per_call(lambda: detector.score(vector), 20_000)
    print(f"  score {score_us:.1f} us = {score_us / bare_us:.1f} x bare invoke {bare_us:.1f} us (bound 6)")
    single_us = 1e6 * per_call(lambda: detector.score(vector), 5000)
    batch_us = 1e6 * per_call(lambda: detector.score_rows(batch, "running"), 500) / 64
    print(f"  batch of 64: {single_us / batch_us:.1f} x the single rate (bound 5)")
    if importlib.util.find_spec("sklearn") is None:
        print("  IsolationForest: scikit-learn is not installed, not compared")
        return
    ensemble = importlib.import_module("sklearn.ensemble")
    forest = ensemble.IsolationForest(n_estimators=100, random_state=0).fit(x)
    forest_us = 1e6 * per_call(lambda: forest.score_samples(row), 100)
    print(
        f"  IsolationForest(100), one row: {forest_us:.0f} us = {forest_us / score_us:.0f} x ours (bound 100)"
    )


def per_call(call: Callable[[], object], calls: int) -> float:
    """The better of three runs: what disturbs can only add."""
    best = float("inf")
    for _ in range(3):
        start = time.perf_counter()
        for _ in range(calls):
            call()
        best = min(best, (time.perf_counter() - start) / calls)
    return best


def memory_mb() -> float:
    code = """
import resource
def peak(): return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize() / 1e6
import numpy, msgspec, pdm_edge.records
from pdm_edge.detect.runtime import _load
_load("auto")
before = peak()
from pdm_edge.detect.anomaly import AnomalyDetector
from pdm_edge.detect.bundle import load_bundle
from pdm_edge.detect.beside import Beside
bundle = load_bundle("simulated-pump")
detector = AnomalyDetector(bundle)
watch = Beside(bundle.manifest)
detector.score_rows(numpy.array([bundle.manifest.baseline], dtype=numpy.float32))
print(peak() - before)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return float(done.stdout)


if __name__ == "__main__":
    main()
