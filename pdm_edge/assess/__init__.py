"""Health assessment (ISO 13374 HA): what is wrong with which part, from evidence."""

from pdm_edge.assess.evidence import assess, standing

__all__ = ["assess", "standing"]
