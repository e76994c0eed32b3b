"""Where alerts are kept: the open ones in one object, each acknowledgement in its own; beside them a heartbeat, and how
full disks were."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from include.backup.errors import ObjectMissingError
from include.backup.health.alerts import Acknowledgement, Alert, alert_name
from include.backup.health.use import Use, with_use
from include.backup.records import from_json, to_json
from include.backup.store import Encryption, ObjectStore

FORMAT_VERSION = 1
PREFIX = "health/"


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenAlerts:
    """All alerts that held when health was looked at last, and those that ended and that nobody was told of yet."""

    source: str
    at: datetime
    alerts: tuple[Alert, ...]
    ended: tuple[Alert, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Uses:
    """How full disks and budgets were on the last days, oldest first."""

    source: str
    uses: tuple[Use, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Heartbeat:
    """That the scheduler lives: written at the end of each look at a source's health.

    ``ping_failure`` is why the request to the service that waits for one did not arrive.
    """

    source: str
    at: datetime
    alerts: int
    run_id: str
    ping_failure: str | None = None


class Board:
    """The alerts of one source. One run at a time writes them; people acknowledge beside it."""

    def __init__(self, store: ObjectStore, *, source: str, encryption: Encryption) -> None:
        self._store = store
        self._source = source
        self._encryption = encryption

    @property
    def _open_key(self) -> str:
        return f"{PREFIX}{self._source}/open.json"

    @property
    def _uses_key(self) -> str:
        return f"{PREFIX}{self._source}/uses.json"

    def _acknowledgement_key(self, alert: Alert, number: int = 1) -> str:
        # The first one has no number: they were once the only ones.
        ending = "" if number == 1 else f"-{number:04d}"
        return f"{PREFIX}{self._source}/acknowledged/{alert_name(alert.key, alert.since)}{ending}.json"

    def open_alerts(self) -> tuple[Alert, ...]:
        """Return the alerts of the last look, with what people said since."""
        return self.last_look()[0]

    def last_look(self) -> tuple[tuple[Alert, ...], tuple[Alert, ...]]:
        """Return the alerts of the last look, and those that had ended by then and that nobody was told of."""
        found = self._last()
        return ((), ()) if found is None else (found.alerts, found.ended)

    def _last(self) -> OpenAlerts | None:
        try:
            content = self._store.get(self._open_key)
        except ObjectMissingError:
            return None
        return from_json(OpenAlerts, content, format_version=FORMAT_VERSION, name=self._open_key)

    def replace_open(self, alerts: tuple[Alert, ...], *, ended: tuple[Alert, ...] = (), at: datetime) -> None:
        """Write the alerts that hold now, and those whose end is still to be told."""
        record = OpenAlerts(source=self._source, at=at, alerts=alerts, ended=ended)
        content = to_json(record, format_version=FORMAT_VERSION)
        self._store.replace(self._open_key, content, encryption=self._encryption)

    def acknowledgements(self, alerts: tuple[Alert, ...]) -> tuple[Acknowledgement, ...]:
        """Return what people said of these alerts, in the order in which they said it."""
        return tuple(record for alert in alerts for record in self._said_of(alert))

    def _said_of(self, alert: Alert) -> tuple[Acknowledgement, ...]:
        beginning = self._acknowledgement_key(alert).removesuffix(".json")
        found = [
            from_json(Acknowledgement, self._store.get(item.key), format_version=FORMAT_VERSION, name=item.key)
            for item in self._store.list(beginning)
        ]
        return tuple(sorted(found, key=lambda record: record.number))

    def add_acknowledgement(self, alert: Alert, record: Acknowledgement) -> Acknowledgement:
        """Record that a person knows of an alert, and return what now counts.

        One that says until the same time, and still counts, is found again: saying so twice changes nothing.
        """
        said = self._said_of(alert)
        if said and said[-1].counts(record.at) and said[-1].knows(alert) and said[-1].until == record.until:
            return said[-1]
        record = replace(record, number=said[-1].number + 1 if said else 1)
        content = to_json(record, format_version=FORMAT_VERSION)
        key = self._acknowledgement_key(alert, record.number)
        self._store.put_if_absent(key, content, encryption=self._encryption)
        return record

    def uses(self) -> tuple[Use, ...]:
        """Return how full disks and budgets were on the last days, oldest first."""
        try:
            content = self._store.get(self._uses_key)
        except ObjectMissingError:
            return ()
        return from_json(Uses, content, format_version=FORMAT_VERSION, name=self._uses_key).uses

    def add_use(self, use: Use) -> None:
        """Keep how full disks and budgets are, once a day."""
        before = self.uses()
        after = with_use(before, use)
        if after != before:
            content = to_json(Uses(source=self._source, uses=after), format_version=FORMAT_VERSION)
            self._store.replace(self._uses_key, content, encryption=self._encryption)

    def beat(self, heartbeat: Heartbeat) -> None:
        """Write the heartbeat."""
        content = to_json(heartbeat, format_version=FORMAT_VERSION)
        self._store.replace(_heartbeat_key(self._source), content, encryption=self._encryption)

    def heartbeat(self) -> Heartbeat | None:
        """Return the last heartbeat; None when there never was one."""
        return read_heartbeat(self._store, self._source)


def read_heartbeat(store: ObjectStore, source: str) -> Heartbeat | None:
    """Return the last heartbeat of a source; None when there never was one."""
    key = _heartbeat_key(source)
    try:
        content = store.get(key)
    except ObjectMissingError:
        return None
    return from_json(Heartbeat, content, format_version=FORMAT_VERSION, name=key)


def _heartbeat_key(source: str) -> str:
    return f"{PREFIX}{source}/heartbeat.json"
