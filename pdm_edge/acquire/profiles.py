"""Register maps of real devices, as data.

A profile is a TOML file that names the vendor's document it was taken from. Those that come along
are in the folder ``profiles`` beside this file; users put their own beside their configuration, or
in a folder ``profiles`` there, under the name that the configuration uses. A register that no
document of the vendor confirms is not in a profile.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal

import msgspec

from pdm_edge.acquire.registers import MAX_BLOCK, Register, Table
from pdm_edge.errors import ConfigError

FOLDER: Final = Path(__file__).with_name("profiles")


class _Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A TOML table that knows all its keys."""


class Document(_Table, frozen=True, kw_only=True):
    """What a profile was taken from, and where that was seen."""

    title: str
    revision: str
    seen: tuple[str, ...]
    note: str = ""


class LineDefaults(_Table, frozen=True, kw_only=True):
    """Factory settings, as far as the document states them."""

    baud: int | None = None
    parity: Literal["N", "E", "O"] | None = None
    stopbits: int | None = None
    device: int | None = None


class ProfileRegister(_Table, frozen=True, kw_only=True):
    """A row of the map; see `Register`. ``extra`` rows are read only if asked for by name."""

    quantity: str
    unit: str
    address: int
    type: str
    table: Table
    stated: str
    word_order: Literal["big", "little"] = "big"
    byte_order: Literal["big", "little"] = "big"
    scale: float = 1.0
    offset: float = 0.0
    minimum: float | None = None
    maximum: float | None = None
    invalid: tuple[int, ...] = ()
    bit: int | None = None
    bit_count: int = 1
    extra: bool = False


class Identity(_Table, frozen=True, kw_only=True):
    """A register whose value tells the device: within ``lowest`` to ``highest``."""

    address: int
    table: Table
    lowest: int
    highest: int


class Example(_Table, frozen=True, kw_only=True):
    """Words on the wire and the value that they mean, from the document where it gives one."""

    quantity: str
    words: tuple[int, ...]
    value: float | None = None


class Profile(_Table, frozen=True, kw_only=True):
    """The map of one kind of device."""

    id: str
    vendor: str
    device: str
    document: Document
    register: tuple[ProfileRegister, ...]
    example: tuple[Example, ...]
    left_out: str = ""
    line: LineDefaults = LineDefaults()
    identity: Identity | None = None
    max_words: int = MAX_BLOCK
    merge_gap: int = 0

    def registers(self, sensor: str, device: int, take: Sequence[str] = ()) -> tuple[Register, ...]:
        """The registers to read: all but the extra ones, or those that `take` names.

        Raises
        ------
        ConfigError
            If `take` names a quantity that the profile does not have, or a row is impossible.
        """
        known = [row.quantity for row in self.register]
        unknown = [name for name in take if name not in known]
        if unknown:
            raise ConfigError(
                f"profile {self.id!r} has no quantity {unknown[0]!r}",
                where=f"sensor {sensor!r}",
                mend=f"It has {', '.join(known)}",
            )
        rows = [r for r in self.register if (r.quantity in take if take else not r.extra)]
        return tuple(row_register(row, sensor, device) for row in rows)


def row_register(row: ProfileRegister, sensor: str, device: int) -> Register:
    """A row of a profile as a register of a device."""
    values = msgspec.structs.asdict(row)
    del values["stated"], values["extra"]
    return Register(sensor=sensor, device=device, **values)


def load_profile(name: str, *, beside: str | Path | None = None) -> Profile:
    """The profile of that name: one of the user's own, else one that comes along.

    Raises
    ------
    ConfigError
        If there is none, or it cannot be used.
    """
    for folder in _folders(beside):
        file = folder / f"{name}.toml"
        if file.is_file():
            return read_profile(file)
    near = _near_names(name, beside)
    hint = f"Near names: {', '.join(near)}, each the map of another device. " if near else ""
    raise ConfigError(
        f"there is no profile {name!r}",
        mend=f"{hint}`pdm-edge profiles` lists them; your own is a file {name}.toml beside the configuration",
    )


def all_profiles(*, beside: str | Path | None = None) -> tuple[Profile, ...]:
    """All profiles there are, by name; the user's own hide those of the same name.

    Beside a configuration there may be other TOML files; only in its folder ``profiles`` each has
    to be a profile.
    """
    found: dict[str, Profile] = {}
    folders = [folder for folder in _folders(beside) if folder.name == "profiles"]
    for folder in folders:
        for file in sorted(folder.glob("*.toml")):
            found.setdefault(file.stem, read_profile(file))
    return tuple(found[name] for name in sorted(found))


def read_profile(file: Path) -> Profile:
    """Read and check a profile; ConfigError names the file and the key."""
    try:
        profile = msgspec.toml.decode(file.read_bytes(), type=Profile)
    except (OSError, msgspec.DecodeError) as error:
        raise ConfigError(f"is no profile: {error}", where=str(file)) from error
    if profile.id != file.stem:
        raise ConfigError(f"has id {profile.id!r}", where=str(file), mend="Id and file name must agree")
    if not profile.register:
        raise ConfigError("has no [[register]]", where=str(file))
    try:
        for row in profile.register:
            row_register(row, "check", 1)
    except ConfigError as error:
        raise ConfigError(error.what, where=f"{file}: {error.where}", mend=error.mend) from error
    return profile


def _near_names(name: str, beside: str | Path | None) -> list[str]:
    """Names that may have been meant: of the folders of profiles, whose files need not be readable."""
    known = {
        file.stem
        for folder in _folders(beside)
        if folder.name == "profiles"
        for file in folder.glob("*.toml")
    }
    return difflib.get_close_matches(name, sorted(known), n=3, cutoff=0.6)


def _folders(beside: str | Path | None) -> list[Path]:
    own = [] if beside is None else [Path(beside), Path(beside, "profiles")]
    return [*own, FOLDER]
