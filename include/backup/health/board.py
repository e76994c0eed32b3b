"""Where alerts are kept: the open ones in one object, each acknowledgement in its own, and a heartbeat beside them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime

from include.backup.errors import ObjectMissingError, ParameterError
from include.backup.health.alerts import Acknowledgement, Alert
from include.backup.records import from_json, to_json
from include.backup.store import Encryption, ObjectStore

FORMAT_VERSION = 1
PREFIX = "health/"


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenAlerts:
    """All alerts that held when health was looked at last."""

    source: str
    at: datetime
    alerts: tuple[Alert, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Heartbeat:
    """That the scheduler lives: written at the end of each look at a source's health."""

    source: str
    at: datetime
    alerts: int
    run_id: str


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
    def _heartbeat_key(self) -> str:
        return f"{PREFIX}{self._source}/heartbeat.json"

    def _acknowledgement_key(self, alert: Alert) -> str:
        name = hashlib.sha256(f"{alert.key}\0{alert.since.isoformat()}".encode()).hexdigest()[:32]
        return f"{PREFIX}{self._source}/acknowledged/{name}.json"

    def open_alerts(self) -> tuple[Alert, ...]:
        """Return the alerts of the last look, with what people said since."""
        try:
            content = self._store.get(self._open_key)
        except ObjectMissingError:
            return ()
        return from_json(OpenAlerts, content, format_version=FORMAT_VERSION, name=self._open_key).alerts

    def replace_open(self, alerts: tuple[Alert, ...], *, at: datetime) -> None:
        """Write the alerts that hold now."""
        record = OpenAlerts(source=self._source, at=at, alerts=alerts)
        content = to_json(record, format_version=FORMAT_VERSION)
        self._store.replace(self._open_key, content, encryption=self._encryption)

    def acknowledgements(self, alerts: tuple[Alert, ...]) -> tuple[Acknowledgement, ...]:
        """Return what people said of these alerts."""
        found = []
        for alert in alerts:
            key = self._acknowledgement_key(alert)
            try:
                content = self._store.get(key)
            except ObjectMissingError:
                continue
            found.append(from_json(Acknowledgement, content, format_version=FORMAT_VERSION, name=key))
        return tuple(found)

    def acknowledge(self, wanted: str, *, by: str, at: datetime, note: str) -> Alert:
        """Record that a person knows of an alert; saying so twice changes nothing.

        Raises ParameterError, naming those that are open, when there is no such alert.
        """
        alerts = self.open_alerts()
        for alert in alerts:
            if alert.key == wanted:
                break
        else:
            names = ", ".join(alert.key for alert in alerts) or "none"
            raise ParameterError(f"there is no open alert {wanted!r} of {self._source}; open: {names}")
        record = Acknowledgement(key=alert.key, since=alert.since, by=by, at=at, note=note)
        key = self._acknowledgement_key(alert)
        if self._store.head(key) is None:
            content = to_json(record, format_version=FORMAT_VERSION)
            self._store.put_if_absent(key, content, encryption=self._encryption)
        return alert

    def beat(self, heartbeat: Heartbeat) -> None:
        """Write the heartbeat."""
        content = to_json(heartbeat, format_version=FORMAT_VERSION)
        self._store.replace(self._heartbeat_key, content, encryption=self._encryption)

    def heartbeat(self) -> Heartbeat | None:
        """Return the last heartbeat; None when there never was one."""
        try:
            content = self._store.get(self._heartbeat_key)
        except ObjectMissingError:
            return None
        return from_json(Heartbeat, content, format_version=FORMAT_VERSION, name=self._heartbeat_key)
