"""Definitions without the secrets in them: pg_dump prints the passwords of user mappings and subscriptions.

What is known to hold secrets is taken apart, and of it only what is known to be harmless stays. Anywhere else, in
bodies of functions, arguments of triggers, defaults and settings, a text is hidden when its name or its look says that
it is one. A secret that looks like an ordinary word is not found: the policy's ``withheld`` is for the object then.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable

HIDDEN = "***"
UNREADABLE = f"-- {HIDDEN}: its options cannot be told apart"
# Options of these hold whatever a foreign data wrapper asks for.
_WITH_OPTIONS = frozenset({"USER MAPPING", "SERVER", "FOREIGN DATA WRAPPER", "FOREIGN TABLE"})
_HARMLESS_OPTIONS = frozenset(
    {
        "column_name",
        "dbname",
        "delimiter",
        "extensions",
        "fetch_size",
        "format",
        "header",
        "host",
        "keep_connections",
        "null",
        "object",
        "port",
        "schema",
        "schema_name",
        "sslmode",
        "table",
        "table_name",
        "updatable",
        "use_remote_estimate",
        "user",
        "username",
    }
)
_HARMLESS_PARAMETERS = frozenset({"application_name", "dbname", "host", "hostaddr", "port", "sslmode", "user"})
# A backslash is a letter like any other in a text of SQL, unless an E is before it; in other languages it never is.
_TEXT = r"(?:(?<!\w)[eE]'(?:[^'\\]|\\.|'')*'|'(?:[^']|'')*')"
_FOREIGN_TEXT = r"[eE]?'(?:[^'\\]|\\.|'')*'"
_QUOTED_NAME = r"\"(?:[^\"]|\"\")*\""
_OPTION = re.compile(
    rf"(?P<before>(?:\(|,|\bADD |\bSET )\s*)(?P<name>{_QUOTED_NAME}|\w+)(?P<space>\s+)(?P<value>{_TEXT})"
)
_OPTIONS = re.compile(rf"\bOPTIONS \((?:{_TEXT}|{_QUOTED_NAME}|[^()'\"])*+\)")
_ANY_OPTIONS = re.compile(r"\bOPTIONS\s*\(")
_CONNECTION = re.compile(rf"\bCONNECTION (?P<value>{_TEXT})")
_PARAMETER = re.compile(r"(?P<name>\w+)\s*=\s*(?P<value>\\?'(?:[^'\\]|\\.)*'|[^\s']+)")
_NAMES = (
    r"(?:password|passwd|passphrase|passcode|(?<![a-z])pass(?![a-z])|pwd|secret|token|api_?key|access_?key|private_?key"
    r"|signing_?key|auth_?key|service_?role_?key|encryption_?key|credentials?|authorization|webhook_?url|bearer)"
)
# Of a name with a table or a prefix before it, the last part says what it is.
_NAME = rf"(?:[\w\-]+\.)*[\w\-]*{_NAMES}[\w\-]*"
_BETWEEN = (
    r"(?:\s+constant)?(?:\s+(?:text|varchar|character varying|json|jsonb|bytea)(?:\(\d+\))?)?"
    r"\s*(?:::\s*\w+\s*)?(?::=|=>|->>?|=|:|,|\bto\b|\bdefault\b)?\s*"
)
_NAMED_TEXT, _NAMED_FOREIGN_TEXT = (
    re.compile(rf"(?P<kept>(?<![\w.\-]){_NAME}[\"']*{_BETWEEN})(?P<value>{text})", re.IGNORECASE)
    for text in (_TEXT, _FOREIGN_TEXT)
)
_NAMED_IN_TEXT = re.compile(
    rf"(?P<kept>(?<![\w.\-]){_NAME}(?:\\?\"|'')?(?:\s*(?:=>|=|:)\s*|\s+(?='')))(?P<value>\\?\"(?:[^\"\\]|\\.)*\\?\"|''(?:[^']|'')*?''|[^\s'\"\\,;)&}}]+)",
    re.IGNORECASE,
)
_KNOWN = (
    re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL),
    re.compile(r"(?<=://)[^\s/@']*:[^\s@']+(?=@)"),
    re.compile(r"(?<=hooks\.slack\.com/services/)[A-Za-z0-9/]+"),
    re.compile(r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]*)?"),
    re.compile(r"\b(?:A3T|AKIA|ASIA)[A-Z0-9]{12,}\b"),
    re.compile(
        r"\b(?:sk|pk|rk|whsec|sbp|sb_secret|re|SG|AIza|gh[pousr]|github_pat|glpat|xox[a-z]|npg)[_.-][A-Za-z0-9_.-]{8,}"
    ),
    re.compile(r"(?i)(?<=\bbearer )[A-Za-z0-9+/=._~-]{6,}|(?<=\bbasic )[A-Za-z0-9+/=]{8,}"),
    re.compile(r"SCRAM-SHA-256\$[^\s'\"]+|\bmd5[0-9a-f]{32}\b"),
)
_SECRET_NAME = re.compile(_NAMES, re.IGNORECASE)
_WORD = re.compile(r"[A-Za-z0-9+/_=.~-]{16,}")
_LITERAL, _FOREIGN_LITERAL = (
    re.compile(rf"(?P<name>{_QUOTED_NAME})|{text}|--[^\n]*|/\*.*?\*/", re.DOTALL) for text in (_TEXT, _FOREIGN_TEXT)
)
# Bodies in other languages than SQL have their texts in double quotes.
_PROGRAMS = frozenset({"FUNCTION", "PROCEDURE"})
_LANGUAGE = re.compile(r"\bLANGUAGE (?P<name>\S+)")
_OURS = frozenset({"sql", "plpgsql"})
_NAMED_QUOTED = re.compile(rf"(?P<kept>(?<![\w.\-]){_NAME}[\"']?\s*(?::=|=>|=|:)\s*)\"[^\"\n]+\"", re.IGNORECASE)
_UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
SHORTEST_SECRET = 4
LEAST_DIGITS = 3
LEAST_LETTERS = 3
LEAST_ENTROPY_BITS = 3.2


def names_a_secret(name: str) -> bool:
    """Say whether what has this name is a secret.

    >>> names_a_secret("webhook_url"), names_a_secret("kms_key_id")
    (True, False)
    """
    return _SECRET_NAME.search(name) is not None


def without_known_secrets(text: str) -> str:
    """Return a text that is no SQL without what looks like a secret in it.

    >>> without_known_secrets("see postgres://ann:s3cret@db/x, password=hunter2")
    'see postgres://***@db/x, password=***'
    """
    for known in _KNOWN:
        text = known.sub(HIDDEN, text)
    return _NAMED_IN_TEXT.sub(lambda named: f"{named['kept']}{HIDDEN}", text)


class Redaction:
    """Knows the secrets of the connections in use, so that none of them is written wherever it stands."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        lines = {line.strip() for secret in secrets for line in (secret, *secret.splitlines())}
        self._secrets = sorted((line for line in lines if len(line) >= SHORTEST_SECRET), key=len, reverse=True)

    def __call__(self, kind: str, definition: str) -> str:
        """Return a definition of an object of this kind (pg_dump's word for it) without secrets."""
        text = definition
        for secret in self._secrets:
            text = text.replace(secret, HIDDEN).replace(secret.replace("'", "''"), HIDDEN)
        if kind in _WITH_OPTIONS:
            if _ANY_OPTIONS.search(_OPTIONS.sub("", text)):
                return UNREADABLE
            text = _OPTIONS.sub(lambda match: _OPTION.sub(_option, match[0]), text)
        if kind == "SUBSCRIPTION":
            text = _CONNECTION.sub(lambda match: f"CONNECTION {_conninfo(match['value'])}", text)
        foreign = kind in _PROGRAMS and _is_foreign(text)
        text = (_NAMED_FOREIGN_TEXT if foreign else _NAMED_TEXT).sub(_named, text)
        if kind in _PROGRAMS:
            text = _NAMED_QUOTED.sub(lambda match: f'{match["kept"]}"{HIDDEN}"', text)
        for known in _KNOWN:
            text = known.sub(HIDDEN, text)
        return (_FOREIGN_LITERAL if foreign else _LITERAL).sub(_literal, text)


