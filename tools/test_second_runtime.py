"""Run the model tests under tflite-runtime too, alone in an environment of its own.

It stops at Python 3.11 and NumPy 1, so it cannot share the environment of the other tests. Where
it has no wheel this says so and leaves it out.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / ".venv-tflite"
LIST = ROOT / "tests" / "tflite-runtime.txt"
TESTS = ("tests/test_detect.py", "tests/test_author.py", "tests/test_learning.py", "tests/test_foreign.py")


def main() -> None:
    if sys.version_info >= (3, 12) or sys.platform != "linux":
        print(
            f"LEFT OUT: no wheel of tflite-runtime for Python {platform.python_version()} on {sys.platform}; "
            "the model tests ran under ai-edge-litert only",
            file=sys.stderr,
        )
        return
    ready = FOLDER / ".ready"
    if not ready.exists() or ready.stat().st_mtime < LIST.stat().st_mtime:
        make = [sys.executable, str(ROOT / "tools" / "make_venv.py"), str(FOLDER), "-r", str(LIST)]
        subprocess.run(make, check=True)
        ready.touch()
    tests = [test for test in TESTS if (ROOT / test).exists()]
    command = [str(FOLDER / "bin" / "python"), "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests]
    environment = {**os.environ, "PDM_EXPECT_RUNTIME": "tflite-runtime"}
    sys.exit(subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode)


if __name__ == "__main__":
    main()
