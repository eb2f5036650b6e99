"""The bytes of an upload that may have to be sent again."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator


class Window:
    """What was written since the last sync that the server confirmed, and what that sync covered.

    The first is sent again when a connection breaks; by the second the file is known again. So at most three times the
    distance of two syncs is held, whatever the length of the stream.

    Attributes:
        confirmed: all bytes before this offset were synced by the server.
        end: where the stream ends so far.
        whole: whether all bytes since ``confirmed`` are here; else nothing can be sent again.
    """

    def __init__(self) -> None:
        self.confirmed = 0
        self.end = 0
        self.whole = True
        self._pieces: deque[tuple[int, bytes]] = deque()

    @property
    def start(self) -> int:
        """The first offset whose bytes are held; :attr:`end` where none are."""
        return self._pieces[0][0] if self._pieces else self.end

    def append(self, piece: bytes) -> None:
        """Take note of more of the stream."""
        if not self.whole:
            self._pieces.clear()
        self._pieces.append((self.end, piece))
        self.end += len(piece)

    def confirm(self, offset: int) -> None:
        """All before ``offset`` is synced: hold what came since the sync before, and let the rest go."""
        if offset <= self.confirmed:
            return
        while self._pieces and self._pieces[0][0] + len(self._pieces[0][1]) <= self.confirmed:
            self._pieces.popleft()
        self.confirmed = offset

    def give_up(self) -> None:
        """Hold the last piece alone from now on: the server does not sync, and the stream is too long to be held."""
        self.whole = False
        while len(self._pieces) > 1:
            self._pieces.popleft()

    def between(self, start: int, end: int) -> Iterator[tuple[int, bytes]]:
        """The held bytes of a range, with their offsets, in order."""
        for offset, piece in tuple(self._pieces):
            first, last = max(start, offset), min(end, offset + len(piece))
            if first < last:
                yield first, piece if last - first == len(piece) else piece[first - offset : last - offset]
