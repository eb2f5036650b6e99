"""Start moto's server so that it keeps S3's promise about conditional writes: of several at once exactly one wins.

    python -P sandbox/moto_launcher.py -H 127.0.0.1 -p PORT

moto looks whether an object is there and stores it in two steps, and serves requests on threads: now and then two
writers of one object both won. Here requests with a condition go one at a time.
Source: https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from threading import Lock
from typing import Any

from moto.moto_server.werkzeug_app import DomainDispatcherApplication
from moto.server import main

_CONDITIONS = ("HTTP_IF_NONE_MATCH", "HTTP_IF_MATCH")
_one_at_a_time = Lock()
_serve: Callable[..., Any] = DomainDispatcherApplication.__call__


def _serve_in_turn(app: DomainDispatcherApplication, environ: dict[str, Any], start_response: Any) -> Any:
    if environ["REQUEST_METHOD"] in ("PUT", "POST") and any(name in environ for name in _CONDITIONS):
        with _one_at_a_time:
            return _serve(app, environ, start_response)
    return _serve(app, environ, start_response)


if __name__ == "__main__":
    DomainDispatcherApplication.__call__ = _serve_in_turn  # type: ignore[method-assign]
    main(sys.argv[1:])
