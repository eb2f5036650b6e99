"""A server of ours that stands where a source stood at a past moment, and is read in its place."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import datetime

from lifeboat.outside import Connection
from lifeboat.postgres.open_server import OpenServer
from lifeboat.postgres.parameters import ConnectionParameters, Tls, connection_parameters
from lifeboat.postgres.server_facts import ServerFacts
from lifeboat.repository.manifest import Rebuilt

_USUAL = "postgres"


@dataclass(frozen=True)
class PastServer:
    """What a backup must know of it.

    Attributes:
        moment: what everything in it stands for: all that was committed by then, and nothing later.
        rebuilt: how it came about.
        base: the lost server's facts, as the base has them.
        opened: the server.
        row: keeps others out of the source's row of recovery points while one takes its place in it, by the name of
            the lock that they take.
    """

    moment: datetime
    rebuilt: Rebuilt
    base: ServerFacts
    opened: OpenServer
    row: Callable[[str], AbstractContextManager[None]]

    def parameters(self, database: str | None = None) -> ConnectionParameters:
        """libpq's parameters for its superuser in a database; in one that lets us in, where none is named."""
        databases = self.opened.databases
        place = database or (_USUAL if _USUAL in databases else databases[0])
        connection = Connection("scratch", "postgres", str(self.opened.room), self.opened.port, self.opened.superuser)
        made = connection_parameters(connection, Tls("off"), application_name="lifeboat rebuild", database=place)
        # What a database or a role has set is the lost server's: it must load no library and end no session here.
        return replace(made, keywords={**made.keywords, "options": self.opened.session_options})

    def facts(self, found: ServerFacts) -> ServerFacts:
        """What the server was like at that moment: its databases as they are found, all else as the base knows it. The
        settings and places that are found are ours."""
        there = {tablespace.oid for tablespace in found.tablespaces}
        return found.model_copy(
            update={
                "timeline": self.rebuilt.timeline,
                "platform": self.base.platform,
                "settings": self.base.settings,
                "files_outside": self.base.files_outside,
                "tablespaces": tuple(one for one in self.base.tablespaces if one.oid in there),
            }
        )

    def locations(self, found: ServerFacts) -> dict[str, str]:
        """Where tablespaces lay on the lost server, by where they lie now."""
        lay = {tablespace.oid: tablespace.location for tablespace in self.base.tablespaces if not tablespace.in_place}
        return {one.location: lay[one.oid] for one in found.tablespaces if one.oid in lay}
