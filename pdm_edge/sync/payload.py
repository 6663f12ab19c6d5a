"""Batches as they travel: columnar JSON or CBOR, compressed. `docs/sync-format.md` is the specification.

Rows that share boot, kind, subject, schema and context form a group; what differs stands in
columns, times and numbers as differences to the row before. Feature values keep 7 significant
digits in JSON, which is what a float32 holds, and all bits in CBOR.
"""

from __future__ import annotations

import base64
import gzip
import itertools
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

import msgspec
import numpy as np

from pdm_edge.delivery import Batch, Receipt, Row
from pdm_edge.errors import SyncError
from pdm_edge.records import LANES, FeatureSchema, check_id, level_amplitudes
from pdm_edge.sync.bounds import MAX_PACKED_BYTES, Unfolding, check_values

FORMAT: Final = 1
HISTORICAL_AFTER_S: Final = 60.0
"""Rows older than this when they are sent are backfill: they must not move a live display."""

Encoding: TypeAlias = Literal["json", "cbor"]


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
    want: str = ""
    want_done: bool = False


def encode_batch(batch: Batch, now_utc_ns: int, *, encoding: Encoding = "json") -> bytes:
    """A batch as compressed bytes.

    Raises
    ------
    SyncError
        For CBOR, if its library is not installed.
    """
    alike: dict[tuple[Any, ...], list[Row]] = {}
    for row in batch.rows:
        historical = now_utc_ns - row.stamp.utc_ns > HISTORICAL_AFTER_S * 1e9
        alike.setdefault((*_key(row), historical), []).append(row)
    content: dict[str, Any] = {
        "format": FORMAT,
        "gateway": batch.gateway,
        "lane": batch.lane,
        "after_seq": batch.after_seq,
        "through_seq": batch.through_seq,
        "groups": [_group(key, rows, batch.schemas, encoding) for key, rows in alike.items()],
    }
    if batch.want:
        content |= {"want": batch.want, "want_done": batch.want_done}
    plain = _cbor().dumps(content) if encoding == "cbor" else msgspec.json.encode(content)
    return gzip.compress(plain, compresslevel=6, mtime=0)


def decode_batch(packed: bytes) -> Received:
    """Compressed bytes to rows. What they unfold to is bounded for the whole batch (`bounds`).

    Raises
    ------
    SyncError
        If the bytes are no batch of this format.
    """
    if len(packed) > MAX_PACKED_BYTES:
        raise SyncError(f"batch of {len(packed)} bytes is larger than {MAX_PACKED_BYTES}")
    room = Unfolding()
    try:
        content = _unpacked(packed, room)
        if content["format"] != FORMAT:
            raise SyncError(f"batch has format {content['format']!r}, known is {FORMAT}")
        if content["lane"] not in LANES:
            raise SyncError(f"batch is of unknown lane {content['lane']!r}")
        rows = tuple(sorted((r for g in content["groups"] for r in _rows(g, room)), key=lambda r: r.seq))
        received = Received(
            check_id(content["gateway"], "gateway"),
            content["lane"],
            int(content["after_seq"]),
            int(content["through_seq"]),
            rows,
            str(content.get("want", "")),
            bool(content.get("want_done", False)),
        )
    except (
        zlib.error,
        msgspec.DecodeError,
        KeyError,
        TypeError,
        ValueError,
        IndexError,
        AttributeError,
        OverflowError,
        RecursionError,
    ) as error:
        raise SyncError(f"is no batch: {error}") from error
    is_poll = not rows and received.after_seq == received.through_seq
    if not received.want and not is_poll and (not rows or rows[-1].seq != received.through_seq):
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


class _Refusal(msgspec.Struct):
    refused: str
    crc32: int


def encode_refusal(content: bytes, why: str) -> bytes:
    """Tell a gateway that a batch, as it was received, is refused for what it holds."""
    return msgspec.json.encode(_Refusal(why[:300], zlib.crc32(content)))


def decode_refusal(content: bytes) -> tuple[int, str] | None:
    """CRC-32 of the refused batch and the reason; None if this is no refusal."""
    try:
        found = msgspec.json.decode(content, type=_Refusal)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return found.crc32, found.refused


def _unpacked(packed: bytes, room: Unfolding) -> Any:
    plain = room.gunzipped(packed)
    check_values(plain)
    if plain[:1] == b"{":
        return msgspec.json.decode(plain)
    try:
        return _cbor().loads(plain)
    except SyncError:
        raise
    except Exception as error:
        # The library raises whatever its Python and its C half happen to meet.
        raise SyncError(f"is no batch: {error}") from error


def _cbor() -> Any:
    try:
        import cbor2
    except ImportError as error:
        raise SyncError("the CBOR library is not installed", mend="pip install 'pdm-edge[cbor]'") from error
    return cbor2


def _key(row: Row) -> tuple[Any, ...]:
    return (row.stamp.boot_id, row.kind, row.subject, row.schema_id, row.context, row.stamp.clock_trusted)


