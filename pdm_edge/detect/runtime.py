"""The only file that knows a TFLite runtime.

Runtimes differ in what they install on, not in what they compute. One thread and no delegate: on
networks of this size a second thread costs more than it brings (36 ms at the 99th percentile was
measured), and without a delegate every runtime runs the same kernels. An interpreter is not to be
shared between threads: a shared one has given wrong results without an error.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from pdm_edge.errors import ModelError
from pdm_edge.records import Float32Array

RUNTIMES: Final = {
    "ai-edge-litert": "ai_edge_litert.interpreter",
    "tflite-runtime": "tflite_runtime.interpreter",
    "tensorflow": "tensorflow.lite.python.interpreter",
}
_INSTALL: Final = (
    "pip install 'ai-edge-litert>=2.1,<3', or pip install 'pdm-edge[tflite-runtime]' (below Python 3.12)"
)


class TfliteModel:
    """A model in an interpreter of its own.

    Parameters
    ----------
    content
        The bytes of a `.tflite` file. They must come from a bundle whose hash was checked: some
        runtimes crash the process on a damaged file.
    runtime
        A name of `RUNTIMES`, or ``"auto"`` for the first that works.

    Raises
    ------
    ModelError
        If no runtime is installed, or the content is not a model.
    """

    def __init__(self, content: bytes, *, runtime: str = "auto") -> None:
        self.runtime, module = _load(runtime)
        try:
            self._interpreter: Any = module.Interpreter(
                model_content=content,
                num_threads=1,
                experimental_op_resolver_type=module.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
            )
            self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise ModelError(f"the runtime refuses the model: {error}") from error
        inputs = self._interpreter.get_input_details()
        if len(inputs) != 1 or inputs[0]["dtype"] != np.float32:
            raise ModelError(f"the model has {len(inputs)} inputs, or one that is not float32")
        self._input = inputs[0]["index"]
        self.input_shape: tuple[int, ...] = tuple(int(n) for n in inputs[0]["shape"])
        self._outputs = [(o["name"], o["index"]) for o in self._interpreter.get_output_details()]

    def run(self, x: Float32Array) -> Mapping[str, Float32Array]:
        """Outputs by name for one input of the model's shape.

        Raises
        ------
        ModelError
            If shape or type of `x` are not the model's.
        """
        if x.shape != self.input_shape or x.dtype != np.float32:
            raise ModelError(f"input is {x.dtype} {x.shape}, the model takes float32 {self.input_shape}")
        interpreter = self._interpreter
        interpreter.set_tensor(self._input, x)
        interpreter.invoke()
        return {name: interpreter.get_tensor(index) for name, index in self._outputs}


def installed_runtimes() -> tuple[str, ...]:
    """Names of the runtimes that work here."""
    return tuple(name for name in RUNTIMES if not isinstance(_try(name), str))


def _load(runtime: str) -> tuple[str, Any]:
    if runtime != "auto" and runtime not in RUNTIMES:
        raise ModelError(f"unknown runtime {runtime!r}", mend=f"One of auto, {', '.join(RUNTIMES)}")
    reasons = []
    for name in RUNTIMES if runtime == "auto" else (runtime,):
        module = _try(name)
        if not isinstance(module, str):
            return name, module
        reasons.append(f"{name}: {module}")
    raise ModelError(f"no TFLite runtime works here ({'; '.join(reasons)})", mend=_INSTALL)


def _try(name: str) -> Any:
    """The module of a runtime, or the reason why it cannot be used."""
    if name == "tflite-runtime" and int(np.__version__.split(".")[0]) >= 2:
        # Its import succeeds and its constructor then raises SystemError.
        return f"needs NumPy below 2, this is {np.__version__}"
    try:
        return importlib.import_module(RUNTIMES[name])
    except ImportError as error:
        return str(error)
