"""``python -m tests.benchmarks.transfer``: copy to the store and list, as ``aws s3 cp`` and ``aws s3 ls`` do.

awscli is not needed for it: its copying is s3transfer's, which boto3 has too, with the same defaults.
``environment`` returns the variables that name the store.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
from botocore.config import Config

from include.backup.connections import StoreConnection
from tests.benchmarks.rclone import BUCKET

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

# aws s3 cp --recursive has ten requests under way at most.
CONCURRENCY = 10


def environment(store: StoreConnection) -> dict[str, str]:
    """Return what boto3 needs in its environment."""
    return {
        "AWS_ACCESS_KEY_ID": store.access_key or "",
        "AWS_SECRET_ACCESS_KEY": str(store.secret_key),
        "AWS_DEFAULT_REGION": store.region,
        "AWS_ENDPOINT_URL": store.endpoint_url or "",
        "AWS_CA_BUNDLE": store.ca_bundle or "",
        # rclone refuses the trailing checksum that AWS's clients send unasked.
        "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",
    }


def main(arguments: Sequence[str]) -> int:
    """Run one transfer; return the exit code."""
    options = _parser().parse_args(arguments)
    client: S3Client = boto3.client("s3", config=Config(s3={"addressing_style": "path"}))
    if options.action == "ls":
        found = client.list_objects_v2(Bucket=BUCKET, Prefix=options.key).get("Contents", [])
        for item in found:
            print(item["LastModified"], item["Size"], item["Key"])
        return 0 if found else 1
    if options.action == "get":
        client.download_file(BUCKET, options.key, str(options.path))
    elif options.path.is_dir():
        _put_folder(client, options.path, options.key)
    else:
        client.upload_file(str(options.path), BUCKET, options.key)
    return 0


def _put_folder(client: S3Client, folder: Path, prefix: str) -> None:
    files = sorted(folder.iterdir(), key=lambda path: path.stat().st_size, reverse=True)
    with ThreadPoolExecutor(CONCURRENCY) as pool:
        list(pool.map(lambda path: client.upload_file(str(path), BUCKET, f"{prefix}/{path.name}"), files))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.transfer")
    parser.add_argument("action", choices=("put", "get", "ls"))
    parser.add_argument("key")
    parser.add_argument("path", nargs="?", type=Path, default=Path(os.devnull))
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
