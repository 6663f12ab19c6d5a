"""Links that are slow, dead or lying; receivers that forget; clusters that lose a leader."""

from __future__ import annotations

import dataclasses
import sqlite3
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from sync_ends import (
    Broker,
    Cluster,
    Proxy,
    Scripted,
    certificates,
    filled,
    free_port,
    leader_of,
    nats_server,
    received,
    receiver_of,
    wait_for,
    worker_to,
)
from test_buffer import alarm, drained, features, opened, stamp, wave

from pdm_edge import Batch, Receipt, SystemClock, Want
from pdm_edge.errors import SyncError, SyncRefusedError
from pdm_edge.store import Buffer, read_status
from pdm_edge.sync import SyncWorker, drain, open_uploader
from pdm_edge.sync.budget import Budget
from pdm_edge.sync.payload import decode_batch, encode_batch
from pdm_edge.sync.receive_http import HttpReceiver
from pdm_edge.sync.receiver import Receiver


def test_a_black_hole_a_cut_and_a_slow_link_lose_and_repeat_nothing(
    tmp_path: Path, receiver: Receiver, server: HttpReceiver
) -> None:
    buffer, identities = filled(tmp_path / "b.db", n=800)
    proxy = Proxy(server.port)
    proxy.mode = "hole"
    worker = worker_to(buffer, f"http://127.0.0.1:{proxy.port}/", timeout_s=0.3)
    wait_for(lambda: worker.status.failures >= 2)
    assert "timed out" in worker.status.last_error
    assert "timed out" in read_status(tmp_path / "b.db").link_error
    assert buffer.status().rows == len(identities)
    proxy.mode = "slow"
    wait_for(lambda: receiver.count() > 100)
    proxy.cut()
    wait_for(lambda: receiver.count() > 300)
    proxy.mode = "pass"
    wait_for(lambda: buffer.status().rows == 0)
    worker.stop()
    proxy.close()
    assert received(tmp_path / "cloud.db") == identities
    assert read_status(tmp_path / "b.db").link_error == ""
    buffer.close()


def test_a_link_too_slow_for_whole_batches_gets_smaller_ones(tmp_path: Path) -> None:
    class Slow:
        """Delivers no more than five rows within its time."""

        def __init__(self) -> None:
            self.sizes: list[int] = []

        def send(self, batch: Batch, timeout_s: float) -> Receipt:
            self.sizes.append(len(batch.rows))
            if len(batch.rows) > 5:
                raise SyncError("timed out")
            return Receipt(batch.gateway, batch.lane, batch.through_seq)

        def close(self) -> None:
            return None

    buffer = opened(tmp_path / "b.db")
    buffer.write([features(n) for n in range(60)])
    uploader = Slow()
    worker = SyncWorker(buffer, uploader, batch_rows=64, first_pause_s=0.01, longest_pause_s=0.02)
    worker.start()
    wait_for(lambda: buffer.status().rows == 0)
    worker.stop()
    assert uploader.sizes[:5] == [60, 32, 16, 8, 4]
    buffer.close()


def test_receipts_that_come_twice_late_half_or_never_lose_nothing(tmp_path: Path) -> None:
    buffer, identities = filled(tmp_path / "b.db", n=300)
    uploader = Scripted(["never", "receipt", "late", "receipt", "half", "lost", "late", "half", "never"])
    worker = SyncWorker(buffer, uploader, batch_rows=40, first_pause_s=0.01, longest_pause_s=0.02)
    worker.start()
    wait_for(lambda: buffer.status().rows == 0)
    worker.stop()
    assert {("boot-a", seq) for seq in uploader.stored} == identities
    assert worker.status.failures >= 4
    assert uploader.last is not None
    assert buffer.settle(uploader.last) == 0  # the last receipt once more
    buffer.close()


def test_a_receipt_that_covers_nothing_is_no_endless_loop(tmp_path: Path) -> None:
    buffer, _ = filled(tmp_path / "b.db", n=10)
    uploader = Scripted([])
    uploader.last = Receipt("gw", "alarm", 1)
    uploader.answers = ["late"]
    with pytest.raises(SyncError, match="the receipt goes through 1, the batch begins with"):
        drain(buffer, uploader)
    buffer.close()


