"""Who may look at calls and control them.

With a token: whoever presents it as ``Authorization: Bearer``. Without one: programs on
this machine only, judged by the socket's peer address. One rule: no header ever widens
access. A forwarding header, or a ``Host`` that is no loopback name, narrows it, because a
reverse proxy or a rebound DNS name makes strangers look local.
"""

from __future__ import annotations

import hashlib
import hmac
from collections import OrderedDict
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from voicebridge.errors import ConfigError
from voicebridge.server.answers import Refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pydantic import SecretStr
    from starlette.requests import Request

__all__ = ["Access"]

GUESSES: Final = 10
LOCK_SECONDS: Final = 60.0
_PEERS: Final = 4_096
_MAX_HEADER: Final = 1_024
_FORWARDED: Final = (
    "forwarded",
    "via",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-real-ip",
)


@dataclass(slots=True)
class _Guesses:
    wrong: int
    since: float
    locked_until: float = 0.0


class Access:
    """The guard of ``/calls`` and of control; ``now`` gives monotonic seconds.

    After ``GUESSES`` wrong tokens within ``LOCK_SECONDS`` a peer is refused for as long,
    even with the right token, so that guessing learns nothing meanwhile. IPv6 peers are
    counted by /64. Behind a proxy all clients are one peer.

    ``allowed_origins`` are origins beside the request's own from which a browser may
    control calls, e.g. ``https://console.example.com`` where a proxy rewrites ``Host``.
    """

    def __init__(
        self,
        token: SecretStr | None,
        *,
        now: Callable[[], float],
        allowed_origins: Sequence[str] = (),
    ) -> None:
        if token is not None and not token.get_secret_value().strip():
            raise ConfigError(
                "VOICEBRIDGE_CONSOLE_TOKEN is set but empty; remove it or set a long random value"
            )
        self._token = None if token is None else _digest(token.get_secret_value().encode())
        self._now = now
        self._allowed_origins = frozenset(origin.rstrip("/").lower() for origin in allowed_origins)
        self._guesses: OrderedDict[str, _Guesses] = OrderedDict()

    def check(self, request: Request) -> None:
        """Lets the request pass, or raises ``Refusal`` 401, 403 or 429."""
        if request.method not in ("GET", "HEAD"):
            self._check_origin(request)
        if self._token is None:
            _check_local(request)
        else:
            self._check_token(request, self._token)

    def _check_origin(self, request: Request) -> None:
        origins = request.headers.getlist("origin")
        site = request.headers.get("sec-fetch-site", "none").lower()
        if not origins and site in ("none", "same-origin"):
            return  # a program, not a page
        if len(origins) == 1:
            origin = origins[0].lower()
            hosts = request.headers.getlist("host")
            if origin in self._allowed_origins or (
                len(hosts) == 1 and _is_own_origin(origin, hosts[0].lower())
            ):
                return
        raise Refusal(
            403,
            "FOREIGN_ORIGIN",
            "a page of another origin may not control calls; add its origin to the allowed ones "
            "if it is yours",
        )

    def _check_token(self, request: Request, expected: bytes) -> None:
        peer = _peer_group(request)
        now = self._now()
        record = self._guesses.get(peer)
        if record is not None and now < record.locked_until:
            wait = max(1, round(record.locked_until - now))
            raise Refusal(
                429,
                "LOCKED",
                "too many wrong tokens from this address; wait and try again",
                headers={"retry-after": str(wait)},
            )
        values = request.headers.getlist("authorization")
        presented = _bearer(values[0]) if len(values) == 1 else None
        if presented is not None and hmac.compare_digest(_digest(presented), expected):
            self._guesses.pop(peer, None)
            return
        if values:
            self._note_guess(peer, now)
        raise Refusal(
            401,
            "TOKEN_REQUIRED",
            "send the console token as 'Authorization: Bearer ...'",
            headers={"www-authenticate": 'Bearer realm="voicebridge"'},
        )

    def _note_guess(self, peer: str, now: float) -> None:
        record = self._guesses.get(peer)
        if record is None or now - record.since > LOCK_SECONDS:
            record = self._guesses[peer] = _Guesses(wrong=0, since=now)
        record.wrong += 1
        if record.wrong >= GUESSES:
            record.wrong, record.since = 0, now
            record.locked_until = now + LOCK_SECONDS
        self._guesses.move_to_end(peer)
        if len(self._guesses) > _PEERS:  # full: the peer silent for longest is forgotten
            self._guesses.popitem(last=False)


def _digest(token: bytes) -> bytes:
    # Compared as digests, so that not even the token's length shows in the time taken.
    return hashlib.sha256(token).digest()


def _bearer(value: str) -> bytes | None:
    scheme, _, token = value.strip().partition(" ")
    if scheme.lower() != "bearer" or len(value) > _MAX_HEADER:
        return None
    return token.strip().encode("latin-1", "replace")


def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        found = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(found, IPv6Address) and found.ipv4_mapped is not None:
        return found.ipv4_mapped
    return found


def _peer_group(request: Request) -> str:
    found = _address(request.client.host) if request.client else None
    if isinstance(found, IPv6Address):
        return str(IPv6Network((found, 64), strict=False))
    return str(found)


def _check_local(request: Request) -> None:
    peer = _address(request.client.host) if request.client else None
    local = peer is not None and peer.is_loopback
    forwarded = any(name in request.headers for name in _FORWARDED)
    hosts = request.headers.getlist("host")
    if local and not forwarded and len(hosts) <= 1 and all(map(_is_loopback_host, hosts)):
        return
    raise Refusal(
        403,
        "LOOPBACK_ONLY",
        "without a token this answers on the machine itself only: set VOICEBRIDGE_CONSOLE_TOKEN "
        "and send it as 'Authorization: Bearer ...'",
    )


def _is_loopback_host(host: str) -> bool:
    try:
        name = urlsplit(f"//{host}").hostname
    except ValueError:
        return False
    if name is None:
        return False
    found = _address(name)
    return found.is_loopback if found is not None else name.lower() == "localhost"


def _is_own_origin(origin: str, host: str) -> bool:
    """Whether ``origin`` is this server under the name that the request used."""
    scheme, separator, authority = origin.partition("://")
    if not separator or scheme not in ("http", "https"):
        return False
    port = ":80" if scheme == "http" else ":443"
    return authority.removesuffix(port) == host.removesuffix(port)
