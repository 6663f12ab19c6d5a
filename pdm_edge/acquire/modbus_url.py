"""What the URL of a Modbus line says, checked before anything is opened."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Final, Literal
from urllib.parse import parse_qsl, unquote, urlsplit

from pdm_edge.errors import ConfigError

SCHEMES: Final = ("modbus+tcp", "modbus+tls", "modbus+rtu", "modbus+rtu+tcp")
_ALL: Final = ("device", "timeout_ms", "turnaround_ms")
_KNOWN: Final = {
    "modbus+tcp": (*_ALL, "public"),
    "modbus+tls": (*_ALL, "public", "ca", "cert", "key", "server_name"),
    "modbus+rtu": (*_ALL, "baud", "parity", "stopbits", "rs485", "rts_before_ms", "rts_after_ms", "late_ms"),
    "modbus+rtu+tcp": (*_ALL, "public", "late_ms"),
}
_PORTS: Final = {"modbus+tcp": 502, "modbus+tls": 802, "modbus+rtu+tcp": 502}


@dataclass(frozen=True, slots=True)
class LineSettings:
    """How to reach a line, and its timing.

    ``turnaround_s`` is the silence kept before each request. Where replies carry no number, one may
    come up to ``late_s`` after its time-out, and is never later. With ``rs485`` the port driver
    switches the transmitter by RTS, ``rts_before_s`` before and ``rts_after_s`` after sending.
    """

    url: str
    scheme: str
    host: str = ""
    port: int = 0
    path: str = ""
    baud: int = 0
    parity: Literal["N", "E", "O"] = "N"
    stopbits: int = 1
    timeout_s: float = 0.5
    turnaround_s: float = 0.0
    late_s: float = 3.0
    rs485: bool = False
    rts_before_s: float = 0.0
    rts_after_s: float = 0.0
    public: bool = False
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    server_name: str | None = None

    @property
    def framing(self) -> Literal["rtu", "tcp"]:
        return "rtu" if "rtu" in self.scheme else "tcp"

    @property
    def name(self) -> str:
        return self.url.partition("?")[0]

    def wire_s(self, n_bytes: int) -> float:
        """Time that `n_bytes` need on a serial line; 0 over TCP."""
        if not self.baud:
            return 0.0
        bits = 9 + self.stopbits + (self.parity != "N")
        return n_bytes * bits / self.baud


def line_settings(url: str) -> LineSettings:
    """Check a URL.

    Raises
    ------
    ConfigError
        For an unknown scheme or option, a missing host, port or baud rate, or an address outside
        of the private ranges without ``public=1``.
    """
    parts = urlsplit(url)
    if parts.scheme not in SCHEMES:
        raise ConfigError(f"unknown scheme {parts.scheme!r}", where=url, mend=f"Use {', '.join(SCHEMES)}")
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    unknown = sorted(set(query) - set(_KNOWN[parts.scheme]))
    if unknown:
        known = ", ".join(_KNOWN[parts.scheme])
        raise ConfigError(f"unknown option {unknown[0]!r}", where=url, mend=f"Known are: {known}")
    timeout_s = _milliseconds(query, "timeout_ms", 500.0, url)
    if timeout_s <= 0:
        raise ConfigError("timeout_ms is 0", where=url, mend="Leave it out for 500")
    turnaround_s = _milliseconds(query, "turnaround_ms", 0.0, url)
    if parts.scheme == "modbus+rtu":
        return _serial(url, unquote(parts.path), query, timeout_s, turnaround_s)
    try:
        port = parts.port or _PORTS[parts.scheme]
    except ValueError as error:
        raise ConfigError(f"port: {error}", where=url) from error
    if not parts.hostname:
        raise ConfigError("has no host", where=url, mend=f"Write {parts.scheme}://192.168.0.10:{port}")
    public = query.get("public") == "1"
    check_private(parts.hostname, public, url)
    return LineSettings(
        url=url,
        scheme=parts.scheme,
        host=parts.hostname,
        port=port,
        timeout_s=timeout_s,
        turnaround_s=turnaround_s,
        late_s=_milliseconds(query, "late_ms", 3000.0, url),
        public=public,
        ca_file=query.get("ca"),
        cert_file=query.get("cert"),
        key_file=query.get("key"),
        server_name=query.get("server_name"),
    )


def check_private(address: str, public: bool, where: str) -> None:
    """Refuse an address outside of the private ranges, unless told that it is meant.

    Modbus knows no password: a device that the whole internet can reach can be written by all of
    it. A name is checked when it has been resolved.
    """
    try:
        is_global = ipaddress.ip_address(address).is_global
    except ValueError:
        return
    if is_global and not public:
        raise ConfigError(
            f"{address} is a public address",
            where=where,
            mend="Modbus has no authentication: use a private network or a VPN, or add public=1",
        )


def _serial(
    url: str, path: str, query: dict[str, str], timeout_s: float, turnaround_s: float
) -> LineSettings:
    if not path or not query.get("baud", "").isdigit() or int(query["baud"]) == 0:
        raise ConfigError(
            "needs a device and a baud rate", where=url, mend="Write modbus+rtu:///dev/ttyUSB0?baud=19200"
        )
    parity, stopbits = query.get("parity", "N"), query.get("stopbits", "1")
    if stopbits not in ("1", "2"):
        raise ConfigError("stopbits is 1 or 2", where=url)
    checked: Literal["N", "E", "O"]
    if parity == "N":
        checked = "N"
    elif parity == "E":
        checked = "E"
    elif parity == "O":
        checked = "O"
    else:
        raise ConfigError(f"parity is {parity!r}; it is N, E or O", where=url)
    baud = int(query["baud"])
    # 3.5 characters of silence end a frame; 1.75 ms from 19200 baud on (Modbus over serial line
    # 1.02, 2.5.1.1).
    silence_s = 0.00175 if baud > 19200 else 3.5 * 11 / baud
    return LineSettings(
        url=url,
        scheme="modbus+rtu",
        path=path,
        baud=baud,
        parity=checked,
        stopbits=int(stopbits),
        timeout_s=timeout_s,
        late_s=_milliseconds(query, "late_ms", 3000.0, url),
        turnaround_s=max(turnaround_s, silence_s),
        rs485=query.get("rs485") == "1",
        rts_before_s=_milliseconds(query, "rts_before_ms", 0.0, url),
        rts_after_s=_milliseconds(query, "rts_after_ms", 0.0, url),
    )


def _milliseconds(query: dict[str, str], name: str, default: float, url: str) -> float:
    text = query.get(name, str(default))
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 60_000:
        raise ConfigError(f"{name} is {text!r}", where=url, mend="Give milliseconds, 0 to 60000")
    return value / 1000
