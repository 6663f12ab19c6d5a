"""Power that goes, disks that fill, fail or turn read-only: acknowledged rows are counted afterwards."""

from __future__ import annotations

import errno
import fcntl
import os
import random
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from test_buffer import alarm, drained, features, opened, wave

from pdm_edge.errors import StoreError, StoreFullError
from pdm_edge.store import Buffer

EXT4_IOC_SHUTDOWN = 0x8004587D  # linux/fs/ext4/ext4.h
NO_LOG_FLUSH = 2  # what was not synced is gone, as when the power goes


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """Mounts file systems of its own; needs root."""
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("NEEDS ROOT: mounts a file system of its own (run the tests as root)")
    places: list[Path] = []

    def mounted(*arguments: str) -> Path:
        place = tmp_path / f"disk{len(places)}"
        place.mkdir(exist_ok=True)
        done = subprocess.run(["mount", *arguments, str(place)], check=False, capture_output=True, text=True)
        if done.returncode and os.environ.get("PDM_REQUIRE_TOOLS") != "1":
            pytest.skip(f"NEEDS THE RIGHT TO MOUNT, which this root has not (a container?): {done.stderr}")
        assert done.returncode == 0, done.stderr
        places.append(place)
        return place

    yield mounted
    for place in places:
        subprocess.run(["umount", "-l", str(place)], check=False, capture_output=True)


def unmount(place: Path) -> None:
    deadline = time.monotonic() + 20
    while subprocess.run(["umount", str(place)], check=False, capture_output=True).returncode != 0:
        assert time.monotonic() < deadline, f"{place} stays busy"
        time.sleep(0.02)


def fill(file: Path) -> None:
    """Somebody else fills the disk."""
    with file.open("wb", buffering=0) as stream:
        try:
            while True:
                stream.write(bytes(4096))
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise


def stamps(buffer: Buffer, kind: str) -> set[int]:
    """Which rows wait, by the number that the test gave them; none may be there twice."""
    rows = [row for batch in drained(buffer) for row in batch.rows]
    assert len({row.seq for row in rows}) == len(rows)
    return {row.stamp.monotonic_ns for row in rows if row.kind == kind}


