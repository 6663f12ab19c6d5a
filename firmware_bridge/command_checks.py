"""What a device must do when it is told to, one function a demand; they follow the stream's."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import numpy as np

from firmware_bridge.codec import HEADER, TYPE_COMMAND, encode_frame
from firmware_bridge.device import DeviceError
from firmware_bridge.framing import MAX_ENCODED_BYTES, encode_body
from firmware_bridge.messages import BURST_END, Command, Data, Reply, Status
from firmware_bridge.session import SETTLE_S, CheckError, Session, messages

_NO_COMMAND: Final = "200"
_CLOCK_TOLERANCE: Final = 0.05


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
    session.listen(SETTLE_S)
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
    session.client.wait_for(lambda f: isinstance(f.message, Data) and bool(f.message.flags & BURST_END), 3.0)
    burst = [d for d in messages(session.listen(SETTLE_S), Data) if d.sensor == sensor.number]
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
    session.listen(0.5)
    second = session.client.time_sync(time.time_ns())
    seconds = (second.monotonic_ns - first.monotonic_ns) / 1e9
    measured_hz = ((second.tick - first.tick) % 2**32) / seconds
    tolerance = _CLOCK_TOLERANCE + (first.error_ns + second.error_ns) / 1e9 / seconds
    if abs(measured_hz / session.descriptor.tick_hz - 1) > tolerance:
        raise CheckError(f"Between two time_sync the tick ran at {measured_hz:,.0f} a second.")


def it_does_a_repeated_command_once_and_answers_twice(session: Session) -> None:
    wire = encode_frame(Command("stop", 0x7A7A, (255,)), sequence=0, tick=0)
    session.client.send_bytes(wire + wire)
    replies = [r for r in messages(session.listen(0.6), Reply) if r.token == 0x7A7A]
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
        if any(r.token == 0x5A5A for r in messages(session.listen(SETTLE_S), Reply)):
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
        session.listen(SETTLE_S)
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


CHECKS: Final[tuple[Callable[[Session], None], ...]] = (
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
