"""The embedded store as its owner sees it, who may do what no role of a backup may."""

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


def owner_of(stack: Stack) -> Any:
    """Return the store as its owner sees it."""
    return clients_of(stack)("s3")


def clients_of(stack: Stack) -> Callable[[str], Any]:
    """Return a maker of the owner's clients by the name of the AWS service."""
    connection = owners_connection(stack)
    return lambda name: boto3.client(
        name,
        endpoint_url=connection.endpoint_url,
        verify=connection.ca_bundle,
        region_name=connection.region,
        aws_access_key_id=connection.access_key,
        aws_secret_access_key=str(connection.secret_key),
        config=Config(s3={"addressing_style": "path"}, proxies={}),
    )


def owners_connection(stack: Stack) -> StoreConnection:
    """Return how the store's owner reaches it."""
    credentials = load_credentials(stack.layout.credentials)
    return replace(
        stack.store_connection(),
        access_key=credentials.store_root_key,
        secret_key=Secret(credentials.store_root_secret),
    )
