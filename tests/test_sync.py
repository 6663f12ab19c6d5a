"""Sync: rows leave on a receipt only, and arrive once, whatever the link does. Counted by identity."""

from __future__ import annotations

import gzip
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from sync_ends import (
    Broker,
    filled,
    free_port,
    received,
    wait_for,
)
from test_buffer import SCHEMA, features, opened, stamp, wave

from pdm_edge.delivery import Batch, Receipt
from pdm_edge.errors import ConfigError, SyncError, SyncRefusedError
from pdm_edge.records import FeatureVector
from pdm_edge.sync import SyncWorker, drain, open_uploader
from pdm_edge.sync.bounds import MAX_PLAIN_BYTES
from pdm_edge.sync.payload import decode_batch, encode_batch
from pdm_edge.sync.receive_http import HttpReceiver
from pdm_edge.sync.receiver import Receiver
from pdm_edge.sync.secrets import Secret


def test_a_batch_comes_back_as_it_was_sent(tmp_path: Path) -> None:
    buffer = opened(tmp_path / "b.db")
    buffer.write([features(i) for i in range(50)])
    batch = buffer.next_batch(100)
    buffer.close()
    assert batch is not None
    got = decode_batch(encode_batch(batch, now_utc_ns=stamp().utc_ns))
    assert (got.gateway, got.lane, got.through_seq) == ("gw", "feature", batch.through_seq)
    for sent, row in zip(batch.rows, got.rows, strict=True):
        assert (row.boot_id, row.seq, row.utc_ns, row.monotonic_ns) == (
            sent.stamp.boot_id,
            sent.seq,
            sent.stamp.utc_ns,
            sent.stamp.monotonic_ns,
        )
        assert msgspec.json.decode(row.body) == {"x/rms": sent.stamp.monotonic_ns, "x/kurtosis": None}
        context = msgspec.json.decode(row.context)
        assert context["units"] == {"x/rms": "g", "x/kurtosis": "1"}
        assert context["historical"] is False


def test_seven_digits_hold_a_float32(tmp_path: Path) -> None:
    values = np.random.default_rng(1).lognormal(0, 5, (200, 2)).astype(np.float32)
    buffer = opened(tmp_path / "b.db")
    buffer.write([FeatureVector("pump", v, SCHEMA, stamp(i), 1.0) for i, v in enumerate(values)])
    batch = buffer.next_batch(500)
    buffer.close()
    assert batch is not None
    bodies = [msgspec.json.decode(r.body) for r in decode_batch(encode_batch(batch, 0)).rows]
    got = np.array([[b["x/rms"], b["x/kurtosis"]] for b in bodies])
    np.testing.assert_allclose(got, values, rtol=5e-7)


def test_old_rows_are_marked_as_history(tmp_path: Path) -> None:
    buffer = opened(tmp_path / "b.db")
    buffer.write([features(0)])
    batch = buffer.next_batch(1)
    buffer.close()
    assert batch is not None
    (row,) = decode_batch(encode_batch(batch, stamp().utc_ns + 61_000_000_000)).rows
    assert msgspec.json.decode(row.context)["historical"] is True


def test_a_waveform_arrives_bit_by_bit(tmp_path: Path) -> None:
    import base64

    buffer = opened(tmp_path / "b.db")
    buffer.write([wave(7, samples=100)])
    batch = buffer.next_batch(1)
    buffer.close()
    assert batch is not None
    (row,) = decode_batch(encode_batch(batch, 0)).rows
    body = msgspec.json.decode(row.body)
    assert body["first_sample"] == 7
    samples = np.frombuffer(base64.b64decode(body["samples_f32le"]), "<f4")
    np.testing.assert_array_equal(samples, wave(7, samples=100).samples[0])
    assert "packing" not in row.context
    assert msgspec.json.decode(row.context)["sample_rate_hz"] == 25600.0


@pytest.mark.parametrize(
    ("packed", "says"),
    [
        (b"", "cut short"),
        (b"hello", "is no batch"),
        (gzip.compress(b"{}"), "is no batch"),
        (gzip.compress(b'{"format": 9}'), "format 9"),
        (gzip.compress(b"[1, 2"), "is no batch"),
        (gzip.compress(b"x" * 1000)[:-12], "cut short"),
        (gzip.compress(bytes(MAX_PLAIN_BYTES + 10)), "unpacks to more"),
    ],
    ids=["empty", "text", "no-format", "format", "json", "cut", "bomb"],
)
def test_what_is_no_batch_is_refused_within_bounds(packed: bytes, says: str, receiver: Receiver) -> None:
    with pytest.raises(SyncError, match=says):
        receiver.accept(packed)
    assert receiver.count() == 0


def test_everything_arrives_once_over_http(tmp_path: Path, receiver: Receiver) -> None:
    buffer, identities = filled(tmp_path / "b.db")
    with HttpReceiver(receiver) as server:
        uploader = open_uploader(f"http://127.0.0.1:{server.port}/v1", gateway="gw")
        assert drain(buffer, uploader, batch_rows=64) == len(identities)
        uploader.close()
    assert received(tmp_path / "cloud.db") == identities
    assert buffer.status().rows == 0
    assert buffer.status().delivered == len(identities)
    buffer.close()


