"""Trains in a child process, so that the thread that runs the pipeline never waits for a network.

A child and not a thread: NumPy holds the interpreter for most of a training. It runs at lower
priority, and what it runs out of, memory or the runtime's patience, is not the monitor's. It ends
with the monitor, however that ends: the system then closes the pipe between them.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from pdm_edge.detect.bundle import Bundle, load_bundle, write_bundle
from pdm_edge.detect.collect import learned_from
from pdm_edge.detect.journal import Journal, schema_of_journal
from pdm_edge.errors import ModelError
from pdm_edge.records import FeatureVector

NICENESS: Final = 5
"""How far the child stands back behind the monitor (POSIX only)."""

STALE_S: Final = 86400.0
"""Age from which a folder is left over whoever made it: no training takes a day."""

_PREFIX: Final = "pdm-edge-training-"


class TrainingApart:
    """One training that has been started; it ends by `result` or by `stop`.

    Parameters
    ----------
    vectors, name, options
        As for `learned_from`.

    Raises
    ------
    ModelError
        If no child process can be started.
    """

    def __init__(self, vectors: Sequence[FeatureVector], *, name: str, **options: Any) -> None:
        self.windows = len(vectors)
        remove_stale(Path(tempfile.gettempdir()))
        try:
            self._folder = tempfile.TemporaryDirectory(
                prefix=f"{_PREFIX}{os.getpid()}-", ignore_cleanup_errors=True
            )
        except OSError as error:
            raise ModelError(f"training could not be started: {error}", where=name) from error
        folder = Path(self._folder.name)
        self._bundle, self._told = folder / "bundle", folder / "told"
        command = [sys.executable, "-m", "pdm_edge.detect.apart", str(folder)]
        quiet = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
        try:
            Journal(folder / "windows", vectors[0].schema).write(vectors)
            (folder / "order").write_bytes(msgspec.json.encode({"name": name, **options}))
            with self._told.open("wb") as told:
                self._child = subprocess.Popen(
                    command, stdin=subprocess.PIPE, stdout=told, stderr=told, env=quiet
                )
        except (OSError, ModelError) as error:
            self._folder.cleanup()
            raise ModelError(f"training could not be started: {error}", where=name) from error

    @property
    def done(self) -> bool:
        """Whether it has come to an end, good or bad."""
        return self._child.poll() is not None

    def result(self) -> Bundle:
        """What was made; waits for the end of it.

        Raises
        ------
        ModelError
            If training failed, with what the child told.
        """
        code = self._child.wait()
        self._let_go()
        try:
            if code == 0:
                return load_bundle(self._bundle)
            lines = self._told.read_text(errors="replace").strip().splitlines()
            why = lines[-1] if lines else f"the training process ended with status {code} and told nothing"
            raise ModelError(why)
        finally:
            self._folder.cleanup()

    def stop(self) -> None:
        """Give it up."""
        if self._child.poll() is None:
            self._child.kill()
        self._child.wait()
        self._let_go()
        self._folder.cleanup()

    def _let_go(self) -> None:
        """Close this end of the pipe, which told the child that its parent lives."""
        if self._child.stdin is not None:
            self._child.stdin.close()


def remove_stale(folder: Path) -> None:
    """Remove what trainings left in `folder` whose monitor was killed together with them."""
    for left in folder.glob(f"{_PREFIX}*"):
        if left.is_symlink() or not left.is_dir():
            continue
        try:
            age_s = time.time() - left.stat().st_mtime
        except OSError:
            continue  # another monitor was quicker
        maker = re.fullmatch(rf"{_PREFIX}(\d+)-.*", left.name)
        if age_s > STALE_S or (maker is not None and not _runs(int(maker[1]))):
            shutil.rmtree(left, ignore_errors=True)


def _runs(pid: int) -> bool:
    """Whether a process is there; taken for granted where it cannot be asked for without harm."""
    if os.name != "posix":
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True  # another user's
    return True


def _end_with_parent(folder: Path) -> None:
    """Wait for the end of the pipe from the parent, then leave nothing behind.

    The bare descriptor is read: a thread that waits in a buffered reader would hold its lock when
    the interpreter ends, which Python takes for a fatal error.
    """
    while os.read(0, 1):
        pass
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(1)


def main(folder: Path) -> None:
    """The child: takes windows and order, writes the bundle; a failure is the last line on stderr."""
    threading.Thread(target=_end_with_parent, args=(folder,), daemon=True).start()
    if hasattr(os, "nice"):
        os.nice(NICENESS)
    windows = folder / "windows"
    vectors = Journal(windows, schema_of_journal(windows)).read()
    try:
        model, manifest = learned_from(vectors, **msgspec.json.decode((folder / "order").read_bytes()))
        write_bundle(folder / "bundle", model, manifest)
    except ModelError as error:
        sys.exit(" ".join(str(error).split()))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
