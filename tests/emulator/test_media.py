"""Media sockets in virtual time: tokens, audio both ways, closes, and what the network does."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from pydantic import SecretStr

from tests.emulator.world import FRAME, RATE, BridgeEnd, World, loud, media, stream, tone
from voicebridge.emulator import (
    Behaviour,
    CallerBehaviour,
    CallerScript,
    MediaBehaviour,
    NetworkBehaviour,
    RestBehaviour,
    Stall,
)
from voicebridge.errors import MediaUnavailable
from voicebridge.testing.clock import Deadlock, UnhandledError, run_virtual

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


def run(scenario: Callable[[World], Awaitable[None]], behaviour: Behaviour | None = None) -> None:
    async def main() -> None:
        async with World(behaviour) as world:
            await scenario(world)

    run_virtual(main())


def test_a_whole_call_hears_and_is_heard_sample_by_sample() -> None:
    async def scenario(world: World) -> None:
        speech = tone(0.9)
        call, end, socket = await world.joined(CallerScript(audio=speech, hangup_after=1.0))
        await asyncio.sleep(0.4)  # before the call connects nobody hears it
        await stream(socket, 20)
        await call.ended()
        assert call.status == "COMPLETED"
        assert end.code == 1000
        heard_by_bridge = np.frombuffer(end.heard, "<i2")
        np.testing.assert_array_equal(heard_by_bridge[heard_by_bridge != 0], speech)
        heard = call.far_end.heard
        assert heard[heard != 0].tobytes() == loud(20)
        what = [name for _, name, _ in call.timeline]
        for step in ("created", "accept", "realtime_session", "media_open", "connected", "ended"):
            assert step in what
        assert call.when("first_sound") is not None

    run(scenario)


@pytest.mark.parametrize(("starts", "queued_ms"), [("media", 120), ("connected", 300)])
def test_what_comes_before_the_call_connects(starts: Any, queued_ms: int) -> None:
    """An engine that starts late keeps it queued: a delay for the whole call."""

    async def scenario(world: World) -> None:
        call, _, socket = await world.joined()
        await stream(socket, 20)
        assert call.far_end.measurement().max_queue_ms == pytest.approx(queued_ms, abs=60)

    run(scenario, Behaviour(media=MediaBehaviour(engine_starts=starts)))


def test_audio_is_due_on_an_absolute_grid() -> None:
    async def scenario(world: World) -> None:
        call, end, _ = await world.joined()
        await asyncio.sleep(60.0)
        assert call.connected is not None
        instants = np.array([at for at, _ in end.audio][3:]) - call.connected
        np.testing.assert_allclose(instants / 0.06, np.round(instants / 0.06), atol=1e-6)
        assert len(end.audio) == 1_000 - 5  # connected 0.3 s after the socket opened

    run(scenario)


@pytest.mark.parametrize("shape", ["query", "path"])
def test_both_shapes_of_the_url_lead_to_the_call(shape: Any) -> None:
    async def scenario(world: World) -> None:
        call = await world.answered()
        url = await world.session(call)
        assert "?token=" in url
        assert ((call.external_id or "-") in url) == (shape == "path")
        await world.emulator.connect_media(SecretStr(url), BridgeEnd())
        await asyncio.sleep(0)
        assert call.when("media_open") is not None

    run(scenario, Behaviour(rest=RestBehaviour(ws_url_shape=shape)))


class TestTokens:
    async def refused(self, world: World, url: str) -> int | None:
        with pytest.raises(MediaUnavailable) as caught:
            await world.emulator.connect_media(SecretStr(url), BridgeEnd())
        assert "token" not in str(caught.value)
        return caught.value.status

    def test_single_use(self) -> None:
        async def scenario(world: World) -> None:
            call = await world.answered()
            url = await world.session(call)
            await world.emulator.connect_media(SecretStr(url), BridgeEnd())
            assert await self.refused(world, url) == 401
            assert call.far_end.measurement().tokens_reused == 1

        run(scenario)

    def test_expiry(self) -> None:
        async def scenario(world: World) -> None:
            call = await world.answered()
            url = await world.session(call)
            await asyncio.sleep(2.1)
            assert await self.refused(world, url) == 401
            assert call.far_end.measurement().tokens_reused == 0

        run(scenario, Behaviour(rest=RestBehaviour(token_ttl_s=2.0)))

    def test_reusable(self) -> None:
        async def scenario(world: World) -> None:
            call = await world.answered()
            url = SecretStr(await world.session(call))
            await world.emulator.connect_media(url, BridgeEnd())
            await world.emulator.connect_media(url, BridgeEnd())

        run(scenario, Behaviour(rest=RestBehaviour(token_reusable=True)))

    @pytest.mark.parametrize(
        ("target", "status"),
        [
            ("/call/media/realtime/ws?token=nonsense", 401),
            ("/call/media/realtime/ws", 401),
            ("/", 404),
            ("/call/media/realtime/wsx?token=x", 404),
        ],
    )
    def test_unknown(self, target: str, status: int) -> None:
        async def scenario(world: World) -> None:
            assert await self.refused(world, f"ws://media.emulator{target}") == status

        run(scenario)

    def test_a_token_opens_no_other_call(self) -> None:
        async def scenario(world: World) -> None:
            call, other = await world.answered(), await world.answered()
            url = await world.session(call)
            url = url.replace(call.external_id or "-", other.external_id or "-")
            assert await self.refused(world, url) == 404

        run(scenario, Behaviour(rest=RestBehaviour(ws_url_shape="path")))

    def test_an_ended_call_has_no_media(self) -> None:
        async def scenario(world: World) -> None:
            call = await world.answered()
            url = await world.session(call)
            await world.emulator.hang_up(call)
            assert await self.refused(world, url) == 410

        run(scenario)

    def test_scripted_handshakes_spend_the_token(self) -> None:
        async def scenario(world: World) -> None:
            call = await world.answered()
            for expected in (503, None):
                url = await world.session(call)
                assert await self.refused(world, url) == expected
                assert await self.refused(world, url) in (401, 404)
            # 404 was the third of the script; all is well again
            await world.connect(call)

        run(scenario, media(handshakes=(503, 404, "reset")))

    def test_a_handshake_that_hangs(self) -> None:
        async def scenario(world: World) -> None:
            call = await world.answered()
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(3.0):
                    await world.connect(call)

        run(scenario, media(handshakes=("hang",)))


class TestHello:
    @pytest.mark.parametrize(
        ("style", "key", "value"),
        [
            ("start", "sampleRate", 16_000),
            ("waxum", "frame_samples", 960),
            ("wadial", "type", "ready"),
            ("lg", "frameMs", 60),
        ],
    )
    def test_styles(self, style: str, key: str, value: object) -> None:
        async def scenario(world: World) -> None:
            call, end, _ = await world.joined()
            await asyncio.sleep(1.0)
            assert json.loads(end.texts[0])[key] == value
            await world.emulator.hang_up(call)
            farewell = [json.loads(text)["event"] for text in end.texts[1:]]
            assert farewell == {"wadial": ["ended"], "waxum": []}.get(style, ["stop"])

        run(scenario, media(hello=style))

    def test_none(self) -> None:
        async def scenario(world: World) -> None:
            call, end, _ = await world.joined()
            await asyncio.sleep(1.0)
            await world.emulator.hang_up(call)
            assert end.texts == []

        run(scenario)


def test_json_mode_carries_audio_both_ways() -> None:
    async def scenario(world: World) -> None:
        call, end, socket = await world.joined(CallerScript(audio=tone(0.3)))
        payload = base64.b64encode(loud()).decode()
        await asyncio.sleep(0.4)
        socket.send_text(json.dumps({"event": "media", "payload": payload}))
        await asyncio.sleep(1.5)
        assert end.audio == []
        first = json.loads(end.texts[0])
        assert len(base64.b64decode(first["payload"])) == FRAME
        assert np.count_nonzero(call.far_end.heard) == FRAME // 2
        assert call.far_end.measurement().text_frames == 0
        socket.send_text('{"event":"media","payload":"%%%"}')
        assert call.far_end.measurement().text_frames == 1

    run(scenario, media(json_mode=True))


def test_text_in_binary_mode_is_counted() -> None:
    async def scenario(world: World) -> None:
        call, _, socket = await world.joined()
        await asyncio.sleep(0)
        socket.send_text("hello")
        assert call.far_end.measurement().text_frames == 1

    run(scenario)


class TestClose:
    @pytest.mark.parametrize("code", [1000, 1001, 1006, 1008, 1011, 4001])
    def test_code_at_the_end_of_the_call(self, code: int) -> None:
        async def scenario(world: World) -> None:
            call, end, _ = await world.joined()
            await asyncio.sleep(1.0)
            await world.post(f"/v1/calls/{call.id}/terminate")
            assert end.code == code

        run(scenario, media(end_code=code))

    @pytest.mark.parametrize(
        ("on_close", "over_after"), [("keep", None), ("hang_up", 0.0), ("hang_up_after_grace", 3.0)]
    )
    def test_hang_up_on_close(self, on_close: str, over_after: float | None) -> None:
        async def scenario(world: World) -> None:
            call, end, socket = await world.joined()
            await asyncio.sleep(1.0)
            await socket.close()
            closed_at = asyncio.get_running_loop().time()
            assert end.code == 1000
            await asyncio.sleep(10.0)
            ended = call.when("ended")
            assert (None if ended is None else ended - closed_at) == over_after
            assert call.reason == (None if over_after is None else "stream_closed")

        run(scenario, media(on_close=on_close, close_grace_s=3.0))

    def test_a_new_socket_within_the_grace_keeps_the_call(self) -> None:
        async def scenario(world: World) -> None:
            call, _, socket = await world.joined()
            await asyncio.sleep(1.0)
            await socket.close()
            await asyncio.sleep(2.0)
            await world.connect(call)
            await asyncio.sleep(30.0)
            assert call.status == "ACCEPTED"

        run(scenario)

    @pytest.mark.parametrize(
        ("cuts", "codes"),
        [(1, [1011, 1001, None]), (2, [1011, 1011, None]), (0, [1011, 1011, 1011])],
    )
    def test_cut(self, cuts: int, codes: list[int | None]) -> None:
        async def scenario(world: World) -> None:
            call = await world.answered()
            ends = []
            for _ in range(3):
                end, _ = await world.connect(call)
                ends.append(end)
                await asyncio.sleep(2.5)
            assert [end.closes[0][1] if end.closes else None for end in ends] == codes

        run(scenario, media(cut_after_s=2.0, cut_code=1011, cuts=cuts))

    @pytest.mark.parametrize(
        ("rule", "codes"),
        [("evict", [1001, None]), ("refuse", [None, 1008]), ("allow", [None] * 2)],
    )
    def test_second_socket(self, rule: str, codes: list[int | None]) -> None:
        async def scenario(world: World) -> None:
            call = await world.answered()
            (first, _), (second, _) = await world.connect(call), await world.connect(call)
            await asyncio.sleep(2.0)
            got = [end.closes[0][1] if end.closes else None for end in (first, second)]
            assert got == codes
            if rule == "allow":
                assert first.heard == second.heard != b""

        run(scenario, media(second_socket=rule))

    def test_wrong_size_can_be_fatal(self) -> None:
        async def scenario(world: World) -> None:
            _, end, socket = await world.joined()
            await asyncio.sleep(0)
            socket.send(bytes(640))
            assert end.code == 1008
            assert socket.send(bytes(FRAME)) is False

        run(scenario, media(wrong_size="close"))


def test_listen_mode_hears_and_is_not_heard() -> None:
    async def scenario(world: World) -> None:
        call = await world.answered(CallerScript(audio=tone(0.3)))
        end = BridgeEnd()
        url = SecretStr(await world.session(call, "listen"))
        socket = await world.emulator.connect_media(url, end)
        await asyncio.sleep(1.0)
        socket.send(loud())
        await asyncio.sleep(1.0)
        assert any(data.count(0) != len(data) for _, data in end.audio)
        assert not call.far_end.heard.any()

    run(scenario)


class TestNetwork:
    def network(self, **switches: Any) -> Behaviour:
        return Behaviour(network=NetworkBehaviour(**switches), media=MediaBehaviour(prefill_ms=0))

    def test_delay_and_jitter_keep_the_order(self) -> None:
        async def scenario(world: World) -> None:
            speech = np.arange(1, 16_001, dtype=np.int16)
            call, end, _ = await world.joined(CallerScript(audio=speech, hangup_after=2.0))
            await asyncio.sleep(3.0)
            assert call.connected is not None
            got = np.frombuffer(end.heard, "<i2")
            np.testing.assert_array_equal(got[got != 0], speech)
            late = [(at - call.connected) % 0.06 for at, _ in end.audio]
            assert max(late) > 0.03
            delays = [at - (call.connected + (n + 1) * 0.06) for n, (at, _) in enumerate(end.audio)]
            assert min(delays) >= 0.1 - 1e-6
            assert max(delays) <= 0.15 + 1e-6

        run(scenario, self.network(delay_ms=100, jitter_ms=50))

    def test_a_stall_delivers_late_and_everything(self) -> None:
        async def scenario(world: World) -> None:
            _, end, socket = await world.joined()
            await asyncio.sleep(1.5)
            socket.ping(b"x")
            await asyncio.sleep(3.0)
            gaps = np.diff([at for at, _ in end.audio])
            assert gaps.max() == pytest.approx(1.0, abs=0.07)
            assert len(end.audio) == int((4.5 - 0.3) / 0.06)
            assert end.pongs == [(2.0, b"x")]  # held back like everything else

        run(scenario, self.network(stalls=(Stall(at_s=1.0, seconds=1.0),)))

    def test_a_stall_from_the_bridge_clogs_its_link(self) -> None:
        async def scenario(world: World) -> None:
            call, end, socket = await world.joined()
            await asyncio.sleep(1.2)
            taken = 0
            while socket.send(loud()):
                taken += 1
            assert taken == 64 * 1024 // FRAME
            assert call.far_end.measurement().messages == 0
            socket.ping(b"p")
            await asyncio.sleep(2.0)
            assert call.far_end.measurement().messages == taken
            assert len(end.audio) > 40  # the other way was open

        run(scenario, self.network(stalls=(Stall(at_s=1.0, seconds=1.0, way="from_bridge"),)))

    def test_clock_drift(self) -> None:
        async def scenario(world: World) -> None:
            _, end, _ = await world.joined()
            await asyncio.sleep(60.3)
            assert len(end.audio) == int(60.0 * 1.005 / 0.06 + 1e-6)

        run(scenario, self.network(drift_ppm=5_000))


class TestPings:
    @pytest.mark.parametrize("answered", [True, False])
    def test_of_the_bridge(self, answered: bool) -> None:
        async def scenario(world: World) -> None:
            _, end, socket = await world.joined()
            await asyncio.sleep(0)
            socket.ping(b"1")
            await asyncio.sleep(0.1)
            assert [payload for _, payload in end.pongs] == ([b"1"] if answered else [])

        run(scenario, media(answer_pings=answered))


def test_a_blocking_provider_lets_the_link_clog() -> None:
    async def scenario(world: World) -> None:
        call, _, socket = await world.joined()
        await asyncio.sleep(1.0)
        sent = 0
        while socket.send(loud()):
            sent += 1
        assert sent == 64 + 64 * 1024 // FRAME
        await asyncio.sleep(sent * 0.06 + 1.0)
        assert np.count_nonzero(call.far_end.heard) == sent * FRAME // 2
        assert call.far_end.measurement().overflow_drops == 0

    run(scenario, media(queue="block"))


def test_a_socket_before_the_call_connects_waits_for_it() -> None:
    async def scenario(world: World) -> None:
        call, end, _ = await world.joined(CallerScript(audio=tone(0.5)))
        await asyncio.sleep(4.9)
        assert end.audio == []
        await asyncio.sleep(2.0)
        assert end.audio
        assert call.connected == pytest.approx(5.0)

    run(scenario, Behaviour(caller=CallerBehaviour(connect_after_s=5.0)))


def test_the_caller_can_speak_any_time() -> None:
    async def scenario(world: World) -> None:
        call, end, _ = await world.joined()
        await asyncio.sleep(3.0)
        assert not any(data.strip(b"\0") for _, data in end.audio)
        call.say(tone(0.2))
        await asyncio.sleep(1.0)
        assert np.count_nonzero(np.frombuffer(end.heard, "<i2")) == 0.2 * RATE

    run(scenario)


def test_rates_reach_the_wire() -> None:
    async def scenario(world: World) -> None:
        _, end, _ = await world.joined()
        await asyncio.sleep(1.0)
        assert end.sizes == {2 * 24_000 * 20 // 1_000 * 2}

    run(scenario, media(sample_rate=24_000, frame_ms=20, frames_per_message=2))


def test_a_failing_listener_does_not_silence_other_calls() -> None:
    class Broken(BridgeEnd):
        def on_audio(self, data: bytes) -> None:
            raise ValueError("broken bridge")

    async def main() -> None:
        async with World() as world:
            call, other = await world.answered(), await world.answered()
            await world.emulator.connect_media(SecretStr(await world.session(call)), Broken())
            end, _ = await world.connect(other)
            await asyncio.sleep(2.0)
            assert len(end.audio) > 20

    with pytest.raises(UnhandledError, match="broken bridge"):
        run_virtual(main())


def test_an_idle_emulator_arms_no_timer() -> None:
    async def main() -> None:
        async with World():
            await asyncio.get_running_loop().create_future()

    with pytest.raises(Deadlock):
        run_virtual(main())
