"""What all parts of a policy share: unknown keys are refused, nothing changes after loading."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class Part(BaseModel):
    """A part of a policy.

    The text below an attribute is also its description in the published JSON Schema: what an editor shows.
    """

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        # A private key pasted into the wrong place must not come back in an error text.
        hide_input_in_errors=True,
        use_attribute_docstrings=True,
    )


# https://airflow.apache.org/docs/apache-airflow/stable/howto/connection.html
ConnectionId = Annotated[
    str,
    Field(
        pattern=r"^[A-Za-z0-9_.:/#!()-]{1,200}$",
        description="The id of an Airflow connection.",
        examples=["erp_database"],
    ),
]

Queue = Annotated[
    str,
    Field(pattern=r"^[A-Za-z0-9_.-]{1,100}$", description="A queue of Airflow workers.", examples=["database_host"]),
]
