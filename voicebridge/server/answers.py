"""How the server answers: JSON that stays inert wherever it is shown.

One rule: an error is ``{"error": what to do, "code": for machines}`` and never repeats
what the request said.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from starlette.responses import Response

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Refusal", "answer", "refuse"]

CLOSE: Final[Mapping[str, str]] = {"connection": "close"}
"""Headers for an answer given before the request was read to its end."""

_SAFETY: Final[Mapping[str, str]] = {
    "cache-control": "no-store",
    "x-content-type-options": "nosniff",
}


class Refusal(Exception):
    """An HTTP error answer; raised by what guards a route, turned into JSON by the app."""

    def __init__(
        self, status: int, code: str, message: str, *, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.headers = dict(headers or {})

    def response(self) -> Response:
        return refuse(self.status, self.code, self.message, headers=self.headers)


def answer(
    content: object, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """``content`` as JSON, in ASCII with ``<``, ``>`` and ``&`` escaped.

    Callers choose their names and bots their words: a lone surrogate must not fail here
    and a tag must not come alive in a page.
    """
    text = json.dumps(content, separators=(",", ":"), allow_nan=False)
    for character, escape in (("<", "\\u003c"), (">", "\\u003e"), ("&", "\\u0026")):
        text = text.replace(character, escape)
    return Response(
        text + "\n",
        status_code=status,
        headers={**_SAFETY, **(headers or {})},
        media_type="application/json",
    )


def refuse(
    status: int, code: str, message: str, *, headers: Mapping[str, str] | None = None
) -> Response:
    """The JSON form of every error."""
    return answer({"error": message, "code": code}, status=status, headers=headers)
