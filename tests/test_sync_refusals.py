"""Rows that the far end refuses: one for ever, all, now and then. Nothing is lost, nothing comes twice."""

from __future__ import annotations

import json
import random
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from sync_ends import Broker, filled, received, wait_for, worker_to
from test_buffer import alarm, features, opened, stamp, wave

from pdm_edge import Gap, Reading, SystemClock
from pdm_edge.errors import BatchRefusedError, SyncError
from pdm_edge.store import Buffer, read_status
from pdm_edge.sync import drain, open_uploader
from pdm_edge.sync.payload import Received, decode_batch, encode_receipt
from pdm_edge.sync.receive_mqtt import serve_mqtt
from pdm_edge.sync.receiver import Receiver

Judge = Callable[[Received], tuple[int, str]]


class FarEnd:
    """A receiver over HTTP that asks a judge first: 200, or a status and a reason."""

    def __init__(self, folder: Path) -> None:
        self.receiver = Receiver(folder / "cloud.db")
        self.judge: Judge = lambda batch: (200, "")
        self.batches: list[Received] = []
        far = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                content = self.rfile.read(int(self.headers["Content-Length"]))
                batch = decode_batch(content)
                far.batches.append(batch)
                status, told = far.judge(batch)
                body = encode_receipt(far.receiver.accept(content)) if status == 200 else told.encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                return None

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/"

    def refuse(self, numbers: set[int], status: int = 422, told: str = "value out of range") -> None:
        """Refuse every batch that holds one of these rows."""

        def judge(batch: Received) -> tuple[int, str]:
            return (status, told) if numbers & {row.seq for row in batch.rows} else (200, "")

        self.judge = judge

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self.receiver.close()


@pytest.fixture
def far_end(tmp_path: Path) -> Iterator[FarEnd]:
    made = FarEnd(tmp_path)
    yield made
    made.close()


def numbers_in(path: Path, table: str) -> list[int]:
    connection = sqlite3.connect(path)
    found = [seq for (seq,) in connection.execute(f"SELECT seq FROM {table} ORDER BY seq")]
    connection.close()
    return found


def identity_gaps(path: Path) -> list[dict[str, Any]]:
    """The gaps that the far end has got."""
    connection = sqlite3.connect(path)
    bodies = [
        json.loads(body) for (body,) in connection.execute("SELECT body FROM received WHERE kind = 'gap'")
    ]
    connection.close()
    return [body for body in bodies if "set aside" in body["why"]]


def test_one_row_that_is_always_refused_is_set_aside_and_all_others_arrive_once(
    tmp_path: Path, far_end: FarEnd
) -> None:
    buffer, identities = filled(tmp_path / "b.db", n=400)
    bad = sorted(identities)[123]
    far_end.refuse({bad[1]})
    worker = worker_to(buffer, far_end.url)
    wait_for(lambda: buffer.status().rows == 0)
    worker.stop()
    status = read_status(tmp_path / "b.db")
    arrived = received(tmp_path / "cloud.db")
    assert identities - arrived == {bad}
    assert numbers_in(tmp_path / "b.db", "refused") == [bad[1]]
    assert status.refused == 1
    assert "value out of range" in status.last_refused
    assert status.delivered == len(identities) - 1 + 1  # and the gap that tells it
    (gap,) = identity_gaps(tmp_path / "cloud.db")
    assert (gap["first"], gap["last"], gap["lost"]) == (bad[1], bad[1], 1)
    assert "boot boot-a" in gap["why"]
    assert "value out of range" in gap["why"]
    assert worker.status.set_aside == 1
    buffer.close()


