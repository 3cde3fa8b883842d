"""The command line. Exit codes: 0 ok, 1 failed, 2 wrong usage or configuration."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TypeVar

import typer
from rich.console import Console
from rich.table import Table

from voicebridge import __version__
from voicebridge.errors import ConfigError, VoicebridgeError

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from voicebridge.settings import Settings

T = TypeVar("T")

app = typer.Typer(
    name="voicebridge",
    help="Answers WhatsApp calls with a bot: a realtime voice bridge for Pilot Status (EVO_GO).",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)
calls_app = typer.Typer(
    help="Looks into a running `serve`: its calls, one call, hang up.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)
app.add_typer(calls_app, name="calls")

out = Console()
err = Console(stderr=True)

BotOption = Annotated[
    str | None,
    typer.Option(
        "--bot",
        metavar="SPEC",
        help="Entry-point name (echo), module:Class, or path/to/file.py:Class.",
        show_default=False,
    ),
]
ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", help="TOML file.", show_default="voicebridge.toml"),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for machines.")]


def main() -> None:
    """The console script: turns our errors into one clear line and an exit code."""
    try:
        app()
    except ConfigError as error:
        _fail(error, 2)
    except VoicebridgeError as error:
        _fail(error, 1)
    except KeyboardInterrupt:
        sys.exit(130)


def _fail(error: Exception, code: int) -> NoReturn:
    for line in str(error).splitlines():
        err.print(f"[bold red]voicebridge:[/] {line}", highlight=False, soft_wrap=True)
    sys.exit(code)


def _run(work: Coroutine[Any, Any, T]) -> T:
    """Runs on uvloop where it is installed (the `fast` extra), else on the stock loop."""
    try:
        import uvloop
    except ImportError:
        return asyncio.run(work)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)


def _settings(config: Path | None = None, **flags: Any) -> Settings:
    from voicebridge.logs import configure
    from voicebridge.settings import load_settings

    settings = load_settings(config, **flags)
    configure(settings.log_level, json=settings.log_format == "json", stream=sys.stderr)
    return settings


def _version(wanted: bool) -> None:
    if wanted:
        out.print(f"voicebridge {__version__}", highlight=False)
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    pass


@app.command(epilog="Example: [bold]voicebridge demo --bot echo --out demo-out[/]")
def demo(
    bot: BotOption = None,
    caller: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="What the caller says: an audio file of yours."),
    ] = None,
    out_dir: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Where the results go.")
    ] = Path("demo-out"),
    as_json: JsonOption = False,
) -> None:
    """One whole call with real speech through the real bridge; no account needed.

    Starts the emulator and the bridge, places a call, and writes report.json, call.wav
    (stereo: caller left, bot right) and report.html.
    """
    from voicebridge.lab.demo import run_demo

    console = Console(stderr=True) if as_json else out
    report = run_demo(bot or "echo", caller, out_dir, console=console)
    if as_json:
        print(json.dumps(report.as_dict(), indent=2))  # noqa: T201 - the output asked for
    raise typer.Exit(0 if report.ok else 1)


@app.command(epilog="Example: [bold]voicebridge serve --bot echo --port 8080[/]")
def serve(
    bot: BotOption = None,
    host: Annotated[str | None, typer.Option(metavar="H", help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(metavar="N", help="Port to listen on.")] = None,
    config: ConfigOption = None,
) -> None:
    """Production: webhooks, media, control and metrics on one port.

    Configured by VOICEBRIDGE_... variables, `.env` or a TOML file; the README's table
    lists them. Ctrl-C or SIGTERM drains: live calls go on, new ones are not taken. A
    second signal ends at once.
    """
    settings = _settings(config, bot=bot, host=host, port=port)
    from voicebridge.botspec import load_bot
    from voicebridge.server.production import check_production, run_server

    check_production(settings)
    _run(run_server(settings, load_bot(settings.bot)))


@app.command(epilog="Example: [bold]voicebridge emulator --port 9090 --ring[/]")
def emulator(
    port: Annotated[int, typer.Option(metavar="N", help="Port of the REST API.")] = 9090,
    webhook_url: Annotated[
        str, typer.Option(metavar="URL", help="Where its webhooks go.")
    ] = "http://127.0.0.1:8080/webhooks/pilotstatus",
    webhook_secret: Annotated[
        str, typer.Option(metavar="SECRET", help="Signs its webhooks.", envvar="EMULATOR_SECRET")
    ] = "emulator-secret",
    ring: Annotated[bool, typer.Option(help="Place one call as soon as a bridge is up.")] = False,
) -> None:
    """The EVO_GO side of the world on your machine: develop without a WhatsApp number.

    Prints the variables for `voicebridge serve`, and how to place calls.
    """
    from voicebridge.emulator.shell import run_emulator
    from voicebridge.logs import configure

    configure("info", json=False, stream=sys.stderr)
    asyncio.run(run_emulator(port, webhook_url, webhook_secret, ring=ring, console=out))


@app.command(epilog="Example: [bold]voicebridge dial +5511999990000 --bot echo[/]")
def dial(
    number: Annotated[str, typer.Argument(metavar="NUMBER", help="E.164, e.g. +5511999990000.")],
    bot: BotOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Calls a number and connects it to a bot; returns when the call is over.

    Needs no webhook: the call's status is asked for. Mass dialling from an unofficial
    number risks its ban.
    """
    settings = _settings(config, bot=bot)
    from voicebridge.botspec import load_bot
    from voicebridge.dialling import check_number, dial_once
    from voicebridge.server.production import check_key

    to = check_number(number)
    check_key(settings)
    summary = _run(dial_once(settings, load_bot(settings.bot or "echo"), to))
    if as_json:
        print(json.dumps(summary.as_dict(), indent=2))  # noqa: T201 - the output asked for
    else:
        out.print(
            f"call {summary.id}: {summary.reason} after {summary.duration_seconds:.1f} s"
            f" ({summary.frames['sent']} frames out, {summary.frames['received']} in)",
            highlight=False,
        )
    answered = summary.frames["received"] > 0 or summary.reason == "bot"
    raise typer.Exit(0 if answered else 1)