def test_an_alarm_overtakes_the_backlog_and_ends_a_pause(tmp_path: Path) -> None:
    buffer = opened(tmp_path / "b.db")
    buffer.write([features(n) for n in range(500)])
    uploader = Scripted([])
    budget = Budget(buffer, max_kbit_s=0.08)  # 1000 bytes: a pause of 100 s after each batch
    worker = SyncWorker(buffer, uploader, batch_rows=10, budget=budget)
    worker.start()
    wait_for(lambda: len(uploader.order) == 10)
    buffer.write([alarm(1)])
    worker.notify(urgent=True)
    wait_for(lambda: len(uploader.order) == 11)
    assert uploader.order == ["feature"] * 10 + ["alarm"]
    worker.stop(timeout_s=0.0)
    buffer.close()


def test_a_connection_that_the_far_end_closed_while_idle_is_no_failure(
    tmp_path: Path, receiver: Receiver
) -> None:
    buffer = opened(tmp_path / "b.db")
    port = free_port()
    uploader = open_uploader(f"http://127.0.0.1:{port}/", gateway="gw")
    for n in range(3):
        with HttpReceiver(receiver, port=port):  # closes its connections when it ends
            buffer.write([features(n)])
            assert drain(buffer, uploader) == 1
    uploader.close()
    assert receiver.count() == 3
    buffer.close()


def test_a_batch_of_another_gateway_than_the_sender_is_refused(tmp_path: Path, receiver: Receiver) -> None:
    buffer = opened(tmp_path / "b.db")
    buffer.write([alarm(1)])
    batch = buffer.next_batch(1)
    buffer.close()
    assert batch is not None
    with pytest.raises(SyncError, match="gateway 'gw2' sends a batch of gateway 'gw'"):
        receiver.accept(encode_batch(batch, 0), sender="gw2")
    for name in ("a/b", "#", "", "x" * 65):
        with pytest.raises(SyncError, match="is no batch"):
            receiver.accept(encode_batch(dataclasses.replace(batch, gateway=name), 0))
    assert receiver.count() == 0


def test_14_days_offline_are_drained_whole(tmp_path: Path, receiver: Receiver, server: HttpReceiver) -> None:
    buffer = opened(tmp_path / "b.db", max_mb=64)
    minute = 60_000_000_000
    for day in range(14):
        for hour in range(24):
            at = (day * 24 + hour) * 60
            buffer.write([features((at + n) * minute) for n in range(60)])
            if hour == 12:
                buffer.write([alarm(at * minute)])
    connection = sqlite3.connect(tmp_path / "b.db")
    sql = "SELECT boot_id, seq FROM outbox JOIN headers ON headers.id = header"
    identities = set(connection.execute(sql).fetchall())
    connection.close()
    assert len(identities) == 14 * 24 * 60 + 14
    worker = worker_to(buffer, f"http://127.0.0.1:{server.port}/", timeout_s=10.0, batch_rows=500)
    wait_for(lambda: buffer.status().rows == 0, within_s=60)
    worker.stop()
    status = buffer.status()
    buffer.close()
    assert received(tmp_path / "cloud.db") == identities
    assert receiver.repeated == 0
    assert status.evicted == 0
    assert status.rows_per_s is not None


def test_cbor_carries_every_bit_and_what_is_none_is_refused(
    tmp_path: Path, receiver: Receiver, server: HttpReceiver
) -> None:
    import gzip

    pytest.importorskip("cbor2", reason="NEEDS cbor2: pip install 'pdm-edge[cbor]'")
    buffer, identities = filled(tmp_path / "b.db")
    buffer.write([wave(3)])
    batch = buffer.next_batch(100, ("waveform",))
    assert batch is not None
    json, cbor = encode_batch(batch, 0), encode_batch(batch, 0, encoding="cbor")
    assert decode_batch(json).rows == decode_batch(cbor).rows
    assert len(cbor) < len(json)
    uploader = open_uploader(f"http://127.0.0.1:{server.port}/", gateway="gw", encoding="cbor")
    assert drain(buffer, uploader) == len(identities) + 1
    uploader.close()
    buffer.close()
    assert received(tmp_path / "cloud.db") >= identities
    for wrong in (b"\xff", b"\xa1\x61", b"\x83\x01\x02", b"\xbf"):
        with pytest.raises(SyncError, match="is no batch"):
            decode_batch(gzip.compress(wrong))


