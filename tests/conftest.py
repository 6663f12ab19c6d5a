"""Fixtures shared by all tests: the real recordings, and the tools that a test needs."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

# How long an example takes is no claim: on a small gateway it is many times longer.
settings.register_profile("gateway", deadline=None)
settings.load_profile("gateway")

# The matrices are small: a second thread of the linear algebra only gets in the way of the other tests.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

pytest_plugins = ["modbus_peers", "sync_ends"]

RECORDINGS = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def recordings() -> Path:
    """The folder of real recordings; the test is skipped by name where it is absent."""
    if not RECORDINGS.is_dir():
        pytest.skip(f"real recordings are not here ({RECORDINGS.name} beside the checkout)")
    return RECORDINGS


@pytest.fixture(scope="session")
def require_tool() -> Callable[[str, str], str]:
    """Return the path of a program, or skip naming the Debian package that has it.

    With PDM_REQUIRE_TOOLS=1 (as the continuous integration sets it) a missing tool fails.
    """

    def find(program: str, debian_package: str) -> str:
        path = shutil.which(program) or shutil.which(program, path="/usr/sbin:/sbin")
        if path is None:
            message = f"NEEDS {program}: apt-get install {debian_package}"
            if os.environ.get("PDM_REQUIRE_TOOLS") == "1":
                pytest.fail(message)
            pytest.skip(message)
        return path

    return find
