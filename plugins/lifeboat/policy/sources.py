"""Every kind of source that a policy may describe."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from lifeboat.policy.code_source import CodeSource
from lifeboat.policy.configuration_source import ConfigurationSource
from lifeboat.policy.files_source import FilesSource
from lifeboat.policy.postgres_source import PostgresSource

SourcePolicy = Annotated[PostgresSource | FilesSource | ConfigurationSource | CodeSource, Field(discriminator="kind")]
