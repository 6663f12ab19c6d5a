"""Late replies on lines without transaction numbers: no value passes under another's name.

The peers are libmodbus behind a bad line; a storm that would take days runs in virtual time.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from modbus_peers import Arrivals, BadLine, RtuLine, opened, register, unharmed
from modbus_virtual import Fault, virtual_line

from pdm_edge.acquire import modbus
from pdm_edge.acquire.burst import BurstTask
from pdm_edge.acquire.modbus import DeviceOptions, ModbusSource
from pdm_edge.acquire.modbus_frames import read_request, rtu_frame
from pdm_edge.acquire.modbus_line import ModbusLine, NoAnswerError, QuarantineError, RefusedError
from pdm_edge.acquire.modbus_quarantine import Quarantine
from pdm_edge.acquire.modbus_url import line_settings
from pdm_edge.acquire.registers import Block
from pdm_edge.clock import SystemClock
from pdm_edge.records import Reading

A, B = read_request("input", 0, 1), read_request("input", 2, 1)


# Pure: what has to wait


def test_after_a_miss_whatever_its_reply_would_fit_waits_and_nothing_else() -> None:
    quarantine = Quarantine(3.0)
    longer, holding = read_request("input", 8, 4), read_request("holding", 0, 1)
    for request in (A, B, longer, holding):
        assert quarantine.wait_s(1, request, 0.0) == 0
    quarantine.ended(1, A, 0.0, 0.5, is_sure=False)
    # An exception does not tell its length, so a longer request has to wait as well.
    assert [quarantine.wait_s(1, request, 1.5) for request in (A, B, longer)] == [2.0, 2.0, 2.0]
    assert quarantine.wait_s(1, holding, 1.5) == quarantine.wait_s(2, B, 1.5) == 0
    assert quarantine.wait_s(1, B, 3.5) == 0


def test_the_only_request_is_repeated_at_once_and_prolongs_the_wait_of_a_second() -> None:
    quarantine = Quarantine(3.0)
    assert quarantine.wait_s(1, A, 0.0) == 0
    quarantine.ended(1, A, 0.0, 0.5, is_sure=False)
    assert quarantine.wait_s(1, A, 1.0) == 0
    quarantine.ended(1, A, 1.0, 1.1, is_sure=True)  # by which of the two replies?
    assert quarantine.wait_s(1, B, 2.0) == pytest.approx(2.1)
    assert quarantine.wait_s(1, A, 2.0) == pytest.approx(2.1)  # or B would never have its turn
    assert quarantine.wait_s(1, A, 4.2) == 0


# Each case against libmodbus


class Script:
    """What happens to the first replies; the rest arrive unharmed."""

    def __init__(self, *steps: float | None) -> None:
        self._steps = list(steps)

    def __call__(self, reply: bytes) -> Arrivals:
        delay_s = self._steps.pop(0) if self._steps else 0.0
        return [] if delay_s is None else [(delay_s, reply)]


def ask(line: ModbusLine, address: int, count: int = 1) -> list[int] | str:
    try:
        return list(line.read(1, Block("input", address, count, ())))
    except QuarantineError:
        return "waits"
    except NoAnswerError:
        return "silent"


@pytest.fixture
def line(bad_rtu: BadLine) -> Iterator[ModbusLine]:
    line = ModbusLine(line_settings(f"{bad_rtu.url}&late_ms=900"))
    assert [ask(line, 0), ask(line, 2)] == [[100], [102]]
    yield line
    line.close()


@pytest.mark.parametrize(
    ("a_after_s", "b_after_s"),
    [(0.4, None), (0.4, 0.8), (0.9, 0.0), (1.1, 1.1)],
    ids=["B lost", "B later than a time-out after A", "B at once", "both late"],
)
def test_a_late_reply_is_never_another_registers_value(
    bad_rtu: BadLine, line: ModbusLine, a_after_s: float, b_after_s: float | None
) -> None:
    bad_rtu.fault = Script(a_after_s, b_after_s)
    assert ask(line, 0) == "silent"
    deadline = time.monotonic() + 10
    while (got := ask(line, 2)) != [102]:
        assert got in ("waits", "silent"), got
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert ask(line, 0) == [100]


def test_a_late_exception_refuses_no_other_request(bad_rtu: BadLine, line: ModbusLine) -> None:
    bad_rtu.fault = lambda reply: [(0.5, rtu_frame(reply[0], bytes([reply[1] | 0x80, 2])))]
    assert ask(line, 0, 2) == "silent"
    bad_rtu.fault = unharmed
    deadline = time.monotonic() + 10
    while (got := ask(line, 4, 4)) != [104, 105, 106, 107]:
        assert got == "waits"  # RefusedError would split this block
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_other_devices_and_functions_do_not_wait(bad_rtu: BadLine, line: ModbusLine) -> None:
    bad_rtu.fault = Script(None)
    assert [ask(line, 0), ask(line, 2)] == ["silent", "waits"]
    with pytest.raises(RefusedError):
        line.read(1, Block("coil", 0, 1, ()))
    with pytest.raises(NoAnswerError, match="no answer"):
        line.read(9, Block("input", 0, 1, ()))


def test_a_device_that_is_asked_one_thing_is_asked_again_at_once(bad_rtu: BadLine) -> None:
    line = ModbusLine(line_settings(bad_rtu.url))
    bad_rtu.fault = Script(0.4)
    assert [ask(line, 0), ask(line, 0)] == ["silent", [100]]
    line.close()


def test_over_a_serial_server_the_wait_outlasts_the_connection(rtu: RtuLine) -> None:
    bad = BadLine(lambda: os.open(rtu.near, os.O_RDWR | os.O_NOCTTY), serial=False)
    line = ModbusLine(line_settings(bad.url.replace("modbus+tcp", "modbus+rtu+tcp")))
    try:
        assert [ask(line, 0), ask(line, 2)] == [[100], [102]]
        bad.fault = Script(None)
        assert ask(line, 0) == "silent"
        line.close()
        assert ask(line, 2) == "waits"
    finally:
        line.close()
        bad.close()


# Storms


def late(share: float) -> Fault:
    def fault(reply: bytes, dice: random.Random) -> Arrivals:
        return [(dice.uniform(0.0, 3.0) if dice.random() < share else 0.0, reply)]

    return fault


def anything(share: float) -> Fault:
    """Late, lost, halved, repeated, in pieces, and late exceptions instead of the answer."""

    def fault(reply: bytes, dice: random.Random) -> Arrivals:
        if dice.random() >= share:
            return unharmed(reply)
        wait_s = dice.uniform(0.0, 3.0)
        exception = rtu_frame(reply[0], bytes([reply[1] | 0x80, dice.choice([1, 2, 3, 4, 6, 10])]))
        choices: list[Arrivals] = [
            [(wait_s, reply)],
            [],
            [(0.0, reply[:4])],
            [(0.0, reply), (dice.uniform(0.0, 0.055), reply)],
            [(wait_s, reply[:3]), (wait_s + dice.uniform(0.0, 0.3), reply[3:])],
            [(wait_s, exception)],
        ]
        return dice.choice(choices)

    return fault


def storm(fault: Fault, seed: int, *, n: int, poll_s: float, for_s: float) -> tuple[float, int]:
    """Good values as a share of those that a line without faults gives, and the wrong ones."""
    wanted = [register(f"r{a}", a) for a in range(0, 2 * n, 2)]
    with virtual_line(fault, seed) as line:
        source = ModbusSource(
            "modbus+rtu:///dev/virtual?baud=115200", wanted, clock=SystemClock(), poll_s=poll_s
        )
        n_good = n_wrong = 0
        ends_s = line.time.now_s + for_s
        while line.time.now_s < ends_s:
            for reading in source.read(0.05):
                if isinstance(reading, Reading) and reading.quality.level == "good":
                    n_good += 1
                    n_wrong += int(reading.value) >> 8 != int(reading.quantity[1:])
    return n_good / (for_s / poll_s * n), n_wrong


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("share", [0.01, 0.05, 0.12, 0.3])
@pytest.mark.parametrize("kind", [late, anything])
def test_no_storm_in_virtual_time_makes_a_wrong_value_good(
    kind: Callable[[float], Fault], share: float, seed: int
) -> None:
    good, wrong = storm(kind(share), seed, n=5, poll_s=0.05, for_s=240)
    assert wrong == 0
    assert good > 0.003  # it never stands still for good


@pytest.mark.parametrize(
    ("n", "share", "least"), [(1, 0.01, 0.96), (1, 0.12, 0.7), (5, 0.01, 0.8), (5, 0.12, 0.25)]
)
def test_what_the_wait_costs_is_bounded(n: int, share: float, least: float) -> None:
    """Polled once a second; docs/modbus.md tells what was measured."""
    good, wrong = storm(late(share), 7, n=n, poll_s=1.0, for_s=3600)
    assert wrong == 0
    assert good >= least


def test_a_storm_on_real_lines_makes_no_wrong_value_good(
    tmp_path: Path,
    slave_binary: Path,
    require_tool: Callable[[str, str], str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Four lines, each with a libmodbus slave and its own share of late replies, for 12 s."""
    monkeypatch.setattr(modbus, "FIRST_PAUSE_S", 0.1)
    socat = require_tool("socat", "socat")
    results: dict[float, tuple[int, int]] = {}

    def soak(share: float, seed: int) -> None:
        folder = tmp_path / str(seed)
        folder.mkdir()
        dice, fault = random.Random(seed), late(share)
        rtu = RtuLine(folder, socat, slave_binary)
        rtu.plug()
        bad = BadLine(lambda: os.open(rtu.near, os.O_RDWR | os.O_NOCTTY), serial=True)
        bad.fault = lambda reply: fault(reply, dice)
        n_good = n_wrong = 0
        ends_s = time.monotonic() + 12
        try:
            with opened(bad.url, [register(f"r{a}", a) for a in range(0, 10, 2)], 0.01) as source:
                while time.monotonic() < ends_s:
                    for r in source.read(0.05):
                        if isinstance(r, Reading) and r.quality.level == "good":
                            n_good += 1
                            n_wrong += r.value != 100 + int(r.quantity[1:])
        finally:
            bad.close()
            rtu.pull()
        results[share] = n_good, n_wrong

    shares = (0.01, 0.05, 0.12, 0.3)
    threads = [threading.Thread(target=soak, args=(share, n)) for n, share in enumerate(shares)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(results) == set(shares)
    assert all(wrong == 0 for _, wrong in results.values())
    assert sum(good for good, _ in results.values()) > 60


# What the source makes of it


def test_a_request_that_waits_is_no_failure_of_the_device() -> None:
    def fourth_lost(reply: bytes, dice: random.Random) -> Arrivals:
        return [] if bus.n_requests == 4 else unharmed(reply)

    with virtual_line(fourth_lost, 0) as bus:
        wanted = [register("r0", 0), register("r2", 2), register("other", 0, device=2)]
        source = ModbusSource("modbus+rtu:///dev/virtual?baud=19200", wanted, clock=SystemClock())
        good: list[tuple[float, str]] = []
        while bus.time.now_s < 1020:
            readings = [r for r in source.read(0.05) if isinstance(r, Reading)]
            good += [(bus.time.now_s, r.quantity) for r in readings if r.quality.level == "good"]
        counters = source.counters()
    assert counters["no_answer"] == 1
    assert counters["quarantined"] == 4  # two polls of two requests
    r2_s = [at for at, quantity in good if quantity == "r2"]
    # The time-out, 3 s, and the time until the next poll; then as ever.
    assert sorted(round(sooner - later, 1) for later, sooner in pairwise(r2_s))[-2:] == [1.0, 5.0]
    assert len([at for at, quantity in good if quantity == "other"]) == 20


def test_a_passing_refusal_does_not_split_a_block_for_good() -> None:
    n_refusals = 1

    def refuses(address: int, count: int) -> int:
        nonlocal n_refusals
        n_refusals -= 1
        return 2 if n_refusals >= 0 else 0

    def requests_per_poll(source: ModbusSource, for_s: float) -> float:
        before, ends_s = source.counters().get("reads", 0), bus.time.now_s + for_s
        while bus.time.now_s < ends_s:
            source.read(0.5)
        return (source.counters()["reads"] - before) / for_s

    with virtual_line(lambda reply, dice: unharmed(reply), 0, refuses=refuses) as bus:
        wanted = [register(f"r{a}", a) for a in range(8)]
        options = {1: DeviceOptions(poll_s=1.0)}
        source = ModbusSource(
            "modbus+rtu:///dev/virtual?baud=19200", wanted, clock=SystemClock(), options=options
        )
        assert requests_per_poll(source, modbus.FIRST_REJOIN_S - 5) == pytest.approx(2, abs=0.1)
        requests_per_poll(source, 10)
        assert requests_per_poll(source, 50) == pytest.approx(1, abs=0.05)


def test_a_lasting_refusal_is_tried_less_and_less_often() -> None:
    def refuses(address: int, count: int) -> int:
        if count == 8:
            refused.append(bus.time.now_s)
        return 2 if address <= 3 < address + count else 0

    refused: list[float] = []
    with virtual_line(lambda reply, dice: unharmed(reply), 0, refuses=refuses) as bus:
        wanted = [register(f"r{a}", a) for a in range(8)]
        source = ModbusSource("modbus+rtu:///dev/virtual?baud=19200", wanted, clock=SystemClock())
        ends_s = bus.time.now_s + 7900
        bad = set()
        while bus.time.now_s < ends_s:
            readings = [r for r in source.read(0.5) if isinstance(r, Reading)]
            bad |= {r.quantity for r in readings if r.quality.level != "good"}
    assert bad == {"r3"}
    pauses = [later - sooner for sooner, later in pairwise(refused)]
    assert pauses[0] == pytest.approx(60, abs=2)
    assert max(pauses) == pytest.approx(3600, abs=2)
    assert len(refused) == 8


def test_a_burst_waits_too_and_does_not_count_it_as_a_failure() -> None:
    def third_lost(reply: bytes, dice: random.Random) -> Arrivals:
        return [] if bus.n_requests == 3 else unharmed(reply)

    with virtual_line(third_lost, 0) as bus:
        task = BurstTask("s", 1, every_s=60, clock=SystemClock())
        line = ModbusLine(line_settings("modbus+rtu:///dev/virtual?baud=19200"))
        for address in (0, 2):
            line.read(1, Block("holding", address, 1, ()))
        with pytest.raises(NoAnswerError):
            line.read(1, Block("holding", 0, 1, ()))
        assert task.step(line) == []
        assert task.due_s == pytest.approx(bus.time.now_s + 3.0, abs=0.01)
        assert not task.counters