@pytest.mark.parametrize(
    "places", [{0}, {399}, {0, 399}, {10, 11, 12, 13, 14}, set(range(0, 400, 40))], ids=str
)
def test_bad_rows_at_the_ends_in_a_row_and_scattered(
    tmp_path: Path, far_end: FarEnd, places: set[int]
) -> None:
    buffer = opened(tmp_path / "b.db")
    buffer.write([features(n) for n in range(400)])
    numbers = numbers_in(tmp_path / "b.db", "outbox")
    bad = {numbers[place] for place in places}
    far_end.refuse(bad)
    worker = worker_to(buffer, far_end.url)
    # Behind the last row there is no neighbour that proves anything: it waits until one comes.
    behind = 1 if 399 in places else 0
    wait_for(lambda: buffer.status().rows == behind, within_s=60)
    if behind:
        buffer.write([features(1000)])
        wait_for(lambda: buffer.status().rows == 0)
    worker.stop()
    assert set(numbers_in(tmp_path / "b.db", "refused")) == bad
    arrived = {seq for _, seq in received(tmp_path / "cloud.db")}
    assert set(numbers) - arrived == bad
    assert sum(gap["lost"] for gap in identity_gaps(tmp_path / "cloud.db")) == len(bad)
    buffer.close()


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 413, 422, 429, 500, 503])
def test_a_far_end_that_refuses_everything_sets_nothing_aside(
    tmp_path: Path, far_end: FarEnd, status: int
) -> None:
    buffer, identities = filled(tmp_path / "b.db", n=200)
    far_end.judge = lambda batch: (status, "no")
    worker = worker_to(buffer, far_end.url)
    wait_for(lambda: worker.status.failures >= 25)
    assert f"answered {status}" in read_status(tmp_path / "b.db").link_error
    before = len(far_end.batches)
    time.sleep(1.0)
    assert len(far_end.batches) - before < 150  # with pauses of 0.05 to 0.1 s: it backs off
    assert buffer.status().refused == 0
    assert buffer.status().rows == len(identities)
    far_end.judge = lambda batch: (200, "")
    wait_for(lambda: buffer.status().rows == 0)
    worker.stop()
    assert received(tmp_path / "cloud.db") == identities
    assert buffer.status().refused == 0
    buffer.close()


def test_a_lane_that_is_refused_whole_waits_and_the_others_go_on(tmp_path: Path, far_end: FarEnd) -> None:
    buffer, identities = filled(tmp_path / "b.db", n=200)
    far_end.judge = lambda batch: (422, "no features, please") if batch.lane == "feature" else (200, "")
    worker = worker_to(buffer, far_end.url)
    wait_for(lambda: buffer.status().rows == 200)
    buffer.write([alarm(5)])
    worker.notify(urgent=True)
    wait_for(lambda: buffer.status().lanes["alarm"].rows == 0)
    time.sleep(1.0)
    assert buffer.status().refused == 0
    assert buffer.status().lanes["feature"].rows == 200
    far_end.judge = lambda batch: (200, "")
    wait_for(lambda: buffer.status().rows == 0)
    worker.stop()
    assert received(tmp_path / "cloud.db") >= identities
    buffer.close()


def test_a_far_end_that_refuses_at_random_loses_nothing_and_nothing_comes_twice(
    tmp_path: Path, far_end: FarEnd
) -> None:
    chance = random.Random(4)
    buffer, identities = filled(tmp_path / "b.db", n=600)
    far_end.judge = lambda batch: (422, "not now") if chance.random() < 0.5 else (200, "")
    worker = worker_to(buffer, far_end.url)
    wait_for(lambda: buffer.status().rows == 0, within_s=60)
    worker.stop()
    assert buffer.status().refused == 0
    assert received(tmp_path / "cloud.db") == identities
    buffer.close()


def test_what_was_set_aside_can_be_tried_again_as_a_new_row(tmp_path: Path, far_end: FarEnd) -> None:
    buffer = opened(tmp_path / "b.db")
    buffer.write([Reading("temp", "temperature", float(n), "degc", stamp(n)) for n in range(20)])
    bad = numbers_in(tmp_path / "b.db", "outbox")[7]
    far_end.refuse({bad})
    uploader = open_uploader(far_end.url, gateway="gw")
    assert drain(buffer, uploader, first_pause_s=0.01) == 19 + 1
    assert buffer.release_refused() == 1
    assert buffer.status().refused == 0
    drain(buffer, uploader)
    uploader.close()
    connection = sqlite3.connect(tmp_path / "cloud.db")
    values = [
        json.loads(b)["value"]
        for (b,) in connection.execute("SELECT body FROM received WHERE kind='reading'")
    ]
    times = connection.execute("SELECT DISTINCT utc_ns FROM received WHERE kind = 'reading'").fetchall()
    connection.close()
    assert sorted(values) == [float(n) for n in range(20)]
    assert len(times) == 20
    buffer.close()


