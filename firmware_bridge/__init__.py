"""The wire protocol between sensor firmware and gateway; PROTOCOL.md is its specification.

Pure bytes and values: nothing here opens a device, and nothing imports `pdm_edge`.
"""

from firmware_bridge.messages import (
    CLIPPED,
    PROTOCOL_VERSION,
    Command,
    Data,
    Descriptor,
    Frame,
    Message,
    Scalar,
    Scalars,
    SensorDescriptor,
    counts_to_bytes,
    encode_frame,
    samples,
)
from firmware_bridge.stream import StreamCounters, StreamDecoder

__all__ = [
    "CLIPPED",
    "PROTOCOL_VERSION",
    "Command",
    "Data",
    "Descriptor",
    "Frame",
    "Message",
    "Scalar",
    "Scalars",
    "SensorDescriptor",
    "StreamCounters",
    "StreamDecoder",
    "counts_to_bytes",
    "encode_frame",
    "samples",
]
