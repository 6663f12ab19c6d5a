"""What a device must send, one function a demand."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import numpy as np

from firmware_bridge.device import DeviceError
from firmware_bridge.diagnose import what_is_wrong
from firmware_bridge.messages import BURST_END, CLIPPED, INVALID, Command, Data, Frame, Scalars
from firmware_bridge.samples import counts
from firmware_bridge.session import SETTLE_S, CheckError, Session, data_of, messages, told
from firmware_bridge.stream import StreamCounters

_ANSWER_WITHIN_S: Final = 2.0
_ENOUGH_BYTES: Final = 16_384
_CLOCK_TOLERANCE: Final = 0.25  # by arrival on a busy host; time_sync tells more exactly
_RATE_TOLERANCE: Final = 0.01
_HOLE_TOLERANCE: Final = 0.05
_FULL_SCALE: Final = {"int16": 2**15 - 1, "int24": 2**23 - 1}


def it_can_be_understood(session: Session) -> None:
    session.client.send(Command("identify"))
    raw = b""
    deadline = time.monotonic() + _ANSWER_WITHIN_S
    while time.monotonic() < deadline and len(raw) < _ENOUGH_BYTES:
        raw += session.stream.read()
    frames = session.client.decoder.feed(raw)
    if not raw:
        raise CheckError(
            "Not one byte came in 2 s. Is it powered, are TX and RX crossed, and does it answer `identify`?",
            ends=True,
        )
    if not frames:
        raise CheckError(f"{len(raw)} bytes came, but no frame. {what_is_wrong(raw)}", ends=True)
    session.client.decoder.counters = StreamCounters()


def it_answers_identify_with_a_descriptor_that_leaves_nothing_to_guess(session: Session) -> None:
    before = session.client.decoder.counters.bad_payload
    try:
        session.descriptor = session.client.identify()
    except DeviceError as error:
        if session.client.decoder.counters.bad_payload > before:
            raise CheckError(
                "A DESCRIPTOR came, but a field of it is outside of what the table allows: compare it "
                "with the offsets of PROTOCOL.md, rate, scale, axes and lengths first.",
                ends=True,
            ) from error
        raise CheckError(str(error), ends=True) from error
    again = session.client.identify()
    if again != session.descriptor:
        raise CheckError("Asked twice, it describes itself differently, and nothing had changed.")
    if session.descriptor.tick_hz < 10_000:
        raise CheckError(
            f"tick_hz is {session.descriptor.tick_hz}; at least 10,000 is needed to time samples."
        )


def it_streams_undamaged(session: Session) -> None:
    session.client.request("start", 255)
    session.listen(SETTLE_S)
    session.client.decoder.counters = StreamCounters()
    started_s = time.monotonic()
    session.heard = session.listen(session.listen_s)
    session.heard_for_s = time.monotonic() - started_s
    counters = session.client.decoder.counters
    bad = counters.bad_cobs + counters.bad_crc + counters.bad_length + counters.bad_payload
    if bad:
        raise CheckError(
            f"{bad} of {bad + counters.frames} frames were damaged ({told(counters)}). Do an interrupt and "
            "the main loop write to the UART at the same time, or does a buffer overrun?"
            + (" Or does COBS not end a block after 254 bytes without a zero?" if counters.bad_cobs else "")
        )
    if not any(isinstance(f.message, (Data, Scalars)) for f in session.heard):
        raise CheckError("After `start` neither DATA nor SCALARS came.", ends=True)


def its_sequence_counts_every_frame_of_every_type_by_one(session: Session) -> None:
    steps = np.diff([f.sequence for f in session.heard]) % 65536
    if len(steps) and not steps.any():
        raise CheckError("The sequence stands still: raise it by one with every frame that is encoded.")
    backward = int((steps > 32768).sum())
    if backward or (len(steps) and np.median(steps) != 1):
        raise CheckError(
            "The sequence does not count by one. There is one for all types together, of 16 bits; it wraps."
        )


def its_line_is_fast_enough_for_what_it_sends(session: Session) -> None:
    lost = session.client.decoder.counters.lost_frames
    if lost:
        raise CheckError(
            f"{lost} frames were made but did not come (the sequence jumps). Is the line too slow for rate x "
            "axes x bytes, or the queue to the UART too short?"
        )


def its_data_are_as_the_descriptor_says(session: Session) -> None:
    for frame, data, sensor in data_of(session):
        try:
            counts(data, sensor)
        except ValueError as error:
            raise CheckError(
                f"DATA {frame.sequence} of sensor {sensor.number}: {error}. A frame holds n x axes x bytes a "
                "sample, all axes of each sample."
            ) from error
        if data.flags & ~(CLIPPED | INVALID | BURST_END):
            raise CheckError(f"DATA {frame.sequence} has flags {data.flags:#04x}; reserved bits must be 0.")
    stray = {d.sensor for d in messages(session.heard, Data)} - {s.number for s in session.sensors}
    if stray:
        raise CheckError(f"DATA of sensors {sorted(stray)}, which the DESCRIPTOR does not name.")


def its_data_carry_the_boot_and_revision_of_the_descriptor(session: Session) -> None:
    assert session.descriptor is not None
    named = session.descriptor.boot, session.descriptor.revision
    for _, data, _ in data_of(session):
        if (data.boot, data.revision) != named:
            raise CheckError(
                f"DATA say boot {data.boot}, revision {data.revision}; the DESCRIPTOR says {named[0]}, "
                f"{named[1]}. A gateway drops such samples."
            )


def its_sample_count_follows_the_samples(session: Session) -> None:
    """Samples that were lost within the device leave a hole, but then the tick has one as well."""
    assert session.descriptor is not None
    last: dict[int, tuple[Frame, Data]] = {}
    for frame, data, sensor in data_of(session):
        before = last.get(sensor.number)
        last[sensor.number] = frame, data
        if before is None or data.first_sample == before[1].first_sample + before[1].n_samples:
            continue
        if data.first_sample < before[1].first_sample + before[1].n_samples:
            raise CheckError(f"sensor {sensor.number}: `first sample` goes back to {data.first_sample}.")
        seconds = ((frame.tick - before[0].tick) % 2**32) / session.descriptor.tick_hz
        passed = seconds * float(sensor.sample_rate_hz)
        counted = data.first_sample - before[1].first_sample
        if abs(counted - passed) > max(_HOLE_TOLERANCE * passed, 2):
            raise CheckError(
                f"sensor {sensor.number}: `first sample` went from {before[1].first_sample} to "
                f"{data.first_sample}, while by the tick {passed:.0f} samples were taken. It counts samples "
                "of each axis, not bytes or values, and those not sent as well."
            )


def its_tick_runs_at_the_rate_it_says(session: Session) -> None:
    assert session.descriptor is not None
    frames = session.heard
    ticks = np.unwrap(np.array([f.tick for f in frames], dtype=np.float64), period=2.0**32)
    measured_hz = (ticks[-1] - ticks[0]) / session.heard_for_s if len(frames) > 1 else 0.0
    if abs(measured_hz / session.descriptor.tick_hz - 1) > _CLOCK_TOLERANCE:
        raise CheckError(
            f"The tick runs at about {measured_hz:,.0f} a second; the DESCRIPTOR says "
            f"{session.descriptor.tick_hz:,}. Is it the same timer, of 32 bits, and does it never stop?"
        )


def its_sample_rate_fits_its_tick(session: Session) -> None:
    assert session.descriptor is not None
    for sensor in session.sensors:
        rows = [(f.tick, d.first_sample) for f, d, s in data_of(session) if s.number == sensor.number]
        if len(rows) < 10:
            continue
        ticks = np.unwrap(np.array([tick for tick, _ in rows], dtype=np.float64), period=2.0**32)
        seconds = (ticks - ticks[0]) / session.descriptor.tick_hz
        if not seconds[-1]:
            raise CheckError(f"sensor {sensor.number}: all DATA carry the same tick.")
        measured_hz = (rows[-1][1] - rows[0][1]) / seconds[-1]
        stated_hz = float(sensor.sample_rate_hz)
        if abs(measured_hz / stated_hz - 1) > _RATE_TOLERANCE:
            raise CheckError(
                f"sensor {sensor.number}: {measured_hz:,.2f} samples a second by tick and count, the "
                f"DESCRIPTOR says {stated_hz:,.2f}. Every frequency would be off by as "
                "much: state the measured rate."
            )


def it_flags_samples_at_the_end_of_their_range(session: Session) -> None:
    for frame, data, sensor in data_of(session):
        limit = _FULL_SCALE.get(sensor.format)
        if (
            limit is None
            or data.flags & (CLIPPED | INVALID)
            or len(data.raw) != data.n_samples * sensor.row_bytes
        ):
            continue
        values = counts(data, sensor)
        if values.max() == limit or values.min() == -limit - 1:
            raise CheckError(
                f"DATA {frame.sequence} of sensor {sensor.number} holds a full-scale count without flag "
                "bit 0 (clipped)."
            )


CHECKS: Final[tuple[Callable[[Session], None], ...]] = (
    it_can_be_understood,
    it_answers_identify_with_a_descriptor_that_leaves_nothing_to_guess,
    it_streams_undamaged,
    its_sequence_counts_every_frame_of_every_type_by_one,
    its_line_is_fast_enough_for_what_it_sends,
    its_data_are_as_the_descriptor_says,
    its_data_carry_the_boot_and_revision_of_the_descriptor,
    its_sample_count_follows_the_samples,
    its_tick_runs_at_the_rate_it_says,
    its_sample_rate_fits_its_tick,
    it_flags_samples_at_the_end_of_their_range,
)
