"""What may be sent when: bytes a day, quiet hours."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from sync_ends import Scripted, wait_for
from test_buffer import alarm, features, opened

from pdm_edge.errors import ConfigError
from pdm_edge.records import LANES, Lane
from pdm_edge.sync import SyncWorker, drain
from pdm_edge.sync.budget import Budget


def test_the_budget_of_a_day_goes_to_alarms_first_and_survives_a_restart(tmp_path: Path) -> None:
    day = 1_790_000_000 // 86_400 * 86_400
    clock = [day + 3600.0 * 11]
    buffer = opened(tmp_path / "b.db")
    budget = Budget(buffer, max_kb_per_day=100, now_s=lambda: clock[0])
    assert budget.lanes() == LANES
    budget.spend(49_000)
    assert budget.lanes() == LANES
    budget.spend(2_000)
    assert budget.lanes() == ("alarm", "event")
    buffer.close()
    buffer = opened(tmp_path / "b.db")
    budget = Budget(buffer, max_kb_per_day=100, now_s=lambda: clock[0])
    assert budget.lanes() == ("alarm", "event")
    clock[0] += 3600 * 2
    assert budget.lanes() == LANES
    budget.spend(60_000)
    clock[0] = day + 86_399
    assert budget.lanes() == ("alarm", "event")
    clock[0] = day + 86_400
    assert budget.lanes() == LANES
    assert list((buffer.status().sent_bytes_by_day or {}).values()) == [111_000]
    buffer.close()


def test_the_estimate_until_drained_holds_on_a_link_that_is_kept_slow(tmp_path: Path) -> None:
    buffer = opened(tmp_path / "b.db")
    for n in range(60):  # a good hour in which each row went at once: it says nothing of a drain
        buffer.write([features(n)])
        drain(buffer, Scripted([]))
    buffer.write([features(n) for n in range(3000)])
    budget = Budget(buffer, max_kbit_s=40.0)  # Scripted counts 1000 bytes a batch: 0.2 s each
    worker = SyncWorker(buffer, Scripted([]), batch_rows=50, budget=budget)
    worker.start()
    wait_for(lambda: buffer.status().rows <= 2000)
    estimate_s, began_s = buffer.status().drained_in_s, time.monotonic()
    buffer.write([alarm(1)])  # a single alarm, quickly delivered, must not spoil it
    worker.notify(urgent=True)
    wait_for(lambda: buffer.status().lanes["alarm"].rows == 0)
    later_s = buffer.status().drained_in_s
    wait_for(lambda: buffer.status().rows == 0)
    took_s = time.monotonic() - began_s
    worker.stop()
    assert estimate_s is not None
    assert later_s is not None
    assert 0.6 * took_s < estimate_s < 1.6 * took_s
    assert 0.5 * took_s < later_s < 1.7 * took_s
    buffer.close()


def test_in_quiet_hours_only_alarms_are_sent(tmp_path: Path) -> None:
    buffer = opened(tmp_path / "b.db")

    def lanes_at(hour: int, minute: int, hours: str) -> tuple[Lane, ...]:
        at_s = time.mktime((2026, 11, 24, hour, minute, 0, 0, 0, -1))
        return tuple(Budget(buffer, quiet_hours=hours, now_s=lambda: at_s).lanes())

    assert lanes_at(23, 0, "22:00-06:00") == ("alarm",)
    assert lanes_at(5, 59, "22:00-06:00") == ("alarm",)
    assert lanes_at(6, 0, "22:00-06:00") == LANES
    assert lanes_at(12, 30, "12:00-13:00") == ("alarm",)
    assert lanes_at(13, 0, "12:00-13:00") == LANES
    for wrong in ("22-6", "24:00-06:00", "22:00-06:60", ""):
        with pytest.raises(ConfigError, match="Write 22:00-06:00"):
            Budget(buffer, quiet_hours=wrong)
    with pytest.raises(ConfigError, match="positive"):
        Budget(buffer, max_kb_per_day=0)
    buffer.close()
