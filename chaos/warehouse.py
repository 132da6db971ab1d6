"""A warehouse that refuses jobs while a file exists: `python -m chaos.warehouse DATABASE PORT FILE`.

It answers as BigQuery does when a project has used up a quota: 403 with the reason `quotaExceeded`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

from aiohttp import web

from warehouse.api.app import create_app

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
MESSAGE = "Quota exceeded: Your project exceeded quota for concurrent queries."
REFUSAL = {
    "error": {
        "code": 403,
        "message": MESSAGE,
        "status": "PERMISSION_DENIED",
        "errors": [{"message": MESSAGE, "domain": "usageLimits", "reason": "quotaExceeded"}],
    }
}


def main() -> None:
    database, port, flag = Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])

    @web.middleware
    async def refuse(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.method == "POST" and os.access(flag, os.F_OK):
            return web.json_response(REFUSAL, status=403)
        return await handler(request)

    app = create_app(database, threads=1)
    app.middlewares.insert(0, refuse)
    web.run_app(app, host="127.0.0.1", port=port, access_log=None, print=None)


if __name__ == "__main__":
    main()
