"""Bounded fuzzing of each layer, from the corpus that is kept in fuzz/corpus.

For longer: ``python tests/fuzz/fuzz_layer.py codec tests/fuzz/corpus/codec -max_total_time=3600``.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from firmware_bridge.emulator import C_FOLDER

FUZZ = Path(__file__).parent / "fuzz"
ROOT = FUZZ.parents[1]
RUNS = {"slicing": 20_000, "framing": 30_000, "codec": 30_000, "stream": 15_000}


@pytest.mark.parametrize("layer", RUNS)
def test_no_input_breaks_a_python_layer(layer: str, tmp_path: Path) -> None:
    if importlib.util.find_spec("atheris") is None:
        pytest.skip("NEEDS atheris, which has no wheel for this Python and platform")
    corpus = FUZZ / "corpus" / layer
    assert any(corpus.iterdir())
    # What is found new goes to the first folder; the one in the repository is only read.
    command = [sys.executable, str(FUZZ / "fuzz_layer.py"), layer, str(tmp_path), str(corpus)]
    bounds = [f"-runs={RUNS[layer]}", "-seed=1", "-max_len=600", f"-artifact_prefix={tmp_path}/"]
    done = subprocess.run(
        [*command, *bounds],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert f"Done {RUNS[layer]} runs" in done.stderr


def test_no_input_breaks_the_c_decoder(tmp_path: Path, require_tool: Callable[[str, str], str]) -> None:
    clang = require_tool("clang", "clang")
    program = tmp_path / "fuzz_wire"
    sources = [str(C_FOLDER / "pdm_wire.c"), str(C_FOLDER / "tests" / "wire_check.c")]
    flags = ["-std=c99", "-g", "-O1", "-DPDM_FUZZ", "-fsanitize=fuzzer,address,undefined"]
    build = subprocess.run(
        [clang, *flags, "-fno-sanitize-recover=all", *sources, "-o", str(program)],
        capture_output=True,
        text=True,
        check=False,
    )
    if "cannot find" in build.stderr and os.environ.get("PDM_REQUIRE_TOOLS") != "1":
        pytest.skip("NEEDS libclang_rt: apt-get install libclang-rt-dev")
    assert build.returncode == 0, build.stderr
    found = tmp_path / "found"
    found.mkdir()
    done = subprocess.run(
        [program, found, FUZZ / "corpus" / "wire", "-runs=60000", "-seed=1", "-max_len=600"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Done 60000 runs" in done.stderr
