"""The wire protocol between sensor firmware and gateway; PROTOCOL.md is its specification.

Values and pure bytes; `device` asks a device over any byte stream, `conform` is the command that
checks one. Nothing here imports `pdm_edge`.
"""

from firmware_bridge.codec import encode_frame
from firmware_bridge.device import DeviceClient, DeviceError
from firmware_bridge.messages import (
    ALL_SENSORS,
    BURST_END,
    CLIPPED,
    INVALID,
    PROTOCOL_VERSION,
    Command,
    Data,
    Descriptor,
    Frame,
    Log,
    Message,
    Reply,
    Scalar,
    Scalars,
    SensorDescriptor,
    SensorStatus,
    Status,
)
from firmware_bridge.samples import counts, counts_to_bytes, samples
from firmware_bridge.stream import StreamCounters, StreamDecoder

__all__ = [
    "ALL_SENSORS",
    "BURST_END",
    "CLIPPED",
    "INVALID",
    "PROTOCOL_VERSION",
    "Command",
    "Data",
    "Descriptor",
    "DeviceClient",
    "DeviceError",
    "Frame",
    "Log",
    "Message",
    "Reply",
    "Scalar",
    "Scalars",
    "SensorDescriptor",
    "SensorStatus",
    "Status",
    "StreamCounters",
    "StreamDecoder",
    "counts",
    "counts_to_bytes",
    "encode_frame",
    "samples",
]
