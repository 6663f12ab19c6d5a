"""status, export and receive: what people do with a buffer, as they do it."""

from __future__ import annotations

import csv
import json
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sync_ends import filled, free_port, received, wait_for
from test_buffer import SCHEMA, alarm, features, opened, stamp, wave
from test_config import GOOD

from pdm_edge import FeatureSchema, FeatureVector, Reading
from pdm_edge.acquire.recordings import load_recording
from pdm_edge.errors import SyncError, SyncRefusedError
from pdm_edge.sync import drain, open_uploader
from pdm_edge.sync.payload import encode_batch
from pdm_edge.sync.receiver import Receiver

PDM_EDGE = Path(sys.executable).with_name("pdm-edge")


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [PDM_EDGE, *map(str, arguments)], capture_output=True, text=True, check=False, timeout=100
    )


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "pump.db"
    buffer = opened(path)
    other = FeatureSchema(("motor/temperature",), ("degc",))
    fan = FeatureVector("fan", np.array([41.5], dtype=np.float32), other, stamp(7), 1.0)
    buffer.write(
        [features(n) for n in range(5)] + [fan, Reading("temp", "temperature", 41.5, "degc", stamp(8))]
    )
    raised = alarm(9)
    buffer.write([raised])
    pieces = [replace(wave(n, samples=100), first_sample=100 * n, alarm=raised.id) for n in range(3)]
    buffer.write([*pieces, replace(wave(9, samples=100), first_sample=9000, alarm=raised.id)])
    buffer.close()
    return path


def test_status_tells_lanes_age_link_clock_and_last_alarm(database: Path) -> None:
    told = run("status", database)
    assert told.returncode == 0
    for part in (
        "alarm",
        "waveform",
        "link: nothing was ever delivered",
        "clock: trusted",
        "pump: alarm: headline",
    ):
        assert part in told.stdout
    found = json.loads(run("status", database, "--json").stdout)
    assert found["lanes"]["feature"]["rows"] == 7
    assert found["oldest_utc_ns"] == stamp(0).utc_ns
    assert found["drained_in_s"] is None


def test_export_writes_features_with_units_in_the_headings(database: Path, tmp_path: Path) -> None:
    told = run("export", database, tmp_path / "f.csv")
    assert told.returncode == 0, told.stderr
    assert told.stdout.startswith("6 rows written")
    with (tmp_path / "f.csv").open(newline="") as stream:
        heading, *rows = list(csv.reader(stream))
    assert heading == [
        "utc",
        "seq",
        "machine",
        "quality",
        "state",
        "x/rms [g]",
        "x/kurtosis",
        "motor/temperature [degc]",
    ] or heading[5:] == ["x/rms [g]", "x/kurtosis [1]", "motor/temperature [degc]"]
    assert rows[3][0] == "2023-11-14T22:13:20.000Z"
    assert [row[5] for row in rows] == ["0.0", "1.0", "2.0", "3.0", "4.0", ""]
    assert rows[5][7] == "41.5"
    assert rows[0][6] == ""  # NaN
    assert run("export", database, tmp_path / "f.xls").returncode == 2


def test_export_of_alarms_readings_and_of_one_machine(database: Path, tmp_path: Path) -> None:
    assert run("export", database, tmp_path / "a.csv", "--what", "alarms").returncode == 0
    assert "headline" in (tmp_path / "a.csv").read_text()
    assert run("export", database, tmp_path / "r.csv", "--what", "readings").returncode == 0
    assert "temperature,41.5,degc" in (tmp_path / "r.csv").read_text()
    told = run("export", database, tmp_path / "m.csv", "--subject", "fan")
    assert told.stdout.startswith("1 rows")


def test_export_to_parquet_carries_units_as_metadata(database: Path, tmp_path: Path) -> None:
    pq = pytest.importorskip("pyarrow.parquet", reason="NEEDS pyarrow: pip install 'pdm-edge[parquet]'")
    assert run("export", database, tmp_path / "f.parquet").returncode == 0
    table = pq.read_table(tmp_path / "f.parquet")
    assert table.num_rows == 6
    assert table.schema.field("x/rms [g]").metadata == {b"unit": b"g"}
    assert table.column("x/rms [g]").to_pylist() == [0.0, 1.0, 2.0, 3.0, 4.0, None]


def test_exported_evidence_is_the_waveform_bit_by_bit_and_can_be_replayed(
    database: Path, tmp_path: Path
) -> None:
    out = tmp_path / "e.npz"
    told = run("export", database, out, "--alarm", alarm(9).id)
    assert told.stdout.startswith("2 waveforms")
    recording = load_recording(out, variable="de_0")
    assert (recording.sample_rate_hz, recording.unit) == (25600.0, "g")
    joined = np.concatenate([wave(n, samples=100).samples for n in range(3)], axis=1)
    np.testing.assert_array_equal(recording.samples, joined)
    assert run("export", database, out, "--alarm", "pump@x:1").returncode == 2


