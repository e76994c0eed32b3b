"""upload of a base backup: send what is not sent yet, complete the archive, write the manifest last."""

from __future__ import annotations

import time

from include.backup.archive.tar import FileMember
from include.backup.base.stream import base_layout
from include.backup.base.take import StagedBase, read_staged
from include.backup.manifest import Fits, Manifest, Member
from include.backup.multipart import Uploaded, UploadPlan
from include.backup.steps.context import StepContext
from include.backup.steps.upload import (
    UploadReport,
    already_stored,
    archive_object,
    run_facts,
    store_archive,
    store_manifest,
    upload_plan,
)


def run(ctx: StepContext) -> UploadReport:
    """Store archive and manifest; every byte in staging is hashed again, and what the store has is not sent twice."""
    if ctx.manifest_is_stored():
        return already_stored(ctx)
    started = time.monotonic()
    with ctx.staging.locked():
        staged = read_staged(ctx)
        files = [
            FileMember(name=member.name, path=ctx.staging.path / member.path, length=member.facts.stored_length)
            for member in staged.members
        ]
        layout = base_layout(files, modified_at=staged.modified_at)
        plan = upload_plan(ctx, layout, part_size=staged.part_size)
        uploaded = store_archive(ctx, plan, sent=staged.sent)
        seconds = round(time.monotonic() - started, 3)
        return store_manifest(ctx, plan, uploaded, _manifest(ctx, staged, plan, uploaded, seconds), seconds)


def _manifest(ctx: StepContext, staged: StagedBase, plan: UploadPlan, uploaded: Uploaded, seconds: float) -> Manifest:
    return Manifest(
        backup_id=ctx.backup_id,
        source=ctx.source.name,
        tier=ctx.tier.name,
        kind=ctx.kind,
        created_at=ctx.clock(),
        run=run_facts(ctx),
        release=None,
        dump=staged.facts,
        excluded_schemas=(),
        excluded_tables=(),
        toc_version="",
        toc_entries=0,
        fits=Fits(pg_restore_minimum=staged.facts.server.major, server_majors=(staged.facts.server.major,)),
        archive=archive_object(ctx, plan, uploaded),
        members=tuple(
            Member(
                name=member.name,
                offset=placed.offset,
                stored_length=member.facts.stored_length,
                stored_sha256=member.facts.stored_sha256,
                length=member.facts.length,
                sha256=member.facts.sha256,
                compression=member.compression,
                table_data=None,
            )
            for member, placed in zip(staged.members, plan.layout.members, strict=True)
        ),
        durations={"take": staged.seconds, "upload": seconds},
        proof_level=ctx.tier.proof_level,
        base=staged.base,
    )
