"""The file in which the windows of a baseline are kept until a model is made of them."""

from __future__ import annotations

import contextlib
import logging
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from pdm_edge.errors import ModelError
from pdm_edge.records import FeatureSchema, FeatureVector, Stamp

logger = logging.getLogger(__name__)


def schema_of_journal(path: Path) -> FeatureSchema:
    """What the windows of a journal hold.

    Raises
    ------
    ModelError
        If there is none, or it is damaged.
    """
    try:
        head = msgspec.json.decode(path.read_bytes().partition(b"\n")[0])
        return FeatureSchema(tuple(head["names"]), tuple(head["units"]))
    except (OSError, msgspec.DecodeError, KeyError, TypeError) as error:
        raise ModelError(f"nothing was collected: {error}", where=str(path)) from error


class Journal:
    """One JSON line a window, behind a line with the schema.

    What cannot be used, for its schema or for damage, is set aside under a name of its own, never
    written over; windows of a schema that comes back are taken up again.
    """

    def __init__(self, path: Path, schema: FeatureSchema) -> None:
        self._path = path
        self._schema = schema
        self._unread = False

    def read(self) -> list[FeatureVector]:
        """The windows in the file; a damaged or torn line is left out.

        Raises
        ------
        ModelError
            If the file cannot be read or another one not be set aside.
        """
        try:
            found, is_whole = self._taken_up()
        except FileNotFoundError:
            return []
        except OSError as error:
            self._unread = True
            raise ModelError(f"cannot be read: {error}", where=str(self._path)) from error
        if not is_whole:
            logger.warning("%s: %d windows taken up, the rest is left out", self._path, len(found))
            self.write(found)
        return found

    def append(self, vector: FeatureVector, whole: Iterable[FeatureVector]) -> None:
        """Write one window; if the file is not there, the `whole`.

        Raises
        ------
        ModelError
            If it cannot be written; then the file is to be written anew.
        """
        if not self._path.is_file():
            self.write(whole)
            return
        try:
            with self._path.open("ab") as stream:
                stream.write(self._line(vector))
        except OSError as error:
            raise ModelError(f"cannot be written: {error}", where=str(self._path)) from error

    def write(self, vectors: Iterable[FeatureVector]) -> None:
        """Put these windows in the place of what is there; a stop half-way leaves the one or the other.

        Raises
        ------
        ModelError
            If it cannot be written.
        """
        new = self._path.with_name(f".{self._path.name}.new")
        head = {"schema": self._schema.id, "names": self._schema.names, "units": self._schema.units}
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            if self._unread and self._path.exists():
                self._set_aside("unread")
            self._unread = False
            with new.open("wb") as stream:
                stream.write(msgspec.json.encode(head) + b"\n")
                stream.writelines(self._line(vector) for vector in vectors)
                stream.flush()
                os.fsync(stream.fileno())
            new.replace(self._path)
        except OSError as error:
            with contextlib.suppress(OSError):  # a part of a file only takes the room of others
                new.unlink(missing_ok=True)
            raise ModelError(f"cannot be written: {error}", where=str(self._path)) from error

    def remove(self) -> None:
        try:
            self._path.unlink(missing_ok=True)
        except OSError as error:
            logger.warning("%s: cannot be removed: %s", self._path, error)

    def _taken_up(self) -> tuple[list[FeatureVector], bool]:
        """The windows, and whether the file holds nothing else."""
        own = self._aside(self._schema.id)
        if not self._path.exists() and own.exists():
            own.replace(self._path)
        lines = self._path.read_bytes().split(b"\n")
        try:
            schema_id = str(msgspec.json.decode(lines[0])["schema"])
        except (msgspec.DecodeError, KeyError, TypeError):
            schema_id = "damaged"
        if schema_id != self._schema.id:
            self._set_aside(schema_id)
            return self._taken_up()
        found = []
        is_whole = lines[-1] == b""
        for line in lines[1:-1]:
            try:
                found.append(self._vector(msgspec.json.decode(line)))
            except (msgspec.DecodeError, KeyError, TypeError, ValueError) as error:
                logger.warning("%s: a damaged line: %s", self._path, error)
                is_whole = False
        return found, is_whole

    def _aside(self, what: str) -> Path:
        return self._path.with_name(f"{self._path.name}.{re.sub(r'[^A-Za-z0-9]', '', what)[:32]}")

    def _set_aside(self, what: str) -> None:
        aside = self._aside(what)
        self._path.replace(aside)
        logger.warning("%s: holds other windows, kept as %s", self._path, aside.name)

    def _line(self, vector: FeatureVector) -> bytes:
        row = {
            "machine": vector.machine,
            "state": vector.state,
            "window_s": vector.window_s,
            "utc_ns": vector.stamp.utc_ns,
            "monotonic_ns": vector.stamp.monotonic_ns,
            "boot_id": vector.stamp.boot_id,
            "trusted": vector.stamp.clock_trusted,
            "lines": vector.lines,
            "faults": vector.faults,
            "values": [None if not np.isfinite(v) else float(v) for v in vector.values],
        }
        return msgspec.json.encode(row) + b"\n"

    def _vector(self, row: dict[str, Any]) -> FeatureVector:
        stamp = Stamp(row["utc_ns"], row["monotonic_ns"], row["boot_id"], row["trusted"])
        values = np.array([np.nan if v is None else v for v in row["values"]], dtype=np.float32)
        return FeatureVector(
            row["machine"],
            values,
            self._schema,
            stamp,
            row["window_s"],
            row["state"],
            lines=tuple((float(hz), float(level_db)) for hz, level_db in row["lines"]),
            faults=tuple(row["faults"]),
        )
