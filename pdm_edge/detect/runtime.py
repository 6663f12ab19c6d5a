"""The only file that knows a TFLite runtime.

Runtimes differ in what they install on, not in what they compute. One thread and no delegate: on
networks of this size a second thread costs more than it brings (36 ms at the 99th percentile was
measured), and without a delegate every runtime runs the same kernels. An interpreter is not to be
shared between threads: a shared one has given wrong results without an error.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
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
    xnnpack
        Let XNNPACK compute. Quicker for float32; networks of ours give the same scores either way.

    Raises
    ------
    ModelError
        If no runtime is installed, or the content is not a model.
    """

    def __init__(self, content: bytes, *, runtime: str = "auto", xnnpack: bool = False) -> None:
        self.runtime, module = _load(runtime)
        resolvers = module.OpResolverType
        try:
            self._interpreter: Any = module.Interpreter(
                model_content=content,
                num_threads=1,
                experimental_op_resolver_type=resolvers.BUILTIN
                if xnnpack
                else resolvers.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
            )
            self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise ModelError(f"the runtime refuses the model: {error}") from error
        inputs = self._interpreter.get_input_details()
        if len(inputs) != 1:
            raise ModelError(f"the model has {len(inputs)} inputs, not one")
        self._input = inputs[0]["index"]
        self.input_shape: tuple[int, ...] = tuple(int(n) for n in inputs[0]["shape"])
        self._input_int8 = _int8_scale(inputs[0])
        outputs = self._interpreter.get_output_details()
        self._outputs = [(o["name"], o["index"], _int8_scale(o)) for o in outputs]
        self.output_names = tuple(str(o["name"]) for o in outputs)
        self.output_shapes = {str(o["name"]): tuple(int(n) for n in o["shape"]) for o in outputs}
        self.int8_input = self._input_int8 is not None
        self._rows = self.input_shape[0] if self.input_shape else 1

    def run(self, x: Float32Array) -> dict[str, Float32Array]:
        """Outputs by name for one input of the model's shape; float32, whatever the model stores.

        Raises
        ------
        ModelError
            If shape or type of `x` are not the model's.
        """
        if x.shape != self.input_shape or x.dtype != np.float32:
            raise ModelError(f"input is {x.dtype} {x.shape}, the model takes float32 {self.input_shape}")
        if self._rows != self.input_shape[0]:
            self._resize(self.input_shape[0])
        return self._invoke(x)

    def invoke_only(self, x: Float32Array) -> Callable[[], Any]:
        """The bare call of the runtime, on an input that is set once: the bound of all around it."""
        self.run(x)
        bare: Callable[[], Any] = self._interpreter.invoke
        return bare

    def run_batch(self, rows: Float32Array) -> dict[str, Float32Array]:
        """Outputs for many inputs, shape ``(n, ...)``, in one call; output shapes begin with n.

        Raises
        ------
        ModelError
            If the rows are not of the model's shape, or the model cannot be resized.
        """
        shape = (len(rows), *self.input_shape[1:])
        if rows.size != np.prod(shape) or rows.dtype != np.float32 or len(rows) == 0:
            raise ModelError(f"rows are {rows.dtype} {rows.shape}, the model takes float32 {shape}")
        if self._rows != len(rows):
            self._resize(len(rows))
        return self._invoke(rows.reshape(shape))

    def _resize(self, rows: int) -> None:
        try:
            self._interpreter.resize_tensor_input(self._input, (rows, *self.input_shape[1:]))
            self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            self._interpreter.resize_tensor_input(self._input, self.input_shape)
            self._interpreter.allocate_tensors()
            self._rows = self.input_shape[0]
            raise ModelError(f"the model takes no {rows} rows at once: {error}") from error
        self._rows = rows

    def _invoke(self, x: Float32Array) -> dict[str, Float32Array]:
        interpreter = self._interpreter
        interpreter.set_tensor(self._input, x if self._input_int8 is None else _to_int8(x, self._input_int8))
        interpreter.invoke()
        return {
            name: interpreter.get_tensor(index)
            if scale is None
            else _from_int8(interpreter.get_tensor(index), scale)
            for name, index, scale in self._outputs
        }


def _int8_scale(details: dict[str, Any]) -> tuple[float, int] | None:
    """Scale and zero point of an int8 input or output, None for float32."""
    if details["dtype"] == np.float32:
        return None
    scale, zero = details["quantization"]
    if details["dtype"] != np.int8 or not scale > 0:
        kind = np.dtype(details["dtype"]).name
        raise ModelError(f"tensor {details['name']!r} is {kind}; float32 and int8 with a scale can be used")
    return float(scale), int(zero)


def _to_int8(x: Float32Array, scale: tuple[float, int]) -> Any:
    return np.clip(np.rint(x / scale[0]) + scale[1], -128, 127).astype(np.int8)


def _from_int8(values: Any, scale: tuple[float, int]) -> Float32Array:
    real: Float32Array = (values.astype(np.float32) - scale[1]) * np.float32(scale[0])
    return real


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
    others = installed_runtimes()
    if others:
        raise ModelError(f"runtime {reasons[0]}", mend=f"Working here: {', '.join(others)}")
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
