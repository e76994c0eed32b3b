"""What no dump carries is told in the manifest, with what to do."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from include.backup.manifest import read_manifest
from include.backup.not_carried import NotCarried, Seen, not_carried
from include.backup.policy import SHIPPED_POLICY, load_policy
from tests.support.builders import make_dump, make_manifest

SOURCE = load_policy(SHIPPED_POLICY, strict=True).source("pulse_messages")
PLAIN = replace(SOURCE, supabase=None)


NOTHING = Seen(schemas=(), roles=(), role_passwords=True, superuser=True, subscriptions=0, mappings_without_options=0)


def what(found: tuple[NotCarried, ...]) -> str:
    assert all(item.why and item.to_do for item in found)
    return "; ".join(item.what for item in found)


def test_the_root_key_is_a_manual_step_only_where_something_is_encrypted_with_it() -> None:
    found = not_carried(SOURCE, replace(NOTHING, schemas=["public", "vault"]))
    (key,) = [item for item in found if "root key" in item.what]
    assert "GET /v1/projects/<ref>/pgsodium" in key.to_do
    assert "by hand" in key.to_do
    assert "root key" not in what(not_carried(SOURCE, replace(NOTHING, schemas=["public"])))


@pytest.mark.parametrize("thing", ["Edge Functions", "files of Supabase Storage", "JWT secret", "settings of Auth"])
def test_a_hosted_project_is_told_what_lies_outside_of_its_database(thing: str) -> None:
    assert thing in what(not_carried(SOURCE, replace(NOTHING, schemas=["public"])))


def test_a_database_that_only_looks_like_supabase_counts_as_one() -> None:
    seen = replace(NOTHING, schemas=["auth", "storage"], roles=["supabase_auth_admin"])
    assert "Edge Functions" in what(not_carried(PLAIN, seen))
    assert not_carried(PLAIN, replace(NOTHING, schemas=["auth"])) == ()


def test_passwords_that_may_not_be_read_and_subscriptions_are_told_of_any_source() -> None:
    found = what(not_carried(PLAIN, replace(NOTHING, role_passwords=False, subscriptions=2)))
    assert found == "passwords of roles; 2 subscriptions' position"


def test_what_pg_dump_leaves_out_for_a_role_that_is_no_superuser_is_told() -> None:
    ordinary = replace(NOTHING, superuser=False, subscriptions=2, mappings_without_options=3)
    mappings, subscriptions = not_carried(PLAIN, ordinary)
    assert mappings.what == "options, if they have any, of 3 user mappings, passwords included"
    assert subscriptions.what == "2 subscriptions"
    assert "make them anew" in subscriptions.to_do
    assert not_carried(PLAIN, replace(NOTHING, superuser=False)) == ()


def test_a_manifest_holds_it_and_one_of_before_is_read_without_it() -> None:
    item = NotCarried(what="a", why="b", to_do="c")
    manifest = make_manifest(dump=make_dump(not_carried=(item,)))
    content = manifest.to_json()
    assert read_manifest(content, name="x").dump.not_carried == (item,)
    older = json.loads(content)
    del older["dump"]["not_carried"]
    assert read_manifest(json.dumps(older).encode(), name="x").dump.not_carried == ()
