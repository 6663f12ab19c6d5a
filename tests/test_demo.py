"""The demo does what it promises, in the time it promises; it says so itself, and both ends agree."""

from __future__ import annotations

import re
import sqlite3
import subprocess
import sys
from pathlib import Path

from pdm_edge.store import read_status

PDM_EDGE = str(Path(sys.executable).parent / "pdm-edge")


def test_the_demo_learns_alarms_loses_the_link_and_loses_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    done = subprocess.run(
        [PDM_EDGE, "demo", "--keep", str(folder)], capture_output=True, text=True, check=False, timeout=110
    )
    assert done.returncode == 0, done.stdout + done.stderr
    story = [
        "pump-1: learning -> normal",
        "(the bearing starts to fail",
        "(the link to the receiver goes down)",
        "-> alarm: ",
        "(the link is back)",
    ]
    places = [done.stdout.index(part) for part in story]
    assert places[:3] == sorted(places[:3])
    assert "At the end: outer race line (BPFO) at drive-end" in done.stdout
    numbers = {
        name.strip(): int(value.replace(",", ""))
        for name, value in re.findall(r"│ ([a-z (),:]+?) +│ +([\d,]+) │", done.stdout)
    }
    assert numbers["rows lost"] == numbers["rows that wait"] == numbers["samples lost on the line"] == 0
    assert numbers["rows buffered"] == numbers["rows delivered"] > 100
    status = read_status(folder / "pump-1.db")
    with sqlite3.connect(folder / "received.db") as far:
        (rows,) = far.execute("SELECT count(DISTINCT seq) FROM received").fetchone()
    far.close()
    assert rows == status.last_seq - status.held == numbers["rows delivered"]
    assert (folder / "models" / "pump-1" / "model.tflite").is_file()
    took_s = re.search(r"│ time +│ +(\d+) s │", done.stdout)
    assert took_s is not None
    assert int(took_s[1]) < 60


def test_the_demo_does_not_overwrite_a_folder(tmp_path: Path) -> None:
    (tmp_path / "precious.txt").write_text("mine")
    done = subprocess.run(
        [PDM_EDGE, "demo", "--keep", str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "is not empty. Name a new folder" in done.stderr
