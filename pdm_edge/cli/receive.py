"""pdm-edge receive: the other end, for one plant or for a fleet."""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import click
from rich.console import Console
from rich.table import Table

from pdm_edge.cli.show import json_line, utc_text
from pdm_edge.errors import ConfigError, PdmError
from pdm_edge.records import LANES, Lane

if TYPE_CHECKING:
    from pdm_edge.sync.receiver import GatewayStatus, Receiver

logger = logging.getLogger(__name__)

_SHOW_EVERY_S = 10.0
_NUMBERS = ("rows", "behind", "missing", "refused")


@click.command()
@click.argument("target")
@click.option(
    "--from",
    "sources",
    multiple=True,
    metavar="URL",
    help="Where batches come from: http://host:port (listens there), mqtt(s)://broker, nats(+tls)://server[,server].",
)
@click.option(
    "--replicas", type=click.IntRange(1, 5), default=1, help="Copies of the NATS stream, if it is made."
)
@click.option("--token", metavar="REF", help="Bearer token to ask for: env:NAME or file:PATH.")
@click.option("--username", metavar="REF", help="For the broker: env:NAME or file:PATH.")
@click.option("--password", metavar="REF", help="For the broker: env:NAME or file:PATH.")
@click.option("--ca-file", type=click.Path(exists=True), help="Authority that signed the other end.")
@click.option("--cert-file", type=click.Path(exists=True), help="Own certificate; for https:// the server's.")
@click.option("--key-file", type=click.Path(exists=True), help="Key of the own certificate.")
@click.option("--status", "only_status", is_flag=True, help="Show the fleet as stored in TARGET, and end.")
@click.option(
    "--ask-waveforms", nargs=2, metavar="GATEWAY ALARM", help="Ask for the evidence of an alarm, and end."
)
@click.option(
    "--ask-rows",
    nargs=4,
    type=(str, click.Choice(LANES), click.IntRange(0), click.IntRange(1)),
    metavar="GATEWAY LANE AFTER THROUGH",
    help="Ask for rows again, by their numbers, and end.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the fleet as JSON lines.")
def receive(
    target: str,
    sources: tuple[str, ...],
    replicas: int,
    token: str | None,
    username: str | None,
    password: str | None,
    ca_file: str | None,
    cert_file: str | None,
    key_file: str | None,
    only_status: bool,
    ask_waveforms: tuple[str, str] | None,
    ask_rows: tuple[str, Lane, int, int] | None,
    as_json: bool,
) -> None:
    """Store what gateways send in TARGET (an SQLite file or a postgresql:// URL), each row once.

    A receipt is given when rows are durable. What is missing is asked for. Runs until Ctrl-C or
    SIGTERM; listens on http://127.0.0.1:8080 if no --from is given.
    """
    from pdm_edge.sync.receiver import Receiver

    if only_status and not target.startswith("postgres") and not Path(target).is_file():
        raise ConfigError("there is no such file", where=target)
    receiver = Receiver(target)
    with ExitStack() as stack:
        stack.callback(receiver.close)
        if ask_waveforms is not None:
            receiver.ask_for_waveforms(*ask_waveforms)
            click.echo(f"{ask_waveforms[0]} is asked with its next receipts")
            return
        if ask_rows is not None:
            receiver.ask_for_rows(*ask_rows)
            click.echo(f"{ask_rows[0]} is asked with its next receipts")
            return
        if only_status:
            _show(receiver.fleet(), as_json=as_json)
            return
        secrets = {"token": token, "username": username, "password": password}
        files = (ca_file, cert_file, key_file)
        ask: list[Callable[[], object]] = []
        for source in sources or ("http://127.0.0.1:8080",):
            end, ask_there = _serve(receiver, source, secrets, files, replicas)
            stack.callback(end)
            ask.append(ask_there)
            click.echo(f"receiving from {source} into {urlsplit(target).path or target}", err=True)
        _wait(receiver, ask, as_json=as_json)


def _serve(
    receiver: Receiver,
    source: str,
    secrets: dict[str, str | None],
    files: tuple[str | None, str | None, str | None],
    replicas: int,
) -> tuple[Callable[[], object], Callable[[], object]]:
    """Start to receive from a source; return what ends it, and what asks its idle gateways."""
    from pdm_edge.sync.open import SCHEMES, parts_of, tls_context
    from pdm_edge.sync.secrets import secret

    parts = parts_of(source, "--from")
    if parts.scheme not in SCHEMES:
        raise ConfigError(
            f"unknown source {source!r}", where="--from", mend=f"It starts with {', '.join(SCHEMES)}"
        )
    user, word = secret(secrets["username"], "--username"), secret(secrets["password"], "--password")
    if parts.scheme.startswith("http"):
        from pdm_edge.sync.open import server_context
        from pdm_edge.sync.receive_http import HttpReceiver

        context = server_context(*files) if parts.scheme == "https" else None
        server = HttpReceiver(
            receiver,
            host=parts.hostname or "127.0.0.1",
            port=parts.port or 8080,
            token=secret(secrets["token"], "--token"),
            context=context,
        )
        return server.close, lambda: None  # gateways come and ask
    context = tls_context(parts.scheme, *files)
    if parts.scheme.startswith("mqtt"):
        from pdm_edge.sync.receive_mqtt import ask_over_mqtt, serve_mqtt

        port = parts.port or (8883 if parts.scheme == "mqtts" else 1883)
        client = serve_mqtt(
            receiver, parts.hostname or "", port, username=user, password=word, context=context
        )

        def end() -> None:
            client.disconnect()
            client.loop_stop()

        return end, lambda: ask_over_mqtt(client, receiver)
    from pdm_edge.sync.nats import NatsReceiver

    consumer = NatsReceiver(
        receiver, source, replicas=replicas, username=user, password=word, context=context
    )
    return consumer.close, consumer.ask


def _wait(receiver: Receiver, ask: list[Callable[[], object]], *, as_json: bool) -> None:
    stop = threading.Event()

    def ask_to_stop(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    previous = {number: signal.signal(number, ask_to_stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        shown = -1
        while not stop.wait(_SHOW_EVERY_S):
            for ask_there in ask:
                try:
                    ask_there()
                except PdmError as error:
                    logger.warning("gateways could not be asked: %s", error)
            if receiver.bytes_received != shown:
                shown = receiver.bytes_received
                _show(receiver.fleet(), as_json=as_json)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    _show(receiver.fleet(), as_json=as_json)


def _show(fleet: list[GatewayStatus], *, as_json: bool) -> None:
    from dataclasses import asdict

    if as_json:
        for gateway in fleet:
            click.echo(json_line(asdict(gateway)))
        return
    table = Table(title=f"{len(fleet)} gateways", title_justify="left")
    for heading in ("gateway", "rows", "heard (UTC)", "behind", "missing", "refused"):
        table.add_column(heading, justify="right" if heading in _NUMBERS else "left")
    for gateway in fleet:
        behind_s = max(time.time() - gateway.newest_utc_ns / 1e9, 0.0)
        table.add_row(
            gateway.gateway,
            f"{gateway.rows:,}",
            utc_text(gateway.received_utc_ns),
            f"{behind_s:,.0f} s",
            str(gateway.missing),
            str(gateway.refused),
        )
    console = Console()
    console.print(table)
    for gateway in fleet:  # in full: an alarm is asked for by its id
        for machine, state in gateway.machines.items():
            alarm = gateway.alarms[machine]
            told = f"{gateway.gateway}: {machine}: {state}" + (f"; latest alarm {alarm}" if alarm else "")
            console.print(told, highlight=False, markup=False, soft_wrap=True)
