"""The page: complete, self-contained, and alive in a real browser."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from voicebridge.lab.picture import (
    CallPicture,
    Distribution,
    Link,
    Moment,
    Span,
    Tile,
    Track,
    Verdict,
    render,
)

if TYPE_CHECKING:
    from typing import Any

    from voicebridge.lab.measure import Samples

RATE = 16_000
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))),
                None)  # fmt: skip
needs_chromium = pytest.mark.skipif(
    CHROMIUM is None, reason="needs a browser: install the package `chromium`"
)
NASTY = "</script><script>alert(1)</script><!--put script--> & \u2028 “x”"


def tone(seconds: float, hz: float) -> Samples:
    t = np.arange(round(seconds * RATE)) / RATE
    return (9000 * np.sin(2 * np.pi * hz * t) * (np.sin(2 * np.pi * t) > 0)).astype(np.int16)


@pytest.fixture
def picture() -> CallPicture:
    caller, bot = tone(3, 300), np.concatenate((np.zeros(3200, np.int16), tone(3, 300)))
    return CallPicture(
        title="Demo call",
        subtitle="the echo bot",
        verdict=Verdict(True, "Every word came back"),
        tracks=(Track("Caller", caller, spans=(Span(0.1, 0.9, "turn 1"),)), Track("Bot", bot)),
        tiles=(Tile("Round trip", "200", "ms", "half of it", "good"), Tile("Pacing", "1.2", "ms")),
        events=(
            Moment(3.1, "call.ended", "COMPLETED"),
            Moment(0.0, "webhook", "call.ringing"),
            Moment(0.01, "accept"),
            Moment(0.02, "media open", "16 kHz", "media"),
        ),
        links=(Link(0.1, 0.3, "came back after 200 ms"),),
        distributions=(
            Distribution("Round trip", "ms", (190.0, 200.0, 210.0, 205.0), "How long.", "pieces"),
            Distribution("Pacing", "ms", tuple(np.linspace(0, 9, 500) ** 2 / 9), "Beat.", "gaps"),
            Distribution("Nothing", "ms", ()),
        ),
        notes=("A note.",),
    )


def data_of(page: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)
    assert found is not None
    data: dict[str, Any] = json.loads(found[1])
    return data


class _Elements(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def test_the_page_asks_for_nothing_outside_itself(picture: CallPicture) -> None:
    parser = _Elements()
    page = render(picture)
    parser.feed(page)
    for tag, attributes in parser.tags:
        for name in ("src", "href", "srcset", "action", "poster"):
            assert (attributes.get(name) or "data:").startswith("data:"), (tag, attributes)
    policy = next(a["content"] for t, a in parser.tags if a.get("http-equiv"))
    assert policy is not None
    assert policy.startswith("default-src 'none'")
    assert "@import" not in page
    assert "url(" not in page


def test_no_text_can_leave_its_place(picture: CallPicture) -> None:
    nasty = replace(
        picture,
        title=NASTY,
        subtitle=NASTY,
        verdict=Verdict(False, NASTY, (NASTY,)),
        events=(Moment(0, NASTY, NASTY),),
        tiles=(Tile(NASTY, NASTY, NASTY, NASTY),),
        notes=(NASTY,),
    )
    page = render(nasty)
    scripts = re.findall(r"<script\b", page)
    assert len(scripts) == len(re.findall(r"<script\b", render(picture))) == 2
    assert "<script>alert" not in page
    data = data_of(page)
    for text in (data["title"], data["subtitle"], data["notes"][0], data["events"][0]["label"]):
        assert text == NASTY


def test_the_samples_go_in_bit_for_bit(picture: CallPicture) -> None:
    audio = data_of(render(picture))["audio"]
    pcm = np.frombuffer(base64.b64decode(audio["pcm"]), "<i2").reshape(-1, audio["channels"])
    assert audio["rate"] == RATE
    caller, bot = (track.samples for track in picture.tracks)
    assert np.array_equal(pcm[: caller.size, 0], caller)
    assert not pcm[caller.size :, 0].any()
    assert np.array_equal(pcm[:, 1], bot)


def test_events_are_in_order_and_the_call_is_as_long_as_its_last_event(
    picture: CallPicture,
) -> None:
    longer = replace(picture, events=(*picture.events, Moment(9.5, "late")))
    data = data_of(render(longer))
    assert data["events"][0]["label"] == "webhook"
    assert data["duration"] == 9.5


def test_a_long_call_is_brought_down_and_a_longer_one_is_only_drawn(picture: CallPicture) -> None:
    size = 2 * 2 * max(track.samples.size for track in picture.tracks)
    assert data_of(render(picture, audio_limit=size))["audio"]["rate"] == 16_000
    half = data_of(render(picture, audio_limit=size - 1))
    assert half["audio"]["rate"] == 8_000
    drawn = data_of(render(picture, audio_limit=size // 4))
    assert "audio" not in drawn
    rows = np.frombuffer(base64.b64decode(drawn["envelope"]["tracks"][0]), np.int8).reshape(-1, 3)
    assert len(rows) == 320  # as long as the longer side: 3.2 s, one row for 10 ms
    assert rows[:50, 1].max() == round(9000 / 256)
    assert (rows[:, 0] <= rows[:, 1]).all()


def test_values_that_are_no_numbers_are_left_out(picture: CallPicture) -> None:
    figure = Distribution("Odd", "ms", (1.0, float("nan"), float("inf"), 2.0))
    data = data_of(render(replace(picture, distributions=(figure,))))
    assert data["distributions"][0]["values"] == [1.0, 2.0]


def test_a_call_without_audio_or_with_three_sides(picture: CallPicture) -> None:
    nothing = np.zeros(0, np.int16)
    empty = replace(picture, tracks=(Track("Caller", nothing), Track("Bot", nothing)), events=())
    assert data_of(render(empty))["duration"] > 0
    with pytest.raises(ValueError, match="one or two"):
        replace(picture, tracks=picture.tracks + picture.tracks[:1])


# ---- in a browser ----


def browse(page: str, folder: Path, extra: str = "") -> tuple[str, str]:
    """The DOM after all scripts, and what was written to the console."""
    assert CHROMIUM is not None
    file = folder / "page.html"
    page = page.replace("<main>", f"{AT_ONCE}<main>").replace("</body>", f"{extra}</body>")
    file.write_text(page, "utf-8")
    done = subprocess.run(
        [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
         "--disable-background-networking", "--disable-component-update", "--disable-sync",
         "--disable-dev-shm-usage", "--enable-logging=stderr", "--window-size=1280,1600",
         f"--user-data-dir={folder / 'profile'}", "--dump-dom",
         file.as_uri()],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    console = [line for line in done.stderr.splitlines() if ":CONSOLE" in line]
    return done.stdout, "\n".join(console)


# The DOM is dumped at the load event: frames are drawn when they are asked for.
AT_ONCE = "<script>window.requestAnimationFrame = (draw) => { draw(0); return 0; };</script>"
ACTIONS = (Path(__file__).parent / "reader.js").read_text("utf-8")


@needs_chromium
def test_the_page_draws_itself_and_answers_pointer_and_keys(
    picture: CallPicture, tmp_path: Path
) -> None:
    dom, console = browse(render(picture), tmp_path, f"<script>{ACTIONS}</script>")
    assert console == ""
    assert 'data-rendered="yes"' in dom
    said = re.search(r'data-said="([^"]*)"', dom)
    assert said is not None
    assert said[1].split(", ") == [
        "clicked 1.60",
        "tip true true",
        "home 0.00",
        "next 0.01",
        "zoomed true",
        "fit true",
        "labels 4 apart true",
        "drawn true",
        "audio true",
    ]
    assert dom.count('<figure class="figure">') == 2
    assert "<circle" in dom
    assert "<rect" in dom
    assert "Every word came back" in dom


@needs_chromium
def test_a_page_of_hostile_words_stays_a_page(picture: CallPicture, tmp_path: Path) -> None:
    nasty = replace(picture, title=NASTY, events=(Moment(0, NASTY, NASTY),), notes=(NASTY,),
                    verdict=Verdict(False, NASTY, (NASTY,)))  # fmt: skip
    dom, console = browse(render(nasty, audio_limit=0), tmp_path)
    assert console == ""
    assert 'data-rendered="yes"' in dom
    assert "<script>alert(1)" not in dom


@needs_chromium
def test_the_browser_would_have_told(picture: CallPicture, tmp_path: Path) -> None:
    outside = '<img src="https://pilotstatus.com.br/x.png"><script>missing()</script>'
    _, console = browse(render(picture), tmp_path, outside)
    assert "missing is not defined" in console
    assert "Content Security Policy" in console
