"""Evidence: the waveform before and after an alarm is kept, whole, linked to it, and can be had."""

from __future__ import annotations

import itertools
import sqlite3
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from pdm_edge import Advisory, ConfigError, Machine, Stamp, Waveform
from pdm_edge.acquire.ring import EvidenceRing, joined
from pdm_edge.config_file import parse_config

RATE_HZ = 1000.0


def chunk(n: int, samples: int = 100, first: int | None = None) -> Waveform:
    values = np.random.default_rng(n).normal(0, 1, (2, samples)).astype(np.float32)
    given = Stamp(n * 10**8, n * 10**8, "boot", True)
    start = n * samples if first is None else first
    return Waveform("de", values, RATE_HZ, "g", ("x", "y"), given, first_sample=start)


def test_what_led_to_an_alarm_and_what_followed_is_given_out_without_a_hole() -> None:
    ring = EvidenceRing(before_s=2.0, after_s=1.5)
    chunks = [chunk(n) for n in range(100)]
    out = [w for c in chunks[:50] for w in ring.push(c)]
    assert out == []
    out = ring.release("pump@boot:1")
    out += [w for c in chunks[50:] for w in ring.push(c)]
    assert {w.alarm for w in out} == {"pump@boot:1"}
    first = out[0].first_sample
    assert first == 3000  # 2 s before sample 5000
    assert all(b.first_sample == a.first_sample + a.n_samples for a, b in itertools.pairwise(out))
    samples = np.concatenate([w.samples for w in out], axis=1)
    np.testing.assert_array_equal(samples, np.concatenate([c.samples for c in chunks[30:65]], axis=1))
    assert all(w.duration_s <= 1.1 for w in out)


def test_a_second_alarm_while_the_first_is_kept_repeats_nothing_and_lacks_nothing() -> None:
    ring = EvidenceRing(before_s=1.0, after_s=1.0)
    chunks = [chunk(n) for n in range(60)]
    out = [w for c in chunks[:20] for w in ring.push(c)] + ring.release("a")
    out += [w for c in chunks[20:25] for w in ring.push(c)] + ring.release("b")
    out += [w for c in chunks[25:] for w in ring.push(c)]
    taken = np.concatenate([np.arange(w.first_sample, w.first_sample + w.n_samples) for w in out])
    np.testing.assert_array_equal(taken, np.arange(1000, 3500))
    assert [w.alarm for w in out if w.first_sample >= 2500] == ["b"]


def test_pieces_are_joined_only_where_they_are_contiguous_and_alike() -> None:
    gap = chunk(3, first=400)
    other_rate = replace(chunk(4, first=500), sample_rate_hz=2000.0)
    got = joined([chunk(0), chunk(1), gap, other_rate])
    assert [(w.first_sample, w.n_samples) for w in got] == [(0, 200), (400, 100), (500, 100)]


def test_memory_is_bounded_by_the_time_before() -> None:
    ring = EvidenceRing(before_s=1.0, after_s=1.0)
    for n in range(5000):
        assert ring.push(chunk(n)) == []
    assert sum(w.n_samples for w in ring.release("a")) <= 1100
    assert ring.rest() == []


CONFIG = """
[gateway]
id = "gw"
[[machine]]
id = "pump"
iso20816 = {{ group = 2, support = "rigid" }}
window_s = 0.5
detect = {{ learn_windows = 0 }}
alarm = {{ n = 2, m = 3 }}
evidence = {{ before_s = {before}, after_s = 1.0 }}
[[machine.sensor]]
id = "de"
source = "serial:///dev/ttyX?baud=9600"
[store]
path = "b.db"
"""


def test_a_machine_keeps_the_waveforms_around_its_alarm_under_the_id_of_its_advisory(tmp_path: Path) -> None:
    from test_buffer import opened

    config = parse_config(CONFIG.format(before=1.0))
    machine = Machine(config.machine[0], models=tmp_path)
    rate_hz = 4000.0
    t = np.arange(2000) / rate_hz
    buffer = opened(tmp_path / "b.db")
    advisories: list[Advisory] = []
    for n in range(16):
        # 50 Hz, first quiet, then far beyond zone D (velocity = acceleration / 2 pi f)
        amplitude_g = 0.05 if n < 6 else 1.0
        samples = (amplitude_g * np.sin(2 * np.pi * 50 * t)).astype(np.float32)[np.newaxis]
        noise = np.random.default_rng(n).normal(0, 0.002, samples.shape).astype(np.float32)
        given = Stamp(n * 5 * 10**8, n * 5 * 10**8, "boot", True)
        wave = Waveform("de", samples + noise, rate_hz, "g", ("x",), given, first_sample=2000 * n)
        records = machine.take(wave)
        advisories += [r for r in records if isinstance(r, Advisory)]
        buffer.write(records)
    buffer.write(machine.rest())
    buffer.close()
    raised = {a.id for a in advisories if a.state in ("alert", "alarm")}
    connection = sqlite3.connect(tmp_path / "b.db")
    rows = connection.execute(
        "SELECT context, length(body) FROM outbox JOIN headers ON headers.id = header WHERE kind = 'waveform'"
    ).fetchall()
    connection.close()
    assert raised
    assert {msgspec.json.decode(context)["alarm"] for context, _ in rows} <= raised
    assert len(rows) >= 2


@pytest.mark.parametrize("before", [-1, 1000])
def test_evidence_beyond_its_bounds_is_refused(before: float) -> None:
    with pytest.raises(ConfigError, match="before_s is 0 to 600"):
        parse_config(CONFIG.format(before=before))


def test_packing_makes_a_real_waveform_smaller_without_loss() -> None:
    from pdm_edge.store.packing import pack, unpack

    t = np.arange(12_800) / 12_800
    samples = (np.sin(2 * np.pi * 25 * t) + np.random.default_rng(1).normal(0, 0.1, t.shape)).astype(
        np.float32
    )
    packed = pack(samples[np.newaxis])
    np.testing.assert_array_equal(unpack(packed, 1)[0], samples)
    assert len(packed) < 0.95 * samples.nbytes
