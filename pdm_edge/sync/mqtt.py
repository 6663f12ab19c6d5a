"""Upload over MQTT 5. A broker's PUBACK is no receipt: it says that the broker took the message,
and brokers lose messages when they die. The receipt comes from the receiver, on a topic of its own.

Topics: batches go to ``pdm/<gateway>/<lane>``, receipts come on ``pdm/<gateway>/receipt``.
"""

from __future__ import annotations

import logging
import queue
import ssl
import time
import zlib
from typing import TYPE_CHECKING, Any, Final, Literal
from urllib.parse import urlsplit

from pdm_edge.delivery import Batch, Receipt
from pdm_edge.errors import BatchRefusedError, SyncError, SyncRefusedError
from pdm_edge.sync.payload import Encoding, decode_receipt, decode_refusal, encode_batch
from pdm_edge.sync.secrets import Secret

if TYPE_CHECKING:
    import paho.mqtt.client as paho

logger = logging.getLogger(__name__)

_KEEPALIVE_S: Final = 15
_FAILURE: Final = 0x80
"""MQTT 5 reason codes from here on are failures (MQTT 5.0, 2.4)."""
_REFUSES_CONTENT: Final = frozenset({0x95, 0x99})
"""Packet too large, payload format invalid."""


class MqttUploader:
    """Publishes one batch at a time with QoS 1 and waits for its receipt.

    Parameters
    ----------
    url
        ``mqtt://host:1883`` or ``mqtts://host:8883``.
    gateway
        Names client and topics.
    receipt
        ``end_to_end`` waits for the receiver. ``puback`` trusts the broker: what it loses is lost.

    Raises
    ------
    SyncError
        If the MQTT client is not installed.
    """

    def __init__(
        self,
        url: str,
        *,
        gateway: str,
        receipt: Literal["end_to_end", "puback"] = "end_to_end",
        username: Secret | None = None,
        password: Secret | None = None,
        context: ssl.SSLContext | None = None,
        encoding: Encoding = "json",
    ) -> None:
        self._encoding: Encoding = encoding
        parts = urlsplit(url)
        self._host = parts.hostname or ""
        self._port = parts.port or (8883 if parts.scheme == "mqtts" else 1883)
        self._where = f"{parts.scheme}://{self._host}:{self._port}"
        self._gateway = gateway
        self._end_to_end = receipt == "end_to_end"
        self._events: queue.Queue[tuple[str, Any]] = queue.Queue()
        self._tls = (context or ssl.create_default_context()) if parts.scheme == "mqtts" else None
        self._credentials = (username, password)
        # One client for each connection: a client that is started again leaks its wake-up sockets.
        self._client: paho.Client | None = None
        self._make_client()  # says now whether it is installed
        self.bytes_sent = 0

    def send(self, batch: Batch, timeout_s: float) -> Receipt:
        """Publish a batch; see `pdm_edge.ports.Uploader`."""
        deadline_s = time.monotonic() + timeout_s
        client = self._connected(deadline_s)
        content = encode_batch(batch, time.time_ns(), encoding=self._encoding)
        info = client.publish(f"pdm/{self._gateway}/{batch.lane}", content, qos=1)
        if info.rc != 0:
            self._disconnect()
            raise SyncError(f"not published: code {info.rc}", where=self._where)
        self.bytes_sent += len(content)
        while True:
            event, value = self._next_event(deadline_s, f"batch through {batch.through_seq} in {batch.lane}")
            if event == "published" and value[0] == info.mid:
                self._refuse_failure(value[1], f"publishing to pdm/{self._gateway}/{batch.lane}")
                if not self._end_to_end:
                    return Receipt(batch.gateway, batch.lane, batch.through_seq)
            elif event == "receipt" and _is_for(value, batch):
                return Receipt(value.gateway, value.lane, value.through_seq, value.want, value.wants)
            elif event == "refused" and value[0] == zlib.crc32(content):
                raise BatchRefusedError(f"the receiver refuses the batch: {value[1]}", where=self._where)
            elif event == "disconnected":
                self._disconnect()
                if value.value in _REFUSES_CONTENT:
                    raise BatchRefusedError(f"the broker refuses the batch: {value}", where=self._where)
                raise SyncError(f"the broker hung up: {value}", where=self._where)

    def heard(self) -> list[Receipt]:
        """Receipts that came unasked and carry wants; to be asked for while nothing is sent."""
        found = []
        while not self._events.empty():
            event, value = self._events.get_nowait()
            if event == "receipt" and value.wants:
                found.append(value)
        return found

    def close(self) -> None:
        self._disconnect()

    def _connected(self, deadline_s: float) -> paho.Client:
        if self._client is not None and self._client.is_connected():
            return self._client
        self._disconnect()
        client = self._make_client()
        try:
            client.connect(self._host, self._port, keepalive=_KEEPALIVE_S)
        except (OSError, ValueError) as error:
            raise SyncError(f"no connection: {error}", where=self._where, mend="It is tried again") from error
        client.loop_start()
        self._client = client
        self._await("connected", deadline_s, "connecting")
        if self._end_to_end:
            client.subscribe(f"pdm/{self._gateway}/receipt", qos=1)
            self._await("subscribed", deadline_s, f"subscribing to pdm/{self._gateway}/receipt")
        return client

    def _await(self, wanted: str, deadline_s: float, doing: str) -> None:
        while True:
            event, value = self._next_event(deadline_s, doing)
            if event == wanted:
                self._refuse_failure(value, doing)
                return

    def _next_event(self, deadline_s: float, doing: str) -> tuple[str, Any]:
        try:
            return self._events.get(timeout=max(deadline_s - time.monotonic(), 0.0))
        except queue.Empty:
            # Not to be left in the client's memory: the next attempt starts afresh.
            self._disconnect()
            raise SyncError(
                f"no receipt in time for {doing}", where=self._where, mend="Is a receiver running behind it?"
            ) from None

    def _refuse_failure(self, reason: Any, doing: str) -> None:
        if reason.value >= _FAILURE:
            self._disconnect()
            if reason.value in _REFUSES_CONTENT:
                raise BatchRefusedError(f"the broker refuses {doing}: {reason}", where=self._where)
            raise SyncRefusedError(
                f"the broker refuses {doing}: {reason}", where=self._where, mend="Check its access list"
            )

    def _disconnect(self) -> None:
        if self._client is not None:
            self._client.disconnect()
            self._client.loop_stop()
            self._client = None
        self._events = queue.Queue()

    def _make_client(self) -> paho.Client:
        try:
            import paho.mqtt.client as paho
            from paho.mqtt.enums import CallbackAPIVersion
        except ImportError as error:
            raise SyncError(
                "the MQTT client is not installed", where=self._where, mend="pip install 'pdm-edge[mqtt]'"
            ) from error
        client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=f"pdm-{self._gateway}",
            protocol=paho.MQTTv5,
            reconnect_on_failure=False,
        )
        client.max_queued_messages_set(1)
        if self._tls is not None:
            client.tls_set_context(self._tls)
        username, password = self._credentials
        if username is not None:
            client.username_pw_set(username.reveal(), password.reveal() if password else None)
        client.on_connect = lambda _c, _u, _f, reason, _p: self._events.put(("connected", reason))
        client.on_subscribe = lambda _c, _u, _m, reasons, _p: self._events.put(("subscribed", reasons[0]))
        client.on_publish = lambda _c, _u, mid, reason, _p: self._events.put(("published", (mid, reason)))
        client.on_disconnect = lambda _c, _u, _f, reason, _p: self._events.put(("disconnected", reason))
        client.on_message = lambda _c, _u, message: self._take_receipt(bytes(message.payload))
        return client

    def _take_receipt(self, content: bytes) -> None:
        try:
            refusal = decode_refusal(content)
            if refusal is None:
                self._events.put(("receipt", decode_receipt(content)))
            else:
                self._events.put(("refused", refusal))
        except SyncError as error:
            logger.warning("%s: %s", self._where, error)


def _is_for(receipt: Receipt, batch: Batch) -> bool:
    """Whether it covers a part of the batch; others are late, or repeated."""
    if (receipt.lane, receipt.want) != (batch.lane, batch.want):
        return False
    first = batch.rows[0].seq if batch.rows else batch.through_seq
    return first <= receipt.through_seq <= batch.through_seq
