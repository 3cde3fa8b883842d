"""The command line. Exit codes: 0 ok, 1 failed, 2 wrong usage or configuration."""

from __future__ import annotations

import asyncio
import json
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TypeVar

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from voicebridge import __version__
from voicebridge.errors import ConfigError, VoicebridgeError

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from voicebridge.doctor import Finding
    from voicebridge.settings import Settings
    from voicebridge.summary import CallSummary

T = TypeVar("T")

_TRY, _RUN, _LOOK = "Try it, without an account", "Run it", "Look into it"
#: Where nobody looks at it: lines are read by programs, which want ids in one piece.
_PIPED_WIDTH = 200

app = typer.Typer(
    name="voicebridge",
    help="Answers WhatsApp calls with a bot: a realtime voice bridge for Pilot Status.",
    epilog="Start with: **voicebridge demo**",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)
calls_app = typer.Typer(
    help="Lists, shows and hangs up the calls of a running `serve`.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)
app.add_typer(calls_app, name="calls", rich_help_panel=_LOOK)

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
PortOption = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        min=0,
        max=65_535,
        help="Port to listen on; 0 takes a free one.",
        show_default="8080",
    ),
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
    except (KeyboardInterrupt, asyncio.CancelledError):
        sys.exit(130)
    except Exception:
        # The interpreter's own traceback would show what a bot's exception holds.
        from voicebridge.logs import redact

        err.print(redact(traceback.format_exc()), markup=False, highlight=False, soft_wrap=True)
        sys.exit(1)


def _fail(error: Exception, code: int) -> NoReturn:
    for line in str(error).splitlines():
        err.print(f"[bold red]voicebridge:[/] {escape(line)}", highlight=False, soft_wrap=True)
    sys.exit(code)


def _print_json(value: object) -> None:
    print(json.dumps(value, indent=2))  # noqa: T201 - the output asked for


def _print_table(table: Table) -> None:
    console = out if out.is_terminal else Console(file=out.file, width=_PIPED_WIDTH)
    console.print(table)


def _run(work: Coroutine[Any, Any, T]) -> T:
    """Runs on uvloop where it is installed (the `fast` extra), else on the stock loop."""
    try:
        import uvloop
    except ImportError:
        return asyncio.run(work)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)


def _settings(config: Path | None = None, *, quiet: bool = False, **flags: Any) -> Settings:
    """Settings, and logging as they say; ``quiet`` leaves progress out of it."""
    from voicebridge.logs import configure
    from voicebridge.settings import load_settings

    settings = load_settings(config, **flags)
    level = "warning" if quiet and settings.log_level == "info" else settings.log_level
    configure(level, json=settings.log_format == "json", stream=sys.stderr)
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


@app.command(epilog="Example: **voicebridge demo --bot echo --out demo-out**", rich_help_panel=_TRY)
def demo(
    bot: BotOption = None,
    caller: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            exists=True,
            dir_okay=False,
            help="What the caller says: an audio file of yours.",
            show_default="recordings that come with it",
        ),
    ] = None,
    out_dir: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Where the results go.")
    ] = Path("demo-out"),
    as_json: JsonOption = False,
) -> None:
    """One whole call with real speech through the real bridge.

    Starts the emulator and the bridge, places a call, and writes report.json, call.wav
    (stereo: caller left, bot right) and report.html.
    """
    from voicebridge.lab.demo import run_demo
    from voicebridge.logs import configure

    console = Console(stderr=True) if as_json else out
    configure("warning", json=False, stream=sys.stderr)
    report = run_demo(bot or "echo", caller, out_dir, console=console)
    if as_json:
        _print_json(report.as_dict())
    raise typer.Exit(0 if report.ok else 1)


@app.command(epilog="Example: **voicebridge serve --bot echo --port 8080**", rich_help_panel=_RUN)
def serve(
    bot: BotOption = None,
    host: Annotated[
        str | None,
        typer.Option(metavar="H", help="Address to listen on.", show_default="127.0.0.1"),
    ] = None,
    port: PortOption = None,
    config: ConfigOption = None,
) -> None:
    """Answers calls: webhooks, media, control and metrics on one port.

    Configured by VOICEBRIDGE_... variables, `.env` or a TOML file; the README's table
    lists them. Ctrl-C or SIGTERM drains: live calls go on, new ones are not taken. A
    second signal ends at once.
    """
    settings = _settings(config, bot=bot, host=host, port=port)
    from voicebridge.botspec import load_bot
    from voicebridge.server.production import check_production, run_server

    check_production(settings)
    _run(run_server(settings, load_bot(settings.bot)))


@app.command(epilog="Example: **voicebridge emulator --port 9090 --ring**", rich_help_panel=_TRY)
def emulator(
    port: Annotated[
        int,
        typer.Option(
            metavar="N", min=0, max=65_535, help="Port of the REST API; 0 takes a free one."
        ),
    ] = 9090,
    webhook_url: Annotated[
        str, typer.Option(metavar="URL", help="Where its webhooks go.")
    ] = "http://127.0.0.1:8080/webhooks/pilotstatus",
    webhook_secret: Annotated[
        str, typer.Option(metavar="SECRET", help="Signs its webhooks.", envvar="EMULATOR_SECRET")
    ] = "emulator-secret",
    ring: Annotated[
        bool, typer.Option("--ring", help="Place one call as soon as a bridge is up.")
    ] = False,
) -> None:
    """The provider's side alone: develop without a WhatsApp number.

    Prints the variables for `voicebridge serve`, and how to place calls.
    """
    from voicebridge.emulator.shell import check_webhook_url, run_emulator
    from voicebridge.logs import configure

    check_webhook_url(webhook_url)
    configure("info", json=False, stream=sys.stderr)
    asyncio.run(run_emulator(port, webhook_url, webhook_secret, ring=ring, console=out))


