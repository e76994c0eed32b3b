"""Requests to the Management API: retried where that is safe, within the rate limit and one overall deadline."""

from __future__ import annotations

import json
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx
from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_before_delay, wait_exponential_jitter

from include.backup.errors import (
    SupabaseAnswerError,
    SupabaseError,
    SupabaseProjectMissingError,
    SupabaseRateLimitError,
    SupabaseRefusedError,
    SupabaseTlsError,
    SupabaseTokenError,
    SupabaseUnreachableError,
)
from include.backup.supabase.connection import SupabaseConnection

REQUESTS_PER_WINDOW = 120
WINDOW_SECONDS = 60.0
DEADLINE_SECONDS = 120.0
ATTEMPT_SECONDS = 30.0
LARGEST_ANSWER_BYTES = 8 << 20
LONGEST_MESSAGE = 300
_BACKOFF = wait_exponential_jitter(multiplier=0.5, max=15.0, jitter=0.5)


class RateWindow:
    """Lets at most so many requests pass in any so many seconds; one for all threads of a process."""

    def __init__(
        self,
        requests: int = REQUESTS_PER_WINDOW,
        seconds: float = WINDOW_SECONDS,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._requests = requests
        self._seconds = seconds
        self._clock = clock
        self._sleep = sleep
        self._passed: deque[float] = deque()
        self._lock = threading.Lock()

    def wait(self, *, until: float) -> None:
        """Return when one more request may be sent; raises SupabaseRateLimitError when that is too late."""
        while (seconds := self._reserve()) > 0:
            if self._clock() + seconds > until:
                raise SupabaseRateLimitError(
                    f"this process has sent {self._requests} requests to Supabase's Management API in the last "
                    f"{self._seconds:.0f} s, which is all it may; retry in {seconds:.0f} s"
                )
            self._sleep(seconds)

    def _reserve(self) -> float:
        """Take a place and return 0, or return in how many seconds there may be one."""
        with self._lock:
            now = self._clock()
            while self._passed and self._passed[0] <= now - self._seconds:
                self._passed.popleft()
            if len(self._passed) < self._requests:
                self._passed.append(now)
                return 0.0
            return self._passed[0] + self._seconds - now


class _TryAgainError(Exception):
    """Raised inside for what a later attempt may mend; ``after`` is what the server asked to wait."""

    def __init__(self, error: SupabaseError, after: float | None = None) -> None:
        super().__init__(str(error))
        self.error = error
        self.after = after


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answer:
    status: int
    headers: httpx.Headers
    body: bytes


_WINDOW = RateWindow()


class Transport:
    """One connection to the API; close it, or use it as a context."""

    def __init__(
        self,
        connection: SupabaseConnection,
        *,
        deadline_seconds: float = DEADLINE_SECONDS,
        window: RateWindow = _WINDOW,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._connection = connection
        self._deadline_seconds = deadline_seconds
        self._window = window
        self._sleep = sleep
        self._client = httpx.Client(
            base_url=connection.url,
            headers={"Authorization": f"Bearer {connection.token!s}", "Accept": "application/json"},
            verify=_tls(connection),
            trust_env=not connection.is_local,
            follow_redirects=False,
        )

    def close(self) -> None:
        self._client.close()

    def get(self, path: str, *, query: Mapping[str, str | list[str]] | None = None) -> Any:
        """Return an answer's JSON; tried again on 429, 5xx and lost connections."""
        return self._request("GET", path, query=query)

    def post(self, path: str, body: Mapping[str, Any]) -> Any:
        """Return an answer's JSON; tried again only where the request was surely not carried out."""
        return self._request("POST", path, body=body)

    def _request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str | list[str]] | None = None,
        body: Mapping[str, Any] | None = None,
    ) -> Any:
        deadline = time.monotonic() + self._deadline_seconds
        retrying = Retrying(
            retry=retry_if_exception_type(_TryAgainError),
            wait=_wait_seconds,
            stop=stop_before_delay(self._deadline_seconds),
            sleep=self._sleep,
            reraise=True,
        )
        try:
            return retrying(self._attempt, method, path, query=query, body=body, deadline=deadline)
        except _TryAgainError as last:
            raise last.error from last.__cause__

    def _attempt(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str | list[str]] | None,
        body: Mapping[str, Any] | None,
        deadline: float,
    ) -> Any:
        self._window.wait(until=deadline)
        seconds = max(0.1, min(ATTEMPT_SECONDS, deadline - time.monotonic()))
        request = self._client.build_request(method, path, params=query, json=body, timeout=seconds)
        with _named_errors(self._connection.url, repeatable=method == "GET"):
            answer = self._send(request, deadline)
        if 200 <= answer.status < 300:
            return _content(answer)
        raise self._error(answer, path, repeatable=method == "GET")

    def _send(self, request: httpx.Request, deadline: float) -> _Answer:
        """Send, and read the answer in pieces: one that trickles in must not outlast the deadline."""
        response = self._client.send(request, stream=True)
        try:
            body = bytearray()
            for chunk in response.iter_bytes():
                body += chunk
                if len(body) > LARGEST_ANSWER_BYTES:
                    raise SupabaseAnswerError(f"the answer is longer than {LARGEST_ANSWER_BYTES} bytes")
                if time.monotonic() > deadline:
                    raise httpx.ReadTimeout("the answer was not complete before the deadline")
        finally:
            response.close()
        return _Answer(status=response.status_code, headers=response.headers, body=bytes(body))

    def _error(self, answer: _Answer, path: str, *, repeatable: bool) -> Exception:
        said = self._said(answer)
        if answer.status == 429:
            return _too_many(answer, said)
        if answer.status >= 500:
            error = SupabaseUnreachableError(
                f"Supabase's Management API answered {answer.status} to {path} ({said}); see status.supabase.com, retry"
            )
            return _TryAgainError(error, _retry_after(answer.headers)) if repeatable else error
        if answer.status in (401, 403):
            return SupabaseTokenError(
                f"Supabase refused the token of connection {self._connection.conn_id} ({answer.status}: {said}); make "
                "a new access token of an account that may see this project, and set it as that connection's password"
            )
        if answer.status == 404:
            return SupabaseProjectMissingError(
                f"Supabase has nothing at {path} (404: {said}); check supabase.project_ref in the policy"
            )
        if answer.status < 400:
            return SupabaseAnswerError(f"Supabase's Management API answered {answer.status} to {path}; check its host")
        return SupabaseRefusedError(f"Supabase refused {path} ({answer.status}): {said}")

    def _said(self, answer: _Answer) -> str:
        """Return the server's own words, cut, in one line, without the token."""
        try:
            content = json.loads(answer.body)
            text = content.get("message") if isinstance(content, dict) else None
        except ValueError:
            text = None
        words = text if isinstance(text, str) else answer.body[:LONGEST_MESSAGE].decode("utf-8", "replace")
        shown = " ".join(words.split()).replace(str(self._connection.token), "***")
        return shown[:LONGEST_MESSAGE] or "no reason given"


