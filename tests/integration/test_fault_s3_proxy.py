"""The S3 proxy before the real store: signatures stay valid, and the store sees the faults as it would in life."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import (
    ClientError,
    ConnectionClosedError,
    IncompleteReadError,
    ResponseStreamingError,
    SSLError,
)
from types_boto3_s3 import S3Client

from include.local.s3 import BUCKET
from include.local.stack import Stack
from tests.faults.http_fault import DropRequest, LoseReply, Request, TruncateBody
from tests.faults.s3_proxy import S3Proxy

CONTENT = hashlib.sha256(b"seed").digest() * 40_000

# Over TLS it depends on the moment which of the two it is.
CLOSED = (ConnectionClosedError, SSLError)


@pytest.fixture(params=["http", "https"])
def proxy(request: pytest.FixtureRequest, stack: Stack) -> Iterator[S3Proxy]:
    certificate = (stack.layout.certificate, stack.layout.key) if request.param == "https" else None
    with S3Proxy(stack.store.url, ca_file=stack.layout.ca, certificate=certificate) as proxy:
        yield proxy


def client(stack: Stack, proxy: S3Proxy, *, attempts: int = 1, secret: str | None = None) -> S3Client:
    connection = replace(stack.store_connection(), endpoint_url=proxy.url)
    session = boto3.Session(
        aws_access_key_id=connection.access_key,
        aws_secret_access_key=secret or str(connection.secret_key),
        region_name=connection.region,
    )
    retries = Config(retries={"mode": "standard", "total_max_attempts": attempts}, s3={"addressing_style": "path"})
    made: S3Client = session.client(
        "s3", endpoint_url=connection.endpoint_url, verify=connection.ca_bundle, config=retries
    )
    return made


def is_put(request: Request) -> bool:
    return request.method == "PUT"


def test_signatures_stay_valid_in_both_directions(stack: Stack, proxy: S3Proxy) -> None:
    s3 = client(stack, proxy)
    s3.put_object(Bucket=BUCKET, Key="faults/a b+c", Body=CONTENT, ChecksumAlgorithm="SHA256")
    assert s3.get_object(Bucket=BUCKET, Key="faults/a b+c")["Body"].read() == CONTENT
    assert s3.head_object(Bucket=BUCKET, Key="faults/a b+c")["ContentLength"] == len(CONTENT)
    with pytest.raises(ClientError, match="SignatureDoesNotMatch"):
        client(stack, proxy, secret="wrong").get_object(Bucket=BUCKET, Key="faults/a b+c")


def test_slow_down_is_retried_by_the_client(stack: Stack, proxy: S3Proxy) -> None:
    proxy.slow_down(times=2, when=is_put)
    client(stack, proxy, attempts=3).put_object(Bucket=BUCKET, Key="faults/slow", Body=CONTENT)
    assert [exchange.status for exchange in proxy.exchanges] == [503, 503, 200]


def test_a_truncated_get_is_noticed_by_the_client(stack: Stack, proxy: S3Proxy) -> None:
    s3 = client(stack, proxy)
    s3.put_object(Bucket=BUCKET, Key="faults/short", Body=CONTENT)
    proxy.add(TruncateBody(after_bytes=100_000))
    body = s3.get_object(Bucket=BUCKET, Key="faults/short")["Body"]
    with pytest.raises((ResponseStreamingError, IncompleteReadError)):
        body.read()


def test_a_dropped_put_leaves_no_object_and_a_lost_reply_does(stack: Stack, proxy: S3Proxy) -> None:
    s3 = client(stack, proxy)
    proxy.add(DropRequest(after_bytes=500_000), when=is_put)
    with pytest.raises(CLOSED):
        s3.put_object(Bucket=BUCKET, Key=f"faults/dropped-{proxy.port}", Body=CONTENT)
    with pytest.raises(ClientError, match="404"):
        s3.head_object(Bucket=BUCKET, Key=f"faults/dropped-{proxy.port}")
    proxy.add(LoseReply(), when=is_put)
    with pytest.raises(CLOSED):
        s3.put_object(Bucket=BUCKET, Key=f"faults/lost-{proxy.port}", Body=CONTENT)
    assert s3.head_object(Bucket=BUCKET, Key=f"faults/lost-{proxy.port}")["ContentLength"] == len(CONTENT)
