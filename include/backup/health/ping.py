"""The other half of the dead man's switch: after each good look a request to a service that alarms when none comes."""

from __future__ import annotations

import http.client
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import urlsplit

from include.backup.connection_spec import ConnectionSpec, Secret, bad_connection
from include.backup.http_address import http_address, is_loopback
from include.backup.policy.health import PingPolicy

_BACKOFF_SECONDS = 1.0
# What another attempt may mend.
_PASSING = (408, 429, 500, 502, 503, 504)


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Follow none: the address is a secret, and another one was not asked for."""

    def redirect_request(self, *_: Any) -> None:
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class PingTarget:
    """Where the request goes. Whoever knows the address can keep the alarm silent: it is a password."""

    url: Secret = field(repr=False)
    ca_bundle: str | None = None

    @classmethod
    def from_spec(cls, spec: ConnectionSpec) -> Self:
        """Read the allow-listed parts of a connection; raises ConnectionDefinitionError, which never shows the URL."""
        spec.require("http", extras=("verify",))
        if not spec.password or spec.host or spec.login:
            raise bad_connection(spec.conn_id, "needs the whole URL as its password, and neither host nor login")
        http_address(spec.conn_id, str(spec.password), what="a password")
        return cls(url=spec.password, ca_bundle=spec.text("verify"))


def ping(target: PingTarget, policy: PingPolicy, *, sleep: Callable[[float], None] = time.sleep) -> str | None:
    """Send the request, again where that may help; return why it failed at last, None when it arrived.

    What is returned names a status or a kind of error, and never the address.
    """
    failure: str | None = None
    for attempt in range(policy.attempts):
        if attempt:
            sleep(_BACKOFF_SECONDS * 2 ** (attempt - 1))
        failure, final = _send(target, policy)
        if failure is None or final:
            break
    return failure


def _send(target: PingTarget, policy: PingPolicy) -> tuple[str | None, bool]:
    """Return why it failed, and whether another attempt would fail as well."""
    secure = str(target.url).startswith("https:")
    local = is_loopback(urlsplit(str(target.url)).hostname or "")
    handlers: list[urllib.request.BaseHandler] = [_NoRedirects()]
    try:
        if secure:
            context = ssl.create_default_context(cafile=target.ca_bundle)
            handlers.append(urllib.request.HTTPSHandler(context=context))
        if local:
            handlers.append(urllib.request.ProxyHandler({}))
        request = urllib.request.Request(  # noqa: S310 - https, or this machine: see from_spec
            str(target.url), method=policy.method, data=b"" if policy.method == "POST" else None
        )
        with urllib.request.build_opener(*handlers).open(request, timeout=policy.timeout.total_seconds()):
            return None, True
    except urllib.error.HTTPError as error:
        with error:
            return f"it answers {error.code}", error.code not in _PASSING
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = getattr(error, "reason", error)
        return f"it does not answer ({type(reason).__name__})", False