def test_export_of_what_is_no_buffer_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.db").write_text("hello" * 300)
    for name in ("x.db", "absent.db"):
        told = run("export", tmp_path / name, tmp_path / "o.csv")
        assert told.returncode == 2
        assert told.stderr.startswith("pdm-edge: ")


class Receiving:
    """pdm-edge receive as a process."""

    def __init__(self, *arguments: str | Path) -> None:
        self.process = subprocess.Popen(
            [PDM_EDGE, "receive", *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stderr is not None
        self.told = self.process.stderr.readline()
        assert self.told.startswith("receiving"), self.told

    def end(self) -> str:
        self.process.send_signal(signal.SIGTERM)
        out, _ = self.process.communicate(timeout=30)
        assert self.process.returncode == 0
        return out


def test_receive_over_http_with_a_token_shows_the_fleet_and_asks_for_waveforms(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PDM_TEST_TOKEN", "canary-91")
    port, cloud = free_port(), tmp_path / "cloud.db"
    receiving = Receiving(
        cloud, "--from", f"http://127.0.0.1:{port}", "--token", "env:PDM_TEST_TOKEN", "--json"
    )
    buffer, identities = filled(tmp_path / "b.db", n=50)
    url = f"http://127.0.0.1:{port}/"
    nobody = open_uploader(url, gateway="gw")
    with pytest.raises(SyncRefusedError, match="answered 401"):
        drain(buffer, nobody)
    nobody.close()
    uploader = open_uploader(url, gateway="gw", token="env:PDM_TEST_TOKEN")
    assert drain(buffer, uploader) == len(identities)
    uploader.close()
    assert run("receive", cloud, "--ask-waveforms", "gw", "pump@boot-a:50").returncode == 0
    fleet = json.loads(receiving.end())
    assert (fleet["gateway"], fleet["rows"], fleet["missing"]) == ("gw", len(identities), 0)
    assert fleet["machines"] == {"pump": "alarm: headline"}
    assert fleet["alarms"] == {"pump": alarm(50).id}
    assert received(cloud) == identities
    assert "gw" in run("receive", cloud, "--status").stdout
    connection = sqlite3.connect(cloud)
    assert connection.execute("SELECT alarm FROM wants WHERE answered = 0").fetchall() == [
        ("pump@boot-a:50",)
    ]
    connection.close()
    buffer.close()


def test_the_fleet_tells_the_id_of_the_latest_alarm_in_full_also_when_it_is_over(tmp_path: Path) -> None:
    raised = replace(alarm(1), previous="normal")
    over = replace(alarm(3), state="normal", previous="alarm", headline="back within what was learned")
    buffer = opened(tmp_path / "b.db")
    buffer.write([raised, replace(alarm(2), state="alarm", previous="alarm"), over])
    cloud = Receiver(tmp_path / "cloud.db")
    batch = buffer.next_batch(10)
    assert batch is not None
    cloud.accept(encode_batch(batch, 0))
    (gateway,) = cloud.fleet()
    cloud.close()
    buffer.close()
    assert gateway.machines == {"pump": "normal: back within what was learned"}
    assert gateway.alarms == {"pump": raised.id}
    shown = run("receive", tmp_path / "cloud.db", "--status").stdout
    assert f"gw: pump: normal: back within what was learned; latest alarm {raised.id}\n" in shown


def test_receive_over_https_takes_only_gateways_with_a_certificate(
    tmp_path: Path, require_tool: Callable[[str, str], str]
) -> None:
    openssl = require_tool("openssl", "openssl")
    for name, more in (("server", ["-addext", "subjectAltName=IP:127.0.0.1"]), ("gateway", [])):
        command = [
            openssl,
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "1",
            "-subj",
            f"/CN={name}",
        ]
        files = ["-keyout", str(tmp_path / f"{name}.key"), "-out", str(tmp_path / f"{name}.pem")]
        subprocess.run([*command, *files, *more], check=True, capture_output=True)
    port = free_port()
    receiving = Receiving(
        tmp_path / "cloud.db",
        "--from",
        f"https://127.0.0.1:{port}",
        "--cert-file",
        tmp_path / "server.pem",
        "--key-file",
        tmp_path / "server.key",
        "--ca-file",
        tmp_path / "gateway.pem",
    )
    buffer, identities = filled(tmp_path / "b.db", n=10)
    url, ca_file = f"https://127.0.0.1:{port}/", str(tmp_path / "server.pem")
    with socket.create_connection(("127.0.0.1", port)):  # one that says nothing holds nobody up
        nobody = open_uploader(url, gateway="gw", ca_file=ca_file)
        with pytest.raises(SyncError, match="not delivered"):
            drain(buffer, nobody)
        nobody.close()
        own = {"cert_file": str(tmp_path / "gateway.pem"), "key_file": str(tmp_path / "gateway.key")}
        uploader = open_uploader(url, gateway="gw", ca_file=ca_file, **own)  # type: ignore[arg-type]
        assert drain(buffer, uploader) == len(identities)
        uploader.close()
    receiving.end()
    assert received(tmp_path / "cloud.db") == identities
    buffer.close()


def test_receive_from_an_mqtt_broker(tmp_path: Path, require_tool: Callable[[str, str], str]) -> None:
    from sync_ends import Broker

    broker = Broker(require_tool("mosquitto", "mosquitto"), tmp_path)
    broker.start()
    receiving = Receiving(tmp_path / "cloud.db", "--from", f"mqtt://127.0.0.1:{broker.port}")
    buffer, identities = filled(tmp_path / "b.db", n=20)
    uploader = open_uploader(f"mqtt://127.0.0.1:{broker.port}", gateway="gw")
    assert drain(buffer, uploader, timeout_s=20) == len(identities)
    uploader.close()
    receiving.end()
    broker.kill()
    assert received(tmp_path / "cloud.db") == identities
    buffer.close()


def test_receive_says_what_it_cannot_use(tmp_path: Path) -> None:
    for arguments, says in (
        (["cloud.db", "--from", "ftp://x"], "unknown source"),
        (["absent/cloud.db"], "cannot be opened"),
        (["absent.db", "--status"], "no such file"),
    ):
        told = run("receive", tmp_path / arguments[0], *arguments[1:])
        assert told.returncode == 2
        assert says in told.stderr
        assert not told.stdout


__all__ = ["SCHEMA", "Receiver", "wait_for"]


def test_a_configuration_stands_for_its_buffer_file(database: Path) -> None:
    config = database.with_name("machine.toml")
    config.write_text(GOOD.replace('path = "pump-7.db"', 'path = "pump.db"'))
    assert run("status", config).stdout == run("status", database).stdout
    assert run("export", config, database.with_name("out.csv")).returncode == 0
    assert "kurtosis" in database.with_name("out.csv").read_text()
    absent = run("status", database.with_name("no.toml"))
    assert absent.returncode == 2
    assert "no.toml" in absent.stderr


def test_status_counts_what_the_far_end_refuses_and_sync_tries_it_again(tmp_path: Path) -> None:
    buffer = opened(tmp_path / "pump.db")
    buffer.write([features(n) for n in range(3)])
    batch = buffer.next_batch(1)
    assert batch is not None
    buffer.set_aside("feature", batch.rows[0].seq, "refused 5 times: answered 422 no: out of range")
    buffer.close()
    told = run("status", tmp_path / "pump.db").stdout
    assert "refused by the far end: 1 rows set aside" in " ".join(told.split())
    assert "out of range" in told
    assert json.loads(run("status", tmp_path / "pump.db", "--json").stdout)["refused"] == 1
    port = free_port()
    config = tmp_path / "machine.toml"
    config.write_text(
        '[gateway]\nid = "gw"\n[[machine]]\nid = "pump"\n[[machine.sensor]]\nid = "de"\n'
        'source = "serial:///dev/null?baud=9600"\n[store]\npath = "pump.db"\n'
        f'[sync]\nurl = "http://127.0.0.1:{port}/"\n'
    )
    cloud = tmp_path / "cloud.db"
    receiving = Receiving(cloud, "--from", f"http://127.0.0.1:{port}")
    try:
        done = run("sync", config, "--again")
        assert done.returncode == 0, done.stderr
        assert "1 refused rows are tried again" in done.stderr
        assert done.stdout == "4 rows delivered, 0 left\n"
        newest = max(seq for _, seq in received(cloud))
        asked = run("receive", cloud, "--ask-rows", "gw", "feature", "0", str(newest))
        assert asked.returncode == 0, asked.stderr
        assert json.loads(run("receive", cloud, "--status", "--json").stdout)["missing"] == 1
        assert run("receive", cloud, "--ask-rows", "nobody", "feature", "0", "9").returncode == 2
        again = run("sync", config)
        assert again.returncode == 0, again.stderr
        assert json.loads(run("receive", cloud, "--status", "--json").stdout)["missing"] == 0
    finally:
        receiving.end()


def test_export_of_spectra_names_what_it_writes(tmp_path: Path) -> None:
    from test_spectra import made

    buffer = opened(tmp_path / "pump.db")
    buffer.write(made())
    buffer.close()
    for name, kind in (("s.csv", "rows"), ("s.parquet", "rows"), ("s.npz", "spectra")):
        done = run("export", tmp_path / "pump.db", tmp_path / name, "--what", "spectra")
        assert done.returncode == 0, done.stderr
        assert kind in done.stdout
    assert "spectrum" in run("status", tmp_path / "pump.db").stdout
    nothing = run("export", tmp_path / "pump.db", tmp_path / "n.npz", "--what", "spectra", "--subject", "no")
    assert nothing.returncode == 2
    assert "no such spectrum" in nothing.stderr
