"""Advisory generation (ISO 13374 AG): the alarm life cycle, and what to check."""

from pdm_edge.advise.alarm import AlarmCycle, AlarmSettings
from pdm_edge.advise.memory import AlarmMemory, StandingAlarm, standing_alarms
from pdm_edge.advise.part import PartWatch
from pdm_edge.advise.text import advisory, finding

__all__ = [
    "AlarmCycle",
    "AlarmMemory",
    "AlarmSettings",
    "PartWatch",
    "StandingAlarm",
    "advisory",
    "finding",
    "standing_alarms",
]
