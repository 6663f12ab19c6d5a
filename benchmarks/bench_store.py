"""The buffer and its upload, each as a ratio to a named bound measured in the same run.

python benchmarks/bench_store.py [FOLDER]     the folder decides which disk is measured
"""

from __future__ import annotations

import json
import os
import resource
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from pdm_edge import FeatureSchema, FeatureVector, Receipt, Stamp, SystemClock
from pdm_edge.store import Buffer
from pdm_edge.sync import drain, open_uploader
from pdm_edge.sync.payload import encode_batch
from pdm_edge.sync.receive_http import HttpReceiver
from pdm_edge.sync.receiver import Receiver

NAMES = tuple(f"drive-end/x/feature_{i:02d}" for i in range(27))
SCHEMA = FeatureSchema(NAMES, ("g",) * 27)
BATCH = 100
TURN = 5  # batches that are timed together, so that what is done every few batches is in every turn
TURNS = 80


def vectors(first: int, count: int) -> list[FeatureVector]:
    """Rows of one machine, 100 a second, with clocks as a busy gateway reads them.

    Between reading the one clock and the other pass some 20 us, and now and then, when something else
    gets the processor, up to 300 us.
    """
    rng = np.random.default_rng(first)
    values = rng.lognormal(0, 1, (count, 27)).astype(np.float32)
    between_ns = np.abs(rng.normal(0, 20_000, count))
    between_ns += (rng.random(count) < 0.01) * rng.uniform(0, 300_000, count)
    start, step = 1_790_000_000_000_000_000, 10_000_000
    return [
        FeatureVector(
            "pump-7",
            v,
            SCHEMA,
            Stamp(start + (first + i) * step + int(between_ns[i]), (first + i) * step, "boot", True),
            1.0,
        )
        for i, v in enumerate(values)
    ]


def pairs(ours: Callable[[int], float], bound: Callable[[int], float]) -> tuple[float, float, float]:
    """Medians of what both take for `TURN` batches, in seconds, and of their ratio (bound / ours).

    Each returns what it took for one batch. They take turns batch by batch, so that both meet the same
    moods of the disk, and who goes first changes: the second one finds the processor's caches filled.
    """
    took: list[tuple[float, float]] = []
    for turn in range(TURNS):
        sums = [0.0, 0.0]
        for n in range(turn * TURN, (turn + 1) * TURN):
            for i in (0, 1) if n % 2 else (1, 0):
                sums[i] += (ours, bound)[i](n)
        took.append((sums[0], sums[1]))
    ours_s, bound_s = (statistics.median(t[i] for t in took) for i in (0, 1))
    return ours_s, bound_s, statistics.median(b / o for o, b in took)


def bench_sync(folder: Path) -> None:
    """What the disk itself takes: the faster it syncs, the more the rest counts in the ratios below."""
    took = []
    with (folder / "sync").open("wb", buffering=0) as stream:
        for _ in range(100):
            stream.write(bytes(4096))
            start = time.perf_counter()
            os.fdatasync(stream.fileno())
            took.append(time.perf_counter() - start)
    print(f"a sync of this disk: {statistics.median(took) * 1e3:.2f} ms")


def raw_copy(buffer_file: Path, path: Path) -> sqlite3.Connection:
    """A raw sqlite3 connection to a file with the buffer's own schema and sync mode."""
    source = sqlite3.connect(buffer_file)
    connection = sqlite3.connect(path, isolation_level=None)
    source.backup(connection)
    source.close()
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA wal_autocheckpoint = 1000")
    return connection


def bench_append(folder: Path) -> None:
    """Records that are given, into the file: the raw side packs the same floats into the same columns."""
    buffer = Buffer(folder / "b.db", gateway="gw", max_mb=512, clock=SystemClock(trusted=True))
    buffer.write(vectors(0, BATCH))
    raw = raw_copy(folder / "b.db", folder / "raw.db")
    insert = "INSERT INTO outbox_feature (header, after_ns, body) VALUES (?, ?, ?)"
    records: dict[int, list[FeatureVector]] = {}

    def made(n: int) -> list[FeatureVector]:
        """A batch of records, just made, as they come from the pipeline; the same for both sides."""
        if n not in records:
            records.clear()
            records[n] = vectors((n + 1) * BATCH, BATCH)
        return records[n]

    def ours(n: int) -> float:
        batch = made(n)
        start = time.perf_counter()
        buffer.write(batch)
        return time.perf_counter() - start

    def bound(n: int) -> float:
        batch = made(n)
        start = time.perf_counter()
        raw.execute("BEGIN IMMEDIATE")
        raw.executemany(insert, [(1, v.stamp.monotonic_ns, v.values.tobytes()) for v in batch])
        raw.execute("COMMIT")
        return time.perf_counter() - start

    ours_s, raw_s, ratio = pairs(ours, bound)
    print(
        f"append of {TURN} batches of {BATCH} rows: {ours_s * 1e3:.2f} ms, raw sqlite3 {raw_s * 1e3:.2f} ms,"
        f" ratio {ratio:.2f} (>= 0.9)"
    )
    buffer.close()
    raw.close()


