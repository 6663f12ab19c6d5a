"""The bundles of a machine in the folder of models: put on trial, rolled back, noted, kept.

`NAME` judges, `NAME.learning` holds the windows collected so far, `NAME.learning.SCHEMA` those of
other features, `NAME.candidate` is on trial, `NAME.previous` is the last good one, `NAME.notes` what
people wrote, one JSON object a line.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from pathlib import Path

import msgspec

from pdm_edge.detect.bundle import MANIFEST_NAME, Bundle, load_bundle, write_bundle
from pdm_edge.detect.guard import try_model
from pdm_edge.errors import ModelError


def put_on_trial(folder: Path, machine: str, bundle: Bundle) -> Path:
    """Lay a bundle beside the one that judges; a running monitor takes it up within seconds.

    Raises
    ------
    ModelError
        If the machine has no model to compare with, or it takes other features.
    """
    current = load_bundle(folder / machine)
    if current.manifest.schema_id != bundle.manifest.schema_id:
        raise ModelError("the two models take different features", where=str(bundle.path))
    path = beside(folder / machine, "candidate")
    write_bundle(path, bundle.model, bundle.manifest)
    return path


def roll_back(folder: Path, machine: str) -> None:
    """Bring the last good bundle back.

    Raises
    ------
    ModelError
        If there is none.
    """
    previous = beside(folder / machine, "previous")
    if not previous.exists():
        raise ModelError(
            "there is no previous model to go back to",
            where=str(folder / machine),
            mend="One is kept when a model is replaced, recalibrated or reopened by a note",
        )
    load_bundle(previous)
    bring(folder / machine, previous)


def add_note(folder: Path, machine: str, text: str, *, reopen: bool) -> None:
    """Write down what was done to a machine. A repair makes its baseline a thing of the past: with
    `reopen` it learns anew, also if it was learning, and the old model is kept as the previous one.

    Raises
    ------
    ModelError
        If it cannot be written.
    """
    line = msgspec.json.encode({"utc_ns": time.time_ns(), "note": text, "baseline_reopened": reopen})
    notes, learning = beside(folder / machine, "notes"), beside(folder / machine, "learning")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with notes.open("ab") as stream:
            stream.write(line + b"\n")
            stream.flush()
            os.fsync(stream.fileno())
        if reopen:
            keep_previous(folder / machine)
            shutil.rmtree(folder / machine, ignore_errors=True)
            for windows in (learning, *folder.glob(f"{learning.name}.*")):  # those of other schemas, too
                windows.unlink(missing_ok=True)
    except OSError as error:
        raise ModelError(f"cannot be written: {error}", where=str(notes)) from error


def reopened_ns(path: Path) -> int:
    """When a note last reopened the baseline of the machine whose bundle is `path`, 0 if none did."""
    try:
        lines = beside(path, "notes").read_bytes().splitlines()
    except OSError:
        return 0
    for line in reversed(lines):
        with contextlib.suppress(msgspec.DecodeError):  # a torn line is no note
            note = msgspec.json.decode(line, type=_Note)
            if note.baseline_reopened:
                return note.utc_ns
    return 0


class _Note(msgspec.Struct):
    utc_ns: int
    baseline_reopened: bool


def keep_previous(path: Path) -> None:
    """Keep the bundle at `path`, if it is a sound one, as the last good one."""
    if not path.exists():
        return
    try:
        bundle = load_bundle(path)
    except ModelError:
        return  # what is damaged is no model to go back to
    write_bundle(beside(path, "previous"), bundle.model, bundle.manifest)


def bring(path: Path, by: Path) -> None:
    """Put the bundle at `by` in the place of the one at `path`."""
    bundle = load_bundle(by)
    write_bundle(path, bundle.model, bundle.manifest)
    shutil.rmtree(by, ignore_errors=True)


def tried(bundle: Bundle) -> Bundle:
    """The bundle, once its model has run in a child process."""
    try_model(bundle.model)
    return bundle


def beside(path: Path, what: str) -> Path:
    """`NAME.what` beside `NAME`."""
    return path.with_name(f"{path.name}.{what}")


def changed_ns(path: Path) -> int:
    """When the bundle was last written, 0 if there is none."""
    try:
        return (path / MANIFEST_NAME).stat().st_mtime_ns
    except OSError:
        return 0
