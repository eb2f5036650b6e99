"""The encryption context: what each object says of itself under the message's authentication.

An object that was moved to another place decrypts as well as before; only the context tells. The AWS Encryption SDK
writes the context and authenticates it, but does not insist on any of it when it decrypts
(https://docs.aws.amazon.com/encryption-sdk/latest/developer-guide/concepts.html#encryption-context), so every reader
of Lifeboat compares the whole of it.
"""

from __future__ import annotations

from dataclasses import dataclass

FORMAT = "1"


@dataclass(frozen=True)
class ObjectContext:
    """The place of one object: which volume of which stream of which recovery point."""

    system: str
    source: str
    recovery_point: str
    stream: str
    volume: int

    def pairs(self) -> dict[str, str]:
        """The context as the message carries it."""
        return {
            "lifeboat-format": FORMAT,
            "system": self.system,
            "source": self.source,
            "recovery-point": self.recovery_point,
            "object": self.stream,
            "volume": str(self.volume),
        }
