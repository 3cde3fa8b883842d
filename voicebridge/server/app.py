"""The HTTP application of ``serve``: which path leads where.

``POST /webhooks/pilotstatus``, ``GET /healthz``, ``GET /readyz``, ``GET /metrics`` are
open; ``/calls`` and ``/drain`` are guarded. One rule: all parts are given, none is
looked up, so a test builds the same application from stand-ins.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.responses import Response
from starlette.routing import Route

from voicebridge.pilotstatus.signature import SignatureChecker
from voicebridge.server.access import Access
from voicebridge.server.answers import CLOSE, Refusal, answer, refuse
from voicebridge.server.control import CallControl
from voicebridge.server.intake import WebhookIntake

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pydantic import SecretStr
    from starlette.requests import Request
    from starlette.types import ASGIApp, Receive, Scope, Send

    from voicebridge.clock import Clock
    from voicebridge.metrics import Metrics
    from voicebridge.pilotstatus.models import AccountNotice
    from voicebridge.pilotstatus.signature import SignatureMode
    from voicebridge.server.control import Calls

__all__ = ["ServerConfig", "create_app"]


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """What the server needs of the settings.

    Without ``console_token`` the guarded paths answer on loopback only.
    ``allowed_origins`` are browser origins, beside the server's own, that may post to
    them.
    """

    secrets: Sequence[SecretStr] = ()
    signature_mode: SignatureMode = "required"
    console_token: SecretStr | None = None
    allowed_origins: Sequence[str] = ()
    webhook_limit_bytes: int = 256 * 1024
    webhook_deadline_seconds: float = 5.0


def create_app(
    bridge: Calls,
    config: ServerConfig,
    metrics: Metrics,
    *,
    clock: Clock,
    ready: Callable[[], bool] = lambda: True,
    on_notice: Callable[[AccountNotice], None] | None = None,
) -> Starlette:
    """The application over ``bridge``.

    ``ready`` is False while calls could not be carried, e.g. because the API refused the
    key. Raises ``ConfigError`` for signature settings that cannot work.
    """
    intake = WebhookIntake(
        bridge.submit,
        SignatureChecker(config.secrets, config.signature_mode),
        metrics,
        now=clock.now,
        limit_bytes=config.webhook_limit_bytes,
        deadline_seconds=config.webhook_deadline_seconds,
        on_notice=on_notice,
    )
    access = Access(config.console_token, now=clock.now, allowed_origins=config.allowed_origins)

    async def healthz(request: Request) -> Response:
        return answer({"status": "ok"})

    async def readyz(request: Request) -> Response:
        if bridge.draining:
            return refuse(503, "DRAINING", "this process takes no more calls")
        if not ready():
            return refuse(
                503, "NOT_READY", "calls cannot be carried now: check the API key and the log"
            )
        return answer({"status": "ready"})

    async def show_metrics(request: Request) -> Response:
        content, content_type = metrics.render()
        return Response(content, headers={"content-type": content_type})

    app = Starlette(
        routes=[
            Route("/webhooks/pilotstatus", intake.receive, methods=["POST"]),
            Route("/healthz", healthz, methods=["GET"]),
            Route("/readyz", readyz, methods=["GET"]),
            Route("/metrics", show_metrics, methods=["GET"]),
            *CallControl(bridge, access).routes(),
        ],
        middleware=[Middleware(_OneFraming)],
        exception_handlers={
            Refusal: _answer_refusal,
            HTTPException: _answer_http_exception,
            Exception: _answer_failure,
        },
    )
    # A redirect would be built from the Host header, which the client chooses.
    app.router.redirect_slashes = False
    return app


class _OneFraming:
    """Refuses a request that gives both a length and a transfer coding.

    Two servers in a row may read such a request differently and let a second one hide in
    its body (RFC 9112, section 6.3); no honest client sends it.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            names = {name for name, _ in scope["headers"]}
            if {b"content-length", b"transfer-encoding"} <= names:
                response = refuse(
                    400,
                    "FRAMING_AMBIGUOUS",
                    "send Content-Length or Transfer-Encoding, not both",
                    headers=CLOSE,
                )
                await response(scope, receive, send)
                return
        await self._app(scope, receive, send)


async def _answer_refusal(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)
    return error.response()


async def _answer_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code, message = {
        404: ("NOT_FOUND", "no such path"),
        405: ("METHOD_NOT_ALLOWED", "this path takes another method"),
    }.get(error.status_code, ("REFUSED", "the request was refused"))
    headers = dict(error.headers or {})
    if request.method not in ("GET", "HEAD"):
        headers |= CLOSE  # its body stays unread
    return refuse(error.status_code, code, message, headers=headers)


async def _answer_failure(request: Request, error: Exception) -> Response:
    return refuse(500, "INTERNAL", "an error of this server; see its log", headers=CLOSE)
