"""The buffer over weeks: thinning, damage, clocks that are set late, the trend, batched commits, wants."""

from __future__ import annotations

import os
import sqlite3
import time
from pathlib import Path

import msgspec
import numpy as np
import pytest
from test_buffer import SCHEMA, alarm, drained, features, opened, stamp, wave

from pdm_edge import (
    Advisory,
    FeatureSchema,
    FeatureVector,
    Gap,
    Reading,
    Receipt,
    Stamp,
    SystemClock,
    Waveform,
)
from pdm_edge.delivery import Want
from pdm_edge.errors import StoreError
from pdm_edge.store import Buffer, read_status
from pdm_edge.store.packing import pack, unpack
from pdm_edge.store.reading import BATCH_BYTES
from pdm_edge.store.writing import CLOCK_TOLERANCE_NS


def bodies(buffer: Buffer, kind: str) -> list[dict[str, object]]:
    rows = [row for batch in drained(buffer) for row in batch.rows]
    return [msgspec.json.decode(row.body) for row in rows if row.kind == kind]


def vector(n: int, machine: str = "pump", **changed: object) -> FeatureVector:
    given = stamp(n * 1_000_000_000)
    return FeatureVector(machine, np.array([n, n % 7], dtype=np.float32), SCHEMA, given, 1.0)


