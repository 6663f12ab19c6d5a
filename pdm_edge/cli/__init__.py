"""The command line: results to stdout, talk to stderr.

Exit status 0: fine. 1: an alarm was found. 2: usage, configuration or device failure. 70: a fault of
the program itself, with its trace on stderr.
"""

from __future__ import annotations

import importlib
import logging
import os
import sys
from typing import Any

import click

from pdm_edge._version import __version__
from pdm_edge.errors import PdmError

__all__ = ["main"]

_SOFTWARE = 70  # EX_SOFTWARE of sysexits.h

_COMMANDS = {
    "analyze": "pdm_edge.cli.analyze",
    "bench": "pdm_edge.cli.bench",
    "demo": "pdm_edge.cli.demo",
    "learn": "pdm_edge.cli.learn",
    "models": "pdm_edge.cli.models",
    "note": "pdm_edge.cli.learn",
    "export": "pdm_edge.cli.export",
    "ports": "pdm_edge.cli.ports",
    "probe": "pdm_edge.cli.probe",
    "profiles": "pdm_edge.cli.profiles",
    "size": "pdm_edge.cli.size",
    "recalibrate": "pdm_edge.cli.learn",
    "receive": "pdm_edge.cli.receive",
    "replay": "pdm_edge.cli.replay",
    "run": "pdm_edge.cli.run",
    "status": "pdm_edge.cli.store",
    "sync": "pdm_edge.cli.store",
}
"""Where each command lives; a module is imported when its command is asked for."""


class _Commands(click.Group):
    """A group that imports its commands on demand, so that each starts as fast as it can."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        command = getattr(importlib.import_module(_COMMANDS[cmd_name]), cmd_name.replace("-", "_"))
        assert isinstance(command, click.Command)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            # Who reads the results has had enough. Click would end with 1, which says alarm.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(128 + 13)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="pdm-edge")
@click.option("-v", "--verbose", count=True, help="Tell more on stderr (twice: everything).")
def cli(verbose: int) -> None:
    """Predictive maintenance on the gateway: vibration and temperature in, alarms out."""
    level = (logging.WARNING, logging.INFO, logging.DEBUG)[min(verbose, 2)]
    logging.basicConfig(level=level, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)


def main() -> None:
    """Entry point of ``pdm-edge``: known failures are one line and exit status 2."""
    # Before NumPy is loaded: on matrices as small as ours a second thread costs more than it brings.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    try:
        cli.main(standalone_mode=False)
    except click.exceptions.Abort:
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except PdmError as error:
        click.echo(f"pdm-edge: {error}", err=True)
        sys.exit(2)
    except click.exceptions.Exit as request:
        sys.exit(request.exit_code)
    except Exception:
        # 1 would say that an alarm was found.
        logging.basicConfig(stream=sys.stderr)  # the fault may have come before the options were read
        logging.getLogger(__name__).exception("a fault of pdm-edge itself, please report it")
        sys.exit(_SOFTWARE)
