"""An idle gateway hears what the far end wants, within a stated time, and politely."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from sync_ends import Broker, Cluster, free_port, received, receiver_of, wait_for
from test_buffer import alarm, features, opened, wave

from pdm_edge import Batch, Receipt, SystemClock, Want
from pdm_edge.errors import ConfigError, RecordError, SyncError
from pdm_edge.records import LANES
from pdm_edge.store import Buffer, read_status
from pdm_edge.sync import SyncWorker, drain, open_uploader
from pdm_edge.sync.budget import Budget
from pdm_edge.sync.payload import Encoding, decode_batch, encode_batch
from pdm_edge.sync.receive_http import HttpReceiver
from pdm_edge.sync.receive_mqtt import ask_over_mqtt, serve_mqtt
from pdm_edge.sync.receiver import Receiver


def with_evidence(path: Path) -> tuple[Buffer, str]:
    """A buffer that keeps an alarm's waveforms until they are asked for, and the alarm's id."""
    buffer = Buffer(path, gateway="gw", clock=SystemClock(), on_request=("waveform",))
    raised = alarm(1)
    pieces = [replace(wave(n), first_sample=1000 * n, alarm=raised.id) for n in range(3)]
    buffer.write([raised, features(1), *pieces])
    return buffer, raised.id


def idle_worker(buffer: Buffer, url: str, poll_s: float, budget: Budget | None = None) -> SyncWorker:
    uploader = open_uploader(url, gateway="gw")
    worker = SyncWorker(buffer, uploader, timeout_s=5.0, budget=budget, logbook=buffer, poll_s=poll_s)
    worker.start()
    return worker


@pytest.mark.parametrize("encoding", ["json", "cbor"])
def test_a_poll_is_small_and_says_how_far_the_alarms_are(tmp_path: Path, encoding: Encoding) -> None:
    buffer, _ = with_evidence(tmp_path / "b.db")
    batch = buffer.next_batch(10)
    assert batch is not None
    buffer.settle(Receipt("gw", "alarm", batch.through_seq))
    packed = encode_batch(buffer.poll(), 0, encoding=encoding)
    assert len(packed) < 160
    got = decode_batch(packed)
    assert (got.lane, got.after_seq, got.through_seq, got.rows) == (
        "alarm",
        batch.through_seq,
        batch.through_seq,
        (),
    )
    with pytest.raises(RecordError, match="no rows"):
        Batch("gw", "alarm", 0, ())
    buffer.close()


def test_a_receipt_through_0_confirms_nothing_and_brings_wants(tmp_path: Path) -> None:
    buffer, identity = with_evidence(tmp_path / "b.db")
    want = Want("w1", "waveform", alarm=identity)
    assert buffer.settle(Receipt("gw", "alarm", 0, wants=(want,))) == 0
    assert buffer.status().lanes["alarm"].rows == 1
    batch = buffer.next_batch(10, ("waveform",))
    assert batch is not None
    assert (batch.want, len(batch.rows)) == ("w1", 3)
    buffer.close()


def test_an_idle_gateway_hears_a_request_over_http_within_its_poll(tmp_path: Path) -> None:
    buffer, identity = with_evidence(tmp_path / "b.db")
    receiver = Receiver(tmp_path / "cloud.db")
    with HttpReceiver(receiver) as server:
        worker = idle_worker(buffer, f"http://127.0.0.1:{server.port}/", poll_s=0.5)
        wait_for(lambda: buffer.status().rows == 0)
        other = Receiver(tmp_path / "cloud.db")  # as `pdm-edge receive --ask-waveforms` does
        other.ask_for_waveforms("gw", identity)
        other.close()
        asked_s = time.monotonic()
        wait_for(lambda: receiver.count() == 5)
        assert time.monotonic() - asked_s < 0.5 + 5.0 + 1.0  # the poll, and the step of an idle worker
        wait_for(lambda: receiver.fleet()[0].missing == 0)
        worker.stop()
    receiver.close()
    buffer.close()


def test_rows_are_asked_for_again_by_their_numbers(tmp_path: Path) -> None:
    buffer = opened(tmp_path / "b.db")
    buffer.write([features(n) for n in range(50)])
    first = Receiver(tmp_path / "cloud.db")
    with HttpReceiver(first) as server:
        uploader = open_uploader(f"http://127.0.0.1:{server.port}/", gateway="gw")
        drain(buffer, uploader)
        numbers = sorted(seq for _, seq in received(tmp_path / "cloud.db"))
        first._archive._connection.execute(  # type: ignore[attr-defined]
            "DELETE FROM received WHERE seq BETWEEN ? AND ?", (numbers[10], numbers[19])
        )
        assert first.count() == 40
        first.ask_for_rows("gw", "feature", numbers[9], numbers[19])
        drain(buffer, uploader, ask=True)
        assert sorted(seq for _, seq in received(tmp_path / "cloud.db")) == numbers
        first.ask_for_rows("gw", "feature", numbers[9], numbers[19])  # once more is no mistake
        drain(buffer, uploader, ask=True)
        assert first.fleet()[0].missing == 0
        uploader.close()
    first.close()
    buffer.close()


def test_a_poll_shows_a_receiver_that_was_set_back_what_it_lacks(tmp_path: Path) -> None:
    buffer = opened(tmp_path / "b.db")
    buffer.write([alarm(n) for n in range(5)])
    for name in ("cloud.db", "empty.db"):
        receiver = Receiver(tmp_path / name)
        with HttpReceiver(receiver) as server:
            uploader = open_uploader(f"http://127.0.0.1:{server.port}/", gateway="gw")
            drain(buffer, uploader, ask=True)
            uploader.close()
        assert receiver.count() == 5
        receiver.close()
    buffer.close()


class Counting:
    """An uploader that counts polls; each costs 1000 bytes."""

    def __init__(self) -> None:
        self.polls = 0
        self.bytes_sent = 0
        self.fails = False

    def send(self, batch: Batch, timeout_s: float) -> Receipt:
        self.bytes_sent += 1000
        self.polls += batch.poll
        if self.fails:
            raise SyncError("no link")
        return Receipt("gw", batch.lane, batch.through_seq)

    def close(self) -> None:
        return None


def polls_in(
    buffer: Buffer, uploader: Counting, seconds_s: float, budget: Budget | None, poll_s: float
) -> int:
    worker = SyncWorker(buffer, uploader, budget=budget, poll_s=poll_s, first_pause_s=0.01)
    worker.start()
    end_s = time.monotonic() + seconds_s
    while time.monotonic() < end_s:
        worker.notify()  # so that an idle worker looks more often than every 5 s
        time.sleep(0.01)
    worker.stop()
    return uploader.polls


def test_polls_keep_their_distance_also_when_the_link_is_down(tmp_path: Path) -> None:
    buffer = opened(tmp_path / "b.db")
    assert 3 <= polls_in(buffer, Counting(), 1.2, None, poll_s=0.25) <= 5
    down = Counting()
    down.fails = True
    assert 3 <= polls_in(buffer, down, 1.2, None, poll_s=0.25) <= 5
    assert polls_in(buffer, Counting(), 0.5, None, poll_s=0.0) == 0
    buffer.close()


def test_no_poll_in_quiet_hours_nor_beyond_the_budget_and_each_is_counted(tmp_path: Path) -> None:
    buffer = opened(tmp_path / "b.db")
    night_s = time.mktime((2026, 11, 24, 23, 0, 0, 0, 0, -1))
    quiet = Budget(buffer, quiet_hours="22:00-06:00", now_s=lambda: night_s)
    assert polls_in(buffer, Counting(), 0.5, quiet, poll_s=0.05) == 0
    noon_s = 1_790_000_000 // 86_400 * 86_400 + 43_200.0
    small = Budget(buffer, max_kb_per_day=10, now_s=lambda: noon_s)
    assert polls_in(buffer, Counting(), 1.5, small, poll_s=0.05) == 6  # 13/24 of 10 kB
    assert list((buffer.status().sent_bytes_by_day or {}).values()) == [6000]
    assert small.lanes() != LANES
    buffer.close()


def test_draining_by_hand_asks_only_if_told_to(tmp_path: Path) -> None:
    buffer = opened(tmp_path / "b.db")
    nobody = open_uploader(f"http://127.0.0.1:{free_port()}/", gateway="gw")
    assert drain(buffer, nobody) == 0
    with pytest.raises(SyncError):
        drain(buffer, nobody, ask=True)
    nobody.close()
    buffer.close()


def test_the_interval_is_checked() -> None:
    from pdm_edge.config_file import parse_config

    text = (
        '[gateway]\nid = "gw"\n[[machine]]\nid = "p"\n[[machine.sensor]]\nid = "s"\n'
        'source = "serial:///dev/null?baud=9600"\n[store]\npath = "p.db"\n'
        '[sync]\nurl = "http://h/"\npoll_s = %s\n'
    )
    sync = parse_config(text % "0").sync
    assert sync is not None
    assert sync.poll_s == 0
    with pytest.raises(ConfigError, match="poll_s is 1"):
        parse_config(text % "1")


# Brokers push: an idle gateway need not ask


def test_an_idle_gateway_hears_a_request_over_mqtt_without_polling(tmp_path: Path, broker: Broker) -> None:
    buffer, identity = with_evidence(tmp_path / "b.db")
    receiver = Receiver(tmp_path / "cloud.db")
    consumer = serve_mqtt(receiver, "127.0.0.1", broker.port)
    worker = idle_worker(buffer, f"mqtt://127.0.0.1:{broker.port}", poll_s=0)
    wait_for(lambda: buffer.status().rows == 0)
    receiver.ask_for_waveforms("gw", identity)
    ask_over_mqtt(consumer, receiver)
    wait_for(lambda: receiver.count() == 5)
    wait_for(lambda: not receiver.asking())
    worker.stop()
    consumer.disconnect()
    consumer.loop_stop()
    receiver.close()
    buffer.close()


def test_a_poll_brings_a_gateway_back_whose_broker_was_restarted_while_it_was_idle(
    tmp_path: Path, broker: Broker
) -> None:
    buffer, identity = with_evidence(tmp_path / "b.db")
    receiver = Receiver(tmp_path / "cloud.db")
    consumer = serve_mqtt(receiver, "127.0.0.1", broker.port)
    worker = idle_worker(buffer, f"mqtt://127.0.0.1:{broker.port}", poll_s=1.0)
    wait_for(lambda: buffer.status().rows == 0)
    broker.kill()
    broker.start()
    receiver.ask_for_waveforms("gw", identity)
    wait_for(lambda: receiver.count() == 5, within_s=40)
    wait_for(lambda: read_status(tmp_path / "b.db").link_error == "")
    worker.stop()
    consumer.disconnect()
    consumer.loop_stop()
    receiver.close()
    buffer.close()


def test_an_idle_gateway_hears_a_request_over_nats(
    tmp_path: Path, receiver: Receiver, cluster_of: Callable[[int], Cluster]
) -> None:
    from pdm_edge.sync.nats import NatsReceiver

    cluster = cluster_of(1)
    consumer = receiver_of(receiver, cluster.url, 1)
    assert isinstance(consumer, NatsReceiver)
    buffer, identity = with_evidence(tmp_path / "b.db")
    worker = idle_worker(buffer, cluster.url, poll_s=0.5)
    wait_for(lambda: buffer.status().rows == 0)
    wait_for(lambda: worker.status.batches > 3)  # polls are no repetitions of each other to the stream
    receiver.ask_for_waveforms("gw", identity)
    consumer.ask()
    wait_for(lambda: receiver.count() == 5)
    wait_for(lambda: not receiver.asking())
    worker.stop()
    # By hand, too, which asks once and ends.
    numbers = sorted(seq for _, seq in received(tmp_path / "cloud.db"))
    receiver.ask_for_rows("gw", "feature", 0, numbers[-1])
    uploader = open_uploader(cluster.url, gateway="gw")
    drain(buffer, uploader, ask=True)
    uploader.close()
    wait_for(lambda: not receiver.asking())
    consumer.close()
    buffer.close()


def test_a_batch_that_cannot_be_read_behind_a_stream_is_kept_and_asked_for_no_more(
    tmp_path: Path, receiver: Receiver, cluster_of: Callable[[int], Cluster]
) -> None:
    from pdm_edge.sync.nats import NatsReceiver

    cluster = cluster_of(1)
    consumer = receiver_of(receiver, cluster.url, 1)
    assert isinstance(consumer, NatsReceiver)
    accept = receiver.accept
    bad: set[int] = set()

    def choosy(packed: bytes, *, sender: str | None = None) -> Receipt:
        if bad & {row.seq for row in decode_batch(packed).rows}:
            raise SyncError("value out of range")
        return accept(packed, sender=sender)

    receiver.accept = choosy  # type: ignore[method-assign]
    buffer = opened(tmp_path / "b.db")
    buffer.write([features(n) for n in range(60)])
    uploader = open_uploader(cluster.url, gateway="gw")
    batch = buffer.next_batch(60)
    assert batch is not None
    bad.add(batch.rows[35].seq)

    def settled() -> bool:
        buffer.write([features(0)])
        drain(buffer, uploader, batch_rows=20)
        return any(gateway.refused >= 2 and gateway.missing == 0 for gateway in receiver.fleet())

    wait_for(settled, within_s=30)
    refused = receiver.fleet()[0].refused
    for _ in range(10):
        buffer.write([features(0)])
        drain(buffer, uploader, batch_rows=20)
    time.sleep(0.5)
    assert receiver.fleet()[0].refused == refused  # no endless asking
    uploader.close()
    consumer.close()
    buffer.close()
