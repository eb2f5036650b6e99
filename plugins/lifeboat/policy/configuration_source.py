"""Settings that a system can't run without, as a policy describes them."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from lifeboat.policy.part import ConnectionId, Part
from lifeboat.policy.tiers import FULL_TIERS, Tiers, check_tiers


class ConfigurationSource(Part):
    """Settings that a system can't run without."""

    kind: Literal["configuration"]
    """Settings that a system can't run without."""

    connection: ConnectionId
    """The Airflow connection of the place that holds them."""

    store: Literal["vault", "aws_secrets_manager", "ssh"]
    """What that place is: HashiCorp Vault, AWS Secrets Manager, or a server reached by SSH."""

    include: Annotated[list[str], Field(min_length=1)]
    """Paths or names in it."""

    on_change: bool = False
    """Whether each change is backed up when it happens, besides the tiers' schedules."""

    tiers: Tiers
    """When it is backed up and how long that is kept."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        check_tiers(self.tiers, self.kind, FULL_TIERS)
        return self
