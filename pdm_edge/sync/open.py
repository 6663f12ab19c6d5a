"""From a URL to an uploader."""

from __future__ import annotations

import ssl
from typing import Final, Literal
from urllib.parse import SplitResult, urlsplit

from pdm_edge.errors import ConfigError
from pdm_edge.ports import Uploader
from pdm_edge.sync.payload import Encoding
from pdm_edge.sync.secrets import secret

SCHEMES: Final = ("http", "https", "mqtt", "mqtts", "nats", "nats+tls")
_SECURE: Final = frozenset({"https", "mqtts", "nats+tls"})


def open_uploader(
    url: str,
    *,
    gateway: str,
    receipt: Literal["end_to_end", "puback"] = "end_to_end",
    token: str | None = None,
    username: str | None = None,
    password: str | None = None,
    ca_file: str | None = None,
    cert_file: str | None = None,
    key_file: str | None = None,
    encoding: Encoding = "json",
    proxy: str | None = None,
) -> Uploader:
    """The uploader for a far end. Secrets are given as ``env:NAME`` or ``file:PATH``.

    Raises
    ------
    ConfigError
        For a URL that cannot be used, or a secret in plain text. A far end that is not there is
        no error.
    """
    parts = parts_of(url, "sync.url")
    if parts.scheme not in SCHEMES or not parts.hostname:
        raise ConfigError(
            f"unknown far end {url!r}", where="sync.url", mend=f"It starts with {', '.join(SCHEMES)}://host"
        )
    if parts.username or parts.password:
        raise ConfigError(
            "a secret stands in the URL", where="sync.url", mend="Use sync.username and password"
        )
    if proxy is not None:
        _check_proxy(proxy, parts.scheme)
    context = tls_context(parts.scheme, ca_file, cert_file, key_file)
    if parts.scheme.startswith("mqtt"):
        from pdm_edge.sync.mqtt import MqttUploader

        return MqttUploader(
            url,
            gateway=gateway,
            receipt=receipt,
            username=secret(username, "sync.username"),
            password=secret(password, "sync.password"),
            context=context,
            encoding=encoding,
        )
    if parts.scheme.startswith("nats"):
        from pdm_edge.sync.nats import NatsUploader

        return NatsUploader(
            url,
            gateway=gateway,
            username=secret(username, "sync.username"),
            password=secret(password, "sync.password"),
            context=context,
            encoding=encoding,
        )
    from pdm_edge.sync.http import HttpUploader

    return HttpUploader(
        url, token=secret(token, "sync.token"), context=context, encoding=encoding, proxy=proxy
    )


def _check_proxy(proxy: str, scheme: str) -> None:
    where = "sync.proxy"
    if not scheme.startswith("http"):
        raise ConfigError(f"a proxy is for http and https, not for {scheme}", where=where, mend="Remove it")
    parts = parts_of(proxy, where)
    if parts.scheme != "http" or not parts.hostname or parts.port is None or parts.path.strip("/"):
        raise ConfigError(f"unknown proxy {proxy!r}", where=where, mend="Write http://host:port")
    if parts.username or parts.password:
        raise ConfigError("a secret stands in the URL", where=where, mend="Use a proxy that knows this host")


def parts_of(url: str, where: str) -> SplitResult:
    """The parts of a URL; its port is one that can be. Of several NATS servers, those of the first.

    Raises
    ------
    ConfigError
        If it is none.
    """
    first, *others = url.split(",") if url.startswith("nats") else [url]
    try:
        parts = urlsplit(first)
        for server in (parts, *(urlsplit(f"//{other}") for other in others)):
            if server.port is not None and not server.hostname:
                raise ValueError("a server has no host")
            if server is not parts and server.username is not None:
                raise ValueError("a secret stands in the URL")
    except ValueError as error:
        raise ConfigError(f"{url!r}: {error}", where=where, mend="Write scheme://host:port") from error
    return parts


def tls_context(
    scheme: str, ca_file: str | None, cert_file: str | None, key_file: str | None
) -> ssl.SSLContext | None:
    """TLS settings for a scheme that has it, else None.

    Raises
    ------
    ConfigError
        If a certificate cannot be read, or is given where there is no TLS.
    """
    if scheme not in _SECURE:
        if ca_file or cert_file or key_file:
            raise ConfigError("certificates need https, mqtts or nats+tls", where="sync.url")
        return None
    try:
        context = ssl.create_default_context(cafile=ca_file)
        if cert_file is not None:
            context.load_cert_chain(cert_file, key_file)
    except OSError as error:
        raise ConfigError(f"certificate cannot be read: {error}", where="sync") from error
    return context


def server_context(ca_file: str | None, cert_file: str | None, key_file: str | None) -> ssl.SSLContext:
    """TLS settings of a receiver; with `ca_file`, gateways must show a certificate of that authority.

    Raises
    ------
    ConfigError
        If a certificate is missing or cannot be read.
    """
    if cert_file is None:
        raise ConfigError("https needs the server's certificate", mend="Give --cert-file and --key-file")
    try:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=ca_file)
        context.load_cert_chain(cert_file, key_file)
    except OSError as error:
        raise ConfigError(f"certificate cannot be read: {error}", where=cert_file) from error
    if ca_file is not None:
        context.verify_mode = ssl.CERT_REQUIRED
    return context
