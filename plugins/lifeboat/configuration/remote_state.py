"""Objects of infrastructure as code that lie in a bucket: Terraform's remote state."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import urlsplit

from lifeboat.configuration.asking import waited_for
from lifeboat.configuration.gathered import Gathered, Problem
from lifeboat.configuration.items import LARGEST_ITEM, About, item_name
from lifeboat.errors import Cancelled, LifeboatError
from lifeboat.outside import Outside
from lifeboat.policy.configuration_source import RemoteState


def take_remote_state(state: RemoteState, outside: Outside, gathered: Gathered, tick: Callable[[], None]) -> None:
    """Take an object of a bucket; what can't be read is a problem."""
    from botocore.exceptions import BotoCoreError, ClientError

    parts = urlsplit(state.url)
    bucket, key = parts.netloc, parts.path[1:]
    name = item_name("infrastructure", "s3:", bucket, key)
    remedy = f"The connection {state.connection} needs s3:GetObject on it."

    def fetch() -> tuple[bytes, str]:
        answer = client.get_object(Bucket=bucket, Key=key)
        return answer["Body"].read(LARGEST_ITEM + 1), str(answer.get("VersionId", ""))

    try:
        # By the task's own thread: Airflow is asked for the connection.
        client = outside.aws_client("s3", state.connection, connect_timeout=5, read_timeout=20)
        content, version = waited_for(fetch, tick)
    except Cancelled:
        raise
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", "no code")
        gone = code in ("NoSuchKey", "NoSuchBucket", "404")
        gathered.problems.append(Problem(name, f"can't be had: {code}", "missing" if gone else "unread", remedy))
    except BotoCoreError as error:
        gathered.problems.append(Problem(name, f"can't be read: {type(error).__name__}", "unread", remedy))
    except LifeboatError as error:
        gathered.problems.append(Problem(name, f"can't be read: {error.what}", "unread", error.remedy))
    else:
        if len(content) > LARGEST_ITEM:
            reason = f"has more than {LARGEST_ITEM // 1024**2} MiB, too much for an item of a configuration"
            gathered.problems.append(Problem(name, reason, "unread", "Take it out of the policy."))
            return
        origin = {"store": "s3", "name": state.url} | ({"version": version} if version else {})
        gathered.add(About(name, "value", origin=origin), content)
