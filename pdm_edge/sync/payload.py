"""Batches as they travel: columnar JSON, compressed. `docs/sync-format.md` is the specification.

Rows that share boot, kind, subject, schema and context form a group; what differs stands in
columns, times and numbers as differences to the row before. Feature values keep 7 significant
digits, which is what a float32 holds.
"""

from __future__ import annotations

import base64
import gzip
import itertools
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import numpy as np

from pdm_edge.errors import SyncError
from pdm_edge.records import LANES, Batch, FeatureSchema, Receipt, Row

FORMAT: Final = 1
MAX_PACKED_BYTES: Final = 8_000_000
MAX_PLAIN_BYTES: Final = 64_000_000
HISTORICAL_AFTER_S: Final = 60.0
"""Rows older than this when they are sent are backfill: they must not move a live display."""


@dataclass(frozen=True, slots=True)
class ReceivedRow:
    """A row at the far end. `body` is JSON text, whatever its kind."""

    boot_id: str
    seq: int
    kind: str
    subject: str
    utc_ns: int
    monotonic_ns: int
    clock_trusted: bool
    context: str
    body: str


@dataclass(frozen=True, slots=True)
class Received:
    """A whole batch at the far end."""

    gateway: str
    lane: str
    after_seq: int
    through_seq: int
    rows: tuple[ReceivedRow, ...]


def encode_batch(batch: Batch, now_utc_ns: int) -> bytes:
    """A batch as compressed bytes."""
    alike: dict[tuple[str, ...], list[Row]] = {}
    for row in batch.rows:
        alike.setdefault(_key(row), []).append(row)
    groups = [_group(key, rows, batch.schemas, now_utc_ns) for key, rows in alike.items()]
    content = {
        "format": FORMAT,
        "gateway": batch.gateway,
        "lane": batch.lane,
        "after_seq": batch.after_seq,
        "through_seq": batch.through_seq,
        "groups": groups,
    }
    return gzip.compress(msgspec.json.encode(content), compresslevel=6, mtime=0)


def decode_batch(packed: bytes) -> Received:
    """Compressed bytes to rows. Every size is bounded before it is used.

    Raises
    ------
    SyncError
        If the bytes are no batch of this format.
    """
    if len(packed) > MAX_PACKED_BYTES:
        raise SyncError(f"batch of {len(packed)} bytes is larger than {MAX_PACKED_BYTES}")
    try:
        inflater = zlib.decompressobj(wbits=31)
        plain = inflater.decompress(packed, MAX_PLAIN_BYTES)
        if inflater.unconsumed_tail or not inflater.eof:
            raise SyncError(f"batch is cut short, or unpacks to more than {MAX_PLAIN_BYTES} bytes")
        content = msgspec.json.decode(plain)
        if content["format"] != FORMAT:
            raise SyncError(f"batch has format {content['format']!r}, known is {FORMAT}")
        if content["lane"] not in LANES:
            raise SyncError(f"batch is of unknown lane {content['lane']!r}")
        rows = tuple(sorted((r for g in content["groups"] for r in _rows(g)), key=lambda r: r.seq))
        received = Received(
            str(content["gateway"]),
            content["lane"],
            int(content["after_seq"]),
            int(content["through_seq"]),
            rows,
        )
    except (zlib.error, msgspec.DecodeError, KeyError, TypeError, ValueError, IndexError) as error:
        if isinstance(error, SyncError):
            raise
        raise SyncError(f"is no batch: {error}") from error
    if not rows or rows[-1].seq != received.through_seq:
        raise SyncError("batch does not end where it says")
    return received


def encode_receipt(receipt: Receipt) -> bytes:
    return msgspec.json.encode(receipt)


def decode_receipt(content: bytes) -> Receipt:
    """The receipt in an answer.

    Raises
    ------
    SyncError
        If there is none: then nothing was delivered, whatever else the answer says.
    """
    try:
        return msgspec.json.decode(content, type=Receipt)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise SyncError(
            f"the answer holds no receipt: {error}",
            mend="The far end must answer with gateway, lane and through_seq, see docs/sync-format.md",
        ) from error


def _key(row: Row) -> tuple[str, ...]:
    trusted = str(row.stamp.clock_trusted)
    return (row.stamp.boot_id, row.kind, row.subject, row.schema_id, row.context, trusted)


def _group(
    key: tuple[str, ...], rows: Sequence[Row], schemas: Mapping[str, FeatureSchema], now_utc_ns: int
) -> dict[str, Any]:
    boot_id, kind, subject, schema_id, context, _ = key
    group: dict[str, Any] = {
        "boot_id": boot_id,
        "kind": kind,
        "subject": subject,
        "context": msgspec.json.decode(context),
        "clock_trusted": rows[0].stamp.clock_trusted,
        "historical": now_utc_ns - rows[0].stamp.utc_ns > HISTORICAL_AFTER_S * 1e9,
        "seq": _differences(row.seq for row in rows),
        "utc_ns": _differences(row.stamp.utc_ns for row in rows),
        "monotonic_ns": _differences(row.stamp.monotonic_ns for row in rows),
    }
    if kind == "features":
        schema = schemas[schema_id]
        columns = np.stack([np.frombuffer(row.body, dtype="<f4") for row in rows], axis=1)
        group["schema_id"] = schema_id
        group["values"] = {
            name: {"unit": unit, "v": [_short(value) for value in column]}
            for name, unit, column in zip(schema.names, schema.units, columns, strict=True)
        }
    elif kind == "waveform":
        group["first_sample"] = [int.from_bytes(row.body[:8], "little") for row in rows]
        group["samples_f32le"] = [base64.b64encode(row.body[8:]).decode() for row in rows]
    else:
        group["bodies"] = [msgspec.Raw(row.body) for row in rows]
    return group


def _rows(group: Mapping[str, Any]) -> Iterable[ReceivedRow]:
    kind = str(group["kind"])
    if kind == "features":
        names = list(group["values"])
        columns = [group["values"][name]["v"] for name in names]
        bodies: list[Any] = [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]
    elif kind == "waveform":
        bodies = [
            {"first_sample": first, "samples_f32le": samples}
            for first, samples in zip(group["first_sample"], group["samples_f32le"], strict=True)
        ]
    else:
        bodies = group["bodies"]
    context = {**group["context"], "historical": group["historical"]}
    if kind == "features":
        context["units"] = {name: group["values"][name]["unit"] for name in group["values"]}
    text = msgspec.json.encode(context).decode()
    times = zip(
        itertools.accumulate(group["seq"]),
        itertools.accumulate(group["utc_ns"]),
        itertools.accumulate(group["monotonic_ns"]),
        bodies,
        strict=True,
    )
    for seq, utc_ns, monotonic_ns, body in times:
        yield ReceivedRow(
            str(group["boot_id"]),
            int(seq),
            kind,
            str(group["subject"]),
            int(utc_ns),
            int(monotonic_ns),
            bool(group["clock_trusted"]),
            text,
            msgspec.json.encode(body).decode(),
        )


def _differences(values: Iterable[int]) -> list[int]:
    listed = list(values)
    return [listed[0], *(b - a for a, b in itertools.pairwise(listed))]


def _short(value: np.floating[Any]) -> float | None:
    return float(f"{value:.7g}") if np.isfinite(value) else None
