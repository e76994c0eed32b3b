"""Which controls of SOC 2, ISO 27001 and HIPAA this report has evidence for, and for which it has none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta

from include.backup.audit.fleet import FRESH
from include.backup.audit.policy import UNNAMED
from include.backup.audit.report import ChangeRow, ControlRow, Report, Shown
from include.backup.health.finding import Severity
from include.backup.policy.content import About

SOC2, ISO, HIPAA = "SOC 2", "ISO/IEC 27001:2022", "HIPAA"

NAMED = 5
# What has to hold for most of a month is shown by so many of its reports, or of its backups.
MOST, OF_EACH = 0.9, 0.5
# The cleanup runs every day, and so does the report of copies; one run of either may fail.
REMOVED_WITHIN = timedelta(days=2)
# A backup on working days alone leaves a month that ends on a Sunday without one for three.
COPIES_WITHIN = timedelta(days=4)
ANSWERED_WITHIN_SECONDS = timedelta(days=1).total_seconds()
# Of a change that is not named nobody knows that it is no change of access.
_ACCESS = (About.ACCESS, About.KEY, UNNAMED)
ELSEWHERE = "; who may read the bucket and its keys is in the provider's own records"

Finding = tuple[Shown, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """A control in our words, and what of a report is its evidence."""

    framework: str
    control: str
    asks: str
    look: Callable[[Report], Finding]


def control_rows(report: Report) -> tuple[ControlRow, ...]:
    """Return a row for each control; what nothing in the report shows is said to be not shown."""
    return tuple(
        ControlRow(framework=one.framework, control=one.control, asks=one.asks, state=state, evidence=evidence)
        for one in CONTROLS
        for state, evidence in (one.look(report),)
    )


def _nowhere(why: str) -> Callable[[Report], Finding]:
    return lambda report: (Shown.NOT_SHOWN, why)


def _judge(good: bool, text: str, *, known: bool = True, why: str = "") -> Finding:
    if not known:
        return Shown.NOT_SHOWN, why
    return (Shown.SHOWN if good else Shown.CONTRADICTED), text


def _encryption(report: Report) -> Finding:
    fits = sum(row.encryption_fits for row in report.backups)
    text = f"{fits} of {len(report.backups)} backups are encrypted as the policy says ({_keys(report)})"
    changed = [row for row in report.changes if row.about == About.KEY]
    text += f"; {len(changed)} changes of keys in the policy" if changed else ""
    return _judge(fits == len(report.backups), text, known=bool(report.backups), why="there is no backup")


def _keys(report: Report) -> str:
    return "; ".join(row.key for row in report.keys) or "no key recorded"


def _disposal(report: Report) -> Finding:
    count = len(report.deletions)
    return _judge(
        True,
        f"{count} deletions, each recorded with its reason before it was done",
        known=count > 0,
        why="nothing was deleted in this month",
    )


def _tampering(report: Report) -> Finding:
    text = f"{report.ledger.checked} records of the hash-chained ledger were checked up to {report.ledger.head}"
    if report.ledger.findings:
        text += f"; {len(report.ledger.findings)} findings: {report.ledger.findings[0]}"
    return _judge(not report.ledger.findings, text, known=report.ledger.checked > 0, why="the ledger is empty")


def _monitoring(report: Report) -> Finding:
    row = next((row for row in report.fleet if row.source == report.source), None)
    known = row is not None and row.looked_at is not None
    when = f"{row.looked_at:%Y-%m-%d %H:%M} UTC" if row is not None and row.looked_at is not None else ""
    fresh = row is not None and row.looked_at is not None and report.made_at - row.looked_at <= FRESH
    text = (
        f"health last looked at {when} (asked for: at most {FRESH.total_seconds() / 3600:.1f} hours before this report)"
    )
    text += f"; {len(report.alerts)} alerts were open in the month"
    return _judge(fresh, text, known=known, why="health was never looked at")


def _evaluated(report: Report) -> Finding:
    answered = [row for row in report.alerts if row.acknowledged_by]
    asked = [
        row for row in report.alerts if row.severity == Severity.CRITICAL and row.seconds > ANSWERED_WITHIN_SECONDS
    ]
    missing = [row.key for row in asked if not row.acknowledged_by]
    text = f"{len(answered)} of {len(report.alerts)} alerts were acknowledged by a person "
    text += "(asked for: each critical one that took more than a day)"
    why = f"{text}; what was done about them is not in this report"
    why += f"; nobody acknowledged {', '.join(missing[:NAMED])}" if missing else ""
    return _judge(True, text, known=bool(answered) and not missing, why=why)


def _responded(report: Report) -> Finding:
    done = [row for row in report.alerts if row.resolved_at is not None]
    longest = max((row.seconds for row in done), default=0.0)
    text = f"{len(done)} of {len(report.alerts)} alerts were resolved, the longest after {longest / 3600:.1f} hours"
    return _judge(len(done) == len(report.alerts), text, known=bool(report.alerts), why="there was no alert")


def _recovered(report: Report) -> Finding:
    row = report.objectives[-1]
    worst = 0.0 if row.worst is None else row.worst
    text = f"{row.count} restores were measured, the longest {worst / 60:.1f} of {row.objective / 60:.0f} minutes"
    drills = sum(actor.did.get("drill", 0) for actor in report.actors)
    text += f"; {drills} records of drills" if drills else ""
    return _judge(row.state is Shown.SHOWN, text, known=row.worst is not None, why="nothing was restored in the month")


def _capacity(report: Report) -> Finding:
    text = f"{report.size:,} bytes in the store, {len(report.trend)} months of trend"
    return _judge(True, text, known=bool(report.costs), why="there is nothing in the store")


def _made(report: Report) -> Finding:
    due = [row for row in report.tiers if row.due]
    missed = sum(len(row.missed) for row in due)
    total = sum(row.due or 0 for row in due)
    text = f"{total - missed} of {total} backups that were due were made ({', '.join(row.tier for row in due)})"
    return _judge(missed == 0, text, known=total > 0, why="no backup was due in the time that is known of")


def off_site(report: Report) -> Finding:
    """Judge whether the 3-2-1 rule was met: in the newest report, which is of the month's last days, and in most."""
    copies = report.copies_met
    newest = None if copies is None else copies.newest_at
    if copies is None or newest is None:
        return Shown.NOT_SHOWN, "no report of copies in the month"
    text = f"{report.copies}, the newest of {newest:%Y-%m-%d %H:%M} UTC "
    text += f"(asked for: {MOST:.0%} and the newest, and that of the last {COPIES_WITHIN.days} days)"
    good = "NOT met" not in report.copies and copies.met >= MOST * copies.reports
    return _judge(good and report.until - newest <= COPIES_WITHIN, text)


