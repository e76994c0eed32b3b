"""The templates for AWS: they allow every call that the code makes, and to each role no more than it is for."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator, Mapping
from datetime import timedelta
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest

from include.aws.render import FOLDER, NAMES, PLACEHOLDER, TEMPLATES, main, render
from include.backup.errors import ParameterError
from include.backup.policy import SHIPPED_POLICY, load_policy

ROOT = Path(__file__).resolve().parents[2]
VALUES = {
    "BUCKET": "backups",
    "LOG_BUCKET": "logs",
    "FILES_BUCKET": "files",
    "KEY_ARN": "arn:aws:kms:eu-west-1:111122223333:key/1",
    "WRITER_ROLE_ARN": "arn:aws:iam::111122223333:role/writer",
    "CLEANER_ROLE_ARN": "arn:aws:iam::111122223333:role/cleaner",
    "READER_ROLE_ARN": "arn:aws:iam::111122223333:role/reader",
    "ADMIN_ROLE_ARN": "arn:aws:iam::111122223333:role/admin",
}
WRITE = ("s3:PutObject", "s3:PutObjectTagging")
# What AWS asks for each call of its clients; a call that is not here fails the test below.
ACTIONS: Mapping[str, tuple[str, ...]] = {
    "abort_multipart_upload": ("s3:AbortMultipartUpload",),
    "complete_multipart_upload": ("s3:PutObject",),
    "create_multipart_upload": WRITE,
    "delete_object": ("s3:DeleteObject", "s3:DeleteObjectVersion"),
    "delete_objects": ("s3:DeleteObject", "s3:DeleteObjectVersion"),
    "describe_key": ("kms:DescribeKey",),
    "get_object": ("s3:GetObject", "kms:Decrypt"),
    "get_object_lock_configuration": ("s3:GetBucketObjectLockConfiguration",),
    "head_bucket": ("s3:ListBucket",),
    "head_object": ("s3:GetObject", "s3:GetObjectVersion"),
    "list_multipart_uploads": ("s3:ListBucketMultipartUploads",),
    "list_object_versions": ("s3:ListBucketVersions",),
    "list_objects_v2": ("s3:ListBucket",),
    "list_parts": ("s3:ListMultipartUploadParts",),
    # A lock is given with the object that it locks.
    "put_object": (*WRITE, "s3:PutObjectRetention", "kms:GenerateDataKey"),
    "restore_object": ("s3:RestoreObject",),
    "upload_fileobj": ("s3:PutObject", "s3:AbortMultipartUpload"),
    # A part of an encrypted upload is decrypted when the parts are put together.
    "upload_part": ("s3:PutObject", "kms:GenerateDataKey", "kms:Decrypt"),
    "upload_part_copy": ("s3:GetObject", "s3:GetObjectVersion", "s3:PutObject", "kms:Decrypt"),
}
CLIENTS = {"s3", "_s3", "kms", "_kms"}


def calls() -> Iterator[str]:
    """Yield every method of a client of AWS that the core or the operators call."""
    for folder in ("include/backup", "plugins"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                    yield from called(node, node.func)


def called(node: ast.Call, function: ast.Attribute) -> Iterator[str]:
    owner = function.value
    name = owner.attr if isinstance(owner, ast.Attribute) else owner.id if isinstance(owner, ast.Name) else ""
    if name not in CLIENTS:
        return
    if function.attr == "get_paginator":
        assert isinstance(node.args[0], ast.Constant)
        yield str(node.args[0].value)
    else:
        yield function.attr


def filled(template: str) -> dict[str, Any]:
    return render(template, VALUES)


def listed(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else list(value)


def applies(statement: Mapping[str, Any], action: str, resource: str, principal: str) -> bool:
    """Tell whether a statement speaks of a call; of conditions it knows who is excepted."""
    if not any(fnmatchcase(action, pattern) for pattern in listed(statement["Action"])):
        return False
    if "NotResource" in statement:
        if any(fnmatchcase(resource, pattern) for pattern in listed(statement["NotResource"])):
            return False
    elif not any(fnmatchcase(resource, pattern) for pattern in listed(statement["Resource"])):
        return False
    conditions = dict(statement.get("Condition", {}))
    excepted = conditions.pop("ArnNotLike", {}).get("aws:PrincipalArn", "")
    return not conditions and principal != excepted


def may(template: str, action: str, key: str = "", *, principal: str = "") -> bool:
    """Judge a call by a role's policy and by the bucket's, as AWS does: what denies wins."""
    resource = VALUES["KEY_ARN"] if action.startswith("kms:") else f"arn:aws:s3:::backups{'/' + key if key else ''}"
    statements = [*filled(template)["Statement"], *filled("bucket-policy")["Statement"]]
    found = [one["Effect"] for one in statements if applies(one, action, resource, principal)]
    return "Deny" not in found and "Allow" in found


def on(action: str) -> str:
    """Return a key that a writer writes, or none for what concerns the bucket as a whole."""
    whole = action in {
        "s3:ListBucket",
        "s3:ListBucketVersions",
        "s3:ListBucketMultipartUploads",
        "s3:GetBucketObjectLockConfiguration",
    }
    return "" if whole else "daily/a.tar"


def test_every_call_of_the_code_is_allowed_to_some_role() -> None:
    found = set(calls())
    assert found, "no call was found: the search is wrong"
    assert found <= set(ACTIONS), "say what AWS asks for it, and allow that to a role"
    assert {"restore_object", "delete_objects", "get_object_lock_configuration"} <= found
    roles = (("iam-writer", VALUES["WRITER_ROLE_ARN"]), ("iam-cleaner", VALUES["CLEANER_ROLE_ARN"]))
    for call in found:
        for action in ACTIONS[call]:
            assert any(may(role, action, on(action), principal=arn) for role, arn in roles), (call, action)


@pytest.mark.parametrize("template", ["iam-writer", "iam-cleaner", "iam-reader", "iam-files", "iam-files-restore"])
def test_no_role_is_allowed_what_the_code_does_not_call(template: str) -> None:
    needed = {action for call in calls() for action in ACTIONS[call]} | {"s3:BypassGovernanceRetention"}
    statements = filled(template)["Statement"]
    assert {action for one in statements for action in listed(one["Action"])} <= needed
    assert all("*" not in listed(one["Resource"]) for one in statements)


@pytest.mark.parametrize(
    ("role", "action", "key", "allowed"),
    [
        ("writer", "s3:PutObject", "daily/a.tar", True),
        ("writer", "s3:DeleteObject", "daily/a.tar", False),
        ("writer", "s3:DeleteObjectVersion", "monthly/a.tar", False),
        ("writer", "s3:DeleteObject", "in_use/p/a/x.json", True),
        ("writer", "s3:DeleteObjectVersion", "control/p/a.tar", True),
        ("writer", "s3:BypassGovernanceRetention", "evidence/p/1", False),
        ("writer", "s3:PutBucketVersioning", "", False),
        ("cleaner", "s3:DeleteObjectVersion", "daily/a.tar", True),
        ("cleaner", "s3:DeleteObjectVersion", "evidence/p/records/1", False),
        ("cleaner", "s3:DeleteObject", "holds/p/a/x", False),
        ("cleaner", "s3:PutObject", "daily/a.tar", False),
        ("cleaner", "s3:PutObject", "audit/p/cleanup/1", True),
        ("cleaner", "s3:PutObject", "restores/r/dropped.json", True),
        ("reader", "s3:GetObject", "daily/a.tar", True),
        ("reader", "s3:PutObject", "daily/a.tar", False),
        ("reader", "s3:DeleteObject", "in_use/p/a/x.json", False),
        ("reader", "kms:GenerateDataKey", "", False),
    ],
)
def test_each_role_may_do_what_it_is_for_and_no_more(role: str, action: str, key: str, allowed: bool) -> None:
    principal = VALUES[f"{role.upper()}_ROLE_ARN"]
    assert may(f"iam-{role}", action, key, principal=principal) is allowed


def test_the_bucket_itself_refuses_deletions_to_a_role_that_was_given_too_much() -> None:
    assert may("iam-cleaner", "s3:DeleteObject", "daily/a.tar", principal=VALUES["WRITER_ROLE_ARN"]) is False


@pytest.mark.parametrize("template", ["bucket-policy", "log-bucket-policy"])
def test_a_bucket_takes_nothing_without_tls_or_kms(template: str) -> None:
    conditions = [one["Condition"] for one in filled(template)["Statement"] if "Condition" in one]
    assert {"Bool": {"aws:SecureTransport": "false"}} in conditions
    # What is absent would not equal anything: only what is there and wrong is refused, the rest gets the default.
    sse = "s3:x-amz-server-side-encryption"
    assert {"Null": {sse: "false"}, "StringNotEquals": {sse: "aws:kms"}} in conditions


def test_what_may_still_be_cleared_is_not_swept_away_before() -> None:
    source = load_policy(SHIPPED_POLICY, strict=True).source("pulse_messages")
    assert source.cleanup is not None
    (days,) = [
        rule["AbortIncompleteMultipartUpload"]["DaysAfterInitiation"] for rule in filled("lifecycle")["Rules"][:1]
    ]
    # A run may be cleared for up to 720 hours, as the policy's schema has it.
    assert timedelta(days=days) > max(source.cleanup.orphan_grace, timedelta(hours=720))
    assert all("Days" not in rule.get("Expiration", {}) for rule in filled("lifecycle")["Rules"])


def test_logs_expire_where_compose_writes_them() -> None:
    rule = filled("log-lifecycle")["Rules"][0]
    assert rule["Expiration"]["Days"] == 400
    assert (
        f"s3://pulse-backups-logs/{rule['Filter']['Prefix']}".rstrip("/") in (ROOT / "docker-compose.yaml").read_text()
    )


def test_every_template_is_filled_in_completely_or_not_at_all(capsys: pytest.CaptureFixture[str]) -> None:
    for template in TEMPLATES:
        assert not PLACEHOLDER.search(json.dumps(filled(template))), template
        assert set(PLACEHOLDER.findall((FOLDER / f"{template}.json").read_text())) <= set(NAMES)
        assert f"`{template}.json`" in (FOLDER / "README.md").read_text()
    with pytest.raises(ParameterError, match="--key-arn"):
        render("iam-writer", {"BUCKET": "backups"})
    assert main(["iam-files", "--files-bucket", 'a"b']) == 0
    assert json.loads(capsys.readouterr().out)["Statement"][0]["Resource"][0] == 'arn:aws:s3:::a"b'
    assert main(["iam-files"]) != 0
