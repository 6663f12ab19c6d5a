"""A receiver behind an MQTT broker."""

from __future__ import annotations

import logging
import ssl
from typing import Any

from pdm_edge.errors import StoreError, SyncError
from pdm_edge.records import LANES
from pdm_edge.sync.payload import encode_receipt, encode_refusal
from pdm_edge.sync.receiver import Receiver
from pdm_edge.sync.secrets import Secret

logger = logging.getLogger(__name__)


def serve_mqtt(
    receiver: Receiver,
    host: str,
    port: int,
    *,
    username: Secret | None = None,
    password: Secret | None = None,
    context: ssl.SSLContext | None = None,
) -> Any:
    """Take batches from a broker, put receipts back; returns the running client.

    It reconnects by itself. End it with ``client.disconnect(); client.loop_stop()``.
    """
    import paho.mqtt.client as paho
    from paho.mqtt.enums import CallbackAPIVersion

    def take(client: paho.Client, _userdata: object, message: paho.MQTTMessage) -> None:
        try:
            # The broker's access list ties the topic to who writes it; the batch must say the same.
            receipt = receiver.accept(bytes(message.payload), sender=message.topic.split("/")[1])
        except SyncError as error:
            logger.error("%s: refused: %s", message.topic, error)
            refusal = encode_refusal(bytes(message.payload), str(error))
            client.publish(f"pdm/{message.topic.split('/')[1]}/receipt", refusal, qos=1)
            return
        except StoreError as error:
            # Without a receipt the gateway keeps the batch and sends it again.
            logger.error("%s: not stored: %s", message.topic, error)
            return
        client.publish(f"pdm/{receipt.gateway}/receipt", encode_receipt(receipt), qos=1)

    def subscribe(client: paho.Client, _u: object, _f: object, reason: Any, _p: object) -> None:
        if reason.is_failure:
            logger.error("%s:%d refuses the receiver: %s", host, port, reason)
            return
        client.subscribe([(f"pdm/+/{lane}", 1) for lane in LANES])

    client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
    client.reconnect_delay_set(min_delay=1, max_delay=10)
    if context is not None:
        client.tls_set_context(context)
    if username is not None:
        client.username_pw_set(username.reveal(), password.reveal() if password else None)
    client.on_connect = subscribe
    client.on_message = take
    client.connect(host, port)
    client.loop_start()
    return client


def ask_over_mqtt(client: Any, receiver: Receiver) -> None:
    """Tell gateways that are idle what is wanted of them; to be called now and then.

    Raises
    ------
    StoreError
        If the database cannot be read.
    """
    for receipt in receiver.asking():
        client.publish(f"pdm/{receipt.gateway}/receipt", encode_receipt(receipt), qos=1)
