"""Damaged files: what can be read goes on, and each row that cannot is counted. By identity, at both ends."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest
from test_buffer import alarm, drained, features, opened, wave

from pdm_edge import FeatureSchema, FeatureVector, Gap, Receipt, Record, Stamp, SystemClock
from pdm_edge.errors import StoreError
from pdm_edge.store import Buffer

PAGE = 4096


def records(rng: np.random.Generator, count: int) -> Iterator[Record]:
    for n in range(count):
        kind = rng.random()
        if kind < 0.02:
            yield wave(n, samples=int(rng.integers(10, 4000)))
        elif kind < 0.05:
            yield alarm(n)
        elif kind < 0.08:
            yield Gap("de", "samples", n, "why", Stamp(n, n, "boot", True))
        else:
            yield features(n)


def numbers(path: Path) -> set[int]:
    connection = sqlite3.connect(path)
    found = {seq for (seq,) in connection.execute("SELECT seq FROM outbox")}
    connection.close()
    return found


def filled(path: Path, rng: np.random.Generator) -> tuple[set[int], set[int]]:
    """A buffer with a past: rows delivered, kept and given up. The numbers that it has, and those delivered.

    It is left as a crash or as a clean close leaves it.
    """
    buffer = opened(path, max_mb=6)
    delivered: set[int] = set()
    given = list(records(rng, int(rng.integers(3000, 9000))))
    while given:
        size = int(rng.integers(1, 800))
        buffer.write(given[:size])
        del given[:size]
        for _ in range(int(rng.integers(0, 4))):
            batch = buffer.next_batch(int(rng.integers(1, 400)))
            if batch is not None:
                buffer.settle(Receipt("gw", batch.lane, batch.through_seq))
                delivered |= {row.seq for row in batch.rows}
    held = numbers(path)
    if rng.random() < 0.5:
        buffer.close()
        return held, delivered
    for suffix in ("", "-wal"):
        shutil.copyfile(path.with_name(path.name + suffix), path.with_name("image" + suffix))
    buffer.close()
    for suffix in ("", "-wal"):
        path.with_name("image" + suffix).rename(path.with_name(path.name + suffix))
    return held, delivered


def chosen(rng: np.random.Generator, total: int, count: int) -> list[int]:
    """Any pages, but often the first ones, where all tables begin, and the last ones, where rows are new."""
    anywhere, first, last = rng.integers(0, total, 3)
    spots = [anywhere, first % 25 % total, total - 1 - last % 6 % total]
    return [int(rng.choice(spots)) if n == 0 else int(rng.integers(0, total)) for n in range(count)]


def overwrite(path: Path, rng: np.random.Generator, pages: list[int]) -> None:
    with path.open("r+b") as stream:
        for page in pages:
            start, size = 0, PAGE
            if rng.random() < 0.3:  # a part of it, as of a sector that was not written
                start, size = int(rng.integers(0, 8)) * 512, 512
            stream.seek(page * PAGE + start)
            stream.write(bytes(size) if rng.random() < 0.3 else rng.bytes(size))


def told(buffer: Buffer) -> tuple[set[int], int, list[str]]:
    """All that comes out: numbers, how many rows are said to be lost by damage, and their words."""
    seen: set[int] = set()
    lost, why = 0, []
    for batch in drained(buffer):
        for row in batch.rows:
            seen.add(row.seq)
            gap = msgspec.json.decode(row.body) if row.kind == "gap" else {}
            if "was damaged" in gap.get("why", ""):
                lost += gap["lost"]
                why.append(gap["why"])
    return seen, lost, why


def as_after_a_crash(path: Path) -> None:
    """So that the file is checked when it is opened, not only when a row is read."""
    if not path.with_name("b.db-wal").exists():
        path.with_name("b.db-wal").write_bytes(b"cut")


# 18 damages numbers in a page, so that a search goes astray in it; 1059 loses all headers, 4069 all schemas.
@pytest.mark.parametrize("seed", [*range(30), 1059, 4069])
def test_delivered_and_told_as_lost_is_all_that_was_accepted_whatever_pages_are_damaged(
    tmp_path: Path, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    path = tmp_path / "b.db"
    held, delivered = filled(path, rng)
    count = 1 if seed % 2 else int(rng.integers(2, 6))
    pages = chosen(rng, path.stat().st_size // PAGE, count)
    overwrite(path, rng, pages)
    as_after_a_crash(path)
    buffer = opened(path, max_mb=6)
    buffer.write([alarm(1_000_000)])
    seen, lost, why = told(buffer)
    buffer.close()
    missing = len(held - delivered - seen)
    # Where several pages hit both the rows and what is known of them, a bound is told as one.
    if count > 1 and any("at most" in text for text in why):
        assert lost >= missing, (pages, why)
    elif count > 1 and any("at least" in text for text in why):
        assert lost <= missing, (pages, why)
    else:
        assert lost == missing, (pages, why)
    assert max(seen) > max(held)


def test_each_page_where_a_table_begins_may_be_lost_and_the_count_is_still_exact(tmp_path: Path) -> None:
    path = tmp_path / "b.db"
    buffer = opened(path)
    buffer.write([*records(np.random.default_rng(5), 2500)])
    for _ in range(9):
        batch = buffer.next_batch(100, ("feature",))
        assert batch is not None
        buffer.settle(Receipt("gw", batch.lane, batch.through_seq))
    buffer.close()
    held = numbers(path)
    connection = sqlite3.connect(path)
    sent = connection.execute("SELECT sent_seq FROM lanes WHERE name = 'feature'").fetchone()[0]
    sql = f"SELECT seq FROM outbox_feature WHERE seq <= {sent}"
    delivered = {seq for (seq,) in connection.execute(sql)}
    roots = dict(connection.execute("SELECT name, rootpage FROM sqlite_master WHERE rootpage > 0"))
    connection.close()
    assert len(delivered) == 900
    whole = path.read_bytes()
    for name, root in {"the first page": 1, **roots}.items():
        for file in tmp_path.glob("b.db*"):
            file.unlink()
        path.write_bytes(whole)
        overwrite_whole(path, root - 1)
        as_after_a_crash(path)
        buffer = opened(path)
        seen, lost, why = told(buffer)
        buffer.close()
        missing = held - delivered - seen
        assert lost == len(missing), name
        assert not any("at least" in text or "at most" in text for text in why), (name, why)
        if name == "the first page" or not name.startswith(("outbox", "headers", "schemas")):
            assert not missing, name


def overwrite_whole(path: Path, page: int) -> None:
    with path.open("r+b") as stream:
        stream.seek(page * PAGE)
        stream.write(np.random.default_rng(page).bytes(PAGE))


def test_the_ends_of_the_lanes_may_be_lost_and_the_count_is_still_exact(tmp_path: Path) -> None:
    for is_open in (False, True):
        path = tmp_path / f"b{is_open}.db"
        buffer = opened(path)
        for n in range(0, 100_000, 5000):  # more than SQLite keeps in memory
            buffer.write([features(n + i) for i in range(5000)])
        held = numbers(path)
        connection = sqlite3.connect(path)
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.close()
        if not is_open:
            buffer.close()
        # All behind the first rows: of the last number there is nothing left in the rows.
        for page in range(200, path.stat().st_size // PAGE):
            overwrite_whole(path, page)
        if not is_open:
            buffer = opened(path)
        buffer.write([alarm(1)])
        seen, lost, why = told(buffer)
        buffer.close()
        assert lost == len(held - seen) > 50_000
        assert not any("at least" in text or "at most" in text for text in why)
        assert max(seen) > max(held)


def test_a_trend_of_very_many_columns_hides_no_row_when_the_list_of_tables_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "b.db"
    many = FeatureSchema(tuple(f"drive-end/x/feature_{n:03d}" for n in range(300)), ("mm_s",) * 300)
    buffer = opened(path)
    for n in range(200):
        stamp = Stamp(1_790 * 10**15 + n * 10**9, n * 10**9, "boot", True)
        buffer.write([FeatureVector("pump", np.full(300, n, dtype=np.float32), many, stamp, 1.0), alarm(n)])
    buffer.close()
    held = numbers(path)
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT count(*), max(windows) FROM trend").fetchone() == (4, 60)
    connection.close()
    content = path.read_bytes()
    assert content[100] == 5  # the first page holds but the way to the list of tables
    children = [int.from_bytes(content[at : at + 4], "big") for at in (108, *cells(content))]
    for child in children:
        overwrite_whole(path, child - 1)
    buffer = opened(path)
    seen, lost, why = told(buffer)
    buffer.close()
    assert seen > held
    assert (lost, len(why)) == (0, 1)


def cells(content: bytes) -> list[int]:
    """Where the cells of the first page are, each of which begins with the number of a child page."""
    count = int.from_bytes(content[103:105], "big")
    return [int.from_bytes(content[at : at + 2], "big") for at in range(112, 112 + 2 * count, 2)]


def test_a_row_whose_header_is_gone_is_damage_and_not_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "b.db"
    buffer = opened(path)
    buffer.write([features(n) for n in range(10)] + [alarm(1)])
    connection = sqlite3.connect(path)
    connection.execute("DELETE FROM headers WHERE kind = 'features'")
    connection.commit()
    connection.close()
    seen, lost, _ = told(buffer)
    assert lost == 10
    assert len(seen) == 2  # the alarm, and the gap
    buffer.close()


def test_what_is_sent_on_request_only_is_so_after_damage_too(tmp_path: Path) -> None:
    path = tmp_path / "b.db"
    buffer = Buffer(path, gateway="gw", clock=SystemClock(), on_request=("waveform",))
    buffer.write([wave(n) for n in range(50)])
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    overwrite_whole(path, 30)
    overwrite_whole(path, 0)
    buffer.write([alarm(1)])
    assert buffer.next_batch(1, ("waveform",)) is None
    buffer.close()


def test_salvage_of_large_waveforms_takes_little_memory_and_no_more_room(tmp_path: Path) -> None:
    path = tmp_path / "b.db"
    buffer = opened(path)
    for n in range(0, 400):
        buffer.write([wave(n, samples=20_000)])
    buffer.close()
    held = numbers(path)
    size = path.stat().st_size
    assert size > 25_000_000
    overwrite_whole(path, 2000)
    as_after_a_crash(path)
    code = (
        "import sys; from pathlib import Path; from pdm_edge import SystemClock;"
        " from pdm_edge.store import Buffer; import numpy, sqlite_utils;"
        # Of this process alone: ru_maxrss begins with what the parent had when it forked.
        " peak_kb = lambda: int(Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0]);"
        " before = peak_kb();"
        " b = Buffer(Path(sys.argv[1]), gateway='gw', max_mb=64, clock=SystemClock());"
        " print(peak_kb() - before); b.close()"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 16_000  # kB
    assert path.stat().st_size < 1.1 * size
    buffer = opened(path)
    seen, lost, _ = told(buffer)
    buffer.close()
    assert lost == len(held - seen) == 1


def test_a_file_that_cannot_be_opened_again_is_an_error_of_the_store_also_at_closing(tmp_path: Path) -> None:
    folder = tmp_path / "disk"
    folder.mkdir()
    path = folder / "b.db"
    buffer = opened(path)
    buffer.write([features(n) for n in range(20)])
    buffer._file.is_suspect = True  # as after an I/O error that led to another file
    folder.rename(tmp_path / "gone")
    with pytest.raises(StoreError, match="cannot be opened"):
        buffer.write([alarm(1)])
    with pytest.raises(StoreError, match="cannot be opened"):
        buffer.write([alarm(2)])
    buffer.close()
    (tmp_path / "gone").rename(folder)
    buffer = opened(path)
    assert buffer.status().lanes["feature"].rows == 20
    buffer.close()


def crashed(path: Path, writes: int, max_mb: int = 64) -> set[int]:
    """A buffer as a crash leaves it, its rows still in the write-ahead log; returns their numbers."""
    buffer = opened(path, max_mb=max_mb)
    for n in range(writes):
        buffer.write([features(10 * n + i) for i in range(10)])
    held = numbers(path)
    for suffix in ("", "-wal"):
        shutil.copyfile(path.with_name(path.name + suffix), path.with_name("image" + suffix))
    buffer.close()
    for suffix in ("", "-wal"):
        path.with_name("image" + suffix).rename(path.with_name(path.name + suffix))
    return held


FRAME = 24 + PAGE


def frames_of(log: Path) -> int:
    """How many frames were written since the log last began anew."""
    data = log.read_bytes()
    return sum(data[at + 8 : at + 16] == data[16:24] for at in range(32, len(data), FRAME))


@pytest.mark.parametrize("max_mb", [64, 2])  # 2: the log has begun anew several times
@pytest.mark.parametrize("spot", ["header", "no header", "first sector", "first frame", "middle"])
def test_a_damaged_log_is_told_and_no_number_is_given_twice(tmp_path: Path, spot: str, max_mb: int) -> None:
    path = tmp_path / "b.db"
    held = crashed(path, 45, max_mb)
    log = path.with_name("b.db-wal")
    frames = frames_of(log)
    assert frames > 8
    assert (frames < (log.stat().st_size - 32) // FRAME) == (max_mb == 2)
    at, bytes_ = {
        "header": (17, b"damaged!"),
        "no header": (0, bytes(32)),
        "first sector": (0, bytes(4096)),
        "first frame": (32 + 100, b"damaged!"),
        "middle": (32 + frames // 2 * FRAME + 500, b"damaged!"),
    }[spot]
    with log.open("r+b") as stream:
        stream.seek(at)
        stream.write(bytes_)
    buffer = opened(path, max_mb=max_mb)
    buffer.write([alarm(1)])
    batches = drained(buffer)
    buffer.close()
    rows = [row for batch in batches for row in batch.rows]
    gaps = [msgspec.json.decode(row.body) for row in rows if row.kind == "gap"]
    assert ["the log of the buffer was damaged" in gap["why"] for gap in gaps] == [True]
    assert buffer.counters["log damaged"] == 1
    kept = {row.seq for row in rows if row.kind == "features"}
    assert kept < held
    assert bool(kept) == (spot == "middle" or max_mb == 2)
    assert min(row.seq for row in rows if row.kind != "features") > max(held)
    again = opened(path, max_mb=max_mb)
    assert again.counters["log damaged"] == 0
    again.close()


def test_a_damaged_log_and_a_damaged_page_are_both_told_and_numbers_go_on_behind(tmp_path: Path) -> None:
    path = tmp_path / "b.db"
    held = crashed(path, 45, max_mb=2)
    connection = sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True)
    (root,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'outbox_event'").fetchone()
    connection.close()
    with path.open("r+b") as stream:
        stream.seek((root - 1) * PAGE)
        stream.write(bytes(range(256)) * 16)
    log = path.with_name("b.db-wal")
    with log.open("r+b") as stream:
        stream.seek(32 + 100)
        stream.write(b"damaged!")
    buffer = opened(path, max_mb=2)
    assert (buffer.counters["set aside"], buffer.counters["log damaged"]) == (1, 1)
    buffer.write([alarm(n) for n in range(3)])
    rows = [row for batch in drained(buffer) for row in batch.rows]
    buffer.close()
    new = [row.seq for row in rows if row.kind != "features"]
    assert len(new) == len(set(new)) == 5  # two gaps, three alarms
    assert min(new) > max(held)
    told_first = [msgspec.json.decode(row.body)["first"] for row in rows if row.kind == "gap"]
    assert not set(new) & set(told_first)


def test_a_damaged_page_is_found_at_the_start_after_a_crash(tmp_path: Path) -> None:
    path = tmp_path / "b.db"
    crashed(path, 45, max_mb=2)
    connection = sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True)
    sql = "SELECT rootpage FROM sqlite_master WHERE name = 'outbox_feature'"
    (root,) = connection.execute(sql).fetchone()
    connection.close()
    data = path.read_bytes()[(root - 1) * PAGE : root * PAGE]
    assert data[0] == 5  # an inner page: its cells begin with the number of a page below it
    cell = int.from_bytes(data[12:14], "big")
    oldest = int.from_bytes(data[cell : cell + 4], "big")
    with path.open("r+b") as stream:
        stream.seek((oldest - 1) * PAGE)
        stream.write(bytes(range(256)) * 16)
    buffer = opened(path, max_mb=2)
    assert buffer.counters["set aside"] == 1
    buffer.close()


def test_rows_larger_than_what_is_read_at_once_are_all_saved(tmp_path: Path) -> None:
    path = tmp_path / "b.db"
    buffer = opened(path)
    buffer.write([wave(n, samples=400_000) for n in range(6)])
    held = numbers(path)
    buffer.close()
    connection = sqlite3.connect(path)
    (least,) = connection.execute("SELECT min(length(body)) FROM outbox_waveform").fetchone()
    (root,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'outbox_event'").fetchone()
    connection.close()
    assert least > 1 << 20
    with path.open("r+b") as stream:
        stream.seek((root - 1) * PAGE)
        stream.write(bytes(range(256)) * 16)
    as_after_a_crash(path)
    buffer = opened(path)
    assert buffer.counters["set aside"] == 1
    assert {row.seq for batch in drained(buffer) for row in batch.rows if row.kind == "waveform"} == held
    buffer.close()


@pytest.mark.skipif(sys.platform != "linux", reason="NEEDS LINUX: takes a lock of SQLite's by hand")
def test_a_log_that_another_process_is_working_off_is_no_damage(tmp_path: Path) -> None:
    path = tmp_path / "b.db"
    buffer = opened(path)
    for n in range(20):
        buffer.write([features(n)])
    # The lock for working a log off, https://www.sqlite.org/walformat.html
    holder = (
        "import fcntl, sys; f = open(sys.argv[1], 'r+b'); fcntl.lockf(f, fcntl.LOCK_EX, 1, 121);"
        " print(flush=True); sys.stdin.read()"
    )
    other = (
        "import sys; from pathlib import Path; from pdm_edge.store.log_check import lost_commits;"
        " print(lost_commits(Path(sys.argv[1])))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", holder, f"{path}-shm"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        done = subprocess.run(
            [sys.executable, "-c", other, path], capture_output=True, text=True, check=False, timeout=60
        )
        assert process.stdin is not None
        process.stdin.close()
    assert done.stdout.strip() == "0", done.stderr
    buffer.close()


@pytest.mark.parametrize("cut", [0, 1, 24, 300, FRAME - 1, FRAME])
def test_a_log_that_a_crash_has_cut_is_no_damage(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "b.db"
    held = crashed(path, 20)
    log = path.with_name("b.db-wal")
    log.write_bytes(log.read_bytes()[: log.stat().st_size - cut])
    buffer = opened(path)
    seen, *_ = told(buffer)
    assert buffer.counters["log damaged"] == 0
    assert len(held - seen) <= 10  # the last write, which had not returned
    buffer.close()


def test_a_log_that_begins_anew_with_the_old_frames_behind_it_is_no_damage(tmp_path: Path) -> None:
    path = tmp_path / "b.db"
    crashed(path, 30)
    log = path.with_name("b.db-wal")
    old = log.read_bytes()
    connection = sqlite3.connect(path)  # works the log off into the file, and removes it
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    log.write_bytes(bytes(32) + old[32:])  # a new header, not written whole yet
    buffer = opened(path)
    assert buffer.counters["log damaged"] == 0
    assert buffer.status().rows == 300
    buffer.close()