def test_a_receiver_that_is_down_loses_nothing_and_gets_all_when_it_is_back(
    tmp_path: Path, receiver: Receiver
) -> None:
    buffer, identities = filled(tmp_path / "b.db")
    port = free_port()
    uploader = open_uploader(f"http://127.0.0.1:{port}/", gateway="gw")
    worker = SyncWorker(buffer, uploader, batch_rows=50, first_pause_s=0.02, longest_pause_s=0.1)
    worker.start()
    wait_for(lambda: worker.status.failures >= 3)
    assert "not delivered" in worker.status.last_error
    assert buffer.status().rows == len(identities)
    with HttpReceiver(receiver, port=port):
        wait_for(lambda: buffer.status().rows == 0)
        worker.stop()
    assert worker.status.link_up
    assert received(tmp_path / "cloud.db") == identities
    buffer.close()


class Mischief(BaseHTTPRequestHandler):
    """Stores what comes, then answers as the test wants."""

    receiver: Receiver
    answers: list[str]

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers["Content-Length"]))
        receipt = self.receiver.accept(content)
        answer = self.answers.pop(0) if self.answers else "receipt"
        if answer == "hang up":
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        body = msgspec.json.encode(receipt) if answer in ("receipt", "500") else answer.encode()
        self.send_response(500 if answer == "500" else 403 if answer == "forbidden" else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        return None


@pytest.fixture
def mischief(receiver: Receiver) -> Iterator[Callable[[list[str]], str]]:
    servers: list[HTTPServer] = []

    def start(answers: list[str]) -> str:
        handler = type("Handler", (Mischief,), {"receiver": receiver, "answers": answers})
        server = HTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_address[1]}/"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_a_lost_receipt_makes_a_second_delivery_that_changes_nothing(
    tmp_path: Path, receiver: Receiver, mischief: Callable[[list[str]], str]
) -> None:
    buffer, identities = filled(tmp_path / "b.db")
    uploader = open_uploader(mischief(["receipt", "hang up", "receipt", "500", "hang up"]), gateway="gw")
    worker = SyncWorker(buffer, uploader, batch_rows=100, first_pause_s=0.01, longest_pause_s=0.02)
    worker.start()
    wait_for(lambda: buffer.status().rows == 0)
    worker.stop()
    assert worker.status.failures == 3
    assert receiver.repeated > 0
    assert received(tmp_path / "cloud.db") == identities
    buffer.close()


@pytest.mark.parametrize(
    "answer",
    [
        "OK",
        "{}",
        '{"gateway": "gw", "lane": "alarm", "through_seq": 999999}',
        '{"gateway": "else", "lane": "alarm", "through_seq": 1}',
        '{"gateway": "gw", "lane": "nonsense", "through_seq": 1}',
    ],
)
def test_200_without_a_true_receipt_is_not_delivered(
    tmp_path: Path, mischief: Callable[[list[str]], str], answer: str
) -> None:
    buffer, identities = filled(tmp_path / "b.db", n=10)
    uploader = open_uploader(mischief([answer]), gateway="gw")
    with pytest.raises(SyncError):
        drain(buffer, uploader)
    uploader.close()
    assert buffer.status().rows == len(identities)
    buffer.close()


def test_a_refusal_is_told_apart_from_a_failure(tmp_path: Path, mischief: Callable[[list[str]], str]) -> None:
    buffer, _ = filled(tmp_path / "b.db", n=10)
    uploader = open_uploader(mischief(["forbidden"]), gateway="gw")
    with pytest.raises(SyncRefusedError, match=r"answered 403.*Check URL and token"):
        drain(buffer, uploader)
    uploader.close()
    buffer.close()


def test_the_receiver_refuses_garbage_and_survives_half_a_batch(tmp_path: Path, receiver: Receiver) -> None:
    with HttpReceiver(receiver) as server:
        with socket.create_connection(("127.0.0.1", server.port)) as half:
            half.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nabc")
        with socket.create_connection(("127.0.0.1", server.port)) as other:
            other.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc")
            assert other.recv(100).startswith(b"HTTP/1.1 400")
        with socket.create_connection(("127.0.0.1", server.port)) as huge:
            huge.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n")
            assert huge.recv(100).startswith(b"HTTP/1.1 413")
    assert receiver.count() == 0


def test_without_a_receiver_behind_the_broker_nothing_leaves(tmp_path: Path, broker: Broker) -> None:
    buffer, identities = filled(tmp_path / "b.db", n=10)
    uploader = open_uploader(f"mqtt://127.0.0.1:{broker.port}", gateway="gw")
    with pytest.raises(SyncError, match=r"no receipt in time.*Is a receiver running"):
        drain(buffer, uploader, timeout_s=0.5)
    uploader.close()
    assert buffer.status().rows == len(identities)
    trusting = open_uploader(f"mqtt://127.0.0.1:{broker.port}", gateway="gw", receipt="puback")
    assert drain(buffer, trusting, timeout_s=5.0) == len(identities)
    trusting.close()
    buffer.close()


