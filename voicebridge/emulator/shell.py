"""`voicebridge emulator`: the emulator in a terminal, and what to type next to use it."""

from __future__ import annotations

import asyncio
import contextlib
import shlex
import signal
from typing import TYPE_CHECKING

import httpx
from pydantic import SecretStr
from rich.markup import escape

from voicebridge.emulator.emulator import Emulator, EmulatorConfig
from voicebridge.emulator.script import CallerScript, built_in_audio
from voicebridge.errors import ConfigError

if TYPE_CHECKING:
    from rich.console import Console

    from voicebridge.emulator.calls import EmulatedCall

#: How often a bridge is looked for before ringing it.
_LOOK_EVERY = 0.5
_HANGUP_AFTER = 2.0


def check_webhook_url(url: str) -> None:
    """Refuses what no webhook could be sent to.

    Raises:
        ConfigError
    """
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL:
        parsed = httpx.URL("")
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise ConfigError("--webhook-url must look like http://127.0.0.1:8080/webhooks/pilotstatus")


async def run_emulator(
    port: int, webhook_url: str, secret: str, *, ring: bool, console: Console
) -> None:
    """Runs until Ctrl-C; with ``ring`` places one call as soon as a bridge answers.

    Raises:
        ConfigError: the port is taken.
    """
    config = EmulatorConfig(
        port=port,
        webhook_url=webhook_url,
        webhook_secret=SecretStr(secret) if secret else None,
    )
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with Emulator(config) as emulator, asyncio.TaskGroup() as tasks:
        speech = built_in_audio()
        emulator.script_outbound(
            lambda number: CallerScript(audio=speech, number=number, hangup_after=_HANGUP_AFTER)
        )
        _greet(emulator, config, secret, console)
        shown = tasks.create_task(_show_calls(emulator, console))
        ringing = tasks.create_task(_ring_once(emulator, webhook_url, console)) if ring else None
        await stop.wait()
        shown.cancel()
        if ringing is not None:
            ringing.cancel()


def _greet(emulator: Emulator, config: EmulatorConfig, secret: str, console: Console) -> None:
    variables = {
        "VOICEBRIDGE_API_URL": emulator.api_url,
        "VOICEBRIDGE_API_KEY": config.api_key.get_secret_value(),
        "VOICEBRIDGE_WEBHOOK_SECRET": secret,
        "VOICEBRIDGE_ALLOW_INSECURE_MEDIA": "true",
    }
    console.print(
        f"The emulator answers at {emulator.api_url}", style="bold", highlight=False, markup=False
    )
    console.print("\nIn a second terminal, a bridge for it:\n", highlight=False)
    for key, value in variables.items():
        if value:
            console.print(
                f"  export {key}={shlex.quote(value)}",
                highlight=False,
                markup=False,
                soft_wrap=True,
            )
    port = httpx.URL(config.webhook_url or "").port
    console.print(
        "  voicebridge serve --bot echo" + (f" --port {port}" if port not in (None, 8080) else ""),
        highlight=False,
    )
    console.print("\nIn a third, a customer who calls (or start with --ring):\n", highlight=False)
    console.print(
        f"  curl -X POST {emulator.api_url}/emulator/calls"
        " -H 'content-type: application/json' -d '{}'",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
    console.print(
        f"\nWebhooks go to {config.webhook_url}. Ctrl-C ends.\n",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )


async def _ring_once(emulator: Emulator, webhook_url: str, console: Console) -> None:
    """Waits for a bridge, then rings it."""
    health = httpx.URL(webhook_url).copy_with(path="/healthz")
    async with httpx.AsyncClient(timeout=2.0, trust_env=False) as client:
        console.print("waiting for a bridge ...", highlight=False)
        while True:
            with contextlib.suppress(httpx.HTTPError):
                if (await client.get(health)).is_success:
                    break
            await asyncio.sleep(_LOOK_EVERY)
    await emulator.ring(CallerScript(audio=built_in_audio(), hangup_after=_HANGUP_AFTER))


async def _show_calls(emulator: Emulator, console: Console) -> None:
    """Prints what happens in every call, as it happens."""
    shown: dict[str, int] = {}
    while True:
        for call in tuple(emulator.calls.values()):
            seen = shown.get(call.id, 0)
            for at, what, detail in tuple(call.timeline)[seen:]:
                console.print(
                    f"[dim]{escape(call.id[-6:])}[/] {at - call.created:8.3f} s  {escape(what)}"
                    f" [dim]{escape(detail)}[/]",
                    highlight=False,
                    soft_wrap=True,
                )
                if what == "ended":
                    _show_end(call, console)
            shown[call.id] = len(call.timeline)
        await asyncio.sleep(0.1)


def _show_end(call: EmulatedCall, console: Console) -> None:
    measured = call.far_end.measurement()
    console.print(
        f"[dim]{escape(call.id[-6:])}[/]   {measured.messages} messages, longest hole"
        f" {measured.longest_hole_ms:.0f} ms, jitter p99 {measured.jitter_ms_p99:.1f} ms",
        highlight=False,
        soft_wrap=True,
    )
