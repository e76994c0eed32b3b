"""The embedded object store: S3, KMS and IAM over TLS, with its data kept in the state folder."""

from __future__ import annotations

import json
import ssl
import sys
import urllib.error
import urllib.request
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from include.aws.render import render
from include.local import ports
from include.local.credentials import Credentials, load_credentials, save_store_key
from include.local.environment import service_environment
from include.local.errors import ServiceFailedError, StackError
from include.local.files import FILES_BUCKET, upload_files
from include.local.layout import Layout
from include.local.processes import wait_until
from include.local.service import Program, Service

if TYPE_CHECKING:
    from types_boto3_kms import KMSClient
    from types_boto3_s3 import S3Client

BUCKET = "pulse-backups"
KEY_ALIAS = "alias/pulse-backups"
REGION = "us-east-1"
USER = "pulse-backups"
START_SECONDS = 60.0
# Its state is written when it ends: killed earlier, it forgets keys and users.
TERM_SECONDS = 30.0


class Store:
    """The store's server, and the bucket, key and user that backups need."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self.url = f"https://localhost:{layout.store_port}"

    def service(self) -> Service:
        return Service(self._layout, store_program(self._layout, load_credentials(self._layout.credentials)))

    def start(self) -> bool:
        """Start the server and make what is missing in it; return whether this call started it."""
        service = self.service()
        if service.running():
            self._wait(service)
            return False
        service.stop()
        ports.require_free("store", self._layout.store_port)
        service.start()
        self._wait(service)
        if self._set_up():
            # What was made survives a kill only once the server has ended in good order.
            service.stop()
            service.start()
            self._wait(service)
        return True

    def healthy(self) -> bool:
        """Return whether the server answers over TLS with a certificate of our authority."""
        context = ssl.create_default_context(cafile=str(self._layout.ca))
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
        )
        try:
            with opener.open(f"{self.url}/_ministack/health", timeout=2) as answer:
                return bool(answer.status == 200)
        except (OSError, urllib.error.URLError):
            return False

    def upload_sample_files(self, conninfo: str) -> int:
        """Give the sample's rows their files; return how many were missing."""
        root = Clients(self._layout, load_credentials(self._layout.credentials))
        try:
            return upload_files(root.s3, conninfo)
        except (BotoCoreError, ClientError) as error:
            raise StackError(f"the sample's files cannot be stored: {error}; see {self.service().log}") from error

    def _wait(self, service: Service) -> None:
        def answered() -> bool:
            service.require_running()
            return self.healthy()

        if not wait_until(answered, START_SECONDS):
            raise ServiceFailedError(f"the store does not answer at {self.url}; {service.log_tail()}")

    def _set_up(self) -> bool:
        """Make bucket, key and user; return whether anything was missing."""
        try:
            root = Clients(self._layout, load_credentials(self._layout.credentials))
            missing = [root.ensure_bucket(), root.ensure_key(), root.ensure_files_bucket(), self._ensure_user(root)]
        except (BotoCoreError, ClientError) as error:
            raise StackError(f"the store refused its own set-up: {error}; see {self.service().log}") from error
        return any(missing)

    def _ensure_user(self, root: Clients) -> bool:
        credentials = load_credentials(self._layout.credentials)
        if root.has_user_key(credentials.store_access_key):
            return False
        access_key, secret_key = root.make_user_key()
        save_store_key(self._layout.credentials, access_key, secret_key)
        return True


