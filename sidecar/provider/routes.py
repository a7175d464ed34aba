"""Which path is whose: the endpoint, the dialect and where the path bears a model.

Decides by method and path, and by headers where dialects share a path
(`/v1/models`). OpenAI's paths also work without `/v1` and under `/openai/v1`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote

from sidecar.provider import anthropic, files, gemini, openai_chat, openai_media, openai_responses
from sidecar.provider.call import Answer, Call, Dialect
from sidecar.provider.state import State

Endpoint = Callable[[Call, State], Answer]


@dataclass(frozen=True, slots=True)
class Route:
    """Where a request goes. No endpoint: an unknown path, to be echoed."""

    dialect: Dialect
    endpoint: Endpoint | None = None
    arguments: tuple[str, ...] = ()
    model_in_path: bool = False
    streams: bool = False


_FIXED: Final[dict[tuple[str, str], Route]] = {
    ("POST", "/chat/completions"): Route("openai", openai_chat.chat_completions),
    ("POST", "/completions"): Route("openai", openai_chat.completions),
    ("POST", "/responses"): Route("openai", openai_responses.create),
    ("POST", "/responses/input_tokens"): Route("openai", openai_responses.input_tokens),
    ("POST", "/embeddings"): Route("openai", openai_media.embeddings),
    ("POST", "/moderations"): Route("openai", openai_media.moderations),
    ("POST", "/images/generations"): Route("openai", openai_media.images),
    ("POST", "/images/edits"): Route("openai", openai_media.images),
    ("POST", "/audio/transcriptions"): Route("openai", openai_media.transcriptions),
    ("POST", "/audio/translations"): Route("openai", openai_media.transcriptions),
    ("POST", "/audio/speech"): Route("openai", openai_media.speech),
    ("POST", "/files"): Route("openai", files.upload),
    ("GET", "/files"): Route("openai", files.list_files),
    ("POST", "/batches"): Route("openai", files.create_batch),
    ("GET", "/batches"): Route("openai", files.list_batches),
    ("POST", "/messages"): Route("anthropic", anthropic.messages),
    ("POST", "/messages/count_tokens"): Route("anthropic", anthropic.count_tokens),
    ("POST", "/messages/batches"): Route("anthropic", anthropic.create_batch),
    ("GET", "/messages/batches"): Route("anthropic", anthropic.list_batches),
}

_BY_ID: Final[tuple[tuple[str, re.Pattern[str], Dialect, Endpoint], ...]] = (
    ("GET", re.compile(r"/responses/([^/]+)"), "openai", openai_responses.retrieve),
    ("DELETE", re.compile(r"/responses/([^/]+)"), "openai", openai_responses.delete),
    ("POST", re.compile(r"/responses/([^/]+)/cancel"), "openai", openai_responses.cancel),
    ("GET", re.compile(r"/responses/([^/]+)/input_items"), "openai", openai_responses.input_items),
    ("GET", re.compile(r"/files/([^/]+)"), "openai", files.retrieve_file),
    ("DELETE", re.compile(r"/files/([^/]+)"), "openai", files.delete_file),
    ("GET", re.compile(r"/files/([^/]+)/content"), "openai", files.file_content),
    ("GET", re.compile(r"/batches/([^/]+)"), "openai", files.retrieve_batch),
    ("POST", re.compile(r"/batches/([^/]+)/cancel"), "openai", files.cancel_batch),
    ("GET", re.compile(r"/messages/batches/([^/]+)"), "anthropic", anthropic.retrieve_batch),
    ("POST", re.compile(r"/messages/batches/([^/]+)/cancel"), "anthropic", anthropic.cancel_batch),
)

_GEMINI_ACTIONS: Final[dict[str, Endpoint]] = {
    "generateContent": gemini.generate_content,
    "streamGenerateContent": gemini.stream_generate_content,
    "countTokens": gemini.count_tokens,
    "embedContent": gemini.embed_content,
    "batchEmbedContents": gemini.batch_embed_contents,
}

_MODELS: Final[dict[Dialect, tuple[Endpoint, Endpoint]]] = {
    "openai": (openai_media.list_models, openai_media.retrieve_model),
    "anthropic": (anthropic.list_models, anthropic.retrieve_model),
    "gemini": (gemini.list_models, gemini.retrieve_model),
}

_GEMINI_ACTION = re.compile(r"/(?:v1(?:beta|alpha)?/)?models/([^:]+(?::[^:]+)*):(\w+)")
_PREFIX = re.compile(r"(?:/openai)?(?:/v1(?:beta|alpha)?)?(?=/|$)")


def find(method: str, path: str, headers: Mapping[str, str]) -> Route:
    """The route of a request; `path` as received, without the query."""
    short = _PREFIX.sub("", path, count=1)
    if fixed := _FIXED.get((method, short)):
        return fixed
    if method == "POST" and (action := _GEMINI_ACTION.fullmatch(path)) and action[2] in _GEMINI_ACTIONS:
        streams = action[2] == "streamGenerateContent"
        return Route("gemini", _GEMINI_ACTIONS[action[2]], (unquote(action[1]),), True, streams)
    if short == "/models" or short.startswith("/models/"):
        return _models(method, path, short, headers)
    for wanted, pattern, dialect, endpoint in _BY_ID:
        if wanted == method and (match := pattern.fullmatch(short)):
            return Route(dialect, endpoint, (unquote(match[1]),))
    return Route(_told_by(path, headers))


def _models(method: str, path: str, short: str, headers: Mapping[str, str]) -> Route:
    dialect = _told_by(path, headers)
    every, one = _MODELS[dialect]
    if short == "/models":
        return Route(dialect, every if method == "GET" else None)
    arguments = (unquote(short.removeprefix("/models/")),)
    if method == "GET":
        return Route(dialect, one, arguments, True)
    if method == "DELETE" and dialect == "openai":
        return Route(dialect, openai_media.delete_model, arguments, True)
    return Route(dialect)


def _told_by(path: str, headers: Mapping[str, str]) -> Dialect:
    if path.startswith(("/v1beta", "/v1alpha")) or "x-goog-api-key" in headers:
        return "gemini"
    if "anthropic-version" in headers or "x-api-key" in headers or "/messages" in path:
        return "anthropic"
    return "openai"
