"""One layer of the wire protocol under atheris: ``fuzz_layer.py LAYER CORPUS... [-runs=N]``.

Each layer apart, since no fuzzer gets through a CRC. What follows LAYER goes to libFuzzer.
"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["firmware_bridge"]):
    from firmware_bridge import slicing
    from firmware_bridge.codec import MessageError, decode_message, encode_frame
    from firmware_bridge.framing import FrameError, cobs_decode, decode_body, encode_body
    from firmware_bridge.messages import Data, Descriptor
    from firmware_bridge.samples import counts
    from firmware_bridge.stream import StreamDecoder

from cobs import cobs

GOOD = encode_frame(Data(0, 0, 1, b"ab"), sequence=0, tick=0)


def fuzz_slicing(data: bytes) -> None:
    """The plain COBS refuses and gives what the C extension does."""
    assert slicing.decode(slicing.encode(data)) == data
    assert slicing.encode(data) == cobs.encode(data)
    try:
        expected = cobs.decode(data)
    except cobs.DecodeError:
        expected = None
    try:
        got = slicing.decode(data)
    except slicing.SlicingError:
        got = None
    assert got == expected


def fuzz_framing(data: bytes) -> None:
    """Any bytes: a body that stands for exactly them, or FrameError."""
    try:
        body = decode_body(data)
    except FrameError:
        return
    assert cobs_decode(encode_body(body)[:-1]) == cobs_decode(data)


def fuzz_codec(data: bytes) -> None:
    """Any intact body: a message that comes back the same, or MessageError."""
    try:
        frame = decode_message(data)
    except MessageError:
        return
    if isinstance(frame.message, Descriptor):
        for sensor in frame.message.sensors:
            try:
                counts(Data(sensor.number, 0, 3, data), sensor)
            except ValueError:
                continue
    try:
        wire = encode_frame(frame.message, sequence=frame.sequence, tick=frame.tick)
    except ValueError:
        return  # a text that was no UTF-8 has grown too long
    (again,) = StreamDecoder().feed(wire)
    assert repr(again) == repr(frame)


def fuzz_stream(data: bytes) -> None:
    """Any bytes, cut anywhere: nothing raises, all is counted, and a good frame is found behind them."""
    decoder = StreamDecoder()
    step = data[0] + 1 if data else 1
    for at in range(0, len(data), step):
        decoder.feed(data[at : at + step])
    frames = decoder.feed(b"\0" + GOOD)
    assert frames[-1].message == Data(0, 0, 1, b"ab")
    counters = decoder.counters
    assert counters.bytes == len(data) + 1 + len(GOOD)
    seen = counters.frames + counters.bad_cobs + counters.bad_crc + counters.bad_length + counters.bad_payload
    seen += counters.unknown_type + counters.newer_version
    assert seen >= sum(1 for piece in data.split(b"\0") if piece) + 1 - counters.bad_length


if __name__ == "__main__":
    layer = {"slicing": fuzz_slicing, "framing": fuzz_framing, "codec": fuzz_codec, "stream": fuzz_stream}
    test_one = layer[sys.argv.pop(1)]
    atheris.Setup(sys.argv, test_one)
    atheris.Fuzz()
