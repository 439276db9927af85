"""Frames: the decoder by itself, and two ends of a real pipe."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import select
import signal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from huey_patient.envelope import Keyring
from huey_patient.headers import Headers
from huey_patient.io_process.arriving import MAX_FRUITLESS_BYTES
from huey_patient.pipe import (
    Decoder,
    Frame,
    FrameError,
    Kind,
    Pipe,
    encode,
    envelope_limit,
    fields,
    frame_limit,
)
from huey_patient.response import Response
from huey_patient.settings import Settings
from huey_patient.wire import MAX_REQUEST_BYTES, write_outcome

LIMIT = 1000


def decoder(limit: int = LIMIT) -> Decoder:
    return Decoder(max_body_bytes=limit)


#: How long an example takes says nothing on a busy machine.
relaxed = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

parts = st.lists(st.binary(max_size=40), max_size=4)
messages = st.lists(st.tuples(st.sampled_from(Kind), parts), max_size=8)


@relaxed
@given(messages, st.data())
def test_any_split_of_any_frames_gives_the_same_frames(sent, data):
    stream = b"".join(encode(kind, *parts) for kind, parts in sent)
    cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=12).map(sorted))
    edges = [0, *cuts, len(stream)]

    reader = decoder()
    frames = []
    for begin, end in itertools.pairwise(edges):
        frames += reader.feed(stream[begin:end])

    assert [
        (frame.kind, fields(frame, len(p))) for frame, (_, p) in zip(frames, sent, strict=True)
    ] == [(kind, p) for kind, p in sent]
    assert not reader.inside_frame


@relaxed
@given(st.binary(max_size=200))
def test_any_bytes_at_all_give_frames_or_a_frame_error(data):
    try:
        frames = decoder().feed(data)
        for frame in frames:
            fields(frame, 1)
    except FrameError:
        pass


@relaxed
@given(st.binary(max_size=60), st.integers(0, 6))
def test_any_body_at_all_gives_that_many_fields_or_a_frame_error(body, count):
    try:
        found = fields(Frame(Kind.SEND, body), count)
    except FrameError:
        return
    assert len(found) == count
    assert sum(map(len, found)) + 4 * count == len(body)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ((0, 0x00), "does not begin like a frame"),
        ((2, 9), "version 9"),
        ((3, 0), "unknown kind 0"),
        ((3, 99), "unknown kind 99"),
        ((4, 0x7F), "2130706437 bytes was announced; the limit is 1000"),
        ((4, 0xFF), "the limit is 1000"),
    ],
    ids=["magic", "version", "kind-0", "kind-99", "too-long", "negative"],
)
def test_a_wrong_header_is_refused_before_its_body_has_come(change, complaint):
    frame = bytearray(encode(Kind.PING, b"x"))
    position, value = change
    frame[position] = value

    with pytest.raises(FrameError, match=complaint):
        decoder().feed(bytes(frame[:8]))


def test_a_body_as_long_as_the_limit_is_taken_and_one_byte_more_is_not():
    [frame] = decoder(100).feed(encode(Kind.LOG, b"x" * 96))
    assert len(frame.body) == 100

    with pytest.raises(FrameError, match="101 bytes"):
        decoder(100).feed(encode(Kind.LOG, b"x" * 97))


def test_a_wrong_frame_after_a_right_one_is_refused_too():
    with pytest.raises(FrameError):
        decoder().feed(encode(Kind.PING) + b"garbage!")


@pytest.mark.parametrize(
    ("body", "complaint"),
    [(b"\0\0", "inside a length"), (b"\0\0\0\5abc", "inside a field"), (b"", "has 0 fields")],
)
def test_a_body_that_ends_too_early_is_refused(body, complaint):
    with pytest.raises(FrameError, match=complaint):
        fields(Frame(Kind.OUTCOME, body), 1)


def test_the_limit_has_room_for_the_largest_response():
    size = 1_048_576
    # What costs most: a byte of its own that JSON writes as two, head and redirects
    # as long as they may be, a body that does not become smaller, arguments that
    # fill the request.
    value = '"' * MAX_FRUITLESS_BYTES
    response = Response(
        status=200,
        headers=Headers([("X", value)]),
        content=os.urandom(size),
        url="http://a.test/" + "x" * 32_768,
        redirects=("http://a.test/" + "x" * 32_768,) * 5,
        callback_args={"text": "x" * (MAX_REQUEST_BYTES - 1_000)},
    )
    head, body = write_outcome(response)
    keyring = Keyring.from_settings(Settings(encryption_key=os.urandom(32)))

    sealed = keyring.seal(head, body, purpose="outcome", queue="q", id="x" * 128)

    assert len(sealed) <= envelope_limit(size)
    frame = encode(Kind.OUTCOME, b"x" * 128, b"9" * 20, b"outcome", sealed)
    assert len(decoder(frame_limit(size)).feed(frame)) == 1


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def ends(clock):
    """Two ends of one pipe."""
    connections = multiprocessing.Pipe(duplex=True)
    limit = frame_limit(1024)
    pipes = [Pipe(one, max_body_bytes=limit, clock=clock) for one in connections]
    yield pipes
    for pipe in pipes:
        pipe.close()


def test_frames_arrive_in_the_order_they_were_sent(ends):
    here, there = ends
    for n in range(100):
        here.send(encode(Kind.CANCEL, str(n).encode()))
    here.flush()

    frames = there.receive()

    assert [fields(frame, 1)[0] for frame in frames] == [str(n).encode() for n in range(100)]
    assert not here.wants_write
    assert not there.ended


def test_a_full_pipe_blocks_neither_side_and_loses_nothing(ends):
    here, there = ends
    body = os.urandom(300_000)
    for pipe in ends:
        for _ in range(5):
            pipe.send(encode(Kind.LOG, body))
        pipe.flush()  # Returns although nobody reads.
    assert here.wants_write
    assert there.wants_write

    came: dict[Pipe, list[Frame]] = {here: [], there: []}
    while here.wants_write or there.wants_write or min(map(len, came.values())) < 5:
        for pipe in ends:
            came[pipe] += pipe.receive()
            pipe.flush()

    for frames in came.values():
        assert [fields(frame, 1) for frame in frames] == [[body]] * 5


def test_the_end_is_seen_after_what_was_sent_before_it(ends):
    here, there = ends
    here.send(encode(Kind.PONG, b"last words"))
    here.flush()
    here.close()

    [frame] = there.receive()
    assert fields(frame, 1) == [b"last words"]
    there.receive()
    assert there.ended


def test_writing_to_a_closed_end_raises_nothing_and_keeps_nothing(ends):
    here, there = ends
    there.close()
    here.send(encode(Kind.PING))
    here.flush()
    here.flush()

    assert not here.wants_write
    here.receive()
    assert here.ended


def test_half_a_frame_is_no_frame_and_its_age_is_known(ends, clock):
    here, there = ends
    frame = encode(Kind.LOG, b"x" * 50)
    here.send(frame[:20])
    here.flush()

    assert there.receive() == []
    assert there.half_since == 100.0
    clock.now = 103.0
    assert there.receive() == []
    assert there.half_since == 100.0  # Nothing more has come since.

    here.send(frame[20:])
    here.flush()
    assert len(there.receive()) == 1
    assert there.half_since is None


def test_half_a_frame_that_grows_is_not_old(ends, clock):
    here, there = ends
    frame = encode(Kind.LOG, b"x" * 50)
    here.send(frame[:20])
    here.flush()
    there.receive()

    clock.now = 103.0
    here.send(frame[20:30])
    here.flush()
    assert there.receive() == []

    assert there.half_since == 103.0


def test_what_there_was_room_for_says_nothing_of_the_other_end(ends, clock):
    here, there = ends
    clock.now = 103.0
    here.send(encode(Kind.PING))
    here.flush()
    assert here.moved_at == 100.0

    for _ in range(9):
        here.send(encode(Kind.LOG, bytes(1_000_000)))
    here.flush()
    assert here.wants_write
    clock.now = 106.0
    here.flush()
    assert here.moved_at == 100.0  # It has taken nothing.

    there.receive()
    here.flush()
    assert here.moved_at == 106.0


def test_half_a_frame_is_given_up_when_its_writer_ends(ends):
    here, there = ends
    here.send(encode(Kind.LOG, b"x" * 50)[:20])
    here.flush()
    here.close()

    assert there.receive() == []
    assert there.ended


def test_garbage_over_the_pipe_is_an_error_of_the_pipe(ends):
    here, there = ends
    here.send(b"HTTP/1.1 200 OK\r\n\r\n")
    here.flush()

    with pytest.raises(FrameError):
        there.receive()


def test_closing_twice_is_harmless(ends):
    ends[0].close()
    ends[0].close()


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded")
def test_a_forked_child_does_not_keep_the_pipe_open(ends):
    here, there = ends
    ready, go = os.pipe()
    child = os.fork()
    if child == 0:  # Lives on while the parent closes its end.
        os.write(go, b"x")
        signal.pause()
        os._exit(0)
    try:
        assert os.read(ready, 1) == b"x"
        here.close()

        poller = select.poll()
        poller.register(there.fileno(), select.POLLIN)
        assert poller.poll(10_000)
        there.receive()
        assert there.ended
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(ready)
        os.close(go)
