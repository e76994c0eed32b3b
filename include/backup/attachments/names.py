"""Names of files in the tar: what users chose as keys must neither break the tar nor leave a folder at a restore."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable

PLAIN = "files"
HASHED = "hashed"
LONGEST = 200
# Nothing that a shell, a terminal or a file system takes for something else; words of any script are fine.
_PART = re.compile(r"[\w(),+=@ .-]+")
_RESERVED = frozenset({".", ".."})


def member_name(bucket: str, key: str, *, parents: frozenset[str] = frozenset()) -> str:
    """Return a file's name in the tar: its key where that is a harmless path, else a hash of it.

    ``parents`` are keys that are folders of other keys: a file system cannot hold both.

    >>> member_name("avatars", "users/1.png")
    'files/avatars/users/1.png'
    >>> member_name("avatars", "../../etc/passwd").startswith("hashed/")
    True
    """
    if key not in parents and _is_harmless(bucket) and all(_is_harmless(part) for part in key.split("/")):
        name = f"{PLAIN}/{bucket}/{key}"
        if len(name.encode()) <= LONGEST:
            return name
    digest = hashlib.sha256(f"{bucket}\0{key}".encode("utf-8", "surrogatepass")).hexdigest()
    return f"{HASHED}/{digest}"


def parent_keys(keys: Iterable[str]) -> frozenset[str]:
    """Return all folders of some keys.

    >>> sorted(parent_keys(["a/b/c", "d"]))
    ['a', 'a/b']
    """
    found: set[str] = set()
    for key in keys:
        place = key.rfind("/")
        while place > 0 and key[:place] not in found:
            found.add(key[:place])
            place = key.rfind("/", 0, place)
    return frozenset(found)


def _is_harmless(part: str) -> bool:
    return (
        part not in _RESERVED
        and _PART.fullmatch(part) is not None
        and not part.startswith(("-", " "))
        and not part.endswith((" ", "."))
    )
