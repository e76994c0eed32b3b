"""Texts for people: one line on success; what, why and the next step on failure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

WORK = ("preflight", "dump", "compress", "upload", "verify", "prepare_scratch", "restore_test", "close_staging")
CLEANUP = ("remove_scratch",)
PROOF = ("prepare_scratch", "restore_test")
LATENESS = "check_lateness"
LONGEST_REASON = 1500
_MEGABYTE = 1e6

_ADVICE: Mapping[str, str] = {
    LATENESS: "Clear it, or trigger a new run.",
    "preflight": "Nothing was read yet. Put it right, then clear `preflight` in this run or trigger a new one.",
    "dump": "Put it right, then clear `dump` in this run or trigger a new one.",
    "compress": "Clear `compress`: the dump is kept in staging {kept} and is not taken again.",
    "upload": "Put it right, then clear `upload`: the dump is kept in staging {kept} and is not taken again.",
    "dump_to_store": "Put it right, then clear `dump_to_store`: on another worker it dumps again.",
    "verify": "This backup does not count until `verify` passes. Clear it; if it fails again, trigger a new run.",
    "prepare_scratch": "The backup is stored, not proven. Put it right, then clear `prepare_scratch`.",
    "restore_test": "The backup is stored, not proven: do not rely on it. Clear `restore_test`, or trigger a new run.",
    "archive_attachments": "The database's backup is stored, its files are not. Put it right, then clear this task.",
    "copy_yearly": "The backup is stored and proven, its yearly copy is not. Put it right, then clear `copy_yearly`.",
    "change_class": "The backup is stored and proven, and still in the class that costs more. Clear `change_class`.",
    "close_staging": "The backup is stored; only its staging folder is left. Clear `close_staging`.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a run ended, as far as its tasks say."""

    source: str
    tier: str
    dag_id: str
    run_id: str
    backup_id: str
    url: str
    kept: str
    states: Mapping[str, str]
    reports: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    failures: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    seconds: float = 0.0
    release: str | None = None
    work: Sequence[str] = WORK
    also: Sequence[str] = ()
    late: str | None = None

    @property
    def failed(self) -> Sequence[str]:
        """The tasks that failed, in the order of the chain."""
        return [task for task in self.work if self.states.get(task) == "failed"]

    @property
    def notes(self) -> Sequence[str]:
        """What the tasks want people to hear."""
        found = [(self.reports.get(task) or {}).get("note") for task in (*self.work, *self.also)]
        lost = [f"`{task}` failed, look at it" for task in self.also if self.states.get(task) == "failed"]
        return [*(escape(str(note)) for note in found if note), *lost]

    @property
    def stored(self) -> bool:
        return self.states.get("verify") == "success"

    @property
    def proven(self) -> bool:
        return self.states.get("restore_test") == "success"

    @property
    def succeeded(self) -> bool:
        """Whether every task that had to run did."""
        tests = [task for task in self.work if task.startswith(PROOF)]
        proof = {self.states.get(task) for task in tests}
        done = all(self.states.get(task) == "success" for task in self.work if task not in tests)
        return done and proof in ({"success"}, {"skipped"})


def message(outcome: Outcome) -> str:
    """Return the text of a run that has ended."""
    if outcome.late is not None:
        return f"⏭️ {_title(outcome)}: {escape(outcome.late)} <{outcome.url}|run>"
    return success_text(outcome) if outcome.succeeded else failure_text(outcome)


def success_text(outcome: Outcome) -> str:
    """Return one line: what was backed up, how much, whether it is proven."""
    packed = outcome.reports.get("compress") or outcome.reports.get("dump_to_store") or {}
    proof = outcome.reports.get("restore_test") or {}
    stored = outcome.reports.get("verify") or {}
    facts = [f"{stored['size'] / _MEGABYTE:.1f} MB"] if "size" in stored else []
    tables, rows = (proof or packed).get("tables"), (proof or packed).get("rows")
    if tables is not None and rows is not None:
        facts.append(f"{tables} tables, {rows} rows")
    facts.append(
        f"proven ({proof.get('level', 'level unknown')}): every row identical"
        if outcome.proven
        else "stored and verified, *not yet proven*"
    )
    facts += outcome.notes
    facts.append(f"{outcome.seconds:.0f} s")
    left = [f"`{task}` failed, look at it" for task in CLEANUP if outcome.states.get(task) == "failed"]
    return f"✅ {_title(outcome)}: `{outcome.backup_id}` {'; '.join([*facts, *left])} <{outcome.url}|run>"