def _is_foreign(program: str) -> bool:
    """Say whether a program is in a language whose texts are other than SQL's; pg_dump names it before the body."""
    language = _LANGUAGE.search(program)
    return language is not None and language["name"] not in _OURS


def _literal(match: re.Match[str]) -> str:
    """Hide what looks like a secret in a text or a comment; names in double quotes stay."""
    if match["name"]:
        return match[0]
    text = _NAMED_IN_TEXT.sub(lambda named: f"{named['kept']}{HIDDEN}", match[0])
    return _WORD.sub(_random, text)


def _option(match: re.Match[str]) -> str:
    name = match["name"].strip('"').lower()
    value = match["value"] if name in _HARMLESS_OPTIONS else f"'{HIDDEN}'"
    return f"{match['before']}{match['name']}{match['space']}{value}"


def _conninfo(quoted: str) -> str:
    """Return a connection string with the parameters that are no secret; a URI is one as a whole."""
    text = quoted[quoted.index("'") + 1 : -1].replace("''", "'")
    kept = [match for match in _PARAMETER.finditer(text) if match["name"] in _HARMLESS_PARAMETERS]
    if "://" in text or not kept:
        return f"'password={HIDDEN}'"
    shown = " ".join(f"{match['name']}={match['value']}" for match in kept)
    return "'" + f"{shown} password={HIDDEN}".replace("'", "''") + "'"


def _named(match: re.Match[str]) -> str:
    inside = match["value"][match["value"].index("'") + 1 : -1]
    return f"{match['kept']}'{HIDDEN}'" if inside else match[0]


def _random(match: re.Match[str]) -> str:
    """Hide a word that nobody would think of: long, with letters and digits mixed evenly."""
    word = match[0]
    if _UUID.fullmatch(word):
        return word
    digits = sum(character.isdigit() for character in word)
    letters = sum(character.isalpha() for character in word)
    if digits < LEAST_DIGITS or letters < LEAST_LETTERS or _entropy(word) < LEAST_ENTROPY_BITS:
        return word
    return HIDDEN


def _entropy(word: str) -> float:
    """Return the bits of one character of a word.

    >>> round(_entropy("aaaa"), 1), round(_entropy("abcd"), 1)
    (0.0, 2.0)
    """
    counts = Counter(word).values()
    return sum(-count / len(word) * math.log2(count / len(word)) for count in counts)
