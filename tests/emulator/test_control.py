"""The control API, the caller's voices, and the model of switches."""

from __future__ import annotations

import asyncio
import io
import wave
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import soundfile
from pydantic import ValidationError

from tests.emulator.world import World, stream, tone
from voicebridge.emulator import (
    Behaviour,
    CallerScript,
    EmulatorConfig,
    Outcome,
    Stall,
    built_in_audio,
    load_audio,
    synthetic_speech,
)
from voicebridge.errors import AudioError
from voicebridge.testing.clock import run_virtual

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path


def run(scenario: Callable[[World], Awaitable[None]]) -> None:
    async def main() -> None:
        async with World() as world:
            await scenario(world)

    run_virtual(main())


def samples(raw: bytes) -> np.ndarray[Any, np.dtype[np.int16]]:
    with wave.open(io.BytesIO(raw)) as file:
        assert (file.getnchannels(), file.getframerate()) == (1, 16_000)
        return np.frombuffer(file.readframes(file.getnframes()), np.int16)


def test_a_developer_places_a_call_and_listens_to_it(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "hello.flac", tone(0.5), 16_000)

    async def scenario(world: World) -> None:
        body = {"audio": str(tmp_path / "hello.flac"), "number": "+55 11 98888-7777"}
        reply = await world.post("/emulator/calls", body | {"hangup_after": 1})
        assert reply.status_code == 201
        call = world.emulator.calls[reply.json()["id"]]
        assert call.peer == "+5511988887777"
        await world.post(f"/v1/calls/{call.id}/accept")
        _, socket = await world.connect(call)
        await asyncio.sleep(0.4)  # before the call connects nobody hears it
        await stream(socket, 10)
        await call.ended()
        report = (await world.http.get(f"/emulator/calls/{call.external_id}")).json()
        assert (report["status"], report["reason"]) == ("COMPLETED", "hangup")
        assert report["measurement"]["messages"] == 10
        assert report["measurement"]["sizes"] == {"1920": 10}
        assert [step["what"] for step in report["timeline"]][-1] in ("ended", "media_closed")
        spoken = samples((await world.http.get(f"/emulator/calls/{call.id}/spoken.wav")).content)
        heard = samples((await world.http.get(f"/emulator/calls/{call.id}/heard.wav")).content)
        assert np.count_nonzero(spoken) == 8_000
        assert np.count_nonzero(heard) == 9_600
        assert len(spoken) == len(heard)
        calls = (await world.http.get("/emulator/calls")).json()["calls"]
        assert [row["id"] for row in calls] == [call.id]
        about = (await world.http.get("/emulator")).json()
        assert (about["kind"], about["calls"], about["liveCalls"]) == ("EVO_GO", 1, 0)

    run(scenario)


def test_hang_up() -> None:
    async def scenario(world: World) -> None:
        reply = await world.post("/emulator/calls", {"hangup_after": None})
        call = world.emulator.calls[reply.json()["id"]]
        await world.post(f"/v1/calls/{call.id}/accept")
        await asyncio.sleep(5.0)
        reply = await world.post(f"/emulator/calls/{call.id}/hangup", {})
        assert reply.json()["status"] == "COMPLETED"
        ringing = (await world.post("/emulator/calls", {})).json()["id"]
        reply = await world.post(f"/emulator/calls/{ringing}/hangup", {})
        assert reply.json()["status"] == "MISSED"

    run(scenario)


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ({"audio": "/nowhere/x.wav"}, "cannot be read"),
        ({"number": "12"}, "to"),
        ({"hangup_after": -1}, "hangup_after"),
        ({"colour": "red"}, "colour"),
        ([], "JSON object"),
    ],
)
def test_wishes_that_cannot_be_met(body: Any, problem: str) -> None:
    async def scenario(world: World) -> None:
        reply = await world.post("/emulator/calls", body)
        assert reply.status_code == 400
        assert problem in reply.json()["error"]
        assert not world.emulator.calls

    run(scenario)


