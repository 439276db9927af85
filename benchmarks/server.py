"""A server that costs as little as possible: one protocol object a connection.

``GET /?s=1.5`` is answered after 1.5 s, ``GET /`` at once, always with the same
100 bytes of JSON.  It counts nothing and reads no body.
"""

import asyncio
import re
import sys

BODY = b'{"answer": "' + b"x" * 86 + b'"}'
ANSWER = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(BODY)
) + BODY
DELAY = re.compile(rb"[?&]s=([0-9.]+)")


class Answering(asyncio.Protocol):
    """Answers each request head; good enough for requests without a body."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.waiting = b""

    def data_received(self, data: bytes) -> None:
        self.waiting += data
        while b"\r\n\r\n" in self.waiting:
            head, _, self.waiting = self.waiting.partition(b"\r\n\r\n")
            delay = DELAY.search(head.split(b"\r\n", 1)[0])
            if delay:
                asyncio.get_running_loop().call_later(float(delay[1]), self.answer)
            else:
                self.answer()

    def answer(self) -> None:
        if not self.transport.is_closing():
            self.transport.write(ANSWER)


async def main(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(
        Answering, "127.0.0.1", port, backlog=8192
    )
    await server.serve_forever()


if __name__ == "__main__":
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        import uvloop

        uvloop.run(main(int(sys.argv[1])))
    except ImportError:
        asyncio.run(main(int(sys.argv[1])))
