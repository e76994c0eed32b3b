"""Remove secrets from a text before it leaves the log: known ones, and what looks like one."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from html import escape
from urllib.parse import quote, quote_plus

MASK = "***"
SHORT = 4
_NAMES = r"(?:pg)?pass(?:word|wd|phrase)?|secret(?:[_-]?access)?(?:[_-]?key)?|(?:security[_-]?)?token"
_PATTERNS = (
    # user:password@ of a URL, also when the password holds / or @
    re.compile(r"(?<=://)[^\s/@]*:\S*(?=@)"),
    re.compile(r"(?<=/services/)T[A-Za-z0-9]+/B[A-Za-z0-9]+/[A-Za-z0-9]+"),
    re.compile(rf"(?i)(?<![a-z])(?P<name>(?:{_NAMES})(?:[\"']?\s*[=:]\s*|\s+(?=')))(?:\"[^\"]*\"|'[^']*'|[^\s,;&]+)"),
    re.compile(r"(?i)(?P<name>\b(?:bearer|basic)\s+)[A-Za-z0-9+/=._~-]{8,}"),
    re.compile(r"(?i)(?P<name>X-Amz-(?:Signature|Credential|Security-Token)=)[^\s&]+"),
    re.compile(r"SCRAM-SHA-256\$[^\s'\"]+"),
    re.compile(r"\b(?:xox[a-z]-[A-Za-z0-9-]+|A(?:KI|SI)A[A-Z0-9]{16})\b"),
    re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL),
)


class Redactor:
    """Knows the secrets of the connections that a run uses."""

    def __init__(self, secrets: Iterable[str]) -> None:
        written = {form for secret in secrets if secret for form in _forms(secret)}
        # The longest first: one secret may be a part of another.
        self._known = [_pattern(form) for form in sorted(written, key=len, reverse=True)]

    def __call__(self, text: str) -> str:
        """Return the text with every secret replaced by ``***``."""
        for known in self._known:
            text = known.sub(MASK, text)
        for pattern in _PATTERNS:
            text = pattern.sub(_masked, text)
        return text


def _forms(secret: str) -> tuple[str, ...]:
    """Return a secret as it is, and as URLs, JSON, Python's ``repr`` and Slack write it."""
    return (
        secret,
        quote(secret, safe=""),
        quote(secret),
        quote_plus(secret),
        json.dumps(secret)[1:-1],
        repr(secret)[1:-1],
        escape(secret, quote=False),
    )


def _pattern(form: str) -> re.Pattern[str]:
    """A short secret is only masked where it stands alone: it occurs in words."""
    escaped = re.escape(form)
    return re.compile(rf"(?<!\w){escaped}(?!\w)" if len(form) < SHORT else escaped)


def _masked(match: re.Match[str]) -> str:
    return match.groupdict().get("name", "") + MASK
