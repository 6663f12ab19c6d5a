"""Whether damage to the write-ahead log has cost transactions that were committed.

Each frame of the log has a checksum that runs on from the one before, and SQLite takes the first that
does not fit for the end of the log, without an error (https://www.sqlite.org/fileformat.html#walformat).
After a crash that is right: what is behind is the one transaction that was being written. But each
commit is synced before the next begins; so if two of them are behind, it was damage.
"""

from __future__ import annotations

import logging
import sqlite3
import struct
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Final, NamedTuple

from pdm_edge.store.known_schema import PAGE_BYTES

logger = logging.getLogger(__name__)

_HEADER_BYTES: Final = 32
_FRAME: Final = struct.Struct(">II8s8x")  # page, size of the file in pages if this ends a commit, salts, sum
_SALTS: Final = slice(16, 24)  # in the header of the log


class _Frame(NamedTuple):
    page: int
    pages_at_commit: int
    salts: bytes
    at: int
    """Where its page begins in the log."""


def lost_commits(path: Path) -> int:
    """How many committed transactions the log of a file has that SQLite does not find; 0 if it is whole.

    Lets SQLite take over into the file what it finds. Of a damaged file 0 is told: that is another matter.
    """
    log = path.with_name(path.name + "-wal")
    data = log.read_bytes() if log.exists() else b""
    frames = [
        _Frame._make((*_FRAME.unpack_from(data, at), at + _FRAME.size))
        for at in range(_HEADER_BYTES, len(data) - _FRAME.size - PAGE_BYTES + 1, _FRAME.size + PAGE_BYTES)
    ]
    if not frames:
        return 0
    counts = Counter(frame.salts for frame in frames)
    salts = data[_SALTS] if data[_SALTS] in counts else counts.most_common(1)[0][0]
    try:
        with closing(sqlite3.connect(path, timeout=5.0)) as connection:
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
            found = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()[1]
            with log.open("rb") as stream:
                if stream.read(_HEADER_BYTES) != data[:_HEADER_BYTES]:
                    return 0  # somebody else has the file open, and the log has begun anew
            behind = [f for f in frames[max(found, 0) :] if f.salts == salts and f.pages_at_commit]
            if len(behind) < 2 or _are_in_file(
                path, data, [f for f in frames if f.salts == salts], behind[-1]
            ):
                return 0
    except sqlite3.Error as error:
        logger.info("%s: its log was not checked: %s", path, error)
        return 0
    logger.error("%s: %d committed transactions of its damaged log are lost", path, len(behind))
    return len(behind)


def _are_in_file(path: Path, data: bytes, frames: Sequence[_Frame], last: _Frame) -> bool:
    """Whether their pages are in the file already, as those of a log that begins anew are."""
    newest = {frame.page: frame.at for frame in frames if frame.at <= last.at}
    with path.open("rb") as stream:
        for page, at in newest.items():
            stream.seek((page - 1) * PAGE_BYTES)
            if page <= last.pages_at_commit and stream.read(PAGE_BYTES) != data[at : at + PAGE_BYTES]:
                return False
    return True