@app.command(epilog="Example: [bold]voicebridge doctor --json[/]")
def doctor(bot: BotOption = None, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Checks key, provider kind, webhook, secret, media host, clock and bot.

    Each finding that is not well says how to mend it. Exit code 1 if any is not.
    """
    settings = _settings(config, bot=bot)
    from voicebridge.doctor import examine

    with err.status("asking the provider ..."):
        findings = _run(examine(settings))
    if as_json:
        print(json.dumps([each.as_dict() for each in findings], indent=2))  # noqa: T201
    else:
        for each in findings:
            mark = {"ok": "[green]ok  [/]", "warn": "[yellow]warn[/]", "bad": "[red]bad [/]"}
            out.print(f"{mark[each.verdict]} [bold]{each.name}[/]: {each.detail}", highlight=False)
            if each.mend:
                out.print(f"       [dim]{each.mend}[/]", highlight=False)
    raise typer.Exit(1 if any(each.verdict == "bad" for each in findings) else 0)


UrlOption = Annotated[
    str | None,
    typer.Option(
        "--url", metavar="URL", help="Of the running serve; by default its host and port."
    ),
]


@calls_app.command("list", epilog="Example: [bold]voicebridge calls list --json[/]")
def calls_list(
    url: UrlOption = None, config: ConfigOption = None, as_json: JsonOption = False
) -> None:
    """Live calls, then recent ones."""
    from voicebridge.remote import ask

    calls = ask(_settings(config), url, "GET", "/calls")["calls"]
    if as_json:
        print(json.dumps(calls, indent=2))  # noqa: T201 - the output asked for
        return
    table = Table("id", "direction", "state", "bot", "seconds", "reason", box=None)
    for each in calls:
        table.add_row(
            each["id"],
            each["direction"],
            each["state"],
            each["bot"],
            f"{each['duration_seconds']:.0f}",
            each["reason"] or "",
        )
    out.print(table if calls else "no calls yet")


@calls_app.command("show", epilog="Example: [bold]voicebridge calls show call_01HZX[/]")
def calls_show(
    call_id: Annotated[str, typer.Argument(metavar="ID")],
    url: UrlOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Everything known of one call."""
    from voicebridge.remote import ask, path_of

    call = ask(_settings(config), url, "GET", path_of(call_id))
    if as_json:
        print(json.dumps(call, indent=2))  # noqa: T201 - the output asked for
        return
    table = Table(show_header=False, box=None)
    for key, value in call.items():
        table.add_row(f"[bold]{key}[/]", str(value))
    out.print(table)


@calls_app.command("hangup", epilog="Example: [bold]voicebridge calls hangup call_01HZX[/]")
def calls_hangup(
    call_id: Annotated[str, typer.Argument(metavar="ID")],
    url: UrlOption = None,
    config: ConfigOption = None,
) -> None:
    """Ends a live call within a second or so."""
    from voicebridge.remote import ask, path_of

    ask(_settings(config), url, "POST", path_of(call_id) + "/hangup")
    out.print(f"{call_id}: hanging up", highlight=False)


if __name__ == "__main__":
    main()
