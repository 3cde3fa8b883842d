"""`voicebridge dial`: one outbound call, from the number to the exit code."""

from __future__ import annotations

import asyncio
import json
import signal
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from pydantic import SecretStr

from tests.processes import Line, ended
from voicebridge import Bot, Call
from voicebridge.dialling import check_number, dial_once, was_answered
from voicebridge.emulator import Behaviour, CallerBehaviour, Emulator, EmulatorConfig, RestBehaviour
from voicebridge.emulator.behaviour import Outcome
from voicebridge.emulator.script import CallerScript
from voicebridge.errors import ConfigError, ProviderError
from voicebridge.settings import only
from voicebridge.testing import VirtualClock, run_virtual

if TYPE_CHECKING:
    from collections.abc import Iterator

    from voicebridge.summary import CallSummary

NUMBER = "+5511999990000"


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("+5511999990000", NUMBER),
        ("5511999990000", NUMBER),
        ("+55 (11) 99999-0000", NUMBER),
        ("55.11.99999.0000", NUMBER),
        ("+49301234", "+49301234"),
    ],
)
def test_a_number_may_be_written_as_people_do(given: str, meant: str) -> None:
    assert check_number(given) == meant


@pytest.mark.parametrize(
    "given",
    ["", "123", "+", "+0123456789", "5511999990000x", "+55119999900001234", "٥٥١١٩٩٩٩٩٠٠٠٠"],
)
def test_what_is_no_number_is_refused_without_repeating_it(given: str) -> None:
    with pytest.raises(ConfigError, match=r"NUMBER must be E\.164") as caught:
        check_number(given)
    assert not given or len(given) < 3 or given not in str(caught.value)


class Brief(Bot):
    """Says a fifth of a second and hangs up."""

    async def run(self, call: Call) -> None:
        await call.write(b"\x10\x10" * 3_200, sample_rate=16_000)


class Patient(Bot):
    """Listens until the end."""

    async def run(self, call: Call) -> None:
        async for _ in call.audio():
            pass


class Outside:
    """An emulator without any webhook, as the one who dials sees it."""

    def __init__(self, **behaviour: Any) -> None:
        self.emulator = Emulator(
            EmulatorConfig(api_key=SecretStr("ps_world"), seed=1, behaviour=Behaviour(**behaviour)),
            clock=VirtualClock(),
        )

    async def dial(self, bot: Bot) -> CallSummary:
        settings = only(
            api_url="http://emulator",
            api_key="ps_world",
            allow_insecure_media=True,
            call={"dial_seconds": 15},
        )
        try:
            return await dial_once(
                settings,
                bot,
                NUMBER,
                clock=VirtualClock(),
                transport=httpx.ASGITransport(app=self.emulator.app),
                connect=self.emulator.connect_media,
            )
        finally:
            await self.emulator.stop()

    @property
    def status(self) -> str:
        (call,) = self.emulator.calls.values()
        return call.status


def test_the_bot_speaks_and_hangs_up() -> None:
    async def scenario() -> None:
        outside = Outside()
        summary = await outside.dial(Brief())
        assert (summary.reason, outside.status) == ("bot", "COMPLETED")
        assert was_answered(summary)
        assert NUMBER[1:] not in repr(summary)

    run_virtual(scenario())


def test_the_one_who_is_called_hangs_up() -> None:
    async def scenario() -> None:
        outside = Outside()
        outside.emulator.script_outbound(lambda to: CallerScript(number=to, hangup_after=1.0))
        summary = await outside.dial(Patient())
        assert summary.reason == "completed", "found out by asking"
        assert was_answered(summary)

    run_virtual(scenario())


@pytest.mark.parametrize("dialled", ["declines", "no_answer", "unreachable"])
def test_nobody_takes_it(dialled: str) -> None:
    async def scenario() -> None:
        outside = Outside(caller=CallerBehaviour(dialled=dialled))  # type: ignore[arg-type]
        summary = await outside.dial(Patient())
        assert not was_answered(summary)
        assert outside.status not in ("INITIATED", "RINGING", "ACCEPTED")

    run_virtual(scenario())


def test_a_call_that_cannot_be_placed_is_an_error() -> None:
    async def scenario() -> None:
        refused = {"initiate": (Outcome(status=400, error=f"{NUMBER} is not on WhatsApp"),)}
        outside = Outside(rest=RestBehaviour(script=refused))  # type: ignore[arg-type]
        with pytest.raises(ProviderError, match="initiate") as caught:
            await outside.dial(Patient())
        assert NUMBER not in str(caught.value)
        assert not outside.emulator.calls

    run_virtual(scenario())


@pytest.mark.parametrize("after", [1.0, 6.0], ids=["while it rings", "while it is carried"])
def test_the_first_signal_hangs_up(after: float) -> None:
    async def scenario() -> None:
        outside = Outside()
        dialling = asyncio.ensure_future(outside.dial(Patient()))
        await asyncio.sleep(after)
        signal.raise_signal(signal.SIGTERM)
        summary = await dialling
        assert summary.reason == "operator"
        assert was_answered(summary) == (after > 5)
        assert outside.status not in ("RINGING", "ACCEPTED")
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL

    run_virtual(scenario())


# Real processes.


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Line]:
    folder = tmp_path_factory.mktemp("line")
    (folder / "brief.py").write_text(
        "async def brief(call):\n"
        "    await call.write(bytes(6_400), sample_rate=16_000)\n"
        "\n\n"
        "async def patient(call):\n"
        "    async for _ in call.audio():\n"
        "        pass\n"
    )
    line = Line(folder)
    line.ask("PATCH", "/emulator/behaviour", {"caller": {"answers_after_s": 0.1}})
    yield line
    line.close()


@pytest.mark.real
def test_dial_tells_how_it_went(line: Line) -> None:
    command = line.voicebridge("dial", NUMBER, "--bot", "brief.py:brief")
    machine = line.voicebridge(
        "dial", NUMBER, "--bot", "brief.py:brief", "--json", VOICEBRIDGE_LOG_LEVEL="error"
    )
    with ended(command, machine):
        assert command.exit_code() == 0
        command.wait_for(r"call call_\w+: bot after \d+\.\d s \(\d+ frames out, \d+ in\)")
        assert machine.exit_code() == 0
        told = json.loads(machine.output)
        assert (told["direction"], told["reason"]) == ("outbound", "bot")
        for output in (command.output, machine.output):
            for secret in (NUMBER[1:], "ps_emulator", "token="):
                assert secret not in output


@pytest.mark.real
def test_a_signal_leaves_nobody_on_a_dead_line(line: Line) -> None:
    command = line.voicebridge("dial", NUMBER, "--bot", "brief.py:patient")
    with ended(command):
        call_id = command.wait_for(r"\[(call_\w+)\] call started")[1]
        line.wait_for_call(call_id, "ACCEPTED")
        command.signal(signal.SIGTERM)
        command.exit_code()
        command.wait_for(f"call {call_id}: operator")
        assert line.call(call_id)["status"] == "COMPLETED"


@pytest.mark.real
def test_dial_fails_where_nobody_answers(line: Line) -> None:
    line.ask("PATCH", "/emulator/behaviour", {"caller": {"dialled": "declines"}})
    command = line.voicebridge("dial", NUMBER, "--bot", "brief.py:brief")
    with ended(command):
        assert command.exit_code() == 1
        command.wait_for(r"call call_\w+: \w+ after")
