"""What every dialect offers: routes, drafts that rewrite, meters that watch, refusals in its own words.

A draft always writes from the original bytes, so that writing twice (for a second attempt) is harmless.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import NamedTuple, Protocol

from sidecar.core.facts import Ask, Usage
from sidecar.errors import Refusal

FETCH = "fetch_response"
"""The operation (OTel's name) of fetching an answer that was made before."""


class Place(Enum):
    """Where the model stands in a request."""

    NONE = auto()  # nowhere: the request passes untouched
    JSON = auto()  # top-level `model` of a JSON body (a multipart body where the content type says so)
    NESTED = auto()  # deeper in a JSON body, maybe several times
    FORM = auto()  # a field of a multipart form (a JSON body where the content type says so)
    PATH = auto()  # a segment of the path, maybe in the body as well
    QUERY = auto()  # ?model=
    UPLOAD = auto()  # inside the JSONL lines of an uploaded file
    FRAMES = auto()  # in the frames of a WebSocket
    LIST = auto()  # the list of models: ours to answer


class Kind(Enum):
    """What one event of a stream is."""

    PLAIN = auto()  # a role, a ping, a comment, bookkeeping
    USEFUL = auto()  # text, reasoning, a tool call, a refusal, or a finish
    USAGE = auto()  # OpenAI chat's extra last chunk: `choices: []` and usage, nothing else
    ERROR = auto()  # the provider's own error inside the stream


PLAIN, USEFUL, USAGE, ERROR = Kind.PLAIN, Kind.USEFUL, Kind.USAGE, Kind.ERROR
"""For what looks at every chunk of a stream: a member of an enum takes ten times as long to look up."""


class Meter(Protocol):
    """Watches a stream from a copy. `see` gets whole events, in order; the rest can be read at any time."""

    usage: Usage | None
    served: str | None  # the model that the answer names
    done: bool  # the stream is complete in the sense of its dialect, or ended with the provider's own error
    text_bytes: int  # bytes of content received so far, for the cost of an aborted stream
    deltas: int  # content events received so far

    @property
    def ended(self) -> bool:
        """Nothing can come any more, not even usage: the dialect's end marker was seen, where it has one."""
        ...

    @property
    def normal(self) -> bool:
        """It is complete, and everything in it ended of itself: nothing was cut off, filtered or refused."""
        ...

    def see(self, event: bytes) -> Kind: ...


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One operation of a provider's API."""

    key: str  # "chat/completions": for tests, events and the dialect's own tables
    operation: str = "other"  # OTel's gen_ai.operation.name where it has one
    place: Place = Place.NONE
    required: bool = False  # the API demands a model
    meter: Callable[[], Meter] | None = None  # for its event streams
    holders: tuple[tuple[str, ...], ...] = ((),)  # paths to the objects that hold a `model`; "*" is each element
    prefix: str = ""  # what may stand before a name in the body: Gemini's "models/"
    streams: bool = False  # streams by its path, not by a member of the body


class Route(NamedTuple):
    """Where a path leads. `path` is raw (percent-encoding kept), starts with "/", and is what follows /{provider}."""

    dialect: str
    endpoint: Endpoint
    provider: str | None
    path: str
    query: str
    model: str | None = None  # decoded name from the path or the query

    def __repr__(self) -> str:
        return f"Route({self.dialect}, {self.endpoint.key}, {self.path})"  # a key may stand in the query


class Draft(Protocol):
    """A request that was read, and can be written again for a target.

    `names` are the distinct names that it asks for, in order of appearance; usually one, several in a batch.
    """

    ask: Ask
    names: Sequence[str]

    def path(self, models: Mapping[str, str]) -> str:
        """Raw path and query with each name replaced. Raises RefusedError if an id would leave its segment."""
        ...

    def body(self, models: Mapping[str, str], *, add_usage: bool = False) -> bytes:
        """The body with each name replaced, all other bytes as they came."""
        ...


class Reading(NamedTuple):
    """What a whole answer says of itself."""

    usage: Usage | None
    served: str | None


@dataclass(frozen=True, slots=True)
class Listed:
    """One line of the list of models."""

    name: str
    resolves_to: str  # an immutable id, or the rule in words
    provider: str
    created: int  # seconds since the epoch


class Dialect(Protocol):
    """The functions that a dialect's module offers (a module satisfies a Protocol, PEP 544)."""

    NAME: str
    CREDENTIAL_HEADER: str

    def route(self, method: str, path: str) -> tuple[Endpoint, str | None] | None:
        """The endpoint for a decoded path without query (and the model in it), or None if it isn't one of ours."""
        ...

    def credential(self, secret: str) -> tuple[str, str]:
        """Header name and value that carry a credential of the sidecar's."""
        ...

    def refuse(self, refusal: Refusal, request_id: str) -> bytes:
        """The JSON body of an error of ours."""
        ...

    def refuse_in_stream(self, refusal: Refusal, request_id: str, endpoint: Endpoint) -> bytes:
        """The same as an event inside an event stream, with its terminating blank line."""
        ...

    def reading(self, endpoint: Endpoint, body: bytes) -> Reading:
        """Usage and served model of a whole JSON answer; never raises."""
        ...

    def reading_ends(self, endpoint: Endpoint, head: bytes, last: bytes) -> Reading:
        """The same of an answer too large to be held, from its first and last bytes; never raises."""
        ...

    def models_page(self, models: Sequence[Listed], query: Mapping[str, str]) -> bytes:
        """A page of the list of models, in the caller's shape and paging."""
        ...
