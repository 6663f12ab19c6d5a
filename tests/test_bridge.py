"""The wire protocol: golden frames, resynchronisation, and nothing that can make it raise."""

from __future__ import annotations

import dataclasses
import datetime
import json
import zlib
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware_bridge import (
    Command,
    Data,
    Descriptor,
    Frame,
    Log,
    Reply,
    Scalar,
    Scalars,
    SensorDescriptor,
    SensorStatus,
    Status,
    StreamDecoder,
    counts,
    counts_to_bytes,
    encode_frame,
    samples,
    slicing,
)
from firmware_bridge.codec import encode_payload
from firmware_bridge.framing import CRC_RESIDUE, MAX_BODY_BYTES, MAX_ENCODED_BYTES, encode_body

VECTORS = json.loads((Path(__file__).parents[1] / "firmware_bridge" / "vectors.json").read_text())["vectors"]
SENSOR = SensorDescriptor(0, "drive end", "g", "int16", ("x",), Fraction(25600), 2.0**-10)
DEVICE = Descriptor("dev-1", "1.0", 1_000_000, (SENSOR,))


def plain(value: Any) -> Any:
    """A message as the vectors write it."""
    if isinstance(value, Data):
        return {name: plain(item) for name, item in value._asdict().items()}
    if dataclasses.is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, tuple):
        return [plain(item) for item in value]
    if isinstance(value, bytes):
        return value.hex()
    return str(value) if isinstance(value, (Fraction, datetime.date)) else value


def data(first: int, n: int = 4, sequence: int = 0) -> bytes:
    message = Data(0, first, n, counts_to_bytes([list(range(n))], "int16"))
    return encode_frame(message, sequence=sequence, tick=first)


@pytest.mark.parametrize("vector", VECTORS, ids=[v["name"] for v in VECTORS])
def test_golden_frames_are_read_as_the_protocol_says(vector: dict[str, Any]) -> None:
    decoder = StreamDecoder()
    frames = decoder.feed(bytes.fromhex(vector["wire"]))
    counted = {k: v for k, v in decoder.counters.as_dict().items() if v and k != "bytes"}
    assert counted == {vector["counter"]: 1}
    if vector["counter"] == "frames":
        (frame,) = frames
        assert (frame.sequence, frame.tick) == (vector["sequence"], vector["tick"])
        assert type(frame.message).__name__ == vector["type"]
        again = encode_frame(frame.message, sequence=frame.sequence, tick=frame.tick)
        assert again.hex() == vector.get("again", vector["wire"])
        assert plain(frame.message) == vector["message"]
    else:
        assert frames == []


def test_the_crc_is_the_one_the_protocol_names() -> None:
    assert zlib.crc32(b"123456789") == 0xCBF43926
    for body in (b"", b"123456789", bytes(100)):
        assert zlib.crc32(body + zlib.crc32(body).to_bytes(4, "little")) == CRC_RESIDUE


def test_within_the_longest_frame_any_three_flipped_bits_are_found_by_the_crc() -> None:
    """Damage is missed if it is a multiple of the polynomial: x^a + x^b + x^c must never be one."""
    bits = (MAX_BODY_BYTES + 4) * 8
    powers = np.empty(bits, dtype=np.uint32)
    state = 1
    for i in range(bits):
        powers[i] = state
        state = (state << 1) ^ (0x104C11DB7 if state & 0x80000000 else 0)
    assert len(np.unique(powers)) == bits  # no two bits cancel
    assert not np.isin(powers[1:] ^ np.uint32(1), powers[1:]).any()  # nor do three


@given(st.binary(max_size=1200), st.integers(1, 9))
def test_cobs_without_the_c_extension_gives_the_same_bytes(raw: bytes, every: int) -> None:
    from cobs import cobs

    dense = raw.replace(b"\0", b"\1")
    for content in (raw, dense, dense[:254], dense[:508], bytes(raw[i] % every for i in range(len(raw)))):
        assert slicing.encode(content) == cobs.encode(content)
        assert slicing.decode(cobs.encode(content)) == content


@given(st.lists(st.integers(0, 6), max_size=20).map(bytes))
def test_cobs_without_the_c_extension_refuses_the_same_bytes(encoded: bytes) -> None:
    from cobs import cobs

    try:
        expected = cobs.decode(encoded)
    except cobs.DecodeError:
        with pytest.raises(slicing.SlicingError):
            slicing.decode(encoded)
    else:
        assert slicing.decode(encoded) == expected


