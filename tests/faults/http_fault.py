"""What an HTTP proxy can do to requests on purpose, and what became of each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

SLOW_DOWN = (
    b'<?xml version="1.0" encoding="UTF-8"?>\n'
    b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request as the client sent it, without its body."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str] = field(repr=False)


Predicate = Callable[[Request], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Answer in the server's stead; the request goes no further."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class TruncateBody:
    """Announce the whole answer, send so many bytes of its body, and close."""

    after_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DropRequest:
    """Pass so many bytes of the request's body on, then close both sides."""

    after_bytes: int


@dataclass(frozen=True, slots=True)
class LoseReply:
    """Let the server do all of it, and close instead of passing its answer on."""


Fault = Answer | TruncateBody | DropRequest | LoseReply


@dataclass(slots=True, kw_only=True)
class Rule:
    when: Predicate
    fault: Fault
    left: int


@dataclass(slots=True, kw_only=True)
class Exchange:
    """What became of a request: the fault that struck it, and the status that was passed to the client, if any."""

    request: Request
    fault: Fault | None
    status: int | None = None


def every(request: Request) -> bool:
    """Match each request."""
    return True
