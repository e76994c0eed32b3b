"""The owner of the embedded store, who may do what the backups' user may not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import boto3
from botocore.config import Config

from include.backup.connection_spec import Secret
from include.backup.connections import StoreConnection
from include.local.credentials import load_credentials
from include.local.stack import Stack


def owner_of(stack: Stack) -> StoreConnection:
    """Return how the store's owner reaches it."""
    credentials = load_credentials(stack.layout.credentials)
    return replace(
        stack.store_connection(),
        access_key=credentials.store_root_key,
        secret_key=Secret(credentials.store_root_secret),
    )


def clients_of(stack: Stack) -> Callable[[str], Any]:
    """Return a maker of the owner's clients by the name of the AWS service."""
    credentials = load_credentials(stack.layout.credentials)
    session = boto3.Session(credentials.store_root_key, credentials.store_root_secret, region_name="us-east-1")
    config = Config(s3={"addressing_style": "path"}, proxies={})
    return lambda name: session.client(name, endpoint_url=stack.store.url, verify=str(stack.layout.ca), config=config)
