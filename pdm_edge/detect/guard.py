"""Opens a model in a child process first: one that crashes the runtime takes no monitor down.

A hash says that a model is the one that was packed, not that it is harmless; tflite-runtime crashes
the process on a third of all damaged files. What survives a load and an inference there may be
opened here.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from pdm_edge.detect.runtime import TfliteModel
from pdm_edge.errors import ModelError

TIMEOUT_S: Final = 30.0
_MARK: Final = "pdm-edge-model:"


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What a model takes and gives."""

    runtime: str
    input_shape: tuple[int, ...]
    outputs: dict[str, tuple[int, ...]]
    int8_input: bool


def try_model(content: bytes, *, runtime: str = "auto", timeout_s: float = TIMEOUT_S) -> ModelFacts:
    """Load the model and run it once, in a child process.

    Raises
    ------
    ModelError
        If the runtime refuses it, crashes, or does not come to an end.
    """
    command = [sys.executable, "-m", "pdm_edge.detect.guard", runtime]
    quiet = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    try:
        done = subprocess.run(
            command, input=content, capture_output=True, timeout=timeout_s, check=False, env=quiet
        )
    except subprocess.TimeoutExpired as error:
        raise ModelError(f"the model did not load and run within {timeout_s:g} s") from error
    text = done.stdout.decode(errors="replace")
    if done.returncode < 0:
        name = signal.Signals(-done.returncode).name
        raise ModelError(f"the model crashes the runtime ({name}); it is damaged or hostile")
    answer = next((line for line in text.splitlines() if line.startswith(_MARK)), None)
    if answer is None:
        told = done.stderr.decode(errors="replace").strip().splitlines()
        raise ModelError(f"the model could not be tried: {told[-1] if told else 'no answer'}")
    found: dict[str, Any] = json.loads(answer.removeprefix(_MARK))
    if "error" in found:
        raise ModelError(found["error"])
    outputs = {name: tuple(shape) for name, shape in found["outputs"].items()}
    return ModelFacts(found["runtime"], tuple(found["input_shape"]), outputs, found["int8_input"])


def main(runtime: str) -> None:
    """The child: model on stdin, one line of JSON on stdout."""
    content = sys.stdin.buffer.read()
    try:
        model = TfliteModel(content, runtime=runtime)
        model.run(np.zeros(model.input_shape, dtype=np.float32))
    except ModelError as error:
        answer: dict[str, Any] = {"error": str(error)}
    except (ValueError, RuntimeError, MemoryError, OverflowError, SystemError) as error:
        answer = {"error": f"the runtime cannot run the model: {error}"}
    else:
        answer = {
            "runtime": model.runtime,
            "input_shape": model.input_shape,
            "outputs": model.output_shapes,
            "int8_input": model.int8_input,
        }
    sys.stdout.write(f"{_MARK}{json.dumps(answer)}\n")


if __name__ == "__main__":
    main(sys.argv[1])
