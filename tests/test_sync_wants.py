"""A receiver that knows what it lacks asks for it, and gets it."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

from sync_ends import (
    filled,
    received,
)
from test_buffer import alarm, features, opened, wave

from pdm_edge import Receipt, SystemClock
from pdm_edge.store import Buffer
from pdm_edge.sync import drain, open_uploader
from pdm_edge.sync.receive_http import HttpReceiver
from pdm_edge.sync.receiver import Receiver


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
    assert receiver.count() == 1100  # the 100 that were left, and the 1000 before them that were kept
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