def _tls(connection: SupabaseConnection) -> ssl.SSLContext | bool:
    if connection.url.startswith("http:"):
        return True
    return ssl.create_default_context(cafile=connection.ca_bundle) if connection.ca_bundle else True


@contextmanager
def _named_errors(url: str, *, repeatable: bool) -> Iterator[None]:
    try:
        yield
    except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
        if _is_about_certificates(error):
            raise SupabaseTlsError(
                f"the certificate of {url} is not trusted ({error}); check the host, the clock and the extra verify"
            ) from error
        # Nothing was sent, so that even a request that changes something may be sent again.
        raise _TryAgainError(_unreachable(url, error)) from error
    except httpx.LocalProtocolError:
        # Its text quotes the header that may not be sent, so that it must not be seen as a cause either.
        raise SupabaseTokenError(
            f"HTTP does not allow the request to {url}; set the connection's password to an access token in one line"
        ) from None
    except httpx.HTTPError as error:
        if repeatable:
            raise _TryAgainError(_unreachable(url, error)) from error
        raise SupabaseUnreachableError(
            f"{url} did not answer ({error or type(error).__name__}) and may have carried out the request; look at the "
            "project before another try"
        ) from error


def _unreachable(url: str, error: httpx.HTTPError) -> SupabaseUnreachableError:
    return SupabaseUnreachableError(f"{url} does not answer ({error or type(error).__name__}); check it and retry")


def _is_about_certificates(error: BaseException) -> bool:
    chain: BaseException | None = error
    while chain is not None:
        if isinstance(chain, ssl.SSLCertVerificationError):
            return True
        chain = chain.__cause__ or chain.__context__
    return "CERTIFICATE_VERIFY_FAILED" in str(error)


def _too_many(answer: _Answer, said: str) -> _TryAgainError:
    after = _retry_after(answer.headers)
    asked = "" if after is None else f" and asks to wait {after:.0f} s"
    return _TryAgainError(
        SupabaseRateLimitError(
            f"Supabase's Management API has had too many requests of this account (429: {said}){asked}; retry later, "
            "and look what else uses its tokens"
        ),
        after,
    )


def _retry_after(headers: httpx.Headers) -> float | None:
    """Return the seconds that Retry-After asks for: a number, or a date."""
    text = headers.get("Retry-After", "").strip()
    if text.isdigit():
        return float(text)
    try:
        moment = parsedate_to_datetime(text)
    except (TypeError, ValueError):
        return None
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max(0.0, (aware - datetime.now(tz=UTC)).total_seconds())


def _wait_seconds(state: RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    asked = error.after if isinstance(error, _TryAgainError) else None
    return _BACKOFF(state) if asked is None else asked


def _content(answer: _Answer) -> Any:
    if not answer.body.strip():
        return None
    try:
        return json.loads(answer.body)
    except ValueError as error:
        raise SupabaseAnswerError(
            f"Supabase's Management API answered {answer.status} with what is no JSON; check its host, or a proxy"
        ) from error
