"""The other end: take batches over HTTP, keep each row once, answer with a receipt, show what comes.

    python examples/cloud_receiver.py --port 8080 --database fleet.db

Point a gateway to it with `[sync] url = "http://this-host:8080/"`. The rows of all gateways stand in the
table `received` of an SQLite file. The format of batches and receipts is docs/sync-format.md, so that
you can write your own; this one has no TLS and no users: put it behind a proxy that has.
"""

from __future__ import annotations

import argparse
import json
import signal
import threading
from types import FrameType

from pdm_edge.sync.payload import Received
from pdm_edge.sync.receive_http import HttpReceiver
from pdm_edge.sync.receiver import Receiver


def show(received: Received, new: int) -> None:
    """Print alarms as they come; count the rest."""
    for row in received.rows:
        if row.kind == "advisory" and new:
            body = json.loads(row.body)
            print(f"{received.gateway} {row.subject}: {body['state']}: {body['headline']}", flush=True)
    print(f"{received.gateway} {received.lane}: {len(received.rows)} rows, {new} new", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Receive batches of gateways.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8080, help="0 picks a free one")
    parser.add_argument("--database", default="fleet.db")
    options = parser.parse_args()
    stop = threading.Event()

    def ask_to_stop(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    signal.signal(signal.SIGINT, ask_to_stop)
    signal.signal(signal.SIGTERM, ask_to_stop)
    receiver = Receiver(options.database, on_batch=show)
    with HttpReceiver(receiver, host=options.host, port=options.port) as server:
        print(f"listening on http://{options.host}:{server.port}/", flush=True)
        stop.wait()
    print(f"{receiver.count()} rows in {options.database}")
    receiver.close()


if __name__ == "__main__":
    main()
