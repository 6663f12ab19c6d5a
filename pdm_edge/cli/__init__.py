"""The command line: results to stdout, talk to stderr.

Exit status 0: fine. 1: an alarm was found. 2: usage, configuration or device failure.
"""

from __future__ import annotations

import logging
import sys

import click

from pdm_edge._version import __version__
from pdm_edge.cli.demo import demo
from pdm_edge.cli.ports import ports
from pdm_edge.cli.replay import replay
from pdm_edge.cli.run import run
from pdm_edge.cli.store import status, sync
from pdm_edge.errors import PdmError

__all__ = ["main"]


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="pdm-edge")
@click.option("-v", "--verbose", count=True, help="Tell more on stderr (twice: everything).")
def cli(verbose: int) -> None:
    """Predictive maintenance on the gateway: vibration and temperature in, alarms out."""
    level = (logging.WARNING, logging.INFO, logging.DEBUG)[min(verbose, 2)]
    logging.basicConfig(level=level, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)


for command in (demo, run, replay, status, ports, sync):
    cli.add_command(command)


def main() -> None:
    """Entry point of ``pdm-edge``: known failures are one line and exit status 2."""
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
