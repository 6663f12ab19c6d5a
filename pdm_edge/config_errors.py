"""How a mistake in a configuration is told: what, where in the file, and the mend."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import msgspec

from pdm_edge.errors import ConfigError, PdmError


class At:
    """Give a ValueError from a check the place in the file that it belongs to."""

    def __init__(self, where: str) -> None:
        self._where = where

    def __enter__(self) -> None:
        return None

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, PdmError):
            raise ConfigError(error.what, where=error.where or self._where, mend=error.mend) from error
        if isinstance(error, ValueError):
            raise ConfigError(str(error), where=self._where) from error


def unique(ids: list[str], what: str, where: str) -> None:
    twice = sorted({i for i in ids if ids.count(i) > 1})
    if twice:
        raise ConfigError(f"{what} id {twice[0]!r} is used twice", where=where, mend="Give each its own")


def finite(raw: object, where: str) -> None:
    """Refuse a number that is infinite or not one: every comparison with it would be silently false."""
    if isinstance(raw, float) and not math.isfinite(raw):
        raise ConfigError(f"is {raw}", where=where, mend="Give a finite number")
    items = (
        raw.items() if isinstance(raw, Mapping) else enumerate(raw) if isinstance(raw, (list, tuple)) else ()
    )
    for key, value in items:
        finite(value, f"{where}: {key}" if isinstance(key, str) else where)


def lines_agree(sources: list[tuple[str, str]], where: str) -> None:
    """Refuse two sensors (id, source) that open one serial port with different settings."""
    known: dict[str, tuple[str, str]] = {}
    for sensor, source in sources:
        parts = urlsplit(source)
        if parts.scheme not in ("serial", "modbus+rtu"):
            continue
        rest = sorted(item for item in parse_qsl(parts.query, keep_blank_values=True) if item[0] != "device")
        settings = f"{parts.scheme}://...?{urlencode(rest)}"
        first, others = known.setdefault(parts.path, (sensor, settings))
        if settings != others:
            raise ConfigError(
                f"sensors {first!r} and {sensor!r} open {parts.path} differently: {others} and {settings}",
                where=where,
                mend="Devices on one line speak one protocol at one baud rate; write the same for both",
            )


def check_port(url: str, where: str) -> None:
    """Refuse what is no URL, or has no port that can be."""
    try:
        _ = urlsplit(url).port
    except ValueError as error:
        raise ConfigError(f"{url!r}: {error}", where=where, mend="Write scheme://host:port") from error


def explained(error: msgspec.ValidationError, where: str, root: type[msgspec.Struct]) -> ConfigError:
    """Turn msgspec's message into what, where and mend."""
    what, _, path = str(error).partition(" - at `")
    place = path.rstrip("`").removeprefix("$.").removeprefix("$")
    unknown = re.search(r"unknown field `(.+?)`", what)
    missing = re.search(r"missing required field `(.+?)`", what)
    here = f"{where}: {place}" if place else where
    if unknown:
        near = difflib.get_close_matches(unknown[1], _all_keys(root), n=1)
        mend = f"Did you mean {near[0]!r}?" if near else "Remove it, or correct its spelling"
        return ConfigError(f"unknown key {unknown[1]!r}", where=here, mend=mend)
    if missing:
        return ConfigError(f"key {missing[1]!r} is missing", where=here, mend="Add it; it is not guessed")
    return ConfigError(what[0].lower() + what[1:], where=here)


def _all_keys(struct: Any) -> list[str]:
    keys: list[str] = []
    for field in msgspec.structs.fields(struct):
        keys.append(field.name)
        for part in (field.type, *getattr(field.type, "__args__", ())):
            if isinstance(part, type) and issubclass(part, msgspec.Struct):
                keys.extend(_all_keys(part))
    return keys
