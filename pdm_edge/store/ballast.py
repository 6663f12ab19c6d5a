"""A file of no content that is given up when the disk is full.

On a full disk SQLite can not even delete: the write-ahead log would have to grow. The bytes of the
ballast let a buffer make room within itself, and let receipts through.
"""

from __future__ import annotations

import logging
import os
import shutil
import time
from pathlib import Path
from typing import Final

logger = logging.getLogger(__name__)

_AGAIN_AFTER_S: Final = 30.0


class Ballast:
    """The ballast of a buffer file, in a file beside it. A disk without room for it is no error."""

    def __init__(self, path: Path, size_bytes: int) -> None:
        self.path = path
        self._size_bytes = size_bytes
        self._tried_s = -_AGAIN_AFTER_S
        self.restore(at_once=True)

    def release(self) -> bool:
        """Give the bytes to whoever needs them; False if there are none."""
        if not self.path.exists():
            return False
        try:
            self.path.unlink()
        except OSError as error:  # a file system that is read-only now
            logger.error("%s: cannot be given up: %s", self.path, error)
            return False
        logger.warning("%s: the disk is full; the ballast was given up", self.path)
        self._tried_s = time.monotonic()
        return True

    def restore(self, *, at_once: bool = False) -> None:
        """Lay it down again, where the disk has room for twice as much."""
        if not at_once and time.monotonic() - self._tried_s < _AGAIN_AFTER_S:
            return
        self._tried_s = time.monotonic()
        try:
            if self.path.exists() and self.path.stat().st_size == self._size_bytes:
                return
            if self.free_bytes() < 2 * self._size_bytes:
                return
            with self.path.open("wb") as stream:
                if hasattr(os, "posix_fallocate"):
                    os.posix_fallocate(stream.fileno(), 0, self._size_bytes)
                else:
                    stream.write(bytes(self._size_bytes))
        except OSError as error:
            logger.warning("%s: no ballast: %s", self.path, error)

    def remove(self) -> None:
        """A buffer that is closed needs none."""
        try:
            self.path.unlink(missing_ok=True)
        except OSError as error:
            logger.warning("%s: stays: %s", self.path, error)

    def free_bytes(self) -> int:
        """What the disk has left."""
        return shutil.disk_usage(self.path.parent).free
