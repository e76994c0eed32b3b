"""run: one backup from source to proof, by the same steps that the operators run."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from include.backup.backup_id import parse_backup_id
from include.backup.chain import CHAIN, Report, kept_run, new_run, run_chain
from include.backup.cli.session import Session
from include.backup.errors import ParameterError
from include.backup.evidence import open_ledger
from include.backup.evidence.policy_record import record_policy
from include.backup.steps.context import Release, RunIdentity, StepContext


def run(session: Session) -> int:
    """Take a backup; what it proved is the result."""
    ctx = _context(session)
    session.log.info("run %s takes backup %s", ctx.run.run_id, ctx.backup_id)
    prove = not session.arguments.no_proof
    started = time.monotonic()
    try:
        with session.output.progress() as progress:
            progress.phase("backup", len(CHAIN), "steps")
            done = 0

            def on_report(name: str, report: Report) -> None:
                nonlocal done
                done += 1
                progress.at(done)
                session.log.info("%s: %s", name, report.line())

            reports = run_chain(
                ctx, prove=prove, on_step=lambda name: session.log.debug("step %s", name), on_report=on_report
            )
    except BaseException:
        if ctx.staging.dump.is_dir():
            session.output.message(f"the dump is kept; go on with: run {ctx.source.name} --resume {ctx.backup_id}")
        raise
    record_policy(open_ledger(ctx.source, ctx.store), ctx.source, actor=ctx.run.actor)
    seconds = round(time.monotonic() - started, 3)
    document = {
        "source": ctx.source.name,
        "tier": ctx.tier.name,
        "backup_id": ctx.backup_id,
        "run_id": ctx.run.run_id,
        "proven": prove,
        "seconds": seconds,
        "steps": reports,
    }
    session.output.result("run", document, _lines(ctx, reports, seconds))
    return 0


def _context(session: Session) -> StepContext:
    arguments = session.arguments
    source = session.source
    if arguments.wait is not None:
        source = replace(source, lock_wait_seconds=arguments.wait)
    # One process does it all: whatever the workers share, it has a folder.
    source = replace(source, shares_staging=True)
    tier, run, release = _resumed(session) if arguments.resume else _new(session)
    if release is not None:
        release.check()
    return StepContext(
        source=source,
        tier=source.tier(tier),
        run=run,
        database=session.database(source.connection),
        store_connection=session.store_connection,
        staging_root=session.staging_root,
        scratch_root=session.scratch_root,
        runner=session.runner,
        log=session.log,
        release=release,
    )


def _new(session: Session) -> tuple[str, RunIdentity, Release | None]:
    arguments = session.arguments
    if bool(arguments.release) != bool(arguments.git_sha):
        raise ParameterError("--release and --git-sha belong together; give both or neither")
    release = Release(name=arguments.release, git_sha=arguments.git_sha) if arguments.release else None
    return arguments.tier, new_run(), release


def _resumed(session: Session) -> tuple[str, RunIdentity, Release | None]:
    arguments = session.arguments
    if arguments.release or arguments.git_sha:
        raise ParameterError("--resume goes on with the release that the run began with; leave --release out")
    parsed = parse_backup_id(arguments.resume)
    if parsed.source != session.source.name:
        raise ParameterError(f"{arguments.resume} is a backup of {parsed.source}; name that source")
    kept = kept_run(session.staging_root, arguments.resume)
    return parsed.tier, kept.identity(), kept.guarded()


def _lines(ctx: StepContext, reports: Mapping[str, Mapping[str, Any]], seconds: float) -> Iterator[str]:
    yield f"{ctx.backup_id} is stored and verified, {seconds:.1f} s"
    proof = reports.get("restore_test")
    if proof is None:
        yield "it is not proven (--no-proof)"
    else:
        yield f"it is proven ({proof['level']}): {proof['tables']} tables, {proof['rows']} rows, every row identical"
