"""Checks of options that several commands share."""

from __future__ import annotations

import math

import click


def positive(_ctx: click.Context, _param: click.Parameter, value: float | None) -> float | None:
    """Refuse what is not above 0, infinite or "nan", which `click.FloatRange` lets pass."""
    if value is not None and not 0 < value < math.inf:
        raise click.BadParameter(f"{value!r} is no number above 0")
    return value