def _tested(report: Report) -> Finding:
    test = report.live_test
    made = sum(row.made for row in report.tiers)
    proven = sum(row.proven for row in report.tiers)
    text = f"{proven} of {made} backups of the month were restored and compared row by row "
    text += f"(asked for: {MOST:.0%}, and {OF_EACH:.0%} of each tier); {test.detail}"
    each = all(row.proven >= OF_EACH * row.made for row in report.tiers)
    good = test.passed is not False and proven > 0 and proven >= MOST * made and each
    return _judge(good, text, known=proven > 0 or test.passed is not None, why="no restore test is recorded")


def _retention(report: Report) -> Finding:
    text = f"{len(report.backups)} backups judged by the policy's retention, each with its reason; {_reasons(report)}"
    text += f"; {len(report.overdue)} expired more than {REMOVED_WITHIN.days} days ago and are there (asked for: none)"
    return _judge(not report.overdue, text, known=bool(report.backups), why="there is no backup")


def _reasons(report: Report) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in report.kept.items()) or "none is kept"


def _point(report: Report) -> Finding:
    missed = [row.name for row in report.objectives if row.state is Shown.CONTRADICTED]
    known = [row for row in report.objectives if row.state is not Shown.NOT_SHOWN]
    text = f"{len(known) - len(missed)} of {len(report.objectives)} objectives were met"
    text += f"; missed: {', '.join(missed)}" if missed else ""
    return _judge(not missed, text, known=len(known) == len(report.objectives), why=f"{text}, the others not measured")


def _approvals(report: Report) -> Finding:
    to_production = [row for row in report.restores if row.production and row.what != "undone"]
    given = [row for row in to_production if row.approved_by]
    text = f"{len(given)} of {len(to_production)} restores into production have an approval on record"
    return _judge(
        len(given) == len(to_production),
        text,
        known=bool(to_production),
        why="nobody restored into production in this month",
    )


def _separated(report: Report) -> Finding:
    both = [row for row in report.restores if row.approved_by and row.requested_by]
    own = [row for row in both if _same(row.approved_by, row.requested_by)]
    text = f"{len(both) - len(own)} of {len(both)} approvals are by another person than asked"
    return _judge(not own, text, known=bool(both), why="there was no approval in this month")


def _same(one: str | None, other: str | None) -> bool:
    """Say whether an approval is by who asked; at the command line it says where besides."""
    return (one or "").partition(",")[0].strip().casefold() == (other or "").strip().casefold()


def _access(report: Report) -> Finding:
    return _changes(report, "changes of access", lambda row: row.about in _ACCESS, ELSEWHERE)


def _changed(report: Report) -> Finding:
    return _changes(report, "changes of the policy", lambda row: bool(row.about), "")


