"""restore-attachments: files out of an archive into a folder or a bucket, previewed, confirmed, compared."""

from __future__ import annotations

from dataclasses import replace

from include.backup.attachments.record import KIND
from include.backup.attachments.restore import chosen_files, plan_files, restore_files
from include.backup.attachments.targets import BucketTarget, FileTarget, FolderTarget
from include.backup.backup_id import parse_backup_id
from include.backup.cli.confirming import confirm
from include.backup.cli.restoring import record_done, restore_context
from include.backup.cli.session import Session
from include.backup.connections import StoreConnection
from include.backup.errors import (
    ConnectionDefinitionError,
    ParameterError,
    RestoreDiffersError,
    RestoreRefusedError,
    SettingsError,
)
from include.backup.inventory import LATEST, LATEST_PROVEN, Standing, find_backup, standing_of
from include.backup.manifest import Manifest
from include.backup.store import Encryption, ObjectStore


def run(session: Session) -> int:
    """Put files back, or print only what would be done."""
    arguments = session.arguments
    manifest = _manifest(session)
    target = _target(session, manifest)
    files = chosen_files(manifest, bucket=arguments.bucket, prefix=arguments.prefix)
    plan = plan_files(manifest, files, target, overwrite=arguments.overwrite)
    session.output.preview(plan.lines())
    if arguments.dry_run:
        if session.output.as_json:
            session.output.result("restore-attachments", {"dry_run": True, "preview": plan.to_dict()}, ())
        return 0
    if not arguments.yes:
        confirm(f"Type yes to write {len(plan.to_write)} files", word="yes", what="yes")
    with session.output.progress() as progress:
        progress.phase("files", sum(file.size for file in plan.to_write), "bytes")
        report = restore_files(plan, target, store=session.store, catalog=session.catalog, progress=progress.at)
    facts = {
        "files": {"bucket": arguments.bucket, "prefix": arguments.prefix},
        "production": report.written > 0 and _is_production(session),
        **report.to_dict(),
    }
    document = {
        "dry_run": False,
        "preview": plan.to_dict(),
        "report": report.to_dict(),
        **record_done(session, restore_context(session), facts),
    }
    session.output.result("restore-attachments", document, report.lines())
    return RestoreDiffersError.exit_code if report.left else 0


def _manifest(session: Session) -> Manifest:
    """Return the manifest of the archive of files that a person means; raises RestoreRefusedError if unproven."""
    arguments, catalog = session.arguments, session.catalog
    wanted = arguments.backup
    if wanted in (LATEST, LATEST_PROVEN):
        backup_id = find_backup(catalog, session.source.name, wanted, tier=arguments.tier, kind=KIND)
    else:
        named = find_backup(catalog, session.source.name, wanted, tier=arguments.tier)
        backup_id = str(replace(parse_backup_id(named), kind=KIND))
    manifest, content = catalog.read(backup_id)
    standing = standing_of(content, catalog.proofs(backup_id))
    if standing is not Standing.PROVEN and not arguments.unproven:
        raise RestoreRefusedError(f"{backup_id} is {standing.value}, not proven; add --unproven to use it all the same")
    return manifest


def _target(session: Session, manifest: Manifest) -> FileTarget:
    arguments = session.arguments
    if arguments.to_folder is not None:
        if arguments.connection is not None:
            raise ParameterError("--connection goes with --to-bucket only")
        return FolderTarget(arguments.to_folder.absolute())
    policy = session.source.attachments
    buckets = set() if manifest.attachments is None else set(manifest.attachments.buckets)
    if len(buckets) > 1 and arguments.bucket is None:
        raise ParameterError(f"{manifest.backup_id} has files of {', '.join(sorted(buckets))}; say which by --bucket")
    conn_id = arguments.connection or (None if policy is None else policy.connection)
    if conn_id is None:
        raise ParameterError(f"the policy names no attachments for {session.source.name}; give --connection")
    connection = StoreConnection.from_spec(session.connection(conn_id))
    store = ObjectStore.connect(connection, bucket=arguments.to_bucket)
    store.check_bucket()
    return BucketTarget(store, encryption=Encryption(algorithm=None))


def _is_production(session: Session) -> bool:
    """Say whether the files went into a bucket from which the policy archives them."""
    policy, bucket = session.source.attachments, session.arguments.to_bucket
    if policy is None or bucket not in policy.buckets:
        return False
    try:
        own = StoreConnection.from_spec(session.connection(policy.connection))
    except (ConnectionDefinitionError, SettingsError):
        session.log.debug("connection %s is not known here", policy.connection)
        return True  # the name is its, and nothing says that the server is another
    used = StoreConnection.from_spec(session.connection(session.arguments.connection or policy.connection))
    return used.endpoint_url == own.endpoint_url
