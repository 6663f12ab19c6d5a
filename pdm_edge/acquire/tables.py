"""Recordings as text: a .csv with a header, separated by commas or semicolons."""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pdm_edge.errors import ConfigError, SourceError

_DECIMAL_COMMA = re.compile(r"\s*[+-]?\d+,\d+([eE][+-]?\d+)?\s*\Z")


@dataclass(frozen=True, slots=True)
class Table:
    """Cells as they stand in the file; `lines` holds the number of the line of each row, from 1."""

    path: Path
    names: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    lines: tuple[int, ...]

    def is_numeric(self, index: int) -> bool:
        """Whether a column begins with a number."""
        return bool(self.rows) and index < len(self.rows[0]) and is_number(self.rows[0][index])

    def numbers(self, index: int) -> npt.NDArray[np.float64]:
        """A column, all of it numbers.

        Raises
        ------
        SourceError
            If a row is too short or a cell is no number; it names the line.
        """
        values = np.empty(len(self.rows))
        for i, (row, line) in enumerate(zip(self.rows, self.lines, strict=True)):
            where = f"{self.path}: line {line}"
            if index >= len(row):
                mend = "Is the file cut short?" if i + 1 == len(self.rows) else "Mend or remove that line"
                raise SourceError(f"has {len(row)} of {len(self.names)} cells", where=where, mend=mend)
            if not is_number(row[index]):
                raise SourceError(
                    f"{self.names[index]!r} is {row[index]!r}, no number",
                    where=where,
                    mend="Mend or remove that line",
                )
            values[i] = float(row[index])
        return values


def read_table(path: Path) -> Table:
    """Read a .csv.

    Raises
    ------
    ConfigError
        If it has no header, or writes numbers with decimal commas.
    SourceError
        If it cannot be read.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            first = stream.readline()
            separator = ";" if first.count(";") > first.count(",") else ","
            names = tuple(name.strip() for name in first.rstrip("\r\n").split(separator))
            reader = csv.reader(stream, delimiter=separator)
            read = [(tuple(row), reader.line_num + 1) for row in reader if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise SourceError(f"cannot be read: {error}", where=str(path)) from error
    if any(is_number(name) for name in names):
        raise ConfigError("has no header", where=str(path), mend="Name its columns in the first line")
    if read and separator == ";" and any(_DECIMAL_COMMA.match(cell) for cell in read[0][0]):
        raise ConfigError(
            "writes numbers with decimal commas", where=str(path), mend="Write them with a point: 0.25"
        )
    return Table(path, names, tuple(row for row, _ in read), tuple(line for _, line in read))


def is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
