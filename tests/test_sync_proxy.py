"""Uploads through a plant's proxy: by absolute address over HTTP, by CONNECT over HTTPS."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from sync_ends import certificates, filled, free_port, received

from pdm_edge.errors import ConfigError, SyncError
from pdm_edge.sync import drain, open_uploader
from pdm_edge.sync.open import server_context
from pdm_edge.sync.receive_http import HttpReceiver
from pdm_edge.sync.receiver import Receiver


class HttpProxy:
    """Understands CONNECT and absolute addresses, as RFC 9110 and 9112 ask; keeps the first lines."""

    def __init__(self, *, refuses: bool = False) -> None:
        self.asked: list[str] = []
        self._refuses = refuses
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, suppress(OSError, ValueError):
            head = b""
            while b"\r\n\r\n" not in head:
                head += client.recv(65_536)
            line, _, rest = head.partition(b"\r\n")
            self.asked.append(line.decode())
            method, target, _ = line.decode().split()
            if self._refuses:
                client.sendall(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
                return
            if method == "CONNECT":
                host, _, port = target.partition(":")
                first = b""
            else:
                host, _, port = target.removeprefix("http://").partition("/")[0].partition(":")
                path = "/" + target.removeprefix("http://").partition("/")[2]
                first = f"{method} {path} HTTP/1.1\r\n".encode() + rest
            with socket.create_connection((host, int(port)), timeout=10) as far:
                if method == "CONNECT":
                    client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                far.sendall(first)
                back = threading.Thread(target=_pump, args=(far, client), daemon=True)
                back.start()
                _pump(client, far)

    def close(self) -> None:
        self._listener.close()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while content := source.recv(65_536):
            sink.sendall(content)
        sink.shutdown(socket.SHUT_WR)


def test_over_http_the_proxy_is_asked_for_the_whole_address(tmp_path: Path) -> None:
    buffer, identities = filled(tmp_path / "b.db", n=30)
    receiver, proxy = Receiver(tmp_path / "cloud.db"), HttpProxy()
    with HttpReceiver(receiver) as server:
        url = f"http://127.0.0.1:{server.port}/in?plant=1"
        uploader = open_uploader(url, gateway="gw", proxy=proxy.url)
        drain(buffer, uploader)
        uploader.close()
    assert proxy.asked[0] == f"POST {url} HTTP/1.1"
    assert received(tmp_path / "cloud.db") == identities
    proxy.close()
    receiver.close()
    buffer.close()


def test_over_https_the_proxy_sees_no_content_and_the_certificate_is_the_far_ends(
    tmp_path: Path, require_tool: Callable[[str, str], str]
) -> None:
    certificates(require_tool("openssl", "openssl"), tmp_path)
    ca, own, key = (str(tmp_path / name) for name in ("ca.pem", "broker.pem", "broker.key"))
    buffer, identities = filled(tmp_path / "b.db", n=30)
    receiver, proxy = Receiver(tmp_path / "cloud.db"), HttpProxy()
    with HttpReceiver(receiver, context=server_context(None, own, key)) as server:
        url = f"https://127.0.0.1:{server.port}/"
        stranger = open_uploader(url, gateway="gw", proxy=proxy.url)  # trusts the system's authorities only
        with pytest.raises(SyncError, match="certificate verify failed"):
            drain(buffer, stranger)
        stranger.close()
        uploader = open_uploader(url, gateway="gw", proxy=proxy.url, ca_file=ca)
        drain(buffer, uploader)
        uploader.close()
    assert proxy.asked
    assert all(line.startswith(f"CONNECT 127.0.0.1:{server.port} ") for line in proxy.asked)
    assert received(tmp_path / "cloud.db") == identities
    proxy.close()
    receiver.close()
    buffer.close()


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_that_refuses_or_is_not_there_loses_nothing(tmp_path: Path, scheme: str) -> None:
    buffer, identities = filled(tmp_path / "b.db", n=10)
    refusing = HttpProxy(refuses=True)
    for proxy in (refusing.url, f"http://127.0.0.1:{free_port()}"):
        uploader = open_uploader(f"{scheme}://127.0.0.1:9/", gateway="gw", proxy=proxy)
        with pytest.raises(SyncError, match=r"407|refused"):
            drain(buffer, uploader)
        uploader.close()
    assert buffer.status().rows == len(identities)
    assert buffer.status().refused == 0
    refusing.close()
    buffer.close()


@pytest.mark.parametrize(
    ("url", "proxy", "says"),
    [
        ("mqtt://h", "http://p:3128", "not for mqtt"),
        ("https://h", "socks5://p:1080", "Write http://host:port"),
        ("https://h", "http://p", "Write http://host:port"),
        ("https://h", "http://user:word@p:3128", "a secret stands in the URL"),
    ],
)
def test_a_proxy_that_cannot_be_used_is_refused_at_the_start(url: str, proxy: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        open_uploader(url, gateway="gw", proxy=proxy)
