"""The heap that streams share: buffers of megabytes pass from thread to thread and stay with us for their next use.

By default glibc gives each thread a heap of its own, and buffers that one thread takes and another one frees leave
holes in all of them: with several volumes or segments one after the other a process grew to nearly twice of what it
used (330 MiB where 190 do). With one heap for all threads it stays the same, at the same speed: the buffers are few
and large.

A buffer of a MiB would by default be mapped for its one use and given back to the kernel after it; sealing took three
times the processor time, nearly all of it for page faults. What was used once is kept for the next one.
Source: https://man7.org/linux/man-pages/man3/mallopt.3.html
"""

from __future__ import annotations

import ctypes
import gc
from functools import cache

_M_ARENA_MAX = -8
_M_MMAP_THRESHOLD = -3
_M_TRIM_THRESHOLD = -1

_LARGEST_KEPT_BUFFER = 8 * 1024 * 1024
_MOST_KEPT_UNUSED = 16 * 1024 * 1024


@cache
def share_one_heap() -> None:
    """Let all threads that begin from now on share one heap that keeps large buffers for their next use.

    Without effect where the C library is another one.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, 1)
        mallopt(_M_MMAP_THRESHOLD, _LARGEST_KEPT_BUFFER)
        mallopt(_M_TRIM_THRESHOLD, _MOST_KEPT_UNUSED)


@cache
def set_aside_what_lasts() -> None:
    """Take what is in memory at the first call out of the garbage collector's rounds.

    Modules and the encryption library's tables are a million objects: to look through them again and again while work
    makes new ones took a twentieth of its time.

    Source: https://docs.python.org/3/library/gc.html#gc.freeze
    """
    gc.freeze()