class Clients:
    """What the store's owner does once: the backups' own user may do less."""

    def __init__(self, layout: Layout, credentials: Credentials) -> None:
        session = boto3.Session(
            aws_access_key_id=credentials.store_root_key,
            aws_secret_access_key=credentials.store_root_secret,
            region_name=REGION,
        )
        url, ca = f"https://localhost:{layout.store_port}", str(layout.ca)
        config = Config(s3={"addressing_style": "path"}, proxies={}, retries={"mode": "standard"})
        self.s3: S3Client = session.client("s3", endpoint_url=url, verify=ca, config=config)
        self._kms: KMSClient = session.client("kms", endpoint_url=url, verify=ca, config=config)
        self._iam: Any = session.client("iam", endpoint_url=url, verify=ca, config=config)

    def ensure_bucket(self) -> bool:
        """Make the bucket, with versioning; return whether it was missing."""
        with suppress(ClientError):
            if self.s3.get_bucket_versioning(Bucket=BUCKET).get("Status") == "Enabled":
                return False
        with suppress(self.s3.exceptions.BucketAlreadyOwnedByYou):
            self.s3.create_bucket(Bucket=BUCKET)
        self.s3.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
        return True

    def ensure_files_bucket(self) -> bool:
        """Make the bucket of the sample's files, without versions, as on Supabase; return whether it was missing."""
        try:
            self.s3.head_bucket(Bucket=FILES_BUCKET)
        except ClientError:
            self.s3.create_bucket(Bucket=FILES_BUCKET)
            return True
        return False

    def ensure_key(self) -> bool:
        """Make the encryption key and its alias; return whether they were missing."""
        with suppress(self._kms.exceptions.NotFoundException):
            self._kms.describe_key(KeyId=KEY_ALIAS)
            return False
        key = self._kms.create_key(Description="Pulse Messages backups")["KeyMetadata"]
        self._kms.create_alias(AliasName=KEY_ALIAS, TargetKeyId=key["KeyId"])
        return True

    def has_user_key(self, access_key: str) -> bool:
        """Return whether the store knows the backups' user by this access key."""
        with suppress(self._iam.exceptions.NoSuchEntityException):
            keys = self._iam.list_access_keys(UserName=USER)["AccessKeyMetadata"]
            return bool(access_key) and access_key in [key.get("AccessKeyId") for key in keys]
        return False

    def make_user_key(self) -> tuple[str, str]:
        """Make the backups' user with one new access key; older keys end."""
        with suppress(self._iam.exceptions.EntityAlreadyExistsException):
            self._iam.create_user(UserName=USER)
        for old in self._iam.list_access_keys(UserName=USER)["AccessKeyMetadata"]:
            self._iam.delete_access_key(UserName=USER, AccessKeyId=old.get("AccessKeyId", ""))
        for name, document in backup_policies(self._key_arn()).items():
            self._iam.put_user_policy(UserName=USER, PolicyName=name, PolicyDocument=json.dumps(document))
        made = self._iam.create_access_key(UserName=USER)["AccessKey"]
        return made["AccessKeyId"], made["SecretAccessKey"]

    def _key_arn(self) -> str:
        return self._kms.describe_key(KeyId=KEY_ALIAS)["KeyMetadata"]["Arn"]


def backup_policies(key_arn: str) -> dict[str, dict[str, Any]]:
    """Return the IAM policies of the backups' user by name: those that include/aws has for AWS itself."""
    values = {"BUCKET": BUCKET, "FILES_BUCKET": FILES_BUCKET, "KEY_ARN": key_arn}
    names = ("iam-writer", "iam-cleaner", "iam-files")
    # AWS judges by the key; this store by what the request names, which is the alias.
    alias = {"Effect": "Allow", "Action": "kms:DescribeKey", "Resource": _alias_arn(key_arn)}
    return {
        **{name: render(name, values) for name in names},
        "alias": {"Version": "2012-10-17", "Statement": [alias]},
    }


def store_program(layout: Layout, credentials: Credentials) -> Program:
    """Return how the server is run."""
    argv = (sys.executable, "-m", "include.local.store_server")
    environment = {
        **service_environment(layout),
        "AUTH": "true",
        "AWS_ACCESS_KEY_ID": credentials.store_root_key,
        "AWS_SECRET_ACCESS_KEY": credentials.store_root_secret,
        "MINISTACK_REGION": REGION,
        "GATEWAY_PORT": str(layout.store_port),
        "USE_SSL": "1",
        "MINISTACK_SSL_CERT": str(layout.certificate),
        "MINISTACK_SSL_KEY": str(layout.key),
        "S3_PERSIST": "1",
        "S3_DATA_DIR": str(layout.store / "objects"),
        "PERSIST_STATE": "1",
        "STATE_DIR": str(layout.store / "state"),
        "SERVICES": "s3,kms,iam,sts",
        "IOT_MTLS_ENABLED": "0",
        "SFTP_ENABLED": "0",
        # It removes containers of other instances when it finds a Docker daemon.
        "DOCKER_HOST": f"unix://{layout.store}/no-docker.sock",
    }
    return Program(name="store", argv=argv, environment=environment, term_seconds=TERM_SECONDS)


def _alias_arn(key_arn: str) -> str:
    """Return the alias's name beside its key's.

    >>> _alias_arn("arn:aws:kms:us-east-1:000000000000:key/1234")
    'arn:aws:kms:us-east-1:000000000000:alias/pulse-backups'
    """
    return key_arn.rpartition(":")[0] + f":{KEY_ALIAS}"
