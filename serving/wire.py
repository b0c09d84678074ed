"""What every HTTP dialect shares: bodies of limited size, and errors as JSON."""

from __future__ import annotations

import http
from collections.abc import Mapping

from fastapi import FastAPI, Request
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from dlsvc.errors import DataError, DlsvcError, NotFound, UsageError
from serving.dialects import openai
from serving.dialects.huggingface import encode

MAX_BODY_BYTES = 20 * 1024 * 1024
# Of a body that is too large, so much more is read and thrown away: a client that is cut off while it sends sees a
# broken connection instead of the reason.
_DRAINED_BYTES = 4 * MAX_BODY_BYTES

_STATUS: Mapping[type[DlsvcError], int] = {UsageError: 400, DataError: 400, NotFound: 404}


class Unavailable(DlsvcError):
    """The model can't answer now, and may in a moment."""


def json_response(content: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(encode(content), status, headers, "application/json")


def add_error_handlers(api: FastAPI) -> None:
    """Every error is `{"error": "..."}`, also of routes that don't exist and of failures that nobody foresaw; on
    OpenAI's routes it is an object, as their clients read it.
    """
    api.add_exception_handler(HTTPException, _on_http_error)
    api.add_exception_handler(DlsvcError, _on_our_error)
    api.add_exception_handler(Exception, _on_unexpected)


async def read_body(request: Request, example: str) -> bytes:
    """The whole body. Raises 413 for one that is too large, 400 for an empty one, saying what to send."""
    declared = request.headers.get("content-length", "")
    size = 0
    parts: list[bytes] = []
    async for part in request.stream():
        size += len(part)
        if size <= MAX_BODY_BYTES:
            parts.append(part)
        elif size > _DRAINED_BYTES:
            break
    if size > MAX_BODY_BYTES:
        raise HTTPException(413, f"the body has {declared or size} bytes, at most {MAX_BODY_BYTES} are taken")
    if not size:
        raise HTTPException(400, f"the body is empty; send {example}")
    return b"".join(parts)


async def _on_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    plain = http.HTTPStatus(error.status_code).phrase
    text = error.detail if error.detail != plain else f"{request.method} {request.url.path}: {plain}"
    return _refusal(request, error, text, error.status_code, error.headers)


async def _on_our_error(request: Request, error: Exception) -> Response:
    if isinstance(error, Unavailable):
        return _refusal(request, error, str(error), 503, {"retry-after": "1"})
    status = next((status for kind, status in _STATUS.items() if isinstance(error, kind)), 500)
    return _refusal(request, error, str(error), status)


async def _on_unexpected(request: Request, error: Exception) -> Response:
    return _refusal(request, error, f"unexpected: {type(error).__name__}; the server's log has more", 500)


def _refusal(
    request: Request, error: Exception, text: str, status: int, headers: Mapping[str, str] | None = None
) -> Response:
    """In the words of the dialect whose route it is."""
    is_openai = request.url.path.startswith(openai.PREFIX)
    return json_response(openai.error_body(text, status, error) if is_openai else {"error": text}, status, headers)
