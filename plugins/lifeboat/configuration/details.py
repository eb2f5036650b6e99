"""What a configuration's manifest says of it: how much there is of what, and when certificates expire. No value."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from lifeboat.configuration.certificates import CertificateFacts
from lifeboat.repository.manifest import Manifest, parse_part


class ConfigurationDetails(BaseModel):
    """The configuration's part of a manifest.

    Attributes:
        items: how many items there are of each kind, folders left out.
        size: bytes of all of them.
        fingerprint: of the whole set, keyed.
        compared_with: the recovery point whose key and index this one was compared with; empty where there was none.
        added, changed, removed: against that one.
        unread: what the policy names and is not in it, the first thousand.
        unread_count: how many there are.
        certificates: whose they are, and when they expire; the first thousand.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    items: dict[str, int]
    size: int = Field(ge=0)
    fingerprint: str = Field(pattern=r"^[0-9a-f]{64}$")
    compared_with: str = ""
    added: int = Field(default=0, ge=0)
    changed: int = Field(default=0, ge=0)
    removed: int = Field(default=0, ge=0)
    unread: tuple[str, ...] = ()
    unread_count: int = Field(default=0, ge=0)
    certificates: tuple[CertificateFacts, ...] = ()

    @property
    def count(self) -> int:
        """All items."""
        return sum(self.items.values())


def configuration_details(manifest: Manifest) -> ConfigurationDetails:
    """The configuration's part of a manifest; raises ``ManifestInvalid``."""
    return parse_part(ConfigurationDetails, manifest)
