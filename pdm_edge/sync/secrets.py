"""Secrets by reference: they are in no configuration file, no URL, no log and no repr."""

from __future__ import annotations

import os
from pathlib import Path

from pdm_edge.errors import ConfigError


class Secret:
    """A secret that is fetched when it is used and shows only where it comes from.

    Raises
    ------
    ConfigError
        If `reference` is neither ``env:NAME`` nor ``file:PATH``.
    """

    def __init__(self, reference: str, where: str) -> None:
        kind, separator, name = reference.partition(":")
        if kind not in ("env", "file") or not separator or not name:
            raise ConfigError(
                "a secret stands in plain text",
                where=where,
                mend="Write env:NAME or file:PATH, and put the secret there",
            )
        self._kind, self._name, self._where = kind, name, where

    def reveal(self) -> str:
        """The secret itself.

        Raises
        ------
        ConfigError
            If the variable is not set, or the file cannot be read.
        """
        if self._kind == "env":
            value = os.environ.get(self._name)
            if value is None:
                raise ConfigError(f"environment variable {self._name} is not set", where=self._where)
            return value
        try:
            return Path(self._name).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"secret cannot be read: {error}", where=self._where) from error

    def __repr__(self) -> str:
        return f"Secret({self._kind}:{self._name})"


def secret(reference: str | None, where: str) -> Secret | None:
    """A secret, None if there is no reference."""
    return None if reference is None else Secret(reference, where)
