"""What one connection brings is worked through in turns with everybody else."""

import asyncio
import itertools

import pytest

from huey_patient.headers import Headers
from huey_patient.io_process.arriving import ArrivingResponse
from huey_patient.io_process.connections import new_session
from huey_patient.io_process.decoding import Turns
from huey_patient.io_process.journey import Answer
from huey_patient.io_process.receiving import receive
from huey_patient.io_process.resolving import Resolver
from huey_patient.settings import Settings
from huey_patient.tls import client_context

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


class Transport(asyncio.Transport):
    """Takes what it is told, and is never read from."""

    def is_closing(self):
        return False

    def pause_reading(self):
        pass

    def resume_reading(self):
        pass

    def get_extra_info(self, name, default=None):
        return default


async def read_buffer():
    """What the client's own session lets wait for a reader."""
    resolver = Resolver(1)
    session = new_session(Settings(), resolver, client_context(Settings()))
    size = session._read_bufsize
    await session.close()
    await resolver.close()
    return size


@pytest.mark.parametrize("size", [2, 100, 5_000])
def test_others_get_a_turn_while_a_flood_of_chunks_is_read(size):
    whole = b"x" * 250_000
    flood = b"".join(
        b"%x\r\n%s\r\n" % (size, whole[at : at + size]) for at in range(0, len(whole), size)
    )

    async def run():
        protocol = ArrivingResponse(asyncio.get_running_loop())
        protocol.connection_made(Transport())
        protocol.set_response_params(auto_decompress=False, read_bufsize=await read_buffer())
        protocol.data_received(CHUNKED + flood + b"0\r\n\r\n")
        _, body = await protocol.read()
        answer = Answer(200, Headers())
        reading = asyncio.create_task(receive(body, answer, limit=len(whole), turns=Turns()))
        came = [0]
        while not reading.done():
            await asyncio.sleep(0)
            came.append(len(answer.content))
        await reading
        return answer.content, [b - a for a, b in itertools.pairwise(came)]

    content, steps = asyncio.run(run())

    assert content == whole
    assert max(steps) <= min(50_000, 4_096 * size)
