"""A batch unfolds to what its budget allows, and to no more, whatever it is packed from."""

from __future__ import annotations

import base64
import gzip
import subprocess
import sys
import zlib
from collections.abc import Callable
from typing import Any

import cbor2
import msgspec
import pytest

from pdm_edge.errors import SyncError
from pdm_edge.sync.bounds import MAX_PLAIN_BYTES, MAX_VALUES, check_values
from pdm_edge.sync.payload import decode_batch

ZEROS = base64.b64encode(zlib.compress(bytes(40_000_000), 9)).decode()
LIMIT_MB = 600


def group(kind: str, n: int, **content: Any) -> dict[str, Any]:
    of = {"boot_id": "b", "kind": kind, "subject": "de", "context": {}, "clock_trusted": True}
    steps = [1] + [1] * (n - 1)
    return {**of, "historical": False, "seq": steps, "utc_ns": steps, "monotonic_ns": steps, **content}


def batch(n: int, *groups: dict[str, Any]) -> dict[str, Any]:
    ends = {"after_seq": 0, "through_seq": n}
    return {"format": 1, "gateway": "gw", "lane": "feature", **ends, "groups": list(groups)}


def waveforms() -> bytes:
    """The samples of each row alone would pass."""
    rows = group(
        "waveform",
        20,
        context={"packing": "shuffle-zlib", "axes": ["x"]},
        first_sample=[0] * 20,
        samples=[ZEROS] * 20,
    )
    return gzip.compress(msgspec.json.encode(batch(20, rows)))


def spectra() -> bytes:
    rows = group(
        "spectrum",
        20,
        context={"axes": ["x"]},
        bodies=[{"levels": ZEROS, "top": [1.0], "averages": 1, "shaft_hz": None}] * 20,
    )
    return gzip.compress(msgspec.json.encode(batch(20, rows)))


def a_long_name() -> bytes:
    rows = group("features", 50_000, values={"n" * 1_000_000: {"unit": "g", "v": [1] * 50_000}})
    return gzip.compress(msgspec.json.encode(batch(50_000, rows)))


def a_long_context() -> bytes:
    rows = group("score", 50_000, context={"c": "x" * 1_000_000}, bodies=[1] * 50_000)
    return gzip.compress(msgspec.json.encode(batch(50_000, rows)))


def empty_lists() -> bytes:
    return gzip.compress(b'{"format":1,"groups":[' + b"[]," * 21_000_000 + b"[]]}")


def empty_lists_of_cbor() -> bytes:
    return gzip.compress(b"\x9f" + b"\x80" * 60_000_000 + b"\xff")


def floats_of_cbor() -> bytes:
    rows = group("features", 1000, values={"a": {"unit": "g", "v": bytes(60_000_000)}})
    return gzip.compress(cbor2.dumps(batch(1000, rows)))


BOMBS = (
    waveforms,
    spectra,
    a_long_name,
    a_long_context,
    empty_lists,
    empty_lists_of_cbor,
    floats_of_cbor,
)


@pytest.mark.parametrize("make", BOMBS, ids=lambda make: make.__name__)
def test_what_would_unfold_to_gigabytes_is_refused_in_bounded_memory(make: Callable[[], bytes]) -> None:
    packed = make()
    assert len(packed) < 1_000_000
    with pytest.raises(SyncError):
        decode_batch(packed)
    code = (
        "import sys\n"
        "from pdm_edge.errors import SyncError\n"
        "from pdm_edge.sync.payload import decode_batch\n"
        "try:\n    decode_batch(sys.stdin.buffer.read())\n"
        # Of this process alone: ru_maxrss begins with what the parent had when it forked.
        "except SyncError:\n"
        "    print(int(open('/proc/self/status').read().split('VmHWM:')[1].split()[0]) // 1000)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], input=packed, capture_output=True, check=True)
    assert int(done.stdout) < LIMIT_MB


def test_a_large_honest_batch_passes() -> None:
    n = 200
    samples = base64.b64encode(zlib.compress(bytes(100_000))).decode()
    packing = {"packing": "shuffle-zlib", "axes": ["x"]}
    rows = group("waveform", n, context=packing, first_sample=[0] * n, samples=[samples] * n)
    got = decode_batch(gzip.compress(msgspec.json.encode(batch(n, rows))))
    assert len(got.rows) == n
    assert len(msgspec.json.decode(got.rows[0].body)["samples_f32le"]) > 100_000
    names = {f"de/x/band_rms_{i}": {"unit": "g", "v": [0.1234567] * n} for i in range(400)}
    assert (
        len(
            decode_batch(
                gzip.compress(msgspec.json.encode(batch(n, group("features", n, values=names))))
            ).rows
        )
        == n
    )


@pytest.mark.parametrize("pack", [msgspec.json.encode, cbor2.dumps], ids=["json", "cbor"])
def test_values_are_counted_before_they_are_made(pack: Callable[[Any], bytes]) -> None:
    check_values(pack({"a": [1.5] * (MAX_VALUES - 10), "b": "[],," * 2 if pack is cbor2.dumps else ""}))
    with pytest.raises(SyncError, match="more than 1000000 values"):
        check_values(pack({"a": [{}] * (MAX_VALUES + 1)}))
    assert MAX_PLAIN_BYTES > MAX_VALUES
