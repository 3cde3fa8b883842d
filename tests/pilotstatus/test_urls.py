"""The media URL's allow-list holds against every trick, and tells nobody the URL."""

from __future__ import annotations

import string
from urllib.parse import urlsplit

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import SecretStr

from voicebridge.errors import MediaUrlRefused
from voicebridge.pilotstatus.urls import MediaTarget, check_media_url

ALLOWED = ("*.pilotstatus.com.br", "media.example.net")
GOOD = "wss://evo1.pilotstatus.com.br/ws/realtime?token=s3cr3t%2Fvalue"


def check(
    url: str, *, allowed: tuple[str, ...] = ALLOWED, allow_insecure: bool = False
) -> MediaTarget:
    return check_media_url(SecretStr(url), allowed_hosts=allowed, allow_insecure=allow_insecure)


def test_parts_of_a_good_url() -> None:
    assert check(GOOD) == MediaTarget(
        secure=True,
        host="evo1.pilotstatus.com.br",
        port=443,
        resource="/ws/realtime?token=s3cr3t%2Fvalue",
    )


@pytest.mark.parametrize(
    ("rest", "resource"),
    [
        ("", "/"),
        ("/", "/"),
        ("?token=a", "/?token=a"),
        ("/?", "/?"),
        ("/a;b=1/c;d?x=%2e%2E&y=@:", "/a;b=1/c;d?x=%2e%2E&y=@:"),
        ("//a/../b?u=wss://c/d?e", "//a/../b?u=wss://c/d?e"),
        ("/a%00b?token=A+b/c==", "/a%00b?token=A+b/c=="),
    ],
)
def test_resource_is_verbatim(rest: str, resource: str) -> None:
    assert check("wss://a.pilotstatus.com.br" + rest).resource == resource


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("WSS://EVO1.PilotStatus.COM.BR/Path", "evo1.pilotstatus.com.br"),
        ("wss://a.b.c.pilotstatus.com.br/", "a.b.c.pilotstatus.com.br"),
        ("wss://media.example.net/x", "media.example.net"),
        ("wss://media.example.net:443/x", "media.example.net"),
        ("wss://1.2.3.4.pilotstatus.com.br/", "1.2.3.4.pilotstatus.com.br"),
    ],
)
def test_accepted(url: str, host: str) -> None:
    target = check(url)
    assert (target.host, target.port, target.secure) == (host, 443, True)


