"""The serial path against the bare calls that it cannot do without; ratios of one run.

Bounds: COBS + CRC + array view >= 0.7 of a bare loop of the same C calls, >= 0.3 of it without the
C extension; the serial read loop >= 0.8 of os.read; one core >= 100 times 3 axes int16 at 25.6 kHz.
"""

from __future__ import annotations

import os
import statistics
import threading
import time
import tty
from collections.abc import Callable
from fractions import Fraction
from functools import partial
from zlib import crc32

import numpy as np
from cobs import cobs

import firmware_bridge.stream as stream_module
from firmware_bridge import (
    Data,
    Descriptor,
    SensorDescriptor,
    StreamDecoder,
    counts,
    counts_to_bytes,
    encode_frame,
    slicing,
)
from firmware_bridge.device import SerialStream
from firmware_bridge.emulator import expected_counts
from firmware_bridge.framing import CRC_RESIDUE
from pdm_edge.acquire.device_stream import DeviceStream
from pdm_edge.clock import SystemClock

N_FRAMES, N_SAMPLES, RATE_HZ = 1000, 256, 25_600
SENSOR = SensorDescriptor(0, "de", "g", "int16", ("x", "y", "z"), Fraction(RATE_HZ), 2.0**-11)
CHUNK_BYTES = 16_384
PAIRS = 15


def wire_bytes(kind: str) -> bytes:
    """A thousand frames; the fewer zero bytes they hold, the longer are the blocks of COBS."""
    frames, random = [], np.random.default_rng(1)
    for i in range(N_FRAMES):
        block = expected_counts(i * N_SAMPLES, N_SAMPLES)
        if kind == "full scale":
            block = random.integers(-32768, 32768, block.shape, dtype=np.int32)
        elif kind == "nearly still":
            block = np.abs(block) % 50
        raw = counts_to_bytes(block, "int16")
        frames.append(
            encode_frame(Data(0, i * N_SAMPLES, N_SAMPLES, raw, boot=1), sequence=i, tick=i * 10_000)
        )
    return b"".join(frames)


def chunks_of(wire: bytes) -> list[bytes]:
    return [wire[at : at + CHUNK_BYTES] for at in range(0, len(wire), CHUNK_BYTES)]


def bare(chunks: list[bytes]) -> None:
    """Split, the C extension, the CRC, the view: nothing else."""
    rest, dtype, residue = b"", np.dtype("<i2"), CRC_RESIDUE
    for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\0")
        for encoded in whole:
            content = cobs.decode(encoded)
            if crc32(content) == residue:
                np.frombuffer(content, dtype, 3 * N_SAMPLES, 24).reshape(N_SAMPLES, 3)


def ours(chunks: list[bytes]) -> None:
    decoder, n = StreamDecoder(), 0
    for chunk in chunks:
        for frame in decoder.feed(chunk):
            assert isinstance(frame.message, Data)
            counts(frame.message, SENSOR)
            n += 1
    assert n == N_FRAMES


def to_waveforms(chunks: list[bytes]) -> None:
    """All that a gateway does: to scaled, stamped and checked waveforms."""
    decoder, clock = StreamDecoder(), SystemClock()
    device = DeviceStream("bench", {0: "de"})
    descriptor = encode_frame(Descriptor("d", "f", 1_000_000, (SENSOR,), 1), sequence=65535, tick=0)
    for chunk in [descriptor, *chunks]:
        arrival = clock.stamp()
        for frame in decoder.feed(chunk):
            device.take(frame, arrival)


def cpu_seconds(work: Callable[[], None]) -> float:
    started_s = time.thread_time()
    work()
    return time.thread_time() - started_s


def ratio(bound: Callable[[], None], work: Callable[[], None]) -> tuple[float, float]:
    """CPU time of the bound by that of the work, each the best of interleaved runs; and the work's."""
    pairs = [(cpu_seconds(bound), cpu_seconds(work)) for _ in range(PAIRS)]
    best_s = min(w for _, w in pairs)
    return min(b for b, _ in pairs) / best_s, best_s


def read_all(total: int, read: Callable[[], bytes], write_fd: int, content: bytes) -> float:
    """CPU time a byte of a read loop, of a terminal that another thread writes at full speed."""

    def write() -> None:
        rest = memoryview(content)
        while rest:
            rest = rest[os.write(write_fd, rest) :]

    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    got, started_s = 0, time.thread_time()
    while got < total:
        got += len(read())
    spent_s = time.thread_time() - started_s
    writer.join()
    return spent_s / total


def serial_loop(content: bytes) -> tuple[float, float]:
    """CPU of os.read by that of our read loop, medians of interleaved runs; and ours in us a byte."""
    master, slave = os.openpty()
    tty.setraw(slave)
    stream = SerialStream(os.ttyname(slave), 921600)
    costs = []
    for _ in range(PAIRS):
        plain = read_all(len(content), lambda: os.read(slave, 65536), master, content)
        ours = read_all(len(content), stream.read, master, content)
        costs.append((plain, ours))
    stream.close()
    os.close(slave)
    os.close(master)
    plain_s, our_s = (statistics.median(cost) for cost in zip(*costs, strict=True))
    return plain_s / our_s, our_s * 1e6


def main() -> None:
    chunks = {kind: chunks_of(wire_bytes(kind)) for kind in ("full scale", "vibration", "nearly still")}
    total = sum(map(len, chunks["full scale"]))
    for kind, content in chunks.items():
        got, best_s = ratio(partial(bare, content), partial(ours, content))
        rate = total / best_s / 1e6
        print(f"decode + view, {kind}: {got:.2f} of the bare C calls (bound 0.70), {rate:.0f} MB/s")
    got, best_s = ratio(lambda: bare(chunks["vibration"]), lambda: to_waveforms(chunks["vibration"]))
    times = N_FRAMES * N_SAMPLES / RATE_HZ / best_s
    print(
        f"to waveforms: {got:.2f} of the bare C calls, {times:.0f} times 3 axes int16 at 25.6 kHz (bound 100)"
    )
    vars(stream_module).update(cobs_decode=slicing.decode)
    for kind, content in chunks.items():
        got, best_s = ratio(partial(bare, content), partial(ours, content))
        print(f"without the C extension, {kind}: {got:.2f} of the bare C calls (bound 0.30 at full scale)")
    vars(stream_module).update(cobs_decode=cobs.decode)
    got, cost_us = serial_loop(b"".join(chunks["vibration"]) * 4)
    print(f"serial read loop: {got:.2f} of os.read (bound 0.80), {cost_us:.4f} us of CPU a byte")


if __name__ == "__main__":
    main()
