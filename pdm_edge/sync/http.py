"""Upload over HTTP(S): one POST a batch, the receipt is in the body of the answer."""

from __future__ import annotations

import http.client
import ssl
import time
from typing import Final
from urllib.parse import urlsplit

from pdm_edge.delivery import Batch, Receipt
from pdm_edge.errors import BatchRefusedError, SyncError, SyncRefusedError
from pdm_edge.sync.payload import Encoding, decode_receipt, encode_batch
from pdm_edge.sync.secrets import Secret

_LONGEST_ANSWER: Final = 65_536
_RETRY_LATER: Final = frozenset({408, 425, 429})
_REFUSES_CONTENT: Final = frozenset({400, 409, 413, 415, 422})
"""Not for who sends, or where to, but for what is in it, or how large it is (RFC 9110, 15.5)."""


class HttpUploader:
    """Posts batches to a URL; the connection is kept open between them.

    Parameters
    ----------
    url
        ``http://`` or ``https://``; certificates are verified.
    token
        Sent as a bearer token.
    context
        TLS settings (own authority, client certificate), by default the system's.
    encoding
        ``json``, or ``cbor`` for all bits of each value in fewer bytes.
    proxy
        ``http://host:port`` of a proxy to go through; to an ``https://`` far end by CONNECT (RFC 9110,
        9.3.6), so that the proxy sees no content.
    """

    def __init__(
        self,
        url: str,
        *,
        token: Secret | None = None,
        context: ssl.SSLContext | None = None,
        encoding: Encoding = "json",
        proxy: str | None = None,
    ) -> None:
        self._encoding: Encoding = encoding
        self._parts = urlsplit(url)
        self._where = f"{self._parts.scheme}://{self._parts.netloc}{self._parts.path}"
        self._path = (self._parts.path or "/") + (f"?{self._parts.query}" if self._parts.query else "")
        self._proxy = None if proxy is None else urlsplit(proxy)
        if self._proxy is not None and self._parts.scheme == "http":
            self._path = f"http://{self._parts.netloc}{self._path}"  # RFC 9112, 3.2.2
        self._token = token
        self._context = context
        self._connection: http.client.HTTPConnection | None = None
        self.bytes_sent = 0

    def send(self, batch: Batch, timeout_s: float) -> Receipt:
        """Post a batch; see `pdm_edge.ports.Uploader`."""
        content = encode_batch(batch, time.time_ns(), encoding=self._encoding)
        headers = {"Content-Type": f"application/{self._encoding}", "Content-Encoding": "gzip"}
        if self._token is not None:
            headers["Authorization"] = f"Bearer {self._token.reveal()}"
        is_old = self._connection is not None
        try:
            try:
                answer = self._posted(content, headers, timeout_s)
            except (ConnectionError, http.client.RemoteDisconnected):
                if not is_old:
                    raise
                # The far end has closed a connection that was idle: no fault, and a batch may come twice.
                self.close()
                answer = self._posted(content, headers, timeout_s)
            body = answer.read(_LONGEST_ANSWER)
        except (OSError, http.client.HTTPException) as error:
            self.close()
            text = str(error) or type(error).__name__
            raise SyncError(f"not delivered: {text}", where=self._where, mend="It is tried again") from error
        if answer.will_close or not answer.isclosed():
            self.close()
        if 200 <= answer.status < 300:
            return decode_receipt(body)
        told = f"answered {answer.status} {answer.reason}: {body[:200].decode('utf-8', 'replace').strip()}"
        if answer.status in _REFUSES_CONTENT:
            raise BatchRefusedError(told, where=self._where)
        if answer.status >= 500 or answer.status in _RETRY_LATER:
            raise SyncError(told, where=self._where, mend="It is tried again")
        raise SyncRefusedError(told, where=self._where, mend="Check URL and token")

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _posted(self, content: bytes, headers: dict[str, str], timeout_s: float) -> http.client.HTTPResponse:
        connection = self._connected(timeout_s)
        self.bytes_sent += len(content)
        connection.request("POST", self._path, body=content, headers=headers)
        return connection.getresponse()

    def _connected(self, timeout_s: float) -> http.client.HTTPConnection:
        if self._connection is None:
            own = (self._parts.hostname or "", self._parts.port)
            through = self._proxy
            host, port = own if through is None else (through.hostname or "", through.port)
            if self._parts.scheme == "https":
                context = self._context or ssl.create_default_context()
                self._connection = http.client.HTTPSConnection(host, port, timeout=timeout_s, context=context)
                if through is not None:
                    self._connection.set_tunnel(*own)
            else:
                self._connection = http.client.HTTPConnection(host, port, timeout=timeout_s)
        return self._connection
