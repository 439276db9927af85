"""The remote server: slow by a random amount, and counts each request id it sees."""

from __future__ import annotations

import asyncio
import random
import re
import sys
from collections import Counter

seen: Counter[str] = Counter()
ID = re.compile(rb"x-request-id: *(\S+)", re.IGNORECASE)


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while head := await reader.readuntil(b"\r\n\r\n"):
            if head.startswith(b"GET /sends"):
                body = f"{sum(1 for n in seen.values() if n > 1)} {sum(seen.values())}".encode()
            else:
                if found := ID.search(head):
                    seen[found[1].decode()] += 1
                await asyncio.sleep(random.random() / 2)
                body = b"answer"
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


async def main() -> None:
    server = await asyncio.start_server(serve, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    random.seed(int(sys.argv[1]))
    asyncio.run(main())
