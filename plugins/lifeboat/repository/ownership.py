"""Names of users and groups, asked once each."""

from __future__ import annotations

import grp
import pwd
from functools import lru_cache


@lru_cache(maxsize=4096)
def user_name(uid: int) -> str:
    """What this machine calls a user; empty when it knows none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return ""


@lru_cache(maxsize=4096)
def group_name(gid: int) -> str:
    """What this machine calls a group; empty when it knows none."""
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return ""


@lru_cache(maxsize=4096)
def uid_of(name: str, uid: int) -> int:
    """The number that a user has on this machine; the old one where it knows none of that name."""
    try:
        return pwd.getpwnam(name).pw_uid if name else uid
    except KeyError:
        return uid


@lru_cache(maxsize=4096)
def gid_of(name: str, gid: int) -> int:
    """The number that a group has on this machine; the old one where it knows none of that name."""
    try:
        return grp.getgrnam(name).gr_gid if name else gid
    except KeyError:
        return gid
