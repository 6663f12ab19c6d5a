"""Check a device on a port against the wire protocol: ``python -m firmware_bridge.conform DEVICE``.

Every check says in one line what was tried, and if it fails, what is wrong and where to look in the
firmware. Ends with status 0 if all hold, 1 if one fails, 2 if the port cannot be opened.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import click

from firmware_bridge import command_checks, stream_checks
from firmware_bridge.device import ByteStream, DeviceError, SerialStream
from firmware_bridge.session import LISTEN_S, CheckError, Session

CHECKS: Final = (*stream_checks.CHECKS, *command_checks.CHECKS)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one check ended: ``passed``, ``failed``, or ``skipped`` since an earlier one failed."""

    check: str
    state: str
    text: str = ""


def conform(
    stream: ByteStream, told: Callable[[Outcome], None] = lambda _: None, *, listen_s: float = LISTEN_S
) -> list[Outcome]:
    """Run all checks on a device; `told` hears of each outcome as it comes.

    The stream is listened to for `listen_s`: the longer, the rarer are the faults that are found.

    Raises
    ------
    OSError
        If the line breaks.
    """
    session = Session(stream, listen_s)
    outcomes: list[Outcome] = []
    blocked = ""
    for check in CHECKS:
        name = " ".join(check.__name__.split("_"))
        if blocked:
            outcome = Outcome(name, "skipped", f"because it failed that {blocked}")
        else:
            try:
                check(session)
                outcome = Outcome(name, "passed")
            except (CheckError, DeviceError) as error:
                outcome = Outcome(name, "failed", str(error))
                if isinstance(error, CheckError) and error.ends:
                    blocked = name
        outcomes.append(outcome)
        told(outcome)
    return outcomes


_MARKS: Final = {"passed": "ok    ", "failed": "FAILED", "skipped": "-     "}


@click.command()
@click.argument("device")
@click.option("--baud", default=921600, show_default=True, help="Bits a second of the line.")
@click.option(
    "--listen", "listen_s", default=LISTEN_S, show_default=True, help="Seconds to watch the stream."
)
def main(device: str, baud: int, listen_s: float) -> None:
    """Check the DEVICE on a serial port against the wire protocol, version 1.

    It is told to stop, to start, to measure a burst and to test itself; its sample rate and range
    are set to what they are.
    """

    def tell(outcome: Outcome) -> None:
        click.echo(f"{_MARKS[outcome.state]}  {outcome.check}")
        if outcome.text:
            click.echo(f"        {outcome.text}")

    try:
        stream = SerialStream(device, baud)
        outcomes = conform(stream, tell, listen_s=listen_s)
        stream.close()
    except OSError as error:
        click.echo(f"{device}: {error}", err=True)
        sys.exit(2)
    failed = sum(outcome.state == "failed" for outcome in outcomes)
    passed = sum(outcome.state == "passed" for outcome in outcomes)
    click.echo(f"{passed} of {len(outcomes)} checks passed, {failed} failed")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