def test_everything_arrives_once_though_the_broker_is_killed_5_times_in_a_drain(
    tmp_path: Path, receiver: Receiver, require_tool: Callable[[str, str], str]
) -> None:
    pytest.importorskip("paho.mqtt.client", reason="NEEDS paho-mqtt: pip install 'pdm-edge[mqtt]'")
    from pdm_edge.sync.receive_mqtt import serve_mqtt

    broker = Broker(require_tool("mosquitto", "mosquitto"), tmp_path)
    broker.start()
    buffer, identities = filled(tmp_path / "b.db", n=600)
    consumer = serve_mqtt(receiver, "127.0.0.1", broker.port)
    worker = SyncWorker(
        buffer,
        open_uploader(f"mqtt://127.0.0.1:{broker.port}", gateway="gw"),
        batch_rows=5,
        timeout_s=2.0,
        first_pause_s=0.05,
        longest_pause_s=0.2,
    )
    worker.start()
    for share in (0.1, 0.25, 0.4, 0.55, 0.7):
        wait_for(lambda share=share: receiver.count() > share * len(identities), 60)  # type: ignore[misc]
        broker.kill()
        wait_for(lambda: not worker.status.link_up)
        broker.start()
    wait_for(lambda: buffer.status().rows == 0, within_s=60)
    worker.stop()
    consumer.disconnect()
    consumer.loop_stop()
    broker.kill()
    assert worker.status.failures >= 5
    assert received(tmp_path / "cloud.db") == identities
    buffer.close()


def test_over_mqtt_with_tls_a_gateway_shows_its_certificate_and_writes_only_its_own_topics(
    tmp_path: Path, receiver: Receiver, require_tool: Callable[[str, str], str]
) -> None:
    pytest.importorskip("paho.mqtt.client", reason="NEEDS paho-mqtt: pip install 'pdm-edge[mqtt]'")
    from pdm_edge.sync.open import tls_context
    from pdm_edge.sync.receive_mqtt import serve_mqtt

    certificates(require_tool("openssl", "openssl"), tmp_path)
    (tmp_path / "acl").write_text("user cloud\ntopic readwrite pdm/#\npattern readwrite pdm/%u/#\n")
    files = {name: str(tmp_path / name) for name in ("ca.pem", "broker.pem", "broker.key")}
    extra = (
        f"cafile {files['ca.pem']}\ncertfile {files['broker.pem']}\nkeyfile {files['broker.key']}\n"
        f"require_certificate true\nuse_identity_as_username true\nacl_file {tmp_path / 'acl'}\n"
    )
    broker = Broker(require_tool("mosquitto", "mosquitto"), tmp_path, extra)
    broker.start()
    own = {
        name: {"cert_file": str(tmp_path / f"{name}.pem"), "key_file": str(tmp_path / f"{name}.key")}
        for name in ("gw", "cloud")
    }
    context = tls_context("mqtts", files["ca.pem"], **own["cloud"])
    consumer = serve_mqtt(receiver, "127.0.0.1", broker.port, context=context)
    buffer, identities = filled(tmp_path / "b.db", n=20)
    url = f"mqtts://127.0.0.1:{broker.port}"
    nobody = open_uploader(url, gateway="gw", ca_file=files["ca.pem"])
    with pytest.raises(SyncError):
        drain(buffer, nobody, timeout_s=5.0)
    nobody.close()
    uploader = open_uploader(url, gateway="gw", ca_file=files["ca.pem"], **own["gw"])  # type: ignore[arg-type]
    wait_for(consumer.is_connected)
    worker = SyncWorker(buffer, uploader, timeout_s=3.0, first_pause_s=0.1, longest_pause_s=0.5)
    worker.start()
    wait_for(lambda: buffer.status().rows == 0, 40)
    worker.stop()
    other = Buffer(tmp_path / "other.db", gateway="other", clock=SystemClock())
    other.write([alarm(1)])
    liar = open_uploader(url, gateway="other", ca_file=files["ca.pem"], **own["gw"])  # type: ignore[arg-type]
    with pytest.raises(SyncError):
        drain(other, liar, timeout_s=3.0)
    liar.close()
    assert other.status().rows == 1
    other.close()
    consumer.disconnect()
    consumer.loop_stop()
    broker.kill()
    assert received(tmp_path / "cloud.db") == identities
    buffer.close()


