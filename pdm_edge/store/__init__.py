"""The durable buffer: everything accepted is kept until the far end has it."""

from pdm_edge.store.buffer import Buffer
from pdm_edge.store.status import BufferStatus, LaneStatus, read_status

__all__ = ["Buffer", "BufferStatus", "LaneStatus", "read_status"]
