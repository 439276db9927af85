"""A slow HTTP API, to try things on: it answers whatever it is asked, after a while.

    python slow_api.py                      # http://127.0.0.1:8000, 2 s an answer
    python slow_api.py --port 0 --delay 30  # on a free port, which it prints

The answer is JSON: ``{"path": "/7", "waited": 2.0}``.
"""

import argparse
import asyncio
import sys

from aiohttp import web

BACKLOG = 1024  # Connections that may knock at the same moment.


async def serve(port: int, delay: float) -> None:
    async def answer(request: web.Request) -> web.Response:
        await asyncio.sleep(delay)
        return web.json_response({"path": request.path, "waited": delay})

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, backlog=BACKLOG).start()
    print(f"Answers on http://127.0.0.1:{runner.addresses[0][1]} after {delay:g} s", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--port", type=int, default=8000, help="0 takes a free one")
    parser.add_argument("--delay", type=float, default=2.0, metavar="SECONDS")
    options = parser.parse_args()
    try:
        asyncio.run(serve(options.port, options.delay))
    except KeyboardInterrupt:
        sys.exit(130)