def test_everything_arrives_once_though_the_leader_of_three_nats_nodes_is_killed(
    tmp_path: Path, receiver: Receiver, cluster_of: Callable[[int], Cluster]
) -> None:
    from pdm_edge.sync.nats import NatsReceiver

    cluster = cluster_of(3)
    consumer = receiver_of(receiver, cluster.url, 3)
    assert isinstance(consumer, NatsReceiver)
    buffer, identities = filled(tmp_path / "b.db", n=600)
    uploader = open_uploader(cluster.url, gateway="gw")
    worker = SyncWorker(buffer, uploader, batch_rows=5, timeout_s=3.0, first_pause_s=0.1, longest_pause_s=0.5)
    worker.start()
    wait_for(lambda: receiver.count() > 100, 60)
    leader = leader_of(cluster)
    cluster.kill(leader)
    wait_for(lambda: buffer.status().rows == 0, within_s=90)
    wait_for(lambda: receiver.count() == len(identities), within_s=60)
    cluster.start(leader)
    worker.stop()
    consumer.close()
    assert received(tmp_path / "cloud.db") == identities
    buffer.close()


def test_wants_come_over_nats_too_and_without_a_stream_nothing_leaves(
    tmp_path: Path, receiver: Receiver, cluster_of: Callable[[int], Cluster]
) -> None:
    from pdm_edge.sync.nats import NatsReceiver

    cluster = cluster_of(1)
    buffer = opened(tmp_path / "b.db")
    buffer.write([features(n) for n in range(20)])
    uploader = open_uploader(cluster.url, gateway="gw")
    refusals: list[str] = []
    wait_for(lambda: bool(refusals.append(str(refusal(buffer, uploader) or "")) or refusals[-1]))  # type: ignore[func-returns-value]
    assert "no stream takes pdm.batch.feature.gw" in refusals[-1]
    assert buffer.status().rows == 20
    batch = buffer.next_batch(10)
    assert batch is not None
    buffer.settle(Receipt("gw", "feature", batch.through_seq))  # as if they had got lost
    consumer = receiver_of(receiver, cluster.url, 1)
    assert isinstance(consumer, NatsReceiver)
    drain(buffer, uploader)
    wait_for(lambda: receiver.count() == 10)

    def asked_and_answered() -> bool:
        buffer.write([features(0)])
        drain(buffer, uploader)
        return receiver.count() >= 20 and receiver.fleet()[0].missing == 0

    wait_for(asked_and_answered)
    uploader.close()
    consumer.close()
    buffer.close()


def refusal(buffer: Buffer, uploader: object) -> SyncRefusedError | None:
    try:
        drain(buffer, uploader, timeout_s=2.0)  # type: ignore[arg-type]
    except SyncRefusedError as error:
        return error
    except SyncError:
        return None
    return None


def test_a_nats_server_that_is_not_there_is_told(tmp_path: Path) -> None:
    nats_server()
    buffer, identities = filled(tmp_path / "b.db", n=10)
    uploader = open_uploader(f"nats://127.0.0.1:{free_port()}", gateway="gw")
    with pytest.raises(SyncError):
        drain(buffer, uploader, timeout_s=1.0)
    uploader.close()
    assert buffer.status().rows == len(identities)
    buffer.close()


def test_a_receiver_on_postgresql_stores_each_row_once_and_outlives_a_lost_connection(
    tmp_path: Path, postgres: str
) -> None:
    import psycopg

    buffer, identities = filled(tmp_path / "b.db")
    receiver = Receiver(postgres)
    batch = buffer.next_batch(1000, ("feature",))
    assert batch is not None
    packed = encode_batch(batch, 0)
    assert receiver.accept(packed) == receiver.accept(packed)
    assert receiver.repeated == len(batch.rows)
    with HttpReceiver(receiver) as server:
        worker = worker_to(buffer, f"http://127.0.0.1:{server.port}/")
        wait_for(lambda: worker.status.batches >= 2)
        with psycopg.connect(postgres, autocommit=True) as connection:
            sql = (
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
            )
            connection.execute(f"{sql} AND backend_type = 'client backend'")
        wait_for(lambda: buffer.status().rows == 0, 60)
        worker.stop()
    (gateway,) = receiver.fleet()
    receiver.close()
    assert gateway.rows == len(identities)
    with psycopg.connect(postgres) as connection:
        rows = connection.execute("SELECT boot_id, seq FROM received").fetchall()
    assert sorted(rows) == sorted(identities)
    buffer.close()


def test_a_database_that_is_not_there_is_told_without_its_password() -> None:
    from pdm_edge.errors import StoreError

    pytest.importorskip("psycopg", reason="NEEDS psycopg: pip install 'pdm-edge[postgres]'")
    with pytest.raises(StoreError) as caught:
        Receiver(f"postgresql://pdm:canary@127.0.0.1:{free_port()}/pdm")
    assert "canary" not in str(caught.value)


__all__ = ["Want", "drained", "msgspec", "stamp"]