@app.command(epilog="Example: **voicebridge dial +5511999990000 --bot echo**", rich_help_panel=_RUN)
def dial(
    number: Annotated[str, typer.Argument(metavar="NUMBER", help="E.164, e.g. +5511999990000.")],
    bot: BotOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Calls a number and connects it to a bot, `echo` if none is named.

    Returns when the call is over: 0 if somebody answered, 1 if not. Needs no webhook, as
    it asks for the call's status. Ctrl-C hangs up. Mass dialling from an unofficial number
    risks its ban.
    """
    settings = _settings(config, bot=bot)
    from voicebridge.botspec import load_bot
    from voicebridge.dialling import check_number, dial_once, was_answered
    from voicebridge.server.production import check_key

    to = check_number(number)
    check_key(settings)
    summary = _run(dial_once(settings, load_bot(settings.bot or "echo"), to))
    _print_json(summary.as_dict()) if as_json else out.print(_told(summary), highlight=False)
    raise typer.Exit(0 if was_answered(summary) else 1)


def _told(summary: CallSummary) -> str:
    """What a person wants to know of a call that is over."""
    frames = f"{summary.frames['sent']} frames out, {summary.frames['received']} in"
    return (
        f"call {escape(summary.id)}: {escape(summary.reason or summary.state)}"
        f" after {summary.duration_seconds:.1f} s ({frames})"
    )


@app.command(epilog="Example: **voicebridge doctor --bot echo**", rich_help_panel=_LOOK)
def doctor(bot: BotOption = None, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Finds what keeps a line from working, and says how to mend it.

    Checks key, provider kind, webhook, secret, media host, clock and bot; changes nothing.
    Exit code 1 if anything keeps calls from working.
    """
    settings = _settings(config, quiet=True, bot=bot)
    from voicebridge.doctor import examine

    with err.status("asking the provider ..."):
        findings = _run(examine(settings))
    if as_json:
        _print_json([each.as_dict() for each in findings])
    else:
        _print_findings(findings)
    raise typer.Exit(1 if any(each.verdict == "bad" for each in findings) else 0)


def _print_findings(findings: list[Finding]) -> None:
    marks = {"ok": "[green]ok[/]", "warn": "[yellow]warn[/]", "bad": "[bold red]bad[/]"}
    table = Table(box=None, show_header=False, pad_edge=False)
    for each in findings:
        mend = f"\n[dim]-> {escape(each.mend)}[/]" if each.mend else ""
        table.add_row(marks[each.verdict], f"[bold]{each.name}[/]", escape(each.detail) + mend)
    _print_table(table)
    bad = sum(each.verdict == "bad" for each in findings)
    warned = sum(each.verdict == "warn" for each in findings)
    out.print(
        f"\n{bad} to mend, {warned} to look at" if bad or warned else "\nall is well",
        highlight=False,
    )


UrlOption = Annotated[
    str | None,
    typer.Option(
        "--url", metavar="URL", help="Of the running serve; by default its host and port."
    ),
]


@calls_app.command("list", epilog="Example: **voicebridge calls list --json**")
def calls_list(
    url: UrlOption = None, config: ConfigOption = None, as_json: JsonOption = False
) -> None:
    """Live calls, then recent ones."""
    from voicebridge.remote import list_calls

    calls = list_calls(_settings(config, quiet=True), url)
    if as_json:
        _print_json(calls)
        return
    if not calls:
        out.print("no calls yet")
        return
    table = Table(box=None, pad_edge=False)
    for column in ("id", "direction", "state", "bot", "seconds", "reason"):
        # An id that was cut short is of no use to `show` and `hangup`.
        table.add_column(column, no_wrap=column == "id", overflow="fold")
    for each in calls:
        values = (each.get(name) for name in ("id", "direction", "state", "bot"))
        row = [*values, f"{each.get('duration_seconds', 0):.0f}", each.get("reason")]
        table.add_row(*(escape(str(value or "")) for value in row))
    _print_table(table)


@calls_app.command("show", epilog="Example: **voicebridge calls show call_01HZX**")
def calls_show(
    call_id: Annotated[str, typer.Argument(metavar="ID", help="As `calls list` shows it.")],
    url: UrlOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Everything known of one call."""
    from voicebridge.remote import show_call

    call = show_call(_settings(config, quiet=True), url, call_id)
    if as_json:
        _print_json(call)
        return
    table = Table(show_header=False, box=None, pad_edge=False)
    for key, value in call.items():
        if isinstance(value, dict):
            value = ", ".join(f"{name} {figure}" for name, figure in value.items())
        table.add_row(f"[bold]{escape(key)}[/]", escape("" if value is None else str(value)))
    _print_table(table)


@calls_app.command("hangup", epilog="Example: **voicebridge calls hangup call_01HZX**")
def calls_hangup(
    call_id: Annotated[str, typer.Argument(metavar="ID", help="As `calls list` shows it.")],
    url: UrlOption = None,
    config: ConfigOption = None,
) -> None:
    """Ends a live call within a second or so."""
    from voicebridge.remote import hang_up

    hang_up(_settings(config, quiet=True), url, call_id)
    out.print(f"{call_id}: hanging up", highlight=False, markup=False)


if __name__ == "__main__":
    main()
