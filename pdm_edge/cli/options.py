"""Options and arguments that several commands share."""

from __future__ import annotations

import math
from pathlib import Path

import click


def positive(_ctx: click.Context, _param: click.Parameter, value: float | None) -> float | None:
    """Refuse what is not above 0, infinite or "nan", which `click.FloatRange` lets pass."""
    if value is not None and not 0 < value < math.inf:
        raise click.BadParameter(f"{value!r} is no number above 0")
    return value


def database(_ctx: click.Context, _param: click.Parameter, value: Path) -> Path:
    """The buffer file itself, or that of a configuration."""
    if value.suffix.lower() != ".toml":
        return value
    from pdm_edge.config_file import load_config

    config = load_config(value)
    return config.path(config.store.path)