def test_a_foreign_web_page_cannot_ring() -> None:
    async def scenario(world: World) -> None:
        for kind in ("text/plain", "application/x-www-form-urlencoded"):
            headers = {"content-type": kind}
            reply = await world.http.post("/emulator/calls", content="{}", headers=headers)
            assert reply.status_code == 415
        assert (await world.http.get("/emulator/calls/none")).status_code == 404

    run(scenario)


def test_behaviour_is_read_replaced_and_changed() -> None:
    async def scenario(world: World) -> None:
        path = "/emulator/behaviour"
        default = (await world.http.get(path)).json()
        assert Behaviour.model_validate(default) == Behaviour()
        changed = await world.http.patch(path, json={"media": {"silence": "dtx"}})
        assert changed.json()["media"]["silence"] == "dtx"
        await world.http.patch(path, json={"rest": {"latency_s": 0.5}})
        assert world.emulator.behaviour.media.silence == "dtx"
        assert world.emulator.behaviour.rest.latency_s == 0.5
        replaced = await world.http.put(path, json={"webhooks": {"copies": 2}})
        assert replaced.json()["media"]["silence"] == "frames"
        changes: list[dict[str, Any]] = [{"media": {"silence": "loud"}}, {"nothing": {}}]
        for wrong in [*changes, {"media": 3}]:
            reply = await world.http.patch(path, json=wrong)
            assert reply.status_code == 400
            assert next(iter(wrong)) in reply.json()["error"]
        assert world.emulator.behaviour.webhooks.copies == 2

    run(scenario)


def test_a_running_call_keeps_its_media_behaviour() -> None:
    async def scenario(world: World) -> None:
        call = await world.answered(CallerScript())
        world.emulator.behaviour = Behaviour.model_validate({"media": {"uplink": "deaf"}})
        end, _ = await world.connect(call)
        deaf, _, _ = await world.joined()
        await asyncio.sleep(2.0)
        assert end.audio
        assert deaf.behaviour.media.uplink == "deaf"

    run(scenario)


def test_every_switch_is_documented_and_bounded() -> None:
    groups: list[Any] = [field.annotation for field in Behaviour.model_fields.values()]
    for model in [*groups, Outcome, Stall]:
        for switch, field in model.model_fields.items():
            assert field.description, f"{model.__name__}.{switch} says nothing"
    wrong_values: list[dict[str, int]] = [
        {"frame_ms": 61},
        {"frame_ms": 0},
        {"sample_rate": 44_100},
        {"cut_code": 999},
    ]
    for wrong in wrong_values:
        with pytest.raises(ValidationError):
            Behaviour.model_validate({"media": wrong})
    with pytest.raises(ValidationError, match="frozen"):
        setattr(Behaviour().media, "frame_ms", 20)  # noqa: B010 - a plain one is no valid type


class TestVoices:
    def test_files_are_mixed_and_resampled(self, tmp_path: Path) -> None:
        t = np.arange(44_100) / 44_100
        left = 0.5 * np.sin(2 * np.pi * 440 * t)
        soundfile.write(tmp_path / "a.wav", np.stack([left, left], axis=1), 44_100)
        loaded = load_audio(tmp_path / "a.wav")
        assert loaded.dtype == np.int16
        assert len(loaded) == pytest.approx(16_000, abs=2)
        assert np.abs(loaded[2_000:14_000]).max() == pytest.approx(16_384, rel=0.02)

    def test_what_is_no_audio_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "a.txt").write_text("hello")
        for path in (tmp_path / "a.txt", tmp_path / "none.wav", tmp_path):
            with pytest.raises(AudioError, match="cannot be read"):
                load_audio(path)

    def test_there_is_always_a_voice(self) -> None:
        for voice in (built_in_audio(), synthetic_speech()):
            assert voice.dtype == np.int16
            assert len(voice) > 16_000
            assert 2_000 < np.abs(voice.astype(int)).max() < 32_768

    def test_the_same_seed_makes_the_same_ids(self) -> None:
        async def main() -> list[str]:
            async with World() as world:
                call = await world.answered(CallerScript())
                return [call.id, call.external_id or "", await world.session(call)]

        assert run_virtual(main()) == run_virtual(main())

    def test_a_config_refuses_what_it_does_not_know(self) -> None:
        with pytest.raises(ValidationError):
            EmulatorConfig.model_validate({"prot": 8080})