def test_a_long_outage_is_thinned_not_holed_and_every_series_keeps_its_share(tmp_path: Path) -> None:
    buffer = opened(tmp_path / "b.db", max_mb=4)
    written = 0
    for n in range(0, 80_000, 250):
        buffer.write([vector(n + i, machine) for i in range(250) for machine in ("pump", "fan")])
        written += 500
    rows = [row for batch in drained(buffer) for row in batch.rows]
    for machine in ("pump", "fan"):
        kept = [r.stamp.monotonic_ns // 1_000_000_000 for r in rows if r.subject == machine]
        assert kept == sorted(kept)
        # No hole wider than a few thinnings make, over the whole outage.
        assert np.diff([0, *kept, 80_000]).max() <= 64
        assert kept[-1] == 79_999
    told = [msgspec.json.decode(r.body) for r in rows if r.kind == "gap"]
    assert sum(gap["lost"] for gap in told) == written - len([r for r in rows if r.kind == "features"])
    assert {gap["why"] for gap in told} == {
        "buffer full: every second row of the oldest of lane feature given up"
    }
    buffer.close()


def test_a_smaller_cap_in_the_configuration_shrinks_the_file_and_a_larger_one_keeps_all(
    tmp_path: Path,
) -> None:
    path = tmp_path / "b.db"
    buffer = opened(path, max_mb=32)
    for n in range(600):
        buffer.write([wave(n)])
    buffer.write([alarm(1)])
    buffer.close()
    assert path.stat().st_size > 9_000_000
    buffer = opened(path, max_mb=64)
    assert buffer.status().lanes["waveform"].rows == 600
    buffer.close()
    buffer = opened(path, max_mb=8)
    buffer.write([features(1)])
    buffer.close()
    assert path.stat().st_size < 8_000_000
    status = read_status(path)
    assert 0 < status.lanes["waveform"].rows < 600
    assert status.lanes["alarm"].rows == 1
    assert status.evicted == 600 - status.lanes["waveform"].rows


def test_a_file_made_anew_never_gives_a_number_again(tmp_path: Path) -> None:
    seen: list[int] = []
    for _ in range(3):
        buffer = opened(tmp_path / "b.db")
        buffer.write([features(n) for n in range(5)])
        seen += [row.seq for batch in drained(buffer) for row in batch.rows]
        buffer.close()
        for file in tmp_path.glob("b.db*"):
            file.unlink()
        time.sleep(0.05)
    assert seen == sorted(set(seen))
    assert max(seen) < 2**53


def damaged(path: Path, offset: int, size: int) -> None:
    with path.open("r+b") as stream:
        stream.seek(offset)
        stream.write(os.urandom(size))


def test_of_a_damaged_file_every_row_that_can_be_read_goes_on_under_its_number(tmp_path: Path) -> None:
    path = tmp_path / "b.db"
    buffer = opened(path)
    for n in range(0, 3000, 100):
        buffer.write([features(n + i) for i in range(100)] + [alarm(n)])
    connection = sqlite3.connect(path)
    before = dict(connection.execute("SELECT seq, body FROM outbox"))
    connection.close()
    buffer.close()
    size = path.stat().st_size
    damaged(path, size // 2 // 4096 * 4096, 3 * 4096)
    path.with_name("b.db-wal").write_bytes(b"cut")  # as after a crash: then the file is checked
    buffer = opened(path)
    rows = {row.seq: row.body for batch in drained(buffer) for row in batch.rows if row.kind != "gap"}
    assert set(rows) <= set(before)
    assert all(rows[seq] == before[seq] for seq in rows)
    assert len(rows) > 0.8 * len(before)
    buffer.write([features(9999)])
    batch = buffer.next_batch(10)
    assert batch is not None
    assert batch.rows[-1].seq > max(before)
    buffer.close()
    assert len(list(tmp_path.glob("b.db.corrupt-*"))) >= 1


def test_damage_found_while_running_is_no_end_and_no_loop(tmp_path: Path) -> None:
    path = tmp_path / "b.db"
    buffer = opened(path)
    for n in range(0, 20_000, 500):
        buffer.write([features(n + i) for i in range(500)])
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    damaged(path, 8 * 4096, path.stat().st_size - 9 * 4096)
    for n in range(5):
        buffer.write([alarm(n)])
    rows = [row for batch in drained(buffer) for row in batch.rows]
    assert {r.stamp.monotonic_ns for r in rows if r.kind == "advisory"} == set(range(5))
    gaps = [msgspec.json.decode(r.body)["why"] for r in rows if r.kind == "gap"]
    assert any("was damaged; it is kept as b.db.corrupt-" in why for why in gaps)
    assert 1 <= len(list(tmp_path.glob("b.db.corrupt-*[0-9]"))) <= 2
    buffer.close()


def test_a_file_that_somebody_deletes_while_it_is_in_use_is_brought_back_whole(tmp_path: Path) -> None:
    path = tmp_path / "b.db"
    buffer = opened(path)
    buffer.write([features(n) for n in range(500)] + [alarm(0)])
    for file in tmp_path.glob("b.db*"):
        file.unlink()
    buffer.write([alarm(1)])
    assert buffer.counters["brought back"] == 1
    assert read_status(path).rows == 502
    buffer.close()
    buffer = opened(path)
    rows = [row for batch in drained(buffer) for row in batch.rows]
    assert [r.stamp.monotonic_ns for r in rows if r.kind == "advisory"] == [0, 1]
    assert [r.stamp.monotonic_ns for r in rows if r.kind == "features"] == list(range(500))
    assert len({r.seq for r in rows}) == 502
    buffer.close()


def test_an_empty_file_and_one_cut_before_its_first_step_are_made_whole(tmp_path: Path) -> None:
    for content in (b"", bytes(4096)):
        path = tmp_path / f"b{len(content)}.db"
        path.write_bytes(content)
        buffer = opened(path)
        buffer.write([alarm(1)])
        assert buffer.status().lanes["alarm"].rows == 1
        buffer.close()


# Clocks


def advisory(given: Stamp) -> Advisory:
    return Advisory("pump", "alarm", "normal", given, "headline", "advice")


def test_rows_made_before_the_clock_was_right_are_corrected_when_it_is(tmp_path: Path) -> None:
    path = tmp_path / "b.db"
    second = 1_000_000_000
    buffer = opened(path)
    early = [Stamp(n * second, (5 + n) * second, "boot-b", clock_trusted=False) for n in range(3)]
    for given in early:
        buffer.write([advisory(given)])
    sent_early = buffer.next_batch(1)
    assert sent_early is not None
    assert not sent_early.rows[0].stamp.clock_trusted
    buffer.settle(Receipt("gw", "alarm", sent_early.through_seq))
    buffer.close()
    buffer = opened(path)
    true_ns = 1_790_000_000 * second
    buffer.write([advisory(Stamp(true_ns, 100 * second, "boot-b", clock_trusted=True))])
    batches = drained(buffer)
    got = [row.stamp for row in batches[0].rows]
    assert [s.utc_ns for s in got] == [true_ns - 94 * second, true_ns - 93 * second, true_ns]
    assert all(s.clock_trusted for s in got)
    (clock,) = [row for batch in batches for row in batch.rows if row.kind == "clock"]
    assert msgspec.json.decode(clock.body) == {"utc_minus_monotonic_ns": true_ns - 100 * second}
    buffer.close()


def test_rows_of_a_boot_that_never_knew_the_time_stay_marked(tmp_path: Path) -> None:
    buffer = opened(tmp_path / "b.db")
    buffer.write([advisory(Stamp(5, 5, "boot-x", clock_trusted=False))])
    buffer.write([advisory(stamp(1))])
    assert [r.stamp.clock_trusted for r in drained(buffer)[0].rows] == [False, True]
    buffer.close()


# The trend


def test_the_trend_holds_mean_and_highest_value_of_each_minute_in_plain_columns(tmp_path: Path) -> None:
    path = tmp_path / "b.db"
    buffer = opened(path)
    other = FeatureSchema(("motor/temperature",), ("degc",))
    for n in range(0, 150):
        buffer.write([vector(n)])
    given = stamp(200_000_000_000)
    buffer.write([FeatureVector("fan", np.array([41.5], dtype=np.float32), other, given, 1.0)])
    buffer.close()
    connection = sqlite3.connect(path)
    sql = 'SELECT machine, windows, "x/rms [g] mean", "x/rms [g] max" FROM trend WHERE machine = \'pump\''
    assert connection.execute(sql).fetchall() == [
        ("pump", 60, 29.5, 59.0),
        ("pump", 60, 89.5, 119.0),
        ("pump", 30, 134.5, 149.0),
    ]
    sql = "SELECT utc, \"motor/temperature [degc] max\" FROM trend WHERE machine = 'fan'"
    assert connection.execute(sql).fetchall() == [("2023-11-14T22:16:40Z", 41.5)]
    (utc, lane) = connection.execute("SELECT utc, lane FROM records ORDER BY seq LIMIT 1").fetchone()
    assert (utc, lane) == ("2023-11-14T22:13:20.000Z", "feature")
    connection.close()


# Batched commits


def test_with_commit_s_features_wait_alarms_do_not_and_closing_keeps_all(tmp_path: Path) -> None:
    path = tmp_path / "b.db"
    buffer = Buffer(path, gateway="gw", clock=SystemClock(), commit_s=30.0)
    buffer.write([features(0)])
    assert read_status(path).rows == 0
    buffer.write([features(1), alarm(2)])
    assert {n: s.rows for n, s in read_status(path).lanes.items() if s.rows} == {"alarm": 1, "feature": 2}
    buffer.write([features(3)])
    buffer.close()
    assert read_status(path).lanes["feature"].rows == 3


def test_commit_s_is_kept_without_another_write(tmp_path: Path) -> None:
    path = tmp_path / "b.db"
    buffer = Buffer(path, gateway="gw", clock=SystemClock(), commit_s=0.05)
    buffer.write([features(0)])
    deadline = time.monotonic() + 20
    while read_status(path).rows == 0:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    buffer.close()


# Batches and wants


def test_a_batch_is_bounded_in_bytes_but_never_empty(tmp_path: Path) -> None:
    buffer = opened(tmp_path / "b.db")
    buffer.write([wave(n, samples=20_000) for n in range(10)])
    buffer.write([wave(99, samples=200_000)])
    batches = drained(buffer)
    sizes = [sum(len(row.body) for row in batch.rows) for batch in batches]
    assert all(size <= BATCH_BYTES or len(b.rows) == 1 for size, b in zip(sizes, batches, strict=True))
    assert sum(len(batch.rows) for batch in batches) == 11
    buffer.close()


def settled(buffer: Buffer, wants: tuple[Want, ...] = ()) -> None:
    batch = buffer.next_batch(100)
    assert batch is not None
    buffer.settle(Receipt("gw", batch.lane, batch.through_seq, batch.want, wants))


def test_delivered_rows_can_be_asked_for_again_and_what_is_gone_is_said_to_be(tmp_path: Path) -> None:
    buffer = opened(tmp_path / "b.db")
    buffer.write([features(n) for n in range(100)])
    batch = buffer.next_batch(100)
    assert batch is not None
    seqs = [row.seq for row in batch.rows]
    settled(buffer)
    assert buffer.status().rows == 0
    buffer.write([alarm(5)])
    settled(buffer, (Want("again", "feature", seqs[10], seqs[19]), Want("never", "feature", 0, 5)))
    first = buffer.next_batch(6)
    assert first is not None
    assert [row.seq for row in first.rows] == seqs[11:17]
    assert (first.want, first.want_done) == ("again", False)
    buffer.settle(Receipt("gw", "feature", first.through_seq, "again"))
    rest = buffer.next_batch(100)
    assert rest is not None
    assert [row.seq for row in rest.rows] == seqs[17:20]
    assert (rest.want, rest.want_done, rest.after_seq) == ("again", True, seqs[16])
    buffer.settle(Receipt("gw", "feature", rest.through_seq, "again"))
    gone = buffer.next_batch(100)
    assert gone is not None
    assert (gone.want, gone.want_done, gone.rows) == ("never", True, ())
    buffer.settle(Receipt("gw", "feature", gone.through_seq, "never"))
    assert buffer.next_batch(100) is None
    assert buffer.status().delivered == 101
    buffer.close()


def test_waveforms_on_request_leave_only_for_the_alarm_that_is_asked_for(tmp_path: Path) -> None:
    buffer = Buffer(tmp_path / "b.db", gateway="gw", clock=SystemClock(), on_request=("waveform",))
    raised = [alarm(1), alarm(2)]
    for each in raised:
        samples = np.arange(100, dtype=np.float32)[np.newaxis]
        buffer.write([each])
        buffer.write(
            [
                Waveform("de", samples, 100.0, "g", ("x",), stamp(n), first_sample=n, alarm=each.id)
                for n in (0, 100)
            ]
        )
    settled(buffer)
    assert buffer.next_batch(100) is None
    assert buffer.status().rows == 0
    assert buffer.status().lanes["waveform"].rows == 4
    buffer.write([features(1)])
    settled(buffer, (Want("w", "waveform", alarm=raised[1].id),))
    batch = buffer.next_batch(100)
    assert batch is not None
    assert (batch.want, batch.want_done, len(batch.rows)) == ("w", True, 2)
    assert all(msgspec.json.decode(r.context)["alarm"] == raised[1].id for r in batch.rows)
    buffer.settle(Receipt("gw", "waveform", batch.through_seq, "w"))
    assert buffer.next_batch(100) is None
    assert buffer.status().lanes["waveform"].rows == 2
    buffer.close()


def test_packed_samples_come_back_bit_by_bit() -> None:
    rng = np.random.default_rng(3)
    special = np.array([[0.0, -0.0, np.nan, np.inf, -np.inf, 1e-45, 3.4e38]], dtype=np.float32)
    for samples in (rng.normal(0, 1, (3, 777)).astype(np.float32), special):
        back = unpack(pack(samples), samples.shape[0])
        assert back.tobytes() == samples.tobytes()
    with pytest.raises(ValueError, match="no packed samples"):
        unpack(b"hello", 1)


def test_opening_a_full_buffer_takes_little_memory(tmp_path: Path) -> None:
    import subprocess
    import sys

    path = tmp_path / "b.db"
    buffer = opened(path, max_mb=64)
    for n in range(700):
        buffer.write([wave(n, samples=15_000)])
    buffer.close()
    assert path.stat().st_size > 35_000_000
    code = (
        "import sys; from pathlib import Path; from pdm_edge import SystemClock;"
        " from pdm_edge.store import Buffer; import numpy, sqlite_utils;"
        # Of this process alone: ru_maxrss begins with what the parent had when it forked.
        " peak_kb = lambda: int(Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0]);"
        " before = peak_kb();"
        " b = Buffer(Path(sys.argv[1]), gateway='gw', max_mb=64, clock=SystemClock());"
        " b.status(); b.next_batch(200);"
        " print(peak_kb() - before)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 10_000  # kB


def test_what_cannot_be_written_is_an_error_with_its_mend(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="Check that its folder is there"):
        opened(tmp_path / "absent" / "b.db")
    assert not list(tmp_path.iterdir())


def test_gaps_are_told_with_their_numbers(tmp_path: Path) -> None:
    buffer = opened(tmp_path / "b.db")
    buffer.write([Gap("de", "samples", 7, "why", stamp(4), first=10, last=16)])
    (gap,) = bodies(buffer, "gap")
    assert (gap["lost"], gap["first"], gap["last"]) == (7, 10, 16)
    buffer.close()


def numbers(path: Path) -> list[int]:
    connection = sqlite3.connect(path)
    found = [seq for (seq,) in connection.execute("SELECT seq FROM outbox ORDER BY seq")]
    connection.close()
    return found


def test_numbers_of_rows_that_have_left_never_come_back_also_after_a_new_start(tmp_path: Path) -> None:
    seen: list[int] = []
    for n in range(4):
        buffer = opened(tmp_path / "b.db")
        buffer.write([features(n), wave(n), alarm(n)])
        seen += numbers(tmp_path / "b.db")
        if n % 2:
            drained(buffer)
        with buffer._lock, buffer._file.transaction() as connection:
            buffer._room.eviction.drop_delivered(connection)
            while buffer._room.eviction.give_up(connection, 10**9):
                continue
        buffer.close()
        assert numbers(tmp_path / "b.db") == []
    assert len(seen) == 12
    assert seen == sorted(set(seen))


def rows_at(times: list[tuple[int, int]]) -> list[FeatureVector]:
    """Rows with these wall and monotonic times, both in ns."""
    start = 1_790 * 10**15
    return [
        FeatureVector("pump", features(0).values, SCHEMA, Stamp(start + utc, mono, "boot", True), 1.0)
        for utc, mono in times
    ]


def kept_times(path: Path, given: list[FeatureVector]) -> list[tuple[int, int]]:
    """Write rows in one piece and one by one; their times as the far end and any SQLite tool see them."""
    buffer = opened(path)
    buffer.write(given)
    for one in given:
        buffer.write([one])
    batch = buffer.next_batch(1000)
    assert batch is not None
    sql = "SELECT utc_ns, monotonic_ns FROM outbox ORDER BY seq"
    connection = sqlite3.connect(path)
    kept = connection.execute(sql).fetchall()
    connection.close()
    buffer.close()
    assert [(row.stamp.utc_ns, row.stamp.monotonic_ns) for row in batch.rows] == kept
    return kept


def test_times_come_back_exactly_whatever_the_clocks_do(tmp_path: Path) -> None:
    day_ns = 86_400_000_000_000
    jumps = [(0, 0), (-3 * day_ns, 3), (9000 * day_ns, 4), (40 * day_ns + 7, 40 * day_ns), (10**9, 5)]
    jumps += [(10**9 + CLOCK_TOLERANCE_NS + 2, 6), (7, 7)]
    given = rows_at(jumps)
    kept = kept_times(tmp_path / "b.db", given)
    assert kept == [(v.stamp.utc_ns, v.stamp.monotonic_ns) for v in given] * 2


def test_what_two_clocks_vary_by_between_two_readings_costs_at_most_the_tolerance(tmp_path: Path) -> None:
    rng = np.random.default_rng(7)
    monotonic_ns = np.cumsum(rng.integers(1, 10**9, 400))
    # Read late by 20 us and more, steadily drifting, and set by 0.3 s in the middle.
    late_ns = np.abs(rng.normal(0, 20_000, 400)) + np.linspace(0, 5e6, 400) + 3e8 * (np.arange(400) > 200)
    given = rows_at([(int(m + late), int(m)) for m, late in zip(monotonic_ns, late_ns, strict=True)])
    kept = kept_times(tmp_path / "b.db", given)
    assert [mono for _, mono in kept] == [v.stamp.monotonic_ns for v in given] * 2
    off_ns = [abs(utc - v.stamp.utc_ns) for (utc, _), v in zip(kept, given * 2, strict=True)]
    assert 0 < max(off_ns) <= CLOCK_TOLERANCE_NS
    connection = sqlite3.connect(tmp_path / "b.db")
    (headers,) = connection.execute("SELECT count(*) FROM headers").fetchone()
    connection.close()
    assert headers <= 16


def test_the_trend_counts_each_vector_once_however_rows_are_mixed(tmp_path: Path) -> None:
    rng = np.random.default_rng(11)
    other = FeatureSchema(("a", "b", "c"), ("g", "g", "g"))
    expected: dict[tuple[str, int], list[float]] = {}
    rows: list[FeatureVector | Advisory | Reading] = []
    for n in range(700):
        machine, seconds = str(rng.choice(["pump", "fan"])), n / 4
        if rng.random() < 0.2:
            rows.append(Reading("de", "temperature", 41.5, "degc", stamp(int(seconds * 1e9))))
        elif rng.random() < 0.05:
            rows.append(alarm(n))
        values = np.array([n, n, n] if machine == "fan" else [n, -n], dtype=np.float32)
        schema = other if machine == "fan" else SCHEMA
        rows.append(FeatureVector(machine, values, schema, stamp(int(seconds * 1e9)), 1.0))
        expected.setdefault((machine, int(seconds // 60)), []).append(float(n))
    path = tmp_path / "b.db"
    buffer = opened(path)
    while rows:
        size = int(rng.integers(1, 90))
        buffer.write(rows[:size])
        del rows[:size]
    buffer.close()
    connection = sqlite3.connect(path)
    sql = (
        'SELECT machine, monotonic_ns / 60000000000, windows, coalesce("x/rms [g] mean", "a [g] mean"),'
        ' coalesce("x/rms [g] max", "a [g] max") FROM trend ORDER BY rowid'
    )
    found = {(machine, minute): rest for machine, minute, *rest in connection.execute(sql)}
    connection.close()
    assert found.keys() == expected.keys()
    for key, given in expected.items():
        assert found[key] == [len(given), pytest.approx(np.mean(given)), max(given)]
