"""Make the secrets of docker-compose.yaml once, as files: ``python3 -m include.compose.make_secrets``.

Needs Python and openssl. A file that is there stays as it is: a new Fernet key could not read the old connections.
"""

from __future__ import annotations

import argparse
import base64
import os
import secrets
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[2] / "secrets"
# Docker hands a file over with the mode that it has here, and the containers run as another user.
READABLE_BY_CONTAINERS = 0o644
FOLDER_MODE = 0o700
CERTIFICATE_DAYS = 90
# The name by which tasks reach the proxy inside the compose network.
INSIDE = "proxy"
# What an earlier version did not make, and nothing that was made then depends on.
ADDED_LATER = frozenset({"service_password"})


def make_values() -> dict[str, str]:
    """Return new random values; those that hold another one are derived from it."""
    metadata, redis = secrets.token_urlsafe(32), secrets.token_urlsafe(32)
    return {
        "fernet_key": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
        "metadata_password": metadata,
        "metadata_url": f"postgresql+psycopg2://airflow:{metadata}@postgres/airflow",
        "result_backend": f"db+postgresql://airflow:{metadata}@postgres/airflow",
        "redis_password": redis,
        "broker_url": f"redis://:{redis}@redis:6379/0",
        "api_secret_key": secrets.token_urlsafe(48),
        "jwt_secret": secrets.token_urlsafe(64),
        "admin_password": secrets.token_urlsafe(18),
        "service_password": secrets.token_urlsafe(32),
    }


def write_missing(folder: Path, values: Mapping[str, str]) -> list[str]:
    """Write each value that has no file yet; return their names.

    Raises FileExistsError when only some of the files are there: a password and the URL that holds it belong together.
    """
    there = sorted(name for name in values if (folder / name).exists())
    missing = sorted(set(values) - set(there))
    if there and not ADDED_LATER.issuperset(missing):
        raise FileExistsError(
            f"{folder} has {', '.join(there)} and lacks {', '.join(missing)}: restore those from your escrow, or, "
            "where nothing was ever started with them, remove the folder and make all anew"
        )
    folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
    folder.chmod(FOLDER_MODE)
    for name in missing:
        descriptor = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, READABLE_BY_CONTAINERS)
        with open(descriptor, "w") as file:
            file.write(values[name])
        (folder / name).chmod(READABLE_BY_CONTAINERS)  # whatever the umask
    return missing


def make_certificate(folder: Path, name: str) -> bool:
    """Make a self-signed certificate for the proxy unless there is one; return whether one was made."""
    certificate, key = folder / "tls_certificate.pem", folder / "tls_key.pem"
    if certificate.exists() and key.exists():
        return False
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
            *("-days", str(CERTIFICATE_DAYS), "-subj", f"/CN={name}"),
            *("-addext", f"subjectAltName=DNS:{name},DNS:{INSIDE}"),
            # Clients trust it as its own authority, the strict ones of Python 3.13 too.
            *("-addext", "keyUsage=critical,digitalSignature,keyCertSign"),
            *("-keyout", str(key), "-out", str(certificate)),
        ],
        check=True,
        capture_output=True,
    )
    for path in (certificate, key):
        path.chmod(READABLE_BY_CONTAINERS)
    return True


def main() -> int:
    """Make what is missing and say what to do with it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=FOLDER, help="default: secrets/ in the project")
    parser.add_argument("--name", default="localhost", help="the host name that the certificate is for")
    options = parser.parse_args()
    try:
        made = write_missing(options.folder, make_values())
        certificate = make_certificate(options.folder, options.name)
    except (OSError, subprocess.CalledProcessError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    sys.stdout.write(f"{options.folder}: {len(made)} secrets made, the others were there\n" if made else "")
    if certificate:
        sys.stdout.write(
            f"{options.folder}/tls_certificate.pem is self-signed for {options.name} and ends after {CERTIFICATE_DAYS} "
            "days; put your own in its place\n"
        )
    sys.stdout.write(
        "Keep a copy of fernet_key elsewhere: without it no connection in the metadata database can be read.\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
