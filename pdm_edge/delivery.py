"""What goes between a buffer and a far end: rows in batches one way, receipts and wants the other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pdm_edge.errors import RecordError
from pdm_edge.records import FeatureSchema, Lane, Stamp


@dataclass(frozen=True, slots=True)
class Row:
    """A stored record. Its identity everywhere is ``(gateway, stamp.boot_id, seq)``.

    ``context`` is JSON of what many rows share: state, quality, window, sample rate. ``body`` is
    packed float32 (little endian) for ``features``, a u64 number of the first sample and the packed
    samples for ``waveform`` (``packing`` in the context says how), else JSON.
    """

    seq: int
    lane: Lane
    kind: str
    subject: str  # machine, sensor or origin it is about
    stamp: Stamp
    body: bytes
    schema_id: str = ""
    context: str = "{}"


@dataclass(frozen=True, slots=True)
class Batch:
    """Consecutive rows of one lane, oldest first; ``after_seq`` is the row sent before them.

    A batch that answers a `Want` names it; it may be empty, which says that there is nothing more. A
    ``poll`` is empty, too: it gives the far end the occasion to ask for something.
    """

    gateway: str
    lane: Lane
    after_seq: int
    rows: tuple[Row, ...]
    schemas: Mapping[str, FeatureSchema] = field(default_factory=dict)
    want: str = ""
    want_done: bool = False
    end_seq: int = 0
    poll: bool = False

    def __post_init__(self) -> None:
        if not self.rows and not self.want and not self.poll:
            raise RecordError("a batch has no rows")

    @property
    def through_seq(self) -> int:
        """Of the lane (or of what was asked for), nothing before or at this number is left out."""
        if self.poll:
            return self.after_seq
        return max(self.end_seq, self.rows[-1].seq if self.rows else 0)


@dataclass(frozen=True, slots=True)
class Want:
    """What a far end asks a gateway for: rows of a lane that it lacks, or an alarm's waveforms.

    Rows are those after ``after_seq`` up to ``through_seq``; with ``alarm`` (an `Advisory.id`) they
    are the waveforms kept for it. ``id`` is the far end's own.
    """

    id: str
    lane: Lane
    after_seq: int = 0
    through_seq: int = 0
    alarm: str = ""


@dataclass(frozen=True, slots=True)
class Receipt:
    """The far end has this lane's rows durably, up to and including ``through_seq``.

    ``want`` repeats that of the batch; ``wants`` is what the far end asks for. A receipt through 0
    confirms nothing, and only asks.
    """

    gateway: str
    lane: Lane
    through_seq: int
    want: str = ""
    wants: tuple[Want, ...] = ()
