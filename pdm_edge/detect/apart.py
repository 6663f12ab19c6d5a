"""Trains in a child process, so that the thread that runs the pipeline never waits for a network.

A child and not a thread: NumPy holds the interpreter for most of a training. It runs at lower
priority, and what it runs out of, memory or the runtime's patience, is not the monitor's.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from pdm_edge.detect.bundle import Bundle, load_bundle, write_bundle
from pdm_edge.detect.collect import learned_from
from pdm_edge.errors import ModelError
from pdm_edge.records import FeatureVector

NICENESS: Final = 5
"""How far the child stands back behind the monitor (POSIX only)."""


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
        self._folder = tempfile.TemporaryDirectory(prefix="pdm-edge-training-", ignore_cleanup_errors=True)
        self._bundle = Path(self._folder.name) / "bundle"
        self._told = Path(self._folder.name) / "told"
        order = Path(self._folder.name) / "order"
        # Pickle is safe here: this user's own child reads it, from a folder nobody else may write to.
        order.write_bytes(pickle.dumps((list(vectors), name, options)))
        command = [sys.executable, "-m", "pdm_edge.detect.apart", str(order), str(self._bundle)]
        quiet = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
        try:
            with self._told.open("wb") as told:
                self._child = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=told, stderr=told, env=quiet
                )
        except OSError as error:
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
        self._folder.cleanup()


def main(order: str, bundle: str) -> None:
    """The child: takes the order, writes the bundle; a failure is the last line on stderr."""
    if hasattr(os, "nice"):
        os.nice(NICENESS)
    vectors, name, options = pickle.loads(Path(order).read_bytes())
    try:
        model, manifest = learned_from(vectors, name=name, **options)
        write_bundle(Path(bundle), model, manifest)
    except ModelError as error:
        sys.exit(" ".join(str(error).split()))


if __name__ == "__main__":
    main(*sys.argv[1:])