def _changes(report: Report, name: str, wanted: Callable[[ChangeRow], bool], besides: str) -> Finding:
    """Judge changes of the policy: shown is that all are on record and whose they are, or that there was none."""
    rows = [row for row in report.changes if wanted(row)]
    if report.policy is None:
        return Shown.NOT_SHOWN, f"no policy is on record, and so no {name}{besides}"
    begin = max(report.policy.on_record_from, report.begin)
    since = f"on record is each policy that a run saw from {begin:%Y-%m-%d %H:%M} UTC on"
    unknown = [row for row in rows if row.author is None]
    if unknown:
        text = f"{len(rows)} {name} are on record; who made {len(unknown)} of them is not: {_paths(unknown)}{besides}"
        return Shown.NOT_SHOWN, text
    made = f"{len(rows)} {name}, by {', '.join(sorted({row.author or '' for row in rows}))}" if rows else f"no {name}"
    return Shown.SHOWN, f"{made}; {since}{besides}"


def _paths(rows: Sequence[ChangeRow]) -> str:
    more = f" and {len(rows) - NAMED} more" if len(rows) > NAMED else ""
    return ", ".join(row.subject for row in rows[:NAMED]) + more


def _critical(report: Report) -> Finding:
    row = next((row for row in report.tiers if row.tier == "hourly"), None)
    text = "" if row is None else f"critical tables have a tier of their own ({row.schedule}), {row.made} backups made"
    return _judge(True, text, known=row is not None, why="the policy names no critical tables")


def _tls(report: Report) -> Finding:
    return _judge(
        report.store_tls,
        "the store is reached over verified TLS; a backup refuses a source whose TLS is not verified"
        if report.store_tls
        else "the store is reached without TLS",
    )


CONTROLS: tuple[Control, ...] = (
    Control(framework=SOC2, control="CC6.1", asks="data is encrypted, keys are managed", look=_encryption),
    Control(framework=SOC2, control="CC6.2", asks="access is granted and removed on authority", look=_access),
    Control(framework=SOC2, control="CC6.3", asks="what overwrites production is authorised", look=_approvals),
    Control(framework=SOC2, control="CC6.3", asks="duties are separated", look=_separated),
    Control(
        framework=SOC2,
        control="CC6.4",
        asks="physical access is restricted",
        look=_nowhere("the provider's own report covers its data centres"),
    ),
    Control(framework=SOC2, control="CC6.5", asks="data is disposed of when it is not needed", look=_disposal),
    Control(
        framework=SOC2,
        control="CC6.6",
        asks="access from outside is restricted",
        look=_nowhere("networks and firewalls are outside of this project"),
    ),
    Control(framework=SOC2, control="CC6.7", asks="data is protected while it is moved", look=_tls),
    Control(
        framework=SOC2,
        control="CC6.8",
        asks="unauthorised software is kept out",
        look=_nowhere("this report looks at backups alone"),
    ),
    Control(framework=SOC2, control="CC7.1", asks="changes that nobody wanted are detected", look=_tampering),
    Control(framework=SOC2, control="CC7.2", asks="systems are watched", look=_monitoring),
    Control(framework=SOC2, control="CC7.3", asks="events are evaluated", look=_evaluated),
    Control(framework=SOC2, control="CC7.4", asks="incidents are responded to", look=_responded),
    Control(framework=SOC2, control="CC7.5", asks="one can recover from incidents", look=_recovered),
    Control(framework=SOC2, control="CC8.1", asks="changes of the policy are on record", look=_changed),
    Control(framework=SOC2, control="A1.1", asks="capacity is measured", look=_capacity),
    Control(framework=SOC2, control="A1.2", asks="backups are made and kept elsewhere", look=off_site),
    Control(framework=SOC2, control="A1.3", asks="recovery is tested", look=_tested),
    Control(framework=ISO, control="A.8.13 a", asks="copies are made as the policy says", look=_made),
    Control(framework=ISO, control="A.8.13 b", asks="what is kept, and how long, follows the policy", look=_retention),
    Control(framework=ISO, control="A.8.13 c", asks="copies lie at another place", look=off_site),
    Control(framework=ISO, control="A.8.13 d", asks="copies are protected by encryption", look=_encryption),
    Control(framework=ISO, control="A.8.13 e", asks="copies are tested regularly", look=_tested),
    Control(framework=ISO, control="A.8.13 f", asks="data can be recovered as far and as fast as needed", look=_point),
    Control(framework=HIPAA, control="164.308(a)(7)(ii)(A)", asks="data backup plan", look=_made),
    Control(framework=HIPAA, control="164.308(a)(7)(ii)(B)", asks="disaster recovery plan", look=_recovered),
    Control(
        framework=HIPAA,
        control="164.308(a)(7)(ii)(C)",
        asks="emergency mode operation plan",
        look=_nowhere("how the business goes on without its systems is outside of this project"),
    ),
    Control(framework=HIPAA, control="164.308(a)(7)(ii)(D)", asks="testing and revision", look=_tested),
    Control(framework=HIPAA, control="164.308(a)(7)(ii)(E)", asks="applications and data criticality", look=_critical),
)
