"""Make the embedded stack's passwords once, and keep them where only their owner can read them."""

from __future__ import annotations

import base64
import json
import os
import secrets
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

from include.local.errors import StackError

OWNER_ONLY = 0o600


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """Every secret of one stack; never printed by ``repr``."""

    source_superuser_password: str
    source_backup_password: str
    store_root_key: str
    store_root_secret: str
    store_access_key: str
    store_secret_key: str
    airflow_admin_password: str
    airflow_deploy_password: str
    airflow_service_password: str
    airflow_jwt_secret: str
    airflow_fernet_key: str
    airflow_api_secret: str
    slack_token: str
    supabase_token: str

    def __repr__(self) -> str:
        return "Credentials(***)"


def make_credentials() -> Credentials:
    """Return new random secrets; the store's own key comes later, from the store."""
    return Credentials(
        source_superuser_password=secrets.token_urlsafe(24),
        source_backup_password=secrets.token_urlsafe(24),
        store_root_key=f"ROOT{secrets.token_hex(8).upper()}",
        store_root_secret=secrets.token_urlsafe(30),
        store_access_key="",
        store_secret_key="",
        airflow_admin_password=secrets.token_urlsafe(12),
        airflow_deploy_password=secrets.token_urlsafe(12),
        airflow_service_password=secrets.token_urlsafe(12),
        airflow_jwt_secret=secrets.token_urlsafe(64),
        airflow_fernet_key=base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
        airflow_api_secret=secrets.token_urlsafe(32),
        slack_token=f"T0LOCAL/B0LOCAL/{secrets.token_hex(12)}",
        supabase_token=f"sbp_{secrets.token_hex(20)}",
    )


def load_credentials(path: Path) -> Credentials:
    """Return what the file holds, after making it when it is not there."""
    if not path.exists():
        made = make_credentials()
        save_credentials(path, made)
        return made
    try:
        record = json.loads(path.read_text())
        wanted = {field.name for field in fields(Credentials)}
        return Credentials(**{name: str(record[name]) for name in wanted})
    except (ValueError, KeyError, TypeError) as error:
        raise StackError(
            f"{path} does not hold this stack's secrets ({error!r}); remove {path.parent} to start anew"
        ) from error


def save_store_key(path: Path, access_key: str, secret_key: str) -> Credentials:
    """Record the access key that the store gave out."""
    changed = replace(load_credentials(path), store_access_key=access_key, store_secret_key=secret_key)
    save_credentials(path, changed)
    return changed


def save_credentials(path: Path, credentials: Credentials) -> None:
    """Replace the file in one step; its mode is 0600 from its first byte on."""
    write_private(path, json.dumps(asdict(credentials), indent=1) + "\n")


def write_private(path: Path, text: str) -> None:
    """Replace a file by one that only the owner can read; never half-written."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, OWNER_ONLY)
    with open(descriptor, "w") as file:
        file.write(text)
    draft.replace(path)