def test_frames_come_out_however_the_bytes_are_cut() -> None:
    stream = b"".join(data(4 * i, sequence=i) for i in range(20))
    for size in (1, 2, 3, 7, 64, 1000):
        decoder = StreamDecoder()
        frames = [f for i in range(0, len(stream), size) for f in decoder.feed(stream[i : i + size])]
        assert [f.sequence for f in frames] == list(range(20))
        assert decoder.counters.lost_frames == 0


def test_a_reader_that_starts_within_a_frame_finds_the_next() -> None:
    decoder = StreamDecoder()
    stream = data(0) + data(4, sequence=1)
    (frame,) = decoder.feed(stream[7:])
    assert frame.sequence == 1


def test_every_single_bit_flip_is_found() -> None:
    wire = data(0)
    for position in range((len(wire) - 1) * 8):
        damaged = bytearray(wire)
        damaged[position // 8] ^= 1 << (position % 8)
        decoder = StreamDecoder()
        assert decoder.feed(bytes(damaged)) == []
        counters = decoder.counters.as_dict()
        assert sum(counters[name] for name in ("bad_crc", "bad_cobs", "bad_length")) >= 1


def test_every_truncation_is_found_and_the_next_frame_is_read() -> None:
    wire = data(0)
    for length in range(1, len(wire) - 1):
        decoder = StreamDecoder()
        frames = decoder.feed(wire[:length] + b"\x00" + data(4, sequence=1))
        assert [f.sequence for f in frames] == [1]


def test_endless_noise_without_a_delimiter_takes_bounded_memory_and_is_counted_once() -> None:
    decoder = StreamDecoder()
    for _ in range(50):
        assert decoder.feed(b"\x55" * MAX_ENCODED_BYTES) == []
        assert len(decoder._rest) <= 2 * MAX_ENCODED_BYTES
    (frame,) = decoder.feed(b"\x00" + data(0))
    assert frame.sequence == 0
    assert decoder.counters.bad_length == 1


def test_lost_frames_are_counted_from_the_sequence_across_its_wrap_and_unknown_types() -> None:
    decoder = StreamDecoder()
    unknown = encode_body(bytes([1, 0x7E]) + (1).to_bytes(2, "little") + bytes(4))
    decoder.feed(data(0, sequence=65534) + data(4, sequence=0) + unknown + data(8, sequence=2))
    assert decoder.counters.lost_frames == 1
    assert decoder.counters.unknown_type == 1


@given(st.binary(max_size=600))
def test_no_bytes_can_make_the_decoder_raise(noise: bytes) -> None:
    decoder = StreamDecoder()
    decoder.feed(noise)
    assert decoder.feed(b"\x00" + data(0))[-1].message == Data(0, 0, 4, counts_to_bytes([range(4)], "int16"))


@given(st.binary(max_size=200), st.integers(0, 255))
def test_no_intact_frame_of_any_content_can_make_the_decoder_raise(payload: bytes, kind: int) -> None:
    decoder = StreamDecoder()
    frames = decoder.feed(encode_body(bytes([1, kind]) + bytes(6) + payload))
    counters = decoder.counters
    assert len(frames) + counters.unknown_type + counters.bad_payload == 1


def test_a_repeated_frame_is_no_loss_of_65535() -> None:
    decoder = StreamDecoder()
    decoder.feed(data(0, sequence=5) + data(4, sequence=6) + data(4, sequence=6) + data(8, sequence=7))
    assert (decoder.counters.lost_frames, decoder.counters.repeated_frames) == (0, 1)


def test_commands_that_a_line_echoes_do_not_disturb_the_sequence() -> None:
    decoder = StreamDecoder()
    echo = encode_frame(Command("identify"), sequence=40_000, tick=0)
    decoder.feed(data(0, sequence=5) + echo + data(4, sequence=6))
    assert (decoder.counters.lost_frames, decoder.counters.repeated_frames) == (0, 0)


numbers = st.integers(0, 2**32 - 1)
names = st.text(max_size=15)
messages = st.one_of(
    st.builds(
        Data,
        st.integers(0, 255),
        st.integers(0, 2**64 - 1),
        st.integers(1, 65535),
        st.binary(max_size=300),
        st.integers(0, 255),
        st.integers(0, 65535),
        st.integers(0, 255),
    ),
    st.builds(
        Scalars,
        st.lists(
            st.builds(
                Scalar,
                st.integers(0, 255),
                st.sampled_from(["temperature", "speed"]),
                st.floats(width=32, allow_nan=False),
            ),
            max_size=9,
        ).map(tuple),
    ),
    st.builds(
        Status,
        numbers,
        numbers,
        numbers,
        st.sampled_from(["not_run", "passed", "failed", "running"]),
        st.lists(
            st.builds(
                SensorStatus, st.integers(0, 255), st.sampled_from(["stopped", "fault"]), numbers, numbers
            ),
            max_size=5,
        ).map(tuple),
    ),
    st.builds(Log, st.sampled_from(["debug", "info", "warning", "error"]), names),
    st.builds(
        Reply,
        st.sampled_from(["identify", "burst", "77"]),
        st.integers(0, 65535),
        st.sampled_from(["ok", "unknown", "refused", "argument", "busy", "failed"]),
    ),
    st.builds(
        Command, st.just("set_rate"), st.integers(0, 65535), st.tuples(st.integers(0, 255), numbers, numbers)
    ),
)


@given(messages, st.integers(0, 65535), numbers)
def test_every_message_comes_back_as_it_was_sent(message: Any, sequence: int, tick: int) -> None:
    (frame,) = StreamDecoder().feed(encode_frame(message, sequence=sequence, tick=tick))
    assert frame == Frame(sequence, tick, message)


def test_counts_of_int16_are_a_view_of_the_frame() -> None:
    sensor = dataclasses.replace(SENSOR, axes=("x", "y"))
    message = Data(0, 0, 3, counts_to_bytes([[1, 2, 3], [-1, -2, -3]], "int16"))
    array = counts(message, sensor)
    np.testing.assert_array_equal(array, [[1, -1], [2, -2], [3, -3]])
    assert not array.flags.owndata


@given(st.lists(st.integers(-(2**23), 2**23 - 1), min_size=2, max_size=60).filter(lambda x: len(x) % 2 == 0))
def test_int24_axes_come_back_as_they_were_sent(values: list[int]) -> None:
    counts = np.array(values).reshape(2, -1)
    sensor = SensorDescriptor(3, "s", "m_s2", "int24", ("x", "y"), Fraction(1000), 1.0)
    message = Data(3, 0, counts.shape[1], counts_to_bytes(counts, "int24"))
    np.testing.assert_array_equal(samples(message, sensor), counts)


def test_samples_are_scaled_to_the_unit_axis_by_axis() -> None:
    sensor = SensorDescriptor(0, "s", "g", "int16", ("x", "y"), Fraction(1000), 0.5)
    message = Data(0, 0, 3, counts_to_bytes([[1, 2, 3], [-1, -2, -3]], "int16"))
    np.testing.assert_array_equal(samples(message, sensor), [[0.5, 1.0, 1.5], [-0.5, -1.0, -1.5]])
    with pytest.raises(ValueError, match="descriptor says"):
        samples(Data(0, 0, 4, message.raw), sensor)


def test_longer_entries_of_a_later_version_are_read_without_their_news() -> None:
    frame = StreamDecoder().feed(encode_frame(DEVICE, sequence=0, tick=0))[0]
    assert frame.message == DEVICE
    _, payload = encode_payload(DEVICE)
    entry_length_at = 8 + 6 + 4
    longer = bytearray(payload + b"NEW")
    longer[entry_length_at] += 3
    body = bytes([1, 1]) + bytes(6) + bytes(longer) + b"more"
    assert StreamDecoder().feed(encode_body(body))[0].message == DEVICE


@pytest.mark.parametrize(
    "changes",
    [
        {"unit": "V"},
        {"format": "int8"},
        {"axes": ()},
        {"axes": ("x", "x")},
        {"sample_rate_hz": Fraction(0)},
        {"scale": 0.0},
        {"scale": float("nan")},
        {"number": 256},
    ],
)
def test_a_sensor_cannot_describe_itself_without_rate_unit_scale_and_axes(changes: dict[str, Any]) -> None:
    values: dict[str, Any] = {
        "number": 0,
        "label": "s",
        "unit": "g",
        "format": "int16",
        "axes": ("x",),
        "sample_rate_hz": Fraction(1000),
        "scale": 1.0,
    }
    with pytest.raises(ValueError, match=r"unit|format|axes|rate|scale|number"):
        SensorDescriptor(**{**values, **changes})


def test_what_does_not_fit_is_refused_by_the_sender() -> None:
    with pytest.raises(ValueError, match="1 to 4096 bytes"):
        encode_frame(Data(0, 0, 3000, bytes(6000)), sequence=0, tick=0)
    with pytest.raises(ValueError, match="do not fit int16"):
        counts_to_bytes([[40000]], "int16")
    with pytest.raises(ValueError, match="none of identify, start, stop"):
        encode_frame(Command("explode"), sequence=0, tick=0)
    with pytest.raises(ValueError, match="none of temperature"):
        encode_frame(Scalars((Scalar(0, "mood", 1.0),)), sequence=0, tick=0)
    assert len(encode_body(bytes(MAX_BODY_BYTES))) <= MAX_ENCODED_BYTES + 1
