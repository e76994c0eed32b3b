"""The embedded store as its owner sees it, who may do what no role of a backup may."""

from __future__ import annotations

from typing import Any

import boto3

from include.local.credentials import load_credentials
from include.local.s3 import REGION
from include.local.stack import Stack


def owner_of(stack: Stack) -> Any:
    """Return the store as its owner sees it."""
    root = load_credentials(stack.layout.credentials)
    connection = stack.store_connection()
    return boto3.client(
        "s3",
        endpoint_url=connection.endpoint_url,
        verify=connection.ca_bundle,
        region_name=REGION,
        aws_access_key_id=root.store_root_key,
        aws_secret_access_key=root.store_root_secret,
    )
