"""The one error tree.

::

    PdmError
    ├── RecordError (ValueError)      no sample rate, unit, sensor or time
    ├── ConfigError (ValueError)      unknown key, wrong type, missing unit
    ├── SourceError                   a device or a file cannot be read at all
    │   └── SourceTimeoutError (TimeoutError)
    ├── ModelError                    a bundle that is damaged, foreign, or does not fit the features
    ├── StoreError                    the buffer file is foreign, newer, or cannot be written
    │   └── StoreFullError
    └── SyncError                     an upload failed; nothing was removed from the buffer
        └── SyncRefusedError          the far end answered, and said no: a retry alone will not help

Faults on a live line (bad bytes, bad registers, a cable pulled) are not errors: sources count
them and go on. Wrong arguments to pure functions are plain ``ValueError``.

Each message says what happened, where, and how to mend it; the parts are attributes, so that
a program need not read the text.
"""

from __future__ import annotations


class PdmError(Exception):
    """Root of all errors that pdm_edge raises on purpose.

    Parameters
    ----------
    what
        What went wrong, with the offending value.
    where
        File, port, key or URL it concerns; empty if there is none.
    mend
        What to do about it; empty if nothing can be advised.
    """

    def __init__(self, what: str, *, where: str = "", mend: str = "") -> None:
        self.what = what
        self.where = where
        self.mend = mend
        text = f"{where}: {what}" if where else what
        super().__init__(f"{text}. {mend}" if mend else text)


class RecordError(PdmError, ValueError):
    """A record that would be meaningless later was refused at construction."""


class ConfigError(PdmError, ValueError):
    """The configuration cannot be used; `where` is the file and the path of the key."""


class SourceError(PdmError):
    """A device or a recording cannot be read at all."""


class SourceTimeoutError(SourceError, TimeoutError):
    """Nothing came from a device within the time allowed."""


class ModelError(PdmError):
    """A model bundle is damaged, foreign, or does not fit the features it is given."""


class StoreError(PdmError):
    """The buffer file is foreign, made by a newer version, or cannot be written."""


class StoreFullError(StoreError):
    """The byte cap or the disk is full and nothing more may be evicted for this record."""


class SyncError(PdmError):
    """An upload failed; the rows stay in the buffer."""


class BatchRefusedError(SyncError):
    """The far end took the sender for good, and refuses the batch for what it holds, or for its size."""


class SyncRefusedError(SyncError):
    """The far end answered and refused (wrong credentials, forbidden topic, bad request)."""
