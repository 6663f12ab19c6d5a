"""Empties the buffer when a link exists; a row leaves only on a receipt."""

from pdm_edge.sync.open import open_uploader
from pdm_edge.sync.worker import SyncStatus, SyncWorker, drain

__all__ = ["SyncStatus", "SyncWorker", "drain", "open_uploader"]