def test_features_set_aside_keep_their_names_and_units(tmp_path: Path, far_end: FarEnd) -> None:
    buffer = opened(tmp_path / "b.db")
    buffer.write([features(n) for n in range(10)])
    batch = buffer.next_batch(1)
    assert batch is not None
    buffer.set_aside("feature", batch.rows[0].seq, "refused by the test")
    assert buffer.release_refused() == 1
    far = open_uploader(far_end.url, gateway="gw")
    assert drain(buffer, far) == 10 + 1
    far.close()
    connection = sqlite3.connect(tmp_path / "cloud.db")
    contexts = {c for (c,) in connection.execute("SELECT context FROM received WHERE kind = 'features'")}
    bodies = [b for (b,) in connection.execute("SELECT body FROM received WHERE kind = 'features'")]
    connection.close()
    assert len(contexts) == 1
    assert len(bodies) == 10
    buffer.close()


def test_draining_by_hand_ends_at_a_far_end_that_refuses_everything(tmp_path: Path, far_end: FarEnd) -> None:
    buffer, identities = filled(tmp_path / "b.db", n=50)
    far_end.judge = lambda batch: (422, "no")
    uploader = open_uploader(far_end.url, gateway="gw")
    with pytest.raises(BatchRefusedError, match="answered 422"):
        drain(buffer, uploader, first_pause_s=0.01)
    uploader.close()
    assert buffer.status().rows == len(identities)
    assert buffer.status().refused == 0
    buffer.close()


def test_a_far_end_that_takes_no_gaps_is_not_told_of_each_by_another(tmp_path: Path, far_end: FarEnd) -> None:
    buffer = opened(tmp_path / "b.db")
    buffer.write([Gap("de", "samples", n, "why", stamp(n)) for n in range(20)])
    bad = numbers_in(tmp_path / "b.db", "outbox")[3]

    def judge(batch: Received) -> tuple[int, str]:
        told = any(row.kind == "gap" and row.subject == "sync" for row in batch.rows)
        return (422, "no") if told or bad in {row.seq for row in batch.rows} else (200, "")

    far_end.judge = judge
    worker = worker_to(buffer, far_end.url)
    wait_for(lambda: buffer.status().refused == 1)
    buffer.write([Gap("de", "samples", n, "why", stamp(n)) for n in range(20, 30)])
    worker.notify()
    wait_for(lambda: buffer.status().refused == 2 and buffer.status().rows == 0)
    worker.stop()
    buffer.close()


def test_evidence_that_is_refused_does_not_hold_up_other_answers(tmp_path: Path, far_end: FarEnd) -> None:
    buffer = Buffer(tmp_path / "b.db", gateway="gw", clock=SystemClock(), on_request=("waveform",))
    raised = [alarm(1), alarm(2)]
    for each in raised:
        pieces = [replace(wave(n), first_sample=1000 * n, alarm=each.id) for n in range(3)]
        buffer.write([each, *pieces])
    bad = numbers_in(tmp_path / "b.db", "outbox_waveform")[1]
    uploader = open_uploader(far_end.url, gateway="gw")
    drain(buffer, uploader)
    for each in raised:
        far_end.receiver.ask_for_waveforms("gw", each.id)
    far_end.refuse({bad}, 413, "too large")
    worker = worker_to(buffer, far_end.url)
    for n in range(200):
        buffer.write([features(n)])  # what proves that the far end is well
        worker.notify()
        time.sleep(0.02)
        if buffer.status().lanes["waveform"].rows == 0:
            break
    worker.stop()
    uploader.close()
    assert numbers_in(tmp_path / "b.db", "refused") == [bad]
    connection = sqlite3.connect(tmp_path / "cloud.db")
    (n,) = connection.execute("SELECT count(*) FROM received WHERE kind = 'waveform'").fetchone()
    connection.close()
    assert n == 5
    buffer.close()


