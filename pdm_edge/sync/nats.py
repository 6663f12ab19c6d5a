"""Upload into a NATS JetStream stream, and a receiver behind one.

The stream's acknowledgement is the receipt, so the stream must not lose what it acknowledges: three
replicas, file storage, and ``sync_interval: always`` on the servers (their default syncs every two
minutes and acknowledges at once). Subjects: `docs/sync-format.md`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
import threading
import time
from collections.abc import Coroutine
from concurrent.futures import TimeoutError as FutureTimeoutError
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final, TypeVar

from pdm_edge.delivery import Batch, Receipt, Want
from pdm_edge.errors import BatchRefusedError, PdmError, StoreError, SyncError, SyncRefusedError
from pdm_edge.sync.payload import Encoding, decode_receipt, encode_batch, encode_receipt
from pdm_edge.sync.secrets import Secret

if TYPE_CHECKING:
    from nats.aio.client import Client
    from nats.aio.msg import Msg
    from nats.js import JetStreamContext

    from pdm_edge.sync.receiver import Receiver

logger = logging.getLogger(__name__)

STREAM: Final = "PDM"
DURABLE: Final = "pdm-receiver"
_FETCH: Final = 20
_ASKED_WITHIN_S: Final = 2.0
_T = TypeVar("_T")


class _Link:
    """A NATS connection in a thread of its own; it reconnects to any of its servers by itself."""

    def __init__(
        self, url: str, *, username: Secret | None, password: Secret | None, context: ssl.SSLContext | None
    ) -> None:
        if find_spec("nats") is None:
            raise SyncError("the NATS client is not installed", mend="pip install 'pdm-edge[nats]'")
        scheme, _, rest = url.partition("://")
        self.where = url
        prefix = "tls" if scheme == "nats+tls" else "nats"
        self._servers = [f"{prefix}://{server.strip('/')}" for server in rest.split(",")]
        self._options: dict[str, Any] = {} if context is None else {"tls": context}
        self._credentials = (username, password)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self.client: Client | None = None

    def run(self, work: Coroutine[Any, Any, _T], timeout_s: float) -> _T:
        """Do work in the connection's thread and wait for it.

        Raises
        ------
        SyncError
            If it is not done in time.
        """
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(target=self._loop.run_forever, name="nats", daemon=True)
            self._thread.start()
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result(timeout_s)
        except (FutureTimeoutError, asyncio.TimeoutError) as error:
            future.cancel()
            raise SyncError(f"no answer within {timeout_s:g} s", where=self.where) from error

    async def connected(self, timeout_s: float) -> Client:
        import nats

        if self.client is not None and not self.client.is_closed:
            return self.client
        username, password = self._credentials
        if username is not None:
            self._options["user"] = username.reveal()
            self._options["password"] = password.reveal() if password else ""
        self.client = await nats.connect(
            servers=self._servers,
            name="pdm-edge",
            connect_timeout=max(min(timeout_s / len(self._servers), 5.0), 0.1),
            reconnect_time_wait=0.25,
            max_reconnect_attempts=-1,
            allow_reconnect=self.client is not None,
            error_cb=self._note,
            **self._options,
        )
        self.client.options["allow_reconnect"] = True
        return self.client

    async def _end(self) -> None:
        """Close the connection and whatever still waits for it."""
        if self.client is not None and not self.client.is_closed:
            await self.client.close()
        waiting = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)

    async def _note(self, error: Exception) -> None:
        logger.debug("%s: %r", self.where, error)

    def close(self) -> None:
        if self._loop is None or self._thread is None:
            return
        try:
            self.run(self._end(), 5.0)
        except SyncError as error:
            logger.warning("%s: not closed cleanly: %s", self.where, error)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5.0)
        self._loop.close()
        self._loop = None
        self.client = None


class NatsUploader:
    """Publishes batches into a JetStream stream and takes its acknowledgement as the receipt.

    Parameters
    ----------
    url
        ``nats://host:4222`` or ``nats+tls://...``; several servers of a cluster with commas between.

    Raises
    ------
    SyncError
        If the NATS client is not installed.
    """

    def __init__(
        self,
        url: str,
        *,
        gateway: str,
        username: Secret | None = None,
        password: Secret | None = None,
        context: ssl.SSLContext | None = None,
        encoding: Encoding = "json",
    ) -> None:
        self._link = _Link(url, username=username, password=password, context=context)
        self._gateway = gateway
        self._encoding: Encoding = encoding
        self._subscribed_to: Client | None = None
        self._wants: dict[str, Want] = {}
        self._asked = asyncio.Event()
        self.bytes_sent = 0

    def send(self, batch: Batch, timeout_s: float) -> Receipt:
        """Publish a batch; see `pdm_edge.ports.Uploader`."""
        from nats import errors
        from nats.js.errors import Error as JetStreamError
        from nats.js.errors import NoStreamResponseError

        content = encode_batch(batch, time.time_ns(), encoding=self._encoding)
        where = self._link.where
        try:
            self._link.run(self._publish(batch, content, timeout_s), timeout_s + 1.0)
        except NoStreamResponseError as error:
            raise SyncRefusedError(
                f"no stream takes pdm.batch.{batch.lane}.{self._gateway}",
                where=where,
                mend="Start the receiver, which makes it, or add a stream for pdm.batch.>",
            ) from error
        except errors.MaxPayloadError as error:
            raise BatchRefusedError(f"refused: {error}", where=where) from error
        except errors.AuthorizationError as error:
            raise SyncRefusedError(f"refused: {error}", where=where, mend="Check the credentials") from error
        except (errors.Error, JetStreamError, OSError, asyncio.TimeoutError) as error:
            text = str(error) or type(error).__name__
            raise SyncError(f"not delivered: {text}", where=where, mend="It is tried again") from error
        wants = tuple(self._wants.values())
        self._wants.clear()
        return Receipt(batch.gateway, batch.lane, batch.through_seq, batch.want, wants)

    def heard(self) -> list[Receipt]:
        """What was asked for since the last batch; to be asked for while nothing is sent."""
        wants = tuple(self._wants.values())
        self._wants.clear()
        return [Receipt(self._gateway, "alarm", 0, wants=wants)] if wants else []

    def close(self) -> None:
        self._link.close()

    async def _publish(self, batch: Batch, content: bytes, timeout_s: float) -> None:
        client = await self._link.connected(timeout_s)
        if self._subscribed_to is not client:
            await client.subscribe(f"pdm.receipt.{self._gateway}", cb=self._take_wants)
            self._subscribed_to = client
        # Polls are all alike, and the stream would take the second for a repeated first.
        boot_id = batch.rows[0].stamp.boot_id if batch.rows else str(time.time_ns())
        name = f"{batch.gateway}:{boot_id}:{batch.lane}:{batch.after_seq}:{batch.through_seq}"
        self.bytes_sent += len(content)
        self._asked.clear()
        await client.jetstream().publish(
            f"pdm.batch.{batch.lane}.{self._gateway}",
            content,
            timeout=timeout_s,
            headers={"Nats-Msg-Id": f"{name}:{batch.want}" if batch.want else name},
        )
        if batch.poll:  # the receiver is heard of a little later than the stream, if it wants something
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._asked.wait(), min(_ASKED_WITHIN_S, timeout_s / 2))

    async def _take_wants(self, message: Msg) -> None:
        try:
            self._wants.update({want.id: want for want in decode_receipt(message.data).wants})
        except SyncError as error:
            logger.warning("%s: %s", self._link.where, error)
        self._asked.set()


class NatsReceiver:
    """Feeds a Receiver from the stream; a batch is acknowledged after it is committed.

    Parameters
    ----------
    receiver
        Where batches go.
    url
        As for `NatsUploader`.
    replicas
        Copies of the stream, if it has to be made: 3 in a cluster of three.

    Raises
    ------
    SyncError
        If the servers cannot be reached within `timeout_s`.
    """

    def __init__(
        self,
        receiver: Receiver,
        url: str,
        *,
        replicas: int = 1,
        username: Secret | None = None,
        password: Secret | None = None,
        context: ssl.SSLContext | None = None,
        timeout_s: float = 20.0,
    ) -> None:
        self._receiver = receiver
        self._link = _Link(url, username=username, password=password, context=context)
        self._stopping = asyncio.Event()
        try:
            self._link.run(self._prepare(replicas, timeout_s), timeout_s + 1.0)
        except PdmError:
            self._link.close()
            raise
        except Exception as error:
            self._link.close()
            text = str(error) or type(error).__name__
            raise SyncError(f"no stream: {text}", where=url, mend="Is JetStream enabled there?") from error
        self._done = asyncio.run_coroutine_threadsafe(self._take(), self._loop)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._stopping.set)
        try:
            self._done.result(10.0)
        except (FutureTimeoutError, asyncio.TimeoutError):
            logger.warning("%s: the receiver did not end in time", self._link.where)
        self._link.close()

    @property
    def _loop(self) -> asyncio.AbstractEventLoop:
        assert self._link._loop is not None
        return self._link._loop

    async def _prepare(self, replicas: int, timeout_s: float) -> None:
        from nats.js.api import RetentionPolicy, StorageType, StreamConfig
        from nats.js.errors import NotFoundError

        self._jetstream: JetStreamContext = (await self._link.connected(timeout_s)).jetstream()
        try:
            await self._jetstream.stream_info(STREAM)
        except NotFoundError:
            await self._jetstream.add_stream(
                StreamConfig(
                    name=STREAM,
                    subjects=["pdm.batch.>"],
                    storage=StorageType.FILE,
                    retention=RetentionPolicy.WORK_QUEUE,
                    num_replicas=replicas,
                )
            )
        self._subscription = await self._jetstream.pull_subscribe("pdm.batch.>", DURABLE, stream=STREAM)

    async def _take(self) -> None:
        while not self._stopping.is_set():
            try:
                messages = await self._subscription.fetch(_FETCH, timeout=1.0)
            except (asyncio.TimeoutError, TimeoutError):
                continue  # nothing came
            except Exception as error:  # noqa: BLE001 - a cluster without a leader answers in many ways
                logger.warning("%s: %r", self._link.where, error)
                await asyncio.sleep(0.5)
                continue
            for message in messages:
                await self._take_one(message)

    async def _take_one(self, message: Msg) -> None:
        try:
            sender = message.subject.split(".", 3)[3]
            receipt = await asyncio.to_thread(self._receiver.accept, message.data, sender=sender)
        except SyncError as error:
            # The gateway has its receipt from the stream already, so here is where the batch has to stay.
            logger.error("%s: refused: %s", message.subject, error)
            named = (message.headers or {}).get("Nats-Msg-Id", "").split(":", 5)
            want = named[5] if len(named) > 5 else ""
            await self._put_aside(message, str(error), want)
        except StoreError as error:
            logger.error("%s: not stored, it comes again: %s", message.subject, error)
            await message.nak(delay=2.0)
        else:
            await self._acknowledge(message, receipt)

    async def _put_aside(self, message: Msg, why: str, want: str) -> None:
        gateway = message.subject.split(".", 3)[3]
        try:
            await asyncio.to_thread(self._receiver.keep_refused, gateway, message.data, why, want)
        except StoreError as error:
            logger.error("%s: not kept, it comes again: %s", message.subject, error)
            await message.nak(delay=2.0)
        else:
            await message.term()

    def ask(self) -> None:
        """Tell gateways that are idle what is wanted of them; to be called now and then.

        Raises
        ------
        StoreError
            If the database cannot be read.
        SyncError
            If the servers do not answer.
        """
        for receipt in self._receiver.asking():
            self._link.run(self._publish(receipt), 5.0)

    async def _publish(self, receipt: Receipt) -> None:
        if self._link.client is not None:
            await self._link.client.publish(f"pdm.receipt.{receipt.gateway}", encode_receipt(receipt))

    async def _acknowledge(self, message: Msg, receipt: Receipt) -> None:
        try:
            await message.ack()
            if receipt.wants:
                await self._publish(receipt)
        except Exception as error:  # noqa: BLE001 - the message comes again, and changes nothing then
            logger.warning("%s: not acknowledged: %r", message.subject, error)
