"""The buffer and its upload, each as a ratio to a named bound measured in the same run.

python benchmarks/bench_store.py [FOLDER]     the folder decides which disk is measured
"""

from __future__ import annotations

import json
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
REPEATS = 60


def vectors(first: int, count: int) -> list[FeatureVector]:
    values = np.random.default_rng(first).lognormal(0, 1, (count, 27)).astype(np.float32)
    start, step = 1_790_000_000_000_000_000, 10_000_000  # 100 rows a second
    return [
        FeatureVector(
            "pump-7", v, SCHEMA, Stamp(start + (first + i) * step, (first + i) * step, "boot", True), 1.0
        )
        for i, v in enumerate(values)
    ]


def pairs(ours: Callable[[int], object], bound: Callable[[int], object]) -> tuple[float, float, float]:
    """Lower quartiles of both, turn by turn, and their ratio (bound / ours): what the disk adds now and
    then is left out. Who goes first changes: the second one finds the processor's caches filled."""
    took: list[tuple[float, float]] = []
    for n in range(REPEATS):
        took.append((timed(ours, n), timed(bound, n)) if n % 2 else (timed(bound, n), timed(ours, n))[::-1])
    ours_s, bound_s = (statistics.quantiles((t[i] for t in took), n=4)[0] for i in (0, 1))
    return ours_s, bound_s, bound_s / ours_s


def timed(work: Callable[[int], object], n: int) -> float:
    start = time.perf_counter()
    work(n)
    return time.perf_counter() - start


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
    buffer = Buffer(folder / "b.db", gateway="gw", max_mb=512, clock=SystemClock(trusted=True))
    buffer.write(vectors(0, BATCH))
    raw = raw_copy(folder / "b.db", folder / "raw.db")
    batches = [vectors((n + 1) * BATCH, BATCH) for n in range(REPEATS)]
    insert = "INSERT INTO outbox_feature (header, after_ns, offset_ns, body) VALUES (?, ?, ?, ?)"
    from_ns = batches[0][0].stamp.monotonic_ns

    def bound(n: int) -> None:
        raw.execute("BEGIN IMMEDIATE")
        raw.executemany(
            insert,
            [(1, v.stamp.monotonic_ns - from_ns, 0, v.values.tobytes()) for v in batches[n]],
        )
        raw.execute("COMMIT")

    ours_s, raw_s, ratio = pairs(lambda n: buffer.write(batches[n]), bound)
    print(
        f"append of {BATCH} rows: {ours_s * 1e3:.2f} ms, raw sqlite3 {raw_s * 1e3:.2f} ms,"
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
    buffer = Buffer(folder / "ack.db", gateway="gw", max_mb=512, clock=SystemClock(trusted=True))
    total = (REPEATS + 12) * BATCH
    for first in range(0, total, 1000):
        buffer.write(vectors(first, 1000))
    raw = raw_copy(folder / "ack.db", folder / "raw-ack.db")
    (low,) = raw.execute("SELECT min(seq) FROM outbox_feature").fetchone()
    receipts: list[Receipt] = []

    def take() -> None:
        batch = buffer.next_batch(BATCH)
        assert batch is not None
        receipts.append(Receipt("gw", batch.lane, batch.through_seq))

    for _ in range(11):  # past the delivered rows that are kept
        take()
        buffer.settle(receipts[-1])
    took: list[tuple[float, float]] = []
    for n in range(REPEATS):
        take()
        t0 = time.perf_counter()
        buffer.settle(receipts[-1])
        t1 = time.perf_counter()
        raw.execute("DELETE FROM outbox_feature WHERE seq <= ?", (low + (n + 1) * BATCH - 1,))
        took.append((t1 - t0, time.perf_counter() - t1))
    ours_s, raw_s = (statistics.quantiles((t[i] for t in took), n=4)[0] for i in (0, 1))
    print(
        f"receipt of {BATCH} rows: {ours_s * 1e3:.2f} ms, ranged DELETE {raw_s * 1e3:.2f} ms,"
        f" ratio {raw_s / ours_s:.2f} (>= 0.9)"
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
        for bench in (bench_append, bench_bytes, bench_settle, bench_upload, bench_soak):
            bench(Path(name))


if __name__ == "__main__":
    main()