def test_refused_rows_are_bounded_and_outlive_a_damaged_file(tmp_path: Path) -> None:
    buffer = opened(tmp_path / "b.db", max_mb=4)
    for start in range(0, 1100, 100):
        buffer.write([features(n) for n in range(start, start + 100)])
        for seq in numbers_in(tmp_path / "b.db", "outbox_feature"):
            buffer.set_aside("feature", seq, "no")
    kept = buffer.status().refused
    assert 100 < kept <= 1000
    newest = numbers_in(tmp_path / "b.db", "refused")
    buffer.close()
    content = bytearray((tmp_path / "b.db").read_bytes())
    connection = sqlite3.connect(tmp_path / "b.db")
    (root,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'outbox_event'").fetchone()
    (page,) = connection.execute("PRAGMA page_size").fetchone()
    connection.close()
    content[(root - 1) * page : root * page] = b"\xff" * page
    (tmp_path / "b.db").write_bytes(bytes(content))
    (tmp_path / "b.db-wal").write_bytes(b"\0" * 32)  # as after a crash: the whole file is checked
    buffer = opened(tmp_path / "b.db", max_mb=4)
    assert list(tmp_path.glob("*.corrupt-*"))
    assert numbers_in(tmp_path / "b.db", "refused") == newest
    buffer.close()


# MQTT


def test_a_receiver_behind_a_broker_says_what_it_refuses(tmp_path: Path, broker: Broker) -> None:
    receiver = Receiver(tmp_path / "cloud.db")
    accept = receiver.accept
    bad: set[int] = set()

    def choosy(packed: bytes, *, sender: str | None = None) -> Any:
        if bad & {row.seq for row in decode_batch(packed).rows}:
            raise SyncError("value out of range")
        return accept(packed, sender=sender)

    receiver.accept = choosy  # type: ignore[method-assign]
    consumer = serve_mqtt(receiver, "127.0.0.1", broker.port)
    buffer, identities = filled(tmp_path / "b.db", n=100)
    bad.add(sorted(identities)[50][1])
    worker = worker_to(buffer, f"mqtt://127.0.0.1:{broker.port}", batch_rows=30)
    wait_for(lambda: buffer.status().rows == 0)
    worker.stop()
    consumer.disconnect()
    consumer.loop_stop()
    arrived = received(tmp_path / "cloud.db")
    assert {seq for _, seq in identities - arrived} == bad
    assert set(numbers_in(tmp_path / "b.db", "refused")) == bad
    receiver.close()
    buffer.close()


def test_a_batch_larger_than_the_broker_takes_is_made_smaller(tmp_path: Path, mosquitto: str) -> None:
    broker = Broker(mosquitto, tmp_path, "allow_anonymous true\nmax_packet_size 2500\n")
    broker.start()
    receiver = Receiver(tmp_path / "cloud.db")
    consumer = serve_mqtt(receiver, "127.0.0.1", broker.port)
    buffer, identities = filled(tmp_path / "b.db", n=300)
    worker = worker_to(buffer, f"mqtt://127.0.0.1:{broker.port}", batch_rows=300)
    wait_for(lambda: buffer.status().rows == 0)
    worker.stop()
    consumer.disconnect()
    consumer.loop_stop()
    assert received(tmp_path / "cloud.db") == identities
    assert buffer.status().refused == 0
    receiver.close()
    broker.kill()
    buffer.close()


# the receiver's own end


def test_what_cannot_be_read_is_kept_where_nobody_sends_it_again(tmp_path: Path) -> None:
    receiver = Receiver(tmp_path / "cloud.db")
    buffer, _ = filled(tmp_path / "b.db", n=10)
    batch = buffer.next_batch(1)
    assert batch is not None
    for n in range(3):
        receiver.keep_refused("gw", b"\x1f\x8b garbage %d" % n, "is no batch")
    connection = sqlite3.connect(tmp_path / "cloud.db")
    assert connection.execute("SELECT count(*), min(why) FROM refused").fetchone() == (3, "is no batch")
    connection.close()
    receiver.close()
    buffer.close()


def test_only_a_known_gateway_can_be_asked(tmp_path: Path) -> None:
    receiver = Receiver(tmp_path / "cloud.db")
    with pytest.raises(SyncError, match="never heard of"):
        receiver.ask_for_rows("nobody", "feature", 0, 10)
    with pytest.raises(SyncError, match="never heard of"):
        receiver.ask_for_waveforms("nobody", "pump@boot:1")
    receiver.close()