REFUSED = [
    "",
    "wss:",
    "wss://",
    "wss:///path",
    "//a.pilotstatus.com.br/",
    "a.pilotstatus.com.br/ws",
    "ws://a.pilotstatus.com.br/",
    "https://a.pilotstatus.com.br/",
    "wss:/a.pilotstatus.com.br/",
    "wss:\\\\a.pilotstatus.com.br/",
    " wss://a.pilotstatus.com.br/",
    "wss ://a.pilotstatus.com.br/",
    "javascript:wss://a.pilotstatus.com.br/",
    # somebody else's host
    "wss://evil.com/",
    "wss://pilotstatus.com.br/",
    "wss://evilpilotstatus.com.br/",
    "wss://a.pilotstatus.com.br.evil.com/",
    "wss://a.pilotstatus.com.brx/",
    "wss://evil.com/.pilotstatus.com.br",
    "wss://evil.com?.pilotstatus.com.br",
    "wss://evil.com#.pilotstatus.com.br",
    "wss://evil.com\\.pilotstatus.com.br/",
    "wss://evil.com\\@a.pilotstatus.com.br/",
    "wss://evil.com%2f.pilotstatus.com.br/",
    "wss://evil.com%2F.pilotstatus.com.br/",
    "wss://evil.com%5c.pilotstatus.com.br/",
    "wss://evil.com%00.pilotstatus.com.br/",
    "wss://evil.com%23.pilotstatus.com.br/",
    "wss://evil.com;.pilotstatus.com.br/",
    "wss://evil.com,.pilotstatus.com.br/",
    "wss://evil.com&.pilotstatus.com.br/",
    "wss://evil.com:443:.pilotstatus.com.br/",
    "wss://x.media.example.net/",
    # user information
    "wss://user@a.pilotstatus.com.br/",
    "wss://user:pw@a.pilotstatus.com.br/",
    "wss://@a.pilotstatus.com.br/",
    "wss://a.pilotstatus.com.br@evil.com/",
    "wss://a.pilotstatus.com.br:443@evil.com/",
    # ports
    "wss://a.pilotstatus.com.br:/",
    "wss://a.pilotstatus.com.br:22/",
    "wss://a.pilotstatus.com.br:80/",
    "wss://a.pilotstatus.com.br:0443/",
    "wss://a.pilotstatus.com.br:4430/",
    "wss://a.pilotstatus.com.br:99999/",
    "wss://a.pilotstatus.com.br:-443/",
    "wss://a.pilotstatus.com.br:+443/",
    "wss://a.pilotstatus.com.br:44 3/",
    "wss://a.pilotstatus.com.br:４４３/",
    # addresses in every spelling
    "wss://127.0.0.1/",
    "wss://10.0.0.1/",
    "wss://169.254.169.254/latest/meta-data",
    "wss://2130706433/",
    "wss://0x7f.0x0.0x0.0x1/",
    "wss://0177.0.0.1/",
    "wss://127.1/",
    "wss://[::1]/",
    "wss://[::ffff:127.0.0.1]/",
    "wss://[::1]a.pilotstatus.com.br/",
    "wss://[a.pilotstatus.com.br]/",
    "wss://[a.pilotstatus.com.br/",
    "wss://localhost/",
    # names that only look right
    "wss://a.pilotstatus.com.br./",
    "wss://.pilotstatus.com.br/",
    "wss://a..pilotstatus.com.br/",
    "wss://-a.pilotstatus.com.br/",
    "wss://a-.pilotstatus.com.br/",
    "wss://a_b.pilotstatus.com.br/",
    "wss://*.pilotstatus.com.br/",
    "wss://xn--80ak6aa92e.pilotstatus.com.br/",
    "wss://a.pilotst\u0430tus.com.br/",
    "wss://a.pilotstatus\u3002com.br/",
    "wss://evil.com\uff0f.pilotstatus.com.br/",
    "wss://a.p\u0131lotstatus.com.br/",
    "wss://a.pilot\u00adstatus.com.br/",
    f"wss://{'a' * 64}.pilotstatus.com.br/",
    f"wss://{'a.' * 130}pilotstatus.com.br/",
    # request splitting
    "wss://a.pilotstatus.com.br/\r\nX-Evil: 1",
    "wss://a.pilotstatus.com.br/a b",
    "wss://a.pilotstatus.com.br/\x00",
    "wss://a.pilotstatus.com.br/\x7f",
    "wss://a.pilot\tstatus.com.br/",
    "wss://a.pilotstatus.com.br/\n",
    "wss://a.pilotstatus.com.br\n",
    "wss://a.pilotstatus.com.br/é",
    "wss://a.pilotstatus.com.br/a\\b",
    "wss://a.pilotstatus.com.br/x#fragment",
    "wss://a.pilotstatus.com.br/" + "x" * 8_000,
]


@pytest.mark.parametrize("url", REFUSED)
def test_refused(url: str) -> None:
    with pytest.raises(MediaUrlRefused):
        check(url)


