"""What a device must do, one function a demand. `CHECKS` lists them in the order they are run."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, TypeVar

import numpy as np

from firmware_bridge.codec import HEADER, TYPE_COMMAND, encode_frame
from firmware_bridge.device import ByteStream, DeviceClient, DeviceError
from firmware_bridge.diagnose import what_is_wrong
from firmware_bridge.framing import MAX_ENCODED_BYTES, encode_body
from firmware_bridge.messages import (
    BURST_END,
    CLIPPED,
    INVALID,
    Command,
    Data,
    Descriptor,
    Frame,
    Reply,
    Scalars,
    SensorDescriptor,
    Status,
)
from firmware_bridge.samples import counts
from firmware_bridge.stream import StreamCounters

M = TypeVar("M")

_LISTEN_S: Final = 2.0
_SETTLE_S: Final = 0.2
_ENOUGH_BYTES: Final = 16_384
_CLOCK_TOLERANCE: Final = 0.05
_RATE_TOLERANCE: Final = 0.01
_NO_COMMAND: Final = "200"
_FULL_SCALE: Final = {"int16": 2**15 - 1, "int24": 2**23 - 1}


class CheckError(Exception):
    """A demand is not met. `ends`: nothing that comes after can be checked."""

    def __init__(self, text: str, *, ends: bool = False) -> None:
        super().__init__(text)
        self.ends = ends


@dataclass(slots=True)
class Session:
    """What the checks learn of a device, one after another."""

    stream: ByteStream
    client: DeviceClient = field(init=False)
    descriptor: Descriptor | None = None
    heard: list[Frame] = field(default_factory=list)
    heard_for_s: float = 0.0

    def __post_init__(self) -> None:
        self.client = DeviceClient(self.stream)

    @property
    def sensors(self) -> tuple[SensorDescriptor, ...]:
        return () if self.descriptor is None else self.descriptor.sensors

    def listen(self, within_s: float) -> list[Frame]:
        return self.client.frames(within_s)

    def quiet(self) -> None:
        """Stop all sensors, and let what is under way pass."""
        self.client.request("stop", 255)
        self.listen(_SETTLE_S)


def it_can_be_understood(session: Session) -> None:
    session.client.send(Command("identify"))
    raw = b""
    deadline = time.monotonic() + _LISTEN_S
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


def it_streams_undamaged_for_two_seconds(session: Session) -> None:
    session.client.request("start", 255)
    session.listen(_SETTLE_S)
    session.client.decoder.counters = StreamCounters()
    started_s = time.monotonic()
    session.heard = session.listen(_LISTEN_S)
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


def its_sample_count_has_no_holes(session: Session) -> None:
    expected: dict[int, tuple[int, int]] = {}
    for frame, data, sensor in data_of(session):
        known = expected.get(sensor.number)
        if known is not None and known[0] != data.first_sample and frame.sequence == known[1]:
            raise CheckError(
                f"sensor {sensor.number}: after sample {known[0] - 1} comes {data.first_sample}, though no "
                "frame is missing. `first sample` counts samples of each axis, not bytes or values, and "
                "those not sent as well."
            )
        expected[sensor.number] = (data.first_sample + data.n_samples, (frame.sequence + 1) % 65536)
        if known is not None and data.first_sample < known[0]:
            raise CheckError(f"sensor {sensor.number}: `first sample` goes back to {data.first_sample}.")


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


def it_replies_to_a_command_it_does_not_know(session: Session) -> None:
    result = session.client.request(_NO_COMMAND).result
    if result != "unknown":
        raise CheckError(
            f"Command 200 exists in no version, but the device answers {result!r}, not `unknown`."
        )


def it_refuses_to_reboot_to_its_bootloader(session: Session) -> None:
    result = session.client.request("reboot_to_bootloader").result
    if result != "refused":
        raise CheckError(
            f"It answers {result!r}. It must be `refused`: else whoever reaches the line can replace the "
            "firmware."
        )


def it_stops_and_starts(session: Session) -> None:
    reply = session.client.request("stop", 255)
    if reply.result != "ok":
        raise CheckError(f"`stop` of all sensors (255) is answered {reply.result!r}.")
    session.listen(_SETTLE_S)
    late = messages(session.listen(0.5), Data)
    if late:
        raise CheckError(f"{len(late)} DATA came after the REPLY to `stop`.")
    reply = session.client.request("start", 255)
    if reply.result != "ok":
        raise CheckError(f"`start` of all sensors (255) is answered {reply.result!r}.")
    frames = session.listen(0.6)
    if not messages(frames, Data) and messages(session.heard, Data):
        raise CheckError("No DATA came within 0.6 s of `start`, though they came before `stop`.")


def it_sends_a_burst_of_exactly_what_was_asked_for(session: Session) -> None:
    if not messages(session.heard, Data):
        return
    sensor = session.sensors[0]
    n = max(round(float(sensor.sample_rate_hz) / 10), 7) | 1
    if session.client.request("burst", sensor.number, n).result != "busy":
        raise CheckError("`burst` of a streaming sensor must be answered `busy`.")
    session.quiet()
    reply = session.client.request("burst", sensor.number, n)
    if reply.result != "ok":
        raise CheckError(f"`burst` of {n} samples is answered {reply.result!r}.")
    burst = [d for d in messages(session.listen(1.5), Data) if d.sensor == sensor.number]
    got = sum(d.n_samples for d in burst)
    if got != n:
        raise CheckError(f"`burst` of {n} samples brought {got}.")
    if not burst[-1].flags & BURST_END or any(d.flags & BURST_END for d in burst[:-1]):
        raise CheckError("The last frame of a burst, and no other, must carry flag bit 2.")


def it_keeps_rate_and_range_when_asked_for_the_impossible(session: Session) -> None:
    for sensor in session.sensors:
        for name, arguments in (("set_rate", (1, 4_000_000_000)), ("set_range", (-1.0,))):
            result = session.client.request(name, sensor.number, *arguments).result
            if result not in ("argument", "unknown"):
                raise CheckError(f"{name}{arguments} of sensor {sensor.number} is answered {result!r}.")
    if session.client.identify() != session.descriptor:
        raise CheckError("After refused commands the DESCRIPTOR is another.")


def it_tests_itself_and_tells_the_outcome(session: Session) -> None:
    result = session.client.request("self_test").result
    if result == "unknown":
        return
    if result != "ok":
        raise CheckError(f"`self_test` is answered {result!r}.")
    found = session.client.wait_for(
        lambda f: isinstance(f.message, Status) and f.message.self_test in ("passed", "failed"), 10.0
    )
    if found is None:
        raise CheckError("No STATUS with the outcome of the self-test came within 10 s.")


def it_tells_its_tick_in_a_time_sync(session: Session) -> None:
    assert session.descriptor is not None
    session.quiet()
    first = session.client.time_sync(time.time_ns())
    session.listen(1.0)
    second = session.client.time_sync(time.time_ns())
    seconds = (second.monotonic_ns - first.monotonic_ns) / 1e9
    measured_hz = ((second.tick - first.tick) % 2**32) / seconds
    tolerance = _CLOCK_TOLERANCE + (first.error_ns + second.error_ns) / 1e9 / seconds
    if abs(measured_hz / session.descriptor.tick_hz - 1) > tolerance:
        raise CheckError(f"Between two time_sync the tick ran at {measured_hz:,.0f} a second.")


def it_does_a_repeated_command_once_and_answers_twice(session: Session) -> None:
    wire = encode_frame(Command("stop", 0x7A7A, (255,)), sequence=0, tick=0)
    session.client.send_bytes(wire + wire)
    replies = [r for r in messages(session.listen(1.0), Reply) if r.token == 0x7A7A]
    if len(replies) != 2:
        raise CheckError(f"The same command twice at once was answered {len(replies)} times, not 2.")


def it_ignores_damaged_unknown_and_newer_frames(session: Session) -> None:
    session.quiet()
    good = encode_frame(Command("stop", 0x5A5A, (255,)), sequence=0, tick=0)
    flipped = bytearray(good)
    flipped[-3] ^= 0x04
    body = bytearray(HEADER.pack(1, TYPE_COMMAND, 0, 0) + (0x5A5A).to_bytes(2, "little") + b"\x03\xff")
    body[0] = 2
    unknown = HEADER.pack(1, 0x7E, 0, 0) + b"what"
    for name, wire in (
        ("damaged", bytes(flipped)),
        ("cut short", good[:-5] + b"\0"),
        ("of version 2", encode_body(bytes(body))),
        ("of an unknown type", encode_body(unknown)),
    ):
        session.client.send_bytes(wire)
        if any(r.token == 0x5A5A for r in messages(session.listen(_SETTLE_S), Reply)):
            raise CheckError(f"A frame that is {name} was obeyed.")
        still_there(session, f"a frame that is {name}")


def it_survives_noise_and_frames_of_any_length(session: Session) -> None:
    random = np.random.default_rng(1)
    for name, wire in (
        ("5000 bytes without a zero", b"\x55" * 5000),
        ("a frame longer than allowed", b"\x01" * (MAX_ENCODED_BYTES + 9) + b"\0"),
        ("4096 random bytes", random.bytes(4096)),
        ("200 zeros", bytes(200)),
    ):
        session.client.send_bytes(wire + b"\0")
        session.listen(_SETTLE_S)
        still_there(session, name)


def its_boot_stays_while_it_runs(session: Session) -> None:
    now = session.client.identify()
    assert session.descriptor is not None
    if now.boot != session.descriptor.boot:
        raise CheckError(
            "`boot` has changed: it was restarted by what was sent to it, or boot is not constant."
        )


def still_there(session: Session, after: str) -> None:
    try:
        session.client.request("stop", 255)
    except DeviceError as error:
        raise CheckError(
            f"After {after} it answers no more ({error}). Does the decoder resume at the next zero?"
        ) from error


def data_of(session: Session) -> list[tuple[Frame, Data, SensorDescriptor]]:
    layouts = {sensor.number: sensor for sensor in session.sensors}
    return [
        (f, f.message, layouts[f.message.sensor])
        for f in session.heard
        if isinstance(f.message, Data) and f.message.sensor in layouts
    ]


def messages(frames: list[Frame], kind: type[M]) -> list[M]:
    return [frame.message for frame in frames if isinstance(frame.message, kind)]


def told(counters: StreamCounters) -> str:
    return ", ".join(
        f"{name} {count}" for name, count in counters.as_dict().items() if count and name != "bytes"
    )


CHECKS: Final[tuple[Callable[[Session], None], ...]] = (
    it_can_be_understood,
    it_answers_identify_with_a_descriptor_that_leaves_nothing_to_guess,
    it_streams_undamaged_for_two_seconds,
    its_sequence_counts_every_frame_of_every_type_by_one,
    its_line_is_fast_enough_for_what_it_sends,
    its_data_are_as_the_descriptor_says,
    its_data_carry_the_boot_and_revision_of_the_descriptor,
    its_sample_count_has_no_holes,
    its_tick_runs_at_the_rate_it_says,
    its_sample_rate_fits_its_tick,
    it_flags_samples_at_the_end_of_their_range,
    it_replies_to_a_command_it_does_not_know,
    it_refuses_to_reboot_to_its_bootloader,
    it_stops_and_starts,
    it_sends_a_burst_of_exactly_what_was_asked_for,
    it_keeps_rate_and_range_when_asked_for_the_impossible,
    it_tests_itself_and_tells_the_outcome,
    it_tells_its_tick_in_a_time_sync,
    it_does_a_repeated_command_once_and_answers_twice,
    it_ignores_damaged_unknown_and_newer_frames,
    it_survives_noise_and_frames_of_any_length,
    its_boot_stays_while_it_runs,
)