def _group(
    key: tuple[Any, ...], rows: Sequence[Row], schemas: Mapping[str, FeatureSchema], encoding: Encoding
) -> dict[str, Any]:
    boot_id, kind, subject, schema_id, context, trusted, historical = key
    group: dict[str, Any] = {
        "boot_id": boot_id,
        "kind": kind,
        "subject": subject,
        "context": msgspec.json.decode(context),
        "clock_trusted": trusted,
        "historical": historical,
        "seq": _differences(row.seq for row in rows),
        "utc_ns": _differences(row.stamp.utc_ns for row in rows),
        "monotonic_ns": _differences(row.stamp.monotonic_ns for row in rows),
    }
    binary = encoding == "cbor"
    if kind == "features":
        schema = schemas[schema_id]
        columns = np.stack([np.frombuffer(row.body, dtype="<f4") for row in rows], axis=1)
        group["schema_id"] = schema_id
        group["values"] = {
            name: {"unit": unit, "v": column.tobytes() if binary else [_short(v) for v in column]}
            for name, unit, column in zip(schema.names, schema.units, columns, strict=True)
        }
    elif kind == "waveform":
        group["first_sample"] = [int.from_bytes(row.body[:8], "little") for row in rows]
        bodies = [row.body[8:] for row in rows]
        group["samples"] = bodies if binary else [base64.b64encode(body).decode() for body in bodies]
    else:
        group["bodies"] = [msgspec.json.decode(r.body) if binary else msgspec.Raw(r.body) for r in rows]
    return group


def _rows(group: Mapping[str, Any], room: Unfolding) -> Iterable[ReceivedRow]:
    kind, boot_id, subject = str(group["kind"]), str(group["boot_id"]), str(group["subject"])
    context = {**group["context"], "historical": bool(group["historical"])}
    if kind == "features":
        columns = {name: _column(column["v"]) for name, column in group["values"].items()}
        bodies: Iterable[Any] = (
            dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)
        )
        context["units"] = {name: column["unit"] for name, column in group["values"].items()}
    elif kind == "waveform":
        packing = context.pop("packing", "")
        bodies = (
            {"first_sample": int(first), "samples_f32le": _samples(samples, packing, room)}
            for first, samples in zip(group["first_sample"], group["samples"], strict=True)
        )
    elif kind == "spectrum":
        axes = group["context"]["axes"]
        bodies = (_spectrum(body, axes, room) for body in group["bodies"])
    else:
        bodies = group["bodies"]
    text = msgspec.json.encode(context).decode()
    repeated = len(text) + len(kind) + len(boot_id) + len(subject)
    times = zip(
        itertools.accumulate(group["seq"]),
        itertools.accumulate(group["utc_ns"]),
        itertools.accumulate(group["monotonic_ns"]),
        bodies,
        strict=True,
    )
    for seq, utc_ns, monotonic_ns, body in times:
        encoded = msgspec.json.encode(body)
        room.take(repeated + len(encoded))
        yield ReceivedRow(
            boot_id,
            _int64(seq),
            kind,
            subject,
            _int64(utc_ns),
            _int64(monotonic_ns),
            bool(group["clock_trusted"]),
            text,
            encoded.decode(),
        )


def _column(values: Any) -> Iterable[float | None]:
    if not isinstance(values, bytes):
        return list(values)
    decoded = np.frombuffer(values, dtype="<f4")
    return (float(v) if np.isfinite(v) else None for v in decoded)  # as objects they take ten times as much


def _samples(samples: bytes | str, packing: str, room: Unfolding) -> str:
    """Samples as base64 of float32, whatever their packing."""
    raw = samples if isinstance(samples, bytes) else base64.b64decode(samples, validate=True)
    if packing == "shuffle-zlib":
        places = np.frombuffer(room.inflated(raw, grows=2), dtype=np.uint8).reshape(4, -1)
        raw = bytes(places.T.tobytes())
    elif packing:
        raise ValueError(f"unknown packing {packing!r}")
    return base64.b64encode(raw).decode()


def _spectrum(body: Mapping[str, Any], axes: Sequence[str], room: Unfolding) -> dict[str, Any]:
    """A spectrum with its levels as amplitudes, axis by axis, in its unit."""
    levels = room.inflated(base64.b64decode(body["levels"], validate=True), grows=16)
    codes = np.frombuffer(levels, dtype=np.uint8)
    amplitudes = level_amplitudes(body["top"], codes.reshape(len(axes), -1))
    shown = {axis: [float(f"{v:.3g}") for v in row] for axis, row in zip(axes, amplitudes, strict=True)}
    return {"averages": int(body["averages"]), "shaft_hz": body["shaft_hz"], "amplitude": shown}


def _int64(value: Any) -> int:
    if not isinstance(value, int) or not -(2**63) <= value < 2**63:
        raise ValueError(f"{value!r} is not a number of 64 bits")
    return value


def _differences(values: Iterable[int]) -> list[int]:
    listed = list(values)
    return [listed[0], *(b - a for a, b in itertools.pairwise(listed))]


def _short(value: np.floating[Any]) -> float | None:
    return float(f"{value:.7g}") if np.isfinite(value) else None