@pytest.mark.parametrize("url", [url for url in REFUSED if "evil" in url or "%" in url])
def test_insecure_mode_opens_no_other_host(url: str) -> None:
    with pytest.raises(MediaUrlRefused):
        check(url, allow_insecure=True)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("ws://127.0.0.1:8766/m", (False, "127.0.0.1", 8766)),
        ("ws://localhost/m", (False, "localhost", 80)),
        ("wss://localhost:8443/m", (True, "localhost", 8443)),
        ("ws://[::1]:9/m", (False, "::1", 9)),
        ("ws://[::1]/m", (False, "::1", 80)),
        ("ws://emulator:8766/m", (False, "emulator", 8766)),
        ("ws://a.pilotstatus.com.br:8080/", (False, "a.pilotstatus.com.br", 8080)),
    ],
)
def test_insecure_mode_admits_emulators(url: str, expected: tuple[bool, str, int]) -> None:
    target = check(url, allowed=("*.pilotstatus.com.br", "emulator"), allow_insecure=True)
    assert (target.secure, target.host, target.port) == expected


@pytest.mark.parametrize(
    "url", ["ws://127.0.0.2/", "ws://10.0.0.1/", "ws://other/", "ws://127.1/", "ws://[::2]/"]
)
def test_insecure_mode_still_refuses_other_private_hosts(url: str) -> None:
    with pytest.raises(MediaUrlRefused):
        check(url, allow_insecure=True)


@pytest.mark.parametrize("pattern", ["", "*", "*.", ".", "*.*", "**.com.br", "pilotstatus.com.br"])
def test_odd_patterns_allow_nothing(pattern: str) -> None:
    with pytest.raises(MediaUrlRefused):
        check(GOOD, allowed=(pattern,))


@pytest.mark.parametrize("url", [url for url in REFUSED if len(url) > 20])
def test_refusals_do_not_tell_the_url(url: str) -> None:
    with pytest.raises(MediaUrlRefused) as caught:
        check(url + "?token=s3cr3t")
    assert caught.value.__context__ is None
    assert "s3cr3t" not in repr(caught.value)
    assert url not in repr(caught.value)


def test_patterns_are_case_insensitive() -> None:
    assert check(GOOD, allowed=(" *.PILOTSTATUS.com.br ",)).host == "evo1.pilotstatus.com.br"


def test_repr_hides_the_token() -> None:
    assert "s3cr3t" not in repr(check(GOOD))


PIECES = st.sampled_from(
    [
        *string.ascii_lowercase,
        *"0123456789:/?#[]@!$&'()*+,;=%\\.-_ \t\r\n\x00",
        *("wss://", "ws://", "evil.com", ".pilotstatus.com.br", "pilotstatus.com.br", "443"),
        *("%2f", "%40", "xn--", "127.0.0.1", "[::1]", "localhost", "\u3002", "\uff0f", "\u0430"),
    ]
)
URLS = st.one_of(
    st.lists(PIECES, max_size=12).map("".join),
    st.lists(PIECES, max_size=8).map(lambda pieces: "wss://" + "".join(pieces)),
    st.lists(PIECES, max_size=8).map(lambda pieces: f"wss://{''.join(pieces)}.pilotstatus.com.br/"),
    st.lists(PIECES, max_size=8).map(lambda pieces: "wss://a.pilotstatus.com.br" + "".join(pieces)),
)


@given(URLS)
@example(GOOD)
def test_what_passes_means_the_same_to_other_parsers(url: str) -> None:
    try:
        target = check(url)
    except MediaUrlRefused:
        return
    parsed = urlsplit(url)
    assert parsed.scheme == "wss"
    assert parsed.hostname == target.host
    assert target.host.endswith(".pilotstatus.com.br") or target.host == "media.example.net"
    assert parsed.port in (None, 443)
    assert parsed.username is None
    path, query = parsed.path or "/", f"?{parsed.query}" if "?" in url else ""
    assert target.resource == path + query
    assert url.isascii()
    assert url.isprintable()


@given(st.text(max_size=60), st.booleans())
def test_never_another_error(url: str, allow_insecure: bool) -> None:
    try:
        check(url, allow_insecure=allow_insecure)
    except MediaUrlRefused:
        return