def test_25_power_cuts_lose_no_row_that_write_returned_for(
    tmp_path: Path, mount: Callable[..., Path], require_tool: Callable[[str, str], str]
) -> None:
    image = tmp_path / "image"
    with image.open("wb") as stream:
        stream.truncate(64 << 20)
    subprocess.run([require_tool("mkfs.ext4", "e2fsprogs"), "-q", "-F", str(image)], check=True)
    given = 0
    safe: set[int] = set()
    moment = random.Random(25)
    for _ in range(25):
        place = mount("-o", "loop,commit=1", str(image))
        buffer = opened(place / "b.db", max_mb=32)
        started = threading.Event()
        acknowledged: set[int] = set()

        def work(
            buffer: Buffer = buffer,
            first: int = given,
            started: threading.Event = started,
            acknowledged: set[int] = acknowledged,
        ) -> None:
            nonlocal given
            n = first
            while True:
                given = n + 1
                try:
                    buffer.write([alarm(n), features(n)])
                except StoreError:
                    return
                acknowledged.add(n)
                started.set()
                n += 1

        writer = threading.Thread(target=work)
        writer.start()
        assert started.wait(20)
        time.sleep(moment.uniform(0.0, 0.15))
        # What is synced while the power goes, the kernel may still report as done, and lose: measured
        # on plain files, too. What was reported before must be there.
        folder = os.open(place, os.O_RDONLY)
        safe |= acknowledged.copy()
        fcntl.ioctl(folder, EXT4_IOC_SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
        os.close(folder)
        writer.join(20)
        buffer.close()
        unmount(place)
    place = mount("-o", "loop", str(image))
    buffer = opened(place / "b.db", max_mb=32)
    assert buffer.counters["set aside"] == 0
    rows = [row for batch in drained(buffer) for row in batch.rows]
    assert len(safe) >= 25
    assert {r.stamp.monotonic_ns for r in rows if r.kind == "advisory"} >= safe
    assert {r.stamp.monotonic_ns for r in rows if r.kind == "features"} >= safe
    assert len({row.seq for row in rows}) == len(rows)
    buffer.close()


def test_on_a_full_disk_alarms_still_get_in_receipts_get_through_and_it_recovers(
    mount: Callable[..., Path],
) -> None:
    place = mount("-t", "tmpfs", "-o", "size=3m", "tmpfs")
    buffer = opened(place / "b.db", max_mb=8)
    for n in range(300):
        buffer.write([features(n)])
    fill(place / "other")
    accepted, refused = [], []
    for n in range(1000, 1300):
        try:
            buffer.write([alarm(n), wave(n, samples=500)])
            accepted.append(n)
        except StoreFullError:
            refused.append(n)
    assert len(accepted) == 300, f"{len(refused)} alarms were refused"
    assert buffer.counters["evicted"] > 0
    # Receipts get through though the disk is still full.
    batch = buffer.next_batch(100)
    assert batch is not None
    assert batch.lane == "alarm"
    assert stamps(buffer, "advisory") == set(accepted)
    (place / "other").unlink()
    buffer.write([features(n) for n in range(5000, 5100)])
    assert stamps(buffer, "features") == set(range(5000, 5100))
    buffer.close()


def test_a_disk_without_any_room_refuses_and_takes_again_when_there_is(mount: Callable[..., Path]) -> None:
    place = mount("-t", "tmpfs", "-o", "size=1m", "tmpfs")
    (place / "other").write_bytes(bytes(700_000))
    buffer = opened(place / "b.db", max_mb=64)
    kept: set[int] = set()
    refusal = ""
    while not refusal:
        try:
            buffer.write([alarm(len(kept))])
            kept.add(len(kept))
        except StoreFullError as error:
            refusal = str(error)
    assert "full. Free disk space" in refusal
    assert len(kept) > 10
    (place / "other").unlink()
    buffer.write([alarm(9999)])
    assert stamps(buffer, "advisory") == kept | {9999}
    buffer.close()


def test_a_disk_that_the_kernel_turns_read_only_refuses_writes_and_loses_nothing(
    tmp_path: Path, mount: Callable[..., Path], require_tool: Callable[[str, str], str]
) -> None:
    image = tmp_path / "image"
    with image.open("wb") as stream:
        stream.truncate(64 << 20)
    subprocess.run([require_tool("mkfs.ext4", "e2fsprogs"), "-q", "-F", str(image)], check=True)
    place = mount("-o", "loop,errors=remount-ro", str(image))
    buffer = opened(place / "b.db", max_mb=8)
    buffer.write([alarm(0)])
    (device,) = [
        line.split()[0] for line in Path("/proc/mounts").read_text().splitlines() if str(place) in line
    ]
    trigger = Path("/sys/fs/ext4", Path(device).name, "trigger_fs_error")
    if not trigger.exists():
        pytest.skip(f"NEEDS {trigger}: a kernel that can be told to find an error, and /sys mounted")
    trigger.write_text("an error of the file system, by test")
    with pytest.raises(StoreError, match="cannot be written"):
        buffer.write([alarm(1)])
    assert buffer.next_batch(10) is not None  # it can still be read
    buffer.close()
    unmount(place)
    subprocess.run(["e2fsck", "-p", "-f", str(image)], check=False, capture_output=True)
    place = mount("-o", "loop", str(image))
    buffer = opened(place / "b.db", max_mb=8)
    buffer.write([alarm(2)])
    assert stamps(buffer, "advisory") in ({0, 2}, {0, 1, 2})
    buffer.close()


EIO_WRITER = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_buffer import alarm, opened
from pdm_edge.errors import StoreError
buffer = opened(Path({path!r}))
for n in range(40):
    try:
        buffer.write([alarm(n)])
        print("stored", n, flush=True)
    except StoreError as error:
        print("refused", n, flush=True)
buffer.close()
"""


def test_a_sync_that_fails_is_a_write_that_failed_and_the_next_one_holds(
    tmp_path: Path, require_tool: Callable[[str, str], str]
) -> None:
    path = tmp_path / "b.db"
    opened(path).close()
    code = EIO_WRITER.format(tests=str(Path(__file__).parent), path=str(path))
    inject = ["-e", "trace=fdatasync,fsync", "-e", "inject=fdatasync,fsync:error=EIO:when=20..24"]
    command = [require_tool("strace", "strace"), "-f", "-qq", "-o", "/dev/null", *inject]
    done = subprocess.run(
        [*command, sys.executable, "-c", code], check=False, capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr
    told = [line.split() for line in done.stdout.splitlines()]
    stored = {int(n) for what, n in told if what == "stored"}
    refused = {int(n) for what, n in told if what == "refused"}
    assert refused
    assert stored | refused == set(range(40))
    buffer = opened(path)
    assert stamps(buffer, "advisory") == stored
    buffer.close()


KILL_60 = """
import os, random, signal, sys, time
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_buffer import alarm, features, opened
moment, done = random.Random(60), 0
for _ in range(60):
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        buffer = opened(Path({path!r}))
        n = done
        while True:
            buffer.write([features(n), features(n + 1), alarm(n)])
            n += 2
            os.write(writing, b"%d\\n" % n)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        told = [pipe.readline()]
        time.sleep(moment.uniform(0.0, 0.05))
        os.kill(child, signal.SIGKILL)
        told += pipe.read().split(b"\\n")
    os.waitpid(child, 0)
    done = max(int(line) for line in told if line.strip())
print(done)
"""


def test_60_kills_lose_no_row_that_write_returned_for(tmp_path: Path) -> None:
    path = tmp_path / "b.db"
    code = KILL_60.format(tests=str(Path(__file__).parent), path=str(path))
    run = subprocess.run(
        [sys.executable, "-c", code], check=False, capture_output=True, text=True, timeout=110
    )
    assert run.returncode == 0, run.stderr
    done = int(run.stdout)
    buffer = opened(path)
    rows = [row for batch in drained(buffer) for row in batch.rows]
    assert done > 60
    assert {r.stamp.monotonic_ns for r in rows if r.kind == "features"} >= set(range(done))
    assert {r.stamp.monotonic_ns for r in rows if r.kind == "advisory"} >= set(range(0, done, 2))
    assert len({row.seq for row in rows}) == len(rows)
    buffer.close()


CLOCK_JUMPS = """
import sys, time
from pathlib import Path
sys.path.insert(0, {tests!r})
from pdm_edge import Advisory, SystemClock
from pdm_edge.store import Buffer
clock = SystemClock(trusted=True)
buffer = Buffer(Path({path!r}), gateway="gw", max_mb=64, clock=clock)
rc = Path({rc!r})
for n, jump in enumerate(["+0", "-3600", "+86400", "-864000", "+0"]):
    rc.write_text(jump)
    for i in range(10):
        buffer.write([Advisory("pump", "alarm", "normal", clock.stamp(), str(10 * n + i), "advice")])
buffer.close()
"""


def test_jumps_of_the_wall_clock_neither_reorder_nor_lose_rows(
    tmp_path: Path, require_tool: Callable[[str, str], str]
) -> None:
    require_tool("faketime", "faketime")
    libraries = list(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    assert libraries
    path, rc = tmp_path / "b.db", tmp_path / "faketimerc"
    rc.write_text("+0")
    code = CLOCK_JUMPS.format(tests=str(Path(__file__).parent), path=str(path), rc=str(rc))
    environment = {
        **os.environ,
        "LD_PRELOAD": str(libraries[0]),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_TIMESTAMP_FILE": str(rc),
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    run = subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        check=False,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert run.returncode == 0, run.stderr
    buffer = opened(path)
    (batch,) = drained(buffer)
    buffer.close()
    import msgspec

    assert [int(msgspec.json.decode(row.body)["headline"]) for row in batch.rows] == list(range(50))
    utc = [row.stamp.utc_ns for row in batch.rows]
    monotonic = [row.stamp.monotonic_ns for row in batch.rows]
    assert utc != sorted(utc)  # the clock did jump
    assert monotonic == sorted(monotonic)
