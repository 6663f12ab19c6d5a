"""Whether damage to the write-ahead log has cost transactions that were committed.

Each frame of the log has a checksum that runs on from the one before, and SQLite takes the first that
does not fit for the end of the log, without an error (https://www.sqlite.org/fileformat.html#walformat).
After a crash that is right: what is behind is the one transaction that was being written. But each
commit is synced before the next begins; so if two of them are behind, it was damage.
"""

from __future__ import annotations

import itertools
import logging
import sqlite3
import struct
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

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
    try:
        with log.open("rb") as stream:
            return _lost_commits(path, stream)
    except FileNotFoundError:
        return 0
    except sqlite3.Error as error:
        logger.info("%s: its log was not checked: %s", path, error)
        return 0


def _lost_commits(path: Path, log: BinaryIO) -> int:
    header, frames = log.read(_HEADER_BYTES), list(_frames(log))
    salts = header[_SALTS]
    if not any(salts) or salts not in {frame.salts for frame in frames}:
        # The header is damaged, or new. What was written last stands first; one frame may be damaged, too.
        pairs = itertools.pairwise(frame.salts for frame in frames)
        salts = next((a for a, b in pairs if a == b and any(a)), salts)
    with closing(sqlite3.connect(path, timeout=5.0)) as connection:
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        busy, found, _ = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        log.seek(0)
        if busy or found < 0 or log.read(_HEADER_BYTES) != header:
            return 0  # somebody else has the file open, and works the log off or began it anew
        behind = [f for f in frames[found:] if f.salts == salts and f.pages_at_commit]
        if len(behind) < 2 or _are_in_file(path, log, [f for f in frames if f.salts == salts], behind[-1]):
            return 0
    logger.error("%s: %d committed transactions of its damaged log are lost", path, len(behind))
    return len(behind)


def _frames(log: BinaryIO) -> Iterator[_Frame]:
    at = _HEADER_BYTES
    log.seek(at)
    while len(head := log.read(_FRAME.size)) == _FRAME.size:
        yield _Frame._make((*_FRAME.unpack(head), at + _FRAME.size))
        at += _FRAME.size + PAGE_BYTES
        log.seek(at)


def _are_in_file(path: Path, log: BinaryIO, frames: Sequence[_Frame], last: _Frame) -> bool:
    """Whether their pages are in the file already, as those of a log that begins anew are."""
    newest = {frame.page: frame.at for frame in frames if frame.at <= last.at}
    with path.open("rb") as stream:
        for page, at in newest.items():
            stream.seek((page - 1) * PAGE_BYTES)
            log.seek(at)
            if page <= last.pages_at_commit and stream.read(PAGE_BYTES) != log.read(PAGE_BYTES):
                return False
    return True