def test_a_publish_that_the_broker_forbids_is_no_delivery(tmp_path: Path, mosquitto: str) -> None:
    rules = tmp_path / "acl"
    rules.write_text("topic read pdm/gw/receipt\ntopic write pdm/other/#\n")
    broker = Broker(mosquitto, tmp_path, f"allow_anonymous true\nacl_file {rules}\n")
    broker.start()
    buffer, identities = filled(tmp_path / "b.db", n=10)
    for receipt in ("end_to_end", "puback"):
        uploader = open_uploader(f"mqtt://127.0.0.1:{broker.port}", gateway="gw", receipt=receipt)
        with pytest.raises(SyncRefusedError, match=r"refuses publishing to pdm/gw/alarm: Not authorized"):
            drain(buffer, uploader, timeout_s=5.0)
        uploader.close()
    assert buffer.status().rows == len(identities)
    buffer.close()
    broker.kill()


def test_wrong_credentials_are_a_refusal(
    tmp_path: Path, mosquitto: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = Broker(mosquitto, tmp_path, "allow_anonymous false\n")
    broker.start()
    monkeypatch.setenv("PDM_TEST_PASSWORD", "canary-7f3a")
    buffer, _ = filled(tmp_path / "b.db", n=1)
    (tmp_path / "user").write_text("gw\n")
    uploader = open_uploader(
        f"mqtt://127.0.0.1:{broker.port}",
        gateway="gw",
        username=f"file:{tmp_path / 'user'}",
        password="env:PDM_TEST_PASSWORD",
    )
    with pytest.raises(SyncRefusedError, match="refuses connecting") as caught:
        drain(buffer, uploader, timeout_s=5.0)
    assert "canary" not in str(caught.value) + repr(uploader)
    uploader.close()
    buffer.close()
    broker.kill()


def test_a_broker_that_is_not_there_is_told(tmp_path: Path, mosquitto: str) -> None:
    buffer, identities = filled(tmp_path / "b.db", n=10)
    uploader = open_uploader(f"mqtt://127.0.0.1:{free_port()}", gateway="gw")
    with pytest.raises(SyncError, match="no connection"):
        drain(buffer, uploader)
    assert buffer.status().rows == len(identities)
    uploader.close()
    buffer.close()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"url": "ftp://host"}, "unknown far end 'ftp://host'. It starts with http"),
        ({"url": "http://"}, "unknown far end"),
        ({"url": "mqtt://user:word@host"}, "a secret stands in the URL"),
        ({"url": "http://host", "token": "s3cret"}, "plain text. Write env:NAME or file:PATH"),
        ({"url": "http://host", "ca_file": "/x"}, "certificates need https, mqtts or nats+tls"),
        ({"url": "https://host", "ca_file": "/absent.pem"}, "certificate cannot be read"),
    ],
)
def test_a_far_end_that_cannot_be_used_is_refused(arguments: dict[str, str], says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        open_uploader(gateway="gw", **arguments)  # type: ignore[arg-type]
    assert says in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_a_secret_shows_only_where_it_comes_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PDM_TEST_TOKEN", "canary")
    secret = Secret("env:PDM_TEST_TOKEN", "sync.token")
    assert secret.reveal() == "canary"
    assert repr(secret) == "Secret(env:PDM_TEST_TOKEN)"
    monkeypatch.delenv("PDM_TEST_TOKEN")
    with pytest.raises(ConfigError, match="PDM_TEST_TOKEN is not set"):
        secret.reveal()
    with pytest.raises(ConfigError, match="cannot be read"):
        Secret(f"file:{tmp_path / 'absent'}", "sync.token").reveal()


def test_the_worker_outlives_whatever_an_uploader_does(tmp_path: Path) -> None:
    class Broken:
        def send(self, batch: Batch, timeout_s: float) -> Receipt:
            raise RuntimeError("a bug in a plug-in")

        def close(self) -> None:
            return None

    buffer, identities = filled(tmp_path / "b.db", n=10)
    worker = SyncWorker(buffer, Broken(), first_pause_s=0.01, longest_pause_s=0.02)
    worker.start()
    wait_for(lambda: worker.status.failures >= 3)
    worker.stop()
    assert "a bug in a plug-in" in worker.status.last_error
    assert buffer.status().rows == len(identities)
    buffer.close()


def test_several_nats_servers_are_named_with_commas_and_each_is_checked() -> None:
    pytest.importorskip("nats", reason="NEEDS nats-py: pip install 'pdm-edge[nats]'")
    open_uploader("nats://127.0.0.1:4222,127.0.0.1:4223,h3:4224", gateway="gw").close()
    for wrong in ("nats://a:4222,b:nine", "nats://a:4222,user:word@b:4222"):
        with pytest.raises(ConfigError, match=r"sync\.url"):
            open_uploader(wrong, gateway="gw")