def failure_text(outcome: Outcome) -> str:
    """Return what failed, why, and what to do next."""
    task = outcome.failed[0] if outcome.failed else None
    done = [name for name in outcome.work if outcome.states.get(name) == "success"]
    what = f"`{outcome.backup_id}`, done before: {', '.join(done) or 'nothing'}"
    url = outcome.url if task is None else f"{outcome.url}/tasks/{task}"
    return "\n".join(
        (
            f"❌ {_title(outcome)} *failed*" + (f" at `{task}`" if task else ""),
            f"*What:* {what}",
            f"*Why:* {_why(outcome, task)}",
            f"*Next:* {_next(outcome, task)} <{url}|{'log' if task else 'run'}>",
            *(f"*Also:* {note}" for note in outcome.notes),
        )
    )


def ended_text(*, source: str, tier: str, dag_id: str, run_id: str, url: str, reason: str) -> str:
    """Return the text for a run that Airflow itself ended, so that ``notify`` never ran."""
    why = "it took longer than its last resort, dagrun_timeout" if reason == "timed_out" else reason
    return "\n".join(
        (
            f"❌ *{escape(source)}* {escape(tier)} backup *ended by Airflow*",
            f"*What:* run `{escape(run_id)}` of `{escape(dag_id)}`; its tasks were stopped or skipped",
            f"*Why:* {escape(why)}",
            f"*Next:* Look which task it waited for (a missing pool, no worker), put it right, trigger a new run. "
            f"<{url}|run>",
        )
    )


def late_run_text(*, source: str, what: str, dag_id: str, run_id: str, state: str, limit: timedelta, url: str) -> str:
    """Return the text for a run that goes on for longer than usual by the policy's time."""
    if state == "queued":
        todo = "Look whether an earlier run of it still goes on, and whether the scheduler starts anything."
    else:
        todo = "Look at the log of the task that runs or waits: a lock, a missing pool, no worker, a slow network."
    return "\n".join(
        (
            f"⏰ *{escape(source)}* {escape(what)} backup *is late*",
            f"*What:* run `{escape(run_id)}` of `{escape(dag_id)}` is still {escape(state)}, {limit} past the usual",
            f"*Next:* {todo} Nothing ends it because of this. <{url}|run>",
        )
    )


def escape(text: str) -> str:
    """Return a text that Slack shows as it is: no mentions, no links.

    >>> escape("<!channel> & co")
    '&lt;!channel&gt; &amp; co'
    """
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _title(outcome: Outcome) -> str:
    release = f" for release {escape(outcome.release)}" if outcome.release else ""
    return f"*{escape(outcome.source)}* {escape(outcome.tier)} backup{release}"


def _why(outcome: Outcome, task: str | None) -> str:
    if task is None:
        return "no task failed, but not all have run; somebody marked tasks, or the run was ended"
    reason = outcome.failures.get(task)
    if not reason:
        return "it ended without giving a reason: its worker was lost, or somebody marked it; see its log"
    text = str(reason.get("message") or "an unexpected error, whose text is only in the log")
    if len(text) > LONGEST_REASON:
        text = f"{text[:LONGEST_REASON]} … (cut; the log has all of it)"
    return escape(f"{reason.get('error')}: {text}")


def _next(outcome: Outcome, task: str | None) -> str:
    if task is None:
        return "Look at the run; trigger a new one if the backup is missing."
    return _advice(task).format(kept=outcome.kept)


def _advice(task: str) -> str:
    """Return what to do about a task; those of a second archive have its kind at the end of their names.

    >>> _advice("verify_schema") == _advice("verify")
    True
    """
    known = _ADVICE.get(task) or _ADVICE.get(task.rpartition("_")[0])
    return known or f"Put it right, then clear `{task}`."
