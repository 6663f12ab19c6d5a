"""The buffer: durable when write returns, capped, orderly, and never a place where rows vanish."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from pdm_edge import Advisory, FeatureSchema, FeatureVector, Gap, Receipt, Stamp, SystemClock, Waveform
from pdm_edge.delivery import Batch
from pdm_edge.errors import StoreError, SyncError
from pdm_edge.records import Reading, Record
from pdm_edge.store import Buffer, read_status

SCHEMA = FeatureSchema(("x/rms", "x/kurtosis"), ("g", "1"))


def stamp(n: int = 0) -> Stamp:
    return Stamp(1_700_000_000_000_000_000 + n, n, "boot-a", clock_trusted=True)


def features(n: int) -> FeatureVector:
    return FeatureVector("pump", np.array([n, np.nan], dtype=np.float32), SCHEMA, stamp(n), 1.0)


def alarm(n: int) -> Advisory:
    return Advisory("pump", "alarm", "normal", stamp(n), "headline", "advice", 2.0)


def wave(n: int, samples: int = 5000) -> Waveform:
    values = np.random.default_rng(n).normal(0, 1, (1, samples)).astype(np.float32)
    return Waveform("de", values, 25600.0, "g", ("x",), stamp(n), first_sample=n)


def opened(path: Path, *, max_mb: int = 64, gateway: str = "gw") -> Buffer:
    return Buffer(path, gateway=gateway, max_mb=max_mb, clock=SystemClock())


def drained(buffer: Buffer) -> list[Batch]:
    batches = []
    while (batch := buffer.next_batch(100)) is not None:
        batches.append(batch)
        buffer.settle(Receipt(batch.gateway, batch.lane, batch.through_seq))
    return batches


def test_rows_come_back_by_lane_alarms_first_in_order(tmp_path: Path) -> None:
    buffer = opened(tmp_path / "b.db")
    reading = Reading("temp", "temperature", 41.5, "degc", stamp(3))
    gap = Gap("de", "samples", 7, "why", stamp(4))
    buffer.write([wave(0), features(1), alarm(2), reading, gap, features(5)])
    batches = drained(buffer)
    assert [(b.lane, [r.kind for r in b.rows]) for b in batches] == [
        ("alarm", ["advisory"]),
        ("event", ["gap"]),
        ("feature", ["features", "reading", "features"]),
        ("waveform", ["waveform"]),
    ]
    vectors = batches[2]
    assert vectors.schemas == {SCHEMA.id: SCHEMA}
    np.testing.assert_array_equal(np.frombuffer(vectors.rows[0].body, "<f4"), [1, np.nan])
    assert vectors.rows[0].stamp == stamp(1)
    assert [b.after_seq for b in batches] == [0, 0, 0, 0]
    assert buffer.status().rows == 0
    buffer.close()


def test_stretches_of_vectors_and_single_rows_keep_order_times_and_values(tmp_path: Path) -> None:
    """Long stretches go into the file by another statement than short ones and single rows."""
    rng = np.random.default_rng(11)
    records: list[Record] = []
    for n in range(60):
        first = 1_000_000 * n + int(rng.integers(0, 900_000))
        for i in range(int(rng.integers(1, 40))):
            vector = features(first + i * 1000)
            records.append(replace(vector, machine=f"pump-{n % 3}", values=rng.normal(size=2).astype("f4")))
        singles: list[Record] = [alarm(first), Reading("temp", "temperature", 1.5, "degc", stamp(first))]
        records += singles[: n % 3]
    buffer = opened(tmp_path / "b.db")
    for i in range(0, len(records), 170):
        buffer.write(records[i : i + 170])
    rows = [row for batch in drained(buffer) for row in batch.rows]
    buffer.close()
    kinds = {FeatureVector: "features", Advisory: "advisory", Reading: "reading"}
    assert len(rows) == len(records) > 1000
    for row in rows:
        record = records[row.seq - min(r.seq for r in rows)]
        assert (row.kind, row.stamp) == (kinds[type(record)], record.stamp)
        if isinstance(record, FeatureVector):
            assert (row.subject, row.body) == (record.machine, record.values.tobytes())


def test_after_seq_names_the_row_sent_before(tmp_path: Path) -> None:
    buffer = opened(tmp_path / "b.db")
    for n in range(5):
        buffer.write([features(n), alarm(n)])
    first = buffer.next_batch(2)
    assert first is not None
    buffer.settle(Receipt("gw", "alarm", first.through_seq))
    second = buffer.next_batch(2)
    assert second is not None
    assert (second.lane, second.after_seq) == ("alarm", first.through_seq)
    buffer.close()


def test_without_a_receipt_nothing_leaves(tmp_path: Path) -> None:
    buffer = opened(tmp_path / "b.db")
    buffer.write([features(n) for n in range(10)])
    assert buffer.next_batch(4) == buffer.next_batch(4)
    assert buffer.status().rows == 10
    buffer.close()


def test_a_receipt_for_rows_never_sent_or_of_another_gateway_removes_nothing(tmp_path: Path) -> None:
    buffer = opened(tmp_path / "b.db")
    buffer.write([features(n) for n in range(10)])
    with pytest.raises(SyncError, match="sent only to 0"):
        buffer.settle(Receipt("gw", "feature", 3))
    batch = buffer.next_batch(4)
    assert batch is not None
    with pytest.raises(SyncError, match="sent only to"):
        buffer.settle(Receipt("gw", "feature", batch.through_seq + 1))
    with pytest.raises(SyncError, match="gateway 'other'"):
        buffer.settle(Receipt("other", "feature", batch.through_seq))
    assert buffer.status().rows == 10
    assert buffer.settle(Receipt("gw", "feature", batch.through_seq)) == 4
    assert buffer.settle(Receipt("gw", "feature", batch.through_seq)) == 0
    buffer.close()


def test_numbers_never_come_back_after_a_drain_and_a_restart(tmp_path: Path) -> None:
    seen: list[int] = []
    for _ in range(3):
        buffer = opened(tmp_path / "b.db")
        buffer.write([features(n) for n in range(5)])
        seen += [row.seq for batch in drained(buffer) for row in batch.rows]
        buffer.close()
    assert seen == sorted(set(seen))
    assert len(seen) == 15


def test_a_batch_is_stored_whole_or_not_at_all(tmp_path: Path) -> None:
    buffer = opened(tmp_path / "b.db")
    records: list[Record] = [features(0), "no record"]  # type: ignore[list-item]
    with pytest.raises(KeyError):
        buffer.write(records)
    assert buffer.status().rows == 0
    buffer.write([features(1)])
    assert buffer.status().rows == 1
    buffer.close()


def test_the_cap_holds_waveforms_go_first_and_every_loss_is_told_exactly(tmp_path: Path) -> None:
    path = tmp_path / "b.db"
    buffer = opened(path, max_mb=8)
    written = {"waveform": 0, "feature": 0, "alarm": 0}
    for n in range(900):
        buffer.write([wave(n), features(n)])
        written["waveform"] += 1
        written["feature"] += 1
        if n % 100 == 0:
            buffer.write([alarm(n)])
            written["alarm"] += 1
        size = sum(f.stat().st_size for f in (path, path.with_name("b.db-wal")) if f.exists())
        assert size <= 8_000_000
    status = buffer.status()
    assert status.lanes["alarm"].rows == written["alarm"]
    assert status.lanes["feature"].rows == written["feature"]
    given_up = written["waveform"] - status.lanes["waveform"].rows
    assert given_up > 0
    assert status.lanes["waveform"].evicted == given_up
    told = 0
    for batch in drained(buffer):
        for row in batch.rows:
            if row.kind == "gap":
                import msgspec

                body = msgspec.json.decode(row.body)
                told += body["lost"]
                assert body["why"] == "buffer full: oldest rows of lane waveform given up"
                assert body["first"] < body["last"]
    assert told == given_up
    buffer.close()


def test_features_are_given_up_only_when_waveforms_are_gone_and_alarms_stay(tmp_path: Path) -> None:
    buffer = opened(tmp_path / "b.db", max_mb=4)
    buffer.write([alarm(n) for n in range(20)])
    for n in range(0, 60):
        buffer.write([wave(n)])
    waves_left, features_lost = [], []
    for n in range(0, 140_000, 1000):
        buffer.write([features(n + i) for i in range(1000)])
        lanes = buffer.status().lanes
        waves_left.append(lanes["waveform"].rows)
        features_lost.append(lanes["feature"].evicted)
        assert lanes["feature"].rows + lanes["feature"].evicted == n + 1000
    assert waves_left[0] == 60
    assert all(waves == 0 or lost == 0 for waves, lost in zip(waves_left, features_lost, strict=True))
    assert any(0 < waves < 60 for waves in waves_left)
    assert features_lost[-1] > 0
    status = buffer.status()
    assert (status.lanes["alarm"].rows, status.lanes["alarm"].evicted) == (20, 0)
    assert status.lanes["event"].rows >= 1
    buffer.close()


def test_a_foreign_file_is_refused_and_left_untouched(tmp_path: Path) -> None:
    text = tmp_path / "notes.db"
    text.write_text("dear diary " * 100)
    database = tmp_path / "other.db"
    connection = sqlite3.connect(database)
    connection.execute("CREATE TABLE outbox (x)")
    connection.commit()
    connection.close()
    for path, what in ((text, "not an SQLite file"), (database, "no buffer of pdm-edge")):
        before = path.read_bytes()
        with pytest.raises(StoreError, match=what) as caught:
            opened(path)
        assert "name another file" in str(caught.value)
        assert path.read_bytes() == before


def test_a_file_of_a_newer_version_or_another_gateway_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "b.db"
    buffer = opened(path)
    buffer.write([features(0)])
    buffer.close()
    with pytest.raises(StoreError, match="belongs to gateway 'gw', this one is 'gw2'"):
        opened(path, gateway="gw2")
    connection = sqlite3.connect(path)
    connection.execute(
        "INSERT INTO _sqlite_migrations (migration_set, name) VALUES ('pdm_edge.buffer', '0099_future')"
    )
    connection.commit()
    connection.close()
    with pytest.raises(StoreError, match=r"newer version .*0099_future"):
        opened(path)


def test_a_file_from_before_the_first_release_is_told_from_a_newer_one_and_left_untouched(
    tmp_path: Path,
) -> None:
    path = tmp_path / "b.db"
    buffer = opened(path)
    buffer.write([features(0)])
    buffer.close()
    connection = sqlite3.connect(path)
    connection.execute("UPDATE _sqlite_migrations SET name = '0001_buffer' WHERE name LIKE '0001%'")
    connection.commit()
    connection.close()
    before = path.read_bytes()
    with pytest.raises(StoreError, match=r"development version .* \(step '0001_buffer'\)") as caught:
        opened(path)
    assert "newer" not in str(caught.value)
    assert "deliver them with the version that made it" in str(caught.value)
    assert path.read_bytes() == before


def test_a_damaged_file_is_set_aside_and_a_new_one_made(tmp_path: Path) -> None:
    path = tmp_path / "b.db"
    buffer = opened(path)
    buffer.write([features(n) for n in range(2000)])
    buffer.close()
    content = bytearray(path.read_bytes())
    content[100:5000] = bytes(4900)
    path.write_bytes(content)
    buffer = opened(path)
    told, *others = drained(buffer)
    assert b"was damaged" in told.rows[0].body
    # No row was on the pages that are gone: the first, and the one that says where pages belong.
    assert sum(len(batch.rows) for batch in others) == 2000
    assert msgspec.json.decode(told.rows[0].body)["lost"] == 0
    aside = list(tmp_path.glob("b.db.corrupt-*"))
    assert [f.read_bytes() == bytes(content) for f in aside] == [True]
    buffer.close()


def test_status_of_a_file_in_use_and_of_none(tmp_path: Path) -> None:
    path = tmp_path / "b.db"
    buffer = opened(path)
    buffer.write([features(0), alarm(1)])
    status = read_status(path)
    assert (status.gateway, status.rows, status.lanes["alarm"].rows) == ("gw", 2, 1)
    assert status.last_alarm == "pump: alarm: headline"
    assert status.lanes["feature"].oldest_utc_ns == stamp(0).utc_ns
    buffer.close()
    with pytest.raises(StoreError, match="no such file"):
        read_status(tmp_path / "absent.db")
    (tmp_path / "text.db").write_text("hello" * 300)
    with pytest.raises(StoreError, match="no buffer of pdm-edge"):
        read_status(tmp_path / "text.db")


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot be opened"):
        opened(tmp_path / "absent" / "b.db")


def test_the_file_shrinks_after_a_drain(tmp_path: Path) -> None:
    path = tmp_path / "b.db"
    buffer = opened(path)
    for n in range(200):
        buffer.write([wave(n)])
    full = buffer.status().file_bytes
    drained(buffer)
    buffer.close()
    assert path.stat().st_size < full / 5