def bench_bytes(folder: Path) -> None:
    buffer = Buffer(folder / "size.db", gateway="gw", max_mb=512, clock=SystemClock(trusted=True))
    buffer.write(vectors(0, 1))
    buffer.close()
    before = (folder / "size.db").stat().st_size
    buffer = Buffer(folder / "size.db", gateway="gw", max_mb=512, clock=SystemClock(trusted=True))
    n = 40_000
    for first in range(0, n, 1000):
        buffer.write(vectors(first, 1000))
    buffer.close()
    connection = sqlite3.connect(folder / "size.db")
    trend = connection.execute("SELECT count(*) FROM trend").fetchone()[0]
    connection.execute("DELETE FROM trend")
    connection.commit()
    connection.execute("VACUUM")
    connection.close()
    size = ((folder / "size.db").stat().st_size - before) / n
    print(f"bytes a row of 27 values: {size:.1f} (<= 135), beside {trend} lines of trend")


def bench_settle(folder: Path) -> None:
    """Receipts of rows that were read before, against a ranged DELETE of rows that were read before."""
    buffer = Buffer(folder / "ack.db", gateway="gw", max_mb=512, clock=SystemClock(trusted=True))
    for first in range(0, (TURNS + 4) * TURN * BATCH, 1000):
        buffer.write(vectors(first, 1000))
    raw = raw_copy(folder / "ack.db", folder / "raw-ack.db")
    (low,) = raw.execute("SELECT min(seq) FROM outbox_feature").fetchone()
    read = "SELECT seq, header, after_ns, body FROM outbox_feature WHERE seq > ? ORDER BY seq LIMIT ?"

    def ours(n: int) -> float:
        batch = buffer.next_batch(BATCH)
        assert batch is not None
        receipt = Receipt("gw", batch.lane, batch.through_seq)
        start = time.perf_counter()
        buffer.settle(receipt)
        return time.perf_counter() - start

    def bound(n: int) -> float:
        through = raw.execute(read, (low + n * BATCH - 1, BATCH)).fetchall()[-1][0]
        start = time.perf_counter()
        raw.execute("DELETE FROM outbox_feature WHERE seq <= ?", (through,))
        return time.perf_counter() - start

    for n in range(3 * TURN):  # past the delivered rows that are kept
        ours(n)
    ours_s, raw_s, ratio = pairs(ours, bound)
    print(
        f"{TURN} receipts of {BATCH} rows: {ours_s * 1e3:.2f} ms, ranged DELETE {raw_s * 1e3:.2f} ms,"
        f" ratio {ratio:.2f} (>= 0.9)"
    )
    buffer.close()
    raw.close()


def bench_upload(folder: Path) -> None:
    rates = {}
    for rows, total in ((100, 3000), (1, 200)):
        buffer = Buffer(folder / f"up{rows}.db", gateway="gw", max_mb=512, clock=SystemClock(trusted=True))
        buffer.write(vectors(0, total))
        receiver = Receiver(folder / f"cloud{rows}.db")
        with HttpReceiver(receiver) as server:
            uploader = open_uploader(f"http://127.0.0.1:{server.port}/", gateway="gw")
            start = time.perf_counter()
            drain(buffer, uploader, batch_rows=rows)
            rates[rows] = total / (time.perf_counter() - start)
            uploader.close()
        receiver.close()
        buffer.close()
    print(
        f"upload: {rates[100]:.0f} rows/s in batches of 100, {rates[1]:.0f} one by one,"
        f" ratio {rates[100] / rates[1]:.1f} (>= 5)"
    )
    buffer = Buffer(folder / "naive.db", gateway="gw", max_mb=512, clock=SystemClock(trusted=True))
    given = vectors(0, 100)
    buffer.write(given)
    batch = buffer.next_batch(100)
    assert batch is not None
    naive = sum(
        len(
            json.dumps(
                {
                    "gateway": "gw",
                    "machine": v.machine,
                    "utc_ns": v.stamp.utc_ns,
                    "boot_id": v.stamp.boot_id,
                    "quality": "good",
                    "values": {name: float(value) for name, value in zip(NAMES, v.values, strict=True)},
                }
            )
        )
        for v in given
    )
    for encoding in ("json", "cbor"):
        packed = len(encode_batch(batch, 0, encoding=encoding))
        print(
            f"bytes on the wire, {encoding}: {packed / 100:.0f} a row,"
            f" {packed / naive:.3f} of naive JSON (<= 0.13)"
        )
    buffer.close()


def bench_soak(folder: Path) -> None:
    """An hour at 100 rows a second, drained as it comes, as fast as the disk allows."""
    buffer = Buffer(folder / "soak.db", gateway="gw", max_mb=64, clock=SystemClock(trusted=True))
    some = vectors(0, 100)
    rss: list[int] = []
    start = time.perf_counter()
    for second in range(3600):
        buffer.write(some)
        batch = buffer.next_batch(200)
        assert batch is not None
        encode_batch(batch, 0) if second % 20 == 0 else None
        buffer.settle(Receipt("gw", batch.lane, batch.through_seq))
        if second % 300 == 299:
            rss.append(rss_kb())
    took_s = time.perf_counter() - start
    size = sum(f.stat().st_size for f in folder.glob("soak.db*"))
    print(
        f"soak: 360,000 rows in {took_s:.0f} s; resident {rss[0]} kB after 5 min, {rss[-1]} kB after 60"
        f" (growth {(rss[-1] - rss[0]) / rss[0]:+.1%}); files {size / 1e6:.1f} MB"
    )
    buffer.close()


def rss_kb() -> int:
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    return pages * resource.getpagesize() // 1024


def main() -> None:
    with tempfile.TemporaryDirectory(dir=sys.argv[1] if len(sys.argv) > 1 else None) as name:
        for bench in (bench_sync, bench_append, bench_bytes, bench_settle, bench_upload, bench_soak):
            bench(Path(name))


if __name__ == "__main__":
    main()
