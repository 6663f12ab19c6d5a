"""The figures that every model carries: latency, throughput, energy, size, memory, accuracy."""

from __future__ import annotations

import json
import math
import platform
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from pdm_edge.detect.anomaly import AnomalyDetector
from pdm_edge.detect.bundle import Bundle, load_bundle
from pdm_edge.detect.energy import POWERCAP, EnergyCounter
from pdm_edge.detect.runtime import TfliteModel
from pdm_edge.errors import ModelError
from pdm_edge.records import FeatureVector, Float32Array, Stamp

BATCH: Final = 64
_CHILD: Final = """
import resource, sys
def resident(): return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()
import numpy as np
import pdm_edge.detect.anomaly
before = resident()
from pdm_edge.detect.energy import POWERCAP, EnergyCounter
from pdm_edge.detect.runtime import TfliteModel
model = TfliteModel(sys.stdin.buffer.read(), runtime=sys.argv[1])
model.run(np.zeros(model.input_shape, dtype=np.float32))
print((resident() - before) / 1e6)
"""


def measure_model(
    name: str,
    *,
    runtime: str = "auto",
    watts: float = 5.0,
    calls: int = 5000,
    powercap: Path = POWERCAP,
) -> dict[str, Any]:
    """All figures of a bundle or a `.tflite` file, in process and on one thread.

    Parameters
    ----------
    watts
        Power of the gateway at work, for the estimate where no energy counter can be read.
    calls
        Calls that are timed one by one.
    powercap
        Where Linux shows the energy counters of the processor.

    Raises
    ------
    ModelError
        If the model cannot be loaded or run.
    """
    bundle = None if name.endswith(".tflite") else load_bundle(name)
    try:
        content = bundle.model if bundle is not None else Path(name).read_bytes()
    except OSError as error:
        raise ModelError(f"cannot be read: {error}", where=name) from error
    model = TfliteModel(content, runtime=runtime)
    x = np.full(model.input_shape, 0.5, dtype=np.float32)
    invoke_us = _timed(model.invoke_only(x), calls)
    score = _scoring(bundle, runtime) if bundle is not None else _plain(model, x)
    score_us = _timed(score, calls)
    energy_uj, basis = _energy(score, calls, watts, powercap)
    p50 = float(np.percentile(invoke_us, 50))
    return {
        "model": name,
        "bytes": len(content),
        "runtime": model.runtime,
        "input_shape": model.input_shape,
        "processor": platform.machine(),
        "invoke_p50_us": p50,
        "invoke_p99_us": float(np.percentile(invoke_us, 99)),
        "score_p50_us": float(np.percentile(score_us, 50)),
        "score_p99_us": float(np.percentile(score_us, 99)),
        "score_over_invoke": float(np.percentile(score_us, 50)) / p50,
        "windows_per_s": 1e6 / float(np.mean(score_us)),
        "batch_windows_per_s": _batch(model, x),
        "energy_uj": energy_uj,
        "energy_basis": basis,
        "memory_mb": _memory_mb(content, runtime),
        "accuracy": _accuracy(bundle),
    }


def accuracy_text(healthy: Sequence[float], faulty: Sequence[float]) -> str:
    """AUC (ties count half) and rates at the threshold, in words.

    Raises
    ------
    ModelError
        If there are no scores on one side.
    """
    if not healthy or not faulty:
        raise ModelError(f"{len(healthy)} healthy and {len(faulty)} faulty scores give no accuracy")
    order = np.sort(np.asarray(healthy))
    low = np.searchsorted(order, faulty, side="left") + np.searchsorted(order, faulty, side="right")
    auc = float(np.mean(low)) / (2 * len(order))
    high = 1000 * float(np.mean(order >= 1))
    seen = 100 * float(np.mean(np.asarray(faulty) >= 1))
    return (
        f"AUC {auc:.4f}, {high:.1f} false per 1,000 healthy windows, {seen:.1f} % of faulty windows detected"
    )


def _timed(call: Any, calls: int) -> Float32Array:
    for _ in range(min(calls, 200)):
        call()
    taken = np.empty(calls, dtype=np.float32)
    clock = time.perf_counter_ns
    for index in range(calls):
        start = clock()
        call()
        taken[index] = (clock() - start) / 1e3
    return taken


def _scoring(bundle: Bundle, runtime: str) -> Any:
    detector = AnomalyDetector(bundle, runtime=runtime)
    manifest = bundle.manifest
    state = next(iter(manifest.states), "running")
    values = np.array(manifest.baseline, dtype=np.float32)
    stamp = Stamp(0, 0, "bench", True)
    vector = FeatureVector("bench", values, manifest.schema, stamp, manifest.training.window_s, state)
    return lambda: detector.score(vector)


def _plain(model: TfliteModel, x: Float32Array) -> Any:
    return lambda: model.run(x)


def _batch(model: TfliteModel, x: Float32Array) -> float | None:
    """Windows a second in batches; None if the model takes no batches."""
    rows = np.repeat(x, BATCH, axis=0) if x.ndim else x
    try:
        outputs = model.run_batch(rows)
    except ModelError:
        return None
    if any(values.shape[:1] != (len(rows),) for values in outputs.values()):
        return None
    taken_us = _timed(lambda: model.run_batch(rows), 200)
    return BATCH * 1e6 / float(np.mean(taken_us))


def _energy(call: Any, calls: int, watts: float, powercap: Path) -> tuple[float, str]:
    """Energy of one call in uJ, and whether it was measured."""
    counter, start = EnergyCounter(powercap), time.process_time()
    for _ in range(calls):
        call()
    cpu_s, used_uj = time.process_time() - start, counter.used_uj()
    if used_uj:  # a counter that stands still measures nothing
        return used_uj / calls, "measured by RAPL, whole package"
    return cpu_s / calls * watts * 1e6, f"estimated: CPU time at {watts:g} W"


def _memory_mb(content: bytes, runtime: str) -> float:
    """Resident memory that runtime and model add to a process that has NumPy; NaN where it is not known."""
    command = [sys.executable, "-c", _CHILD, runtime]
    done = subprocess.run(command, input=content, capture_output=True, check=False, timeout=60)
    if done.returncode != 0:
        return math.nan
    return float(json.loads(done.stdout))


def _accuracy(bundle: Bundle | None) -> str:
    if bundle is None:
        return "not known: a bare file names no data; pack it with a card"
    threshold = bundle.manifest.threshold
    held = f"{threshold.held_back} held-back positions, highest {_highest(threshold.tail, threshold.value)}"
    return f"on its own held-back healthy data: {held} of the threshold; on public data: docs/accuracy.md"


def _highest(tail: tuple[float, ...], value: float) -> str:
    return f"{max(tail) / value:.2f}" if tail else "not kept"
