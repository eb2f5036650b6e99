"""AWS Secrets Manager.

Source: https://docs.aws.amazon.com/secretsmanager/latest/apireference/
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lifeboat.configuration.stores import Secret
from lifeboat.errors import LifeboatError, RestoreError, SourceUnreadable
from lifeboat.outside import Outside

_RIGHTS = "The connection needs secretsmanager:GetSecretValue and secretsmanager:DescribeSecret"


class SecretsManagerStore:
    """The secrets of one account in one region.

    A secret is ``{"value": …}`` or ``{"value_base64": …}`` with ``description``, ``kms_key``, ``tags``, ``version``.
    """

    def __init__(self, outside: Outside, connection: str) -> None:
        with _told(SourceUnreadable, f"Secrets Manager ({connection})"):
            self._client = outside.aws_client(
                "secretsmanager",
                connection,
                connect_timeout=5,
                read_timeout=20,
                retries={"max_attempts": 2, "mode": "standard"},
            )

    def read(self, name: str) -> Secret | None:
        """As :meth:`Store.read`."""
        with _told(SourceUnreadable, f"The secret {name}", f"{_RIGHTS} on it."):
            try:
                about = self._client.describe_secret(SecretId=name)
                found = self._client.get_secret_value(SecretId=name)
            except self._client.exceptions.ResourceNotFoundException:
                return None
        secret: dict[str, Any] = {
            "description": about.get("Description") or None,
            "kms_key": about.get("KmsKeyId"),
            "tags": {tag["Key"]: tag["Value"] for tag in about.get("Tags", ())} or None,
            "version": found["VersionId"],
            "value": found.get("SecretString"),
        }
        if "SecretBinary" in found:
            secret["value_base64"] = base64.b64encode(found["SecretBinary"]).decode()
        return {key: value for key, value in secret.items() if value is not None}

    def write(self, name: str, secret: Secret, present: Secret | None) -> None:
        """As :meth:`Store.write`."""
        value = (
            {"SecretBinary": base64.b64decode(secret["value_base64"])}
            if "value_base64" in secret
            else {"SecretString": str(secret.get("value", ""))}
        )
        tags = [{"Key": key, "Value": text} for key, text in (secret.get("tags") or {}).items()]
        rights = "The connection needs secretsmanager:CreateSecret, PutSecretValue, UpdateSecret and TagResource."
        with _told(RestoreError, f"The secret {name}", rights):
            if present is None:
                more = {"Description": secret["description"]} if secret.get("description") else {}
                more |= {"KmsKeyId": secret["kms_key"]} if secret.get("kms_key") else {}
                self._client.create_secret(Name=name, Tags=tags, **value, **more)
                return
            if any(secret.get(key) != present.get(key) for key in ("value", "value_base64")):
                self._client.put_secret_value(SecretId=name, **value)
            if secret.get("description") != present.get("description"):
                self._client.update_secret(SecretId=name, Description=secret.get("description") or "")
            if secret.get("tags") != present.get("tags"):
                surplus = sorted(set(present.get("tags") or {}) - set(secret.get("tags") or {}))
                if surplus:
                    self._client.untag_resource(SecretId=name, TagKeys=surplus)
                if tags:
                    self._client.tag_resource(SecretId=name, Tags=tags)


@contextmanager
def _told(kind: type[LifeboatError], what: str, rights: str = "") -> Iterator[None]:
    """Failures of AWS in our words: the code alone, since a message may quote what was sent."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", "no code")
        remedy = rights if "AccessDenied" in code else "About to be deleted? `aws secretsmanager restore-secret`."
        raise kind(f"{what} can't be used: AWS answers {code}.", remedy) from None
    except BotoCoreError as error:
        raise kind(
            f"{what} can't be used: AWS can't be asked ({type(error).__name__}).",
            "Look at the connection, and at the network between here and its endpoint.",
        ) from None
