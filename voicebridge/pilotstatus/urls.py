"""Which ``wsUrl`` may be dialled.

The media URL comes over the network and carries a single-use token, so it decides
where callers' voices go. It is taken apart once, by the strict grammar below, and the
parts that were checked are the parts that are dialled: a second parser with another
opinion of where the host ends is how allow-lists are walked around. The request target
is opaque and stays as it came.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from voicebridge.errors import MediaUrlRefused

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydantic import SecretStr

__all__ = ["MediaTarget", "check_media_url"]

# Longer request lines are refused by common servers (nginx, websockets: 8 KiB).
_MAX_LENGTH = 8_000
# What RFC 3986 lets a URL consist of, less "#": a fragment means nothing here (RFC 6455, 3).
# Whitespace would split the request line; a backslash is a slash to browsers only.
_URL = re.compile(r"[A-Za-z0-9\-._~:/?\[\]@!$&'()*+,;=%]+")
_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
# A last label that is a number makes the whole an IPv4 address to resolvers: 127.1, 0x7f000001.
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_PORT = re.compile(r"[1-9][0-9]{0,4}")
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]"})


@dataclass(frozen=True, slots=True)
class MediaTarget:
    """The checked parts: where to connect and what to ask for there.

    ``resource`` is path and query as they stood in the URL; it holds the token.
    """

    secure: bool
    host: str
    port: int
    resource: str = field(repr=False)


def check_media_url(
    url: SecretStr, *, allowed_hosts: Sequence[str], allow_insecure: bool
) -> MediaTarget:
    """Take ``url`` apart, or raise ``MediaUrlRefused`` before anything is resolved or dialled.

    ``allowed_hosts`` holds host names; ``*.example.com`` stands for every name below
    ``example.com``. ``allow_insecure`` is for emulators: it admits ``ws://``, any port,
    loopback, and hosts that ``allowed_hosts`` spells out though they are not public names.
    """
    text = url.get_secret_value()
    if len(text) > _MAX_LENGTH or not _URL.fullmatch(text):
        raise MediaUrlRefused("the media URL is too long or holds characters that no URL has")
    scheme, separator, rest = text.partition("://")
    secure = _is_secure(scheme.lower() + separator, allow_insecure)
    end = min((at for at in (rest.find("/"), rest.find("?")) if at >= 0), default=len(rest))
    host, port = _split_authority(rest[:end].lower())
    _check_host(host, allowed_hosts, allow_insecure)
    resource = rest[end:]
    return MediaTarget(
        secure=secure,
        host=host.strip("[]"),
        port=_check_port(port, secure, allow_insecure),
        resource=resource if resource.startswith("/") else "/" + resource,
    )


def _is_secure(scheme: str, allow_insecure: bool) -> bool:
    if scheme == "wss://":
        return True
    if scheme == "ws://" and allow_insecure:
        return False
    raise MediaUrlRefused(
        "the media URL is not encrypted; for an emulator set VOICEBRIDGE_ALLOW_INSECURE_MEDIA=true"
    )


def _split_authority(authority: str) -> tuple[str, str | None]:
    if "@" in authority:
        raise MediaUrlRefused("the media URL carries user information")
    if authority.startswith("["):
        host, bracket, rest = authority.partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise MediaUrlRefused("the media URL's host is malformed")
        return host + bracket, rest[1:] if rest else None
    host, colon, port = authority.partition(":")
    return host, port if colon else None


def _check_port(port: str | None, secure: bool, allow_insecure: bool) -> int:
    if port is None:
        return 443 if secure else 80
    if not _PORT.fullmatch(port) or int(port) > 65_535:
        raise MediaUrlRefused("the media URL's port is not a port")
    if int(port) != 443 and not allow_insecure:
        raise MediaUrlRefused("the media URL names a port other than 443")
    return int(port)


def _check_host(host: str, allowed_hosts: Sequence[str], allow_insecure: bool) -> None:
    patterns = [pattern.strip().lower() for pattern in allowed_hosts]
    if allow_insecure and (host in _LOOPBACK or (host in patterns and _is_plain(host))):
        return
    if not _is_public_name(host):
        raise MediaUrlRefused("the media URL's host is not a plain public host name")
    if not any(_matches(host, pattern) for pattern in patterns):
        raise MediaUrlRefused(
            "the media URL's host is not on the allow-list; if the provider moved, "
            "add it to VOICEBRIDGE_MEDIA_HOSTS"
        )


def _is_plain(host: str) -> bool:
    """Every label is well formed: letters, digits and inner hyphens."""
    return len(host) <= 253 and all(_LABEL.fullmatch(label) for label in host.split("."))


def _is_public_name(host: str) -> bool:
    """Two labels or more, neither an address nor an internationalised look-alike."""
    labels = host.split(".")
    return (
        len(labels) >= 2
        and _is_plain(host)
        and not _NUMBER.fullmatch(labels[-1])
        and not any(label.startswith("xn--") for label in labels)
    )


def _matches(host: str, pattern: str) -> bool:
    if pattern.startswith("*."):
        return len(pattern) > 2 and host.endswith(pattern[1:])
    return host == pattern
