"""Rules of the house that a reader relies on: who may import whom, and what is public."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import pdm_edge

ROOT = Path(__file__).resolve().parents[1]
STAGES = ("acquire", "features", "detect", "assess", "advise", "store", "sync", "serve")
FOUNDATION = {"records", "delivery", "ports", "errors", "clock", "_version"}


def imports_of(file: Path) -> set[str]:
    """Dotted names of all modules that a file imports."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            found.add(node.module or "")
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return found


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_imports_only_the_foundation_and_its_own_folder(stage: str) -> None:
    files = sorted((ROOT / "pdm_edge" / stage).rglob("*.py"))
    assert files
    for file in files:
        for name in imports_of(file):
            parts = name.split(".")
            if parts[0] == "pdm_edge" and len(parts) > 1:
                assert parts[1] in FOUNDATION | {stage}, f"{file.name} imports {name}"
            if parts[0] == "firmware_bridge":
                assert stage == "acquire", f"{file.name} imports {name}"


def test_the_foundation_imports_no_stage() -> None:
    for module in FOUNDATION:
        for name in imports_of(ROOT / "pdm_edge" / f"{module}.py"):
            parts = name.split(".")
            if parts[0] == "pdm_edge" and len(parts) > 1:
                assert parts[1] in FOUNDATION, f"{module} imports {name}"


def test_firmware_bridge_imports_nothing_of_ours() -> None:
    for file in (ROOT / "firmware_bridge").rglob("*.py"):
        assert not any(name.split(".")[0] == "pdm_edge" for name in imports_of(file)), file


def test_the_public_api_is_a_literal_list_that_holds_what_it_names() -> None:
    tree = ast.parse((ROOT / "pdm_edge" / "__init__.py").read_text())
    lists = [
        node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__"
    ]
    assert len(lists) == 1
    names = ast.literal_eval(lists[0])
    assert names == sorted(names, key=lambda n: (not n.isupper(), not n[0].isupper(), n))
    assert names == pdm_edge.__all__
    for name in names:
        assert getattr(pdm_edge, name) is not None


def test_import_loads_neither_scipy_signal_nor_pymodbus() -> None:
    heavy = ["scipy.signal", "scipy.stats", "scipy.io", "pymodbus", "paho", "ai_edge_litert"]
    code = f"import pdm_edge, pdm_edge.features, sys; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
