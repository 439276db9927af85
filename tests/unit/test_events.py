"""Server-sent events: the rules of the WHATWG, however the bytes come apart."""

from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from huey_patient.errors import InvalidResponse
from huey_patient.events import EventParser, ServerSentEvent
from huey_patient.headers import Headers
from huey_patient.response import Response


def parsed(stream: bytes) -> list[ServerSentEvent]:
    return EventParser().feed(stream)


def event(data: str = "", **others) -> ServerSentEvent:
    return ServerSentEvent(data=data, **others)


@pytest.mark.parametrize("end", [b"\n", b"\r", b"\r\n"])
def test_lines_end_in_three_ways(end):
    stream = end.join([b"event: a", b"data: 1", b"data: 2", b"", b"data: 3", b"", b""])

    assert parsed(stream) == [event("1\n2", event="a"), event("3")]


@pytest.mark.parametrize(
    ("stream", "events"),
    [
        (b"", []),
        (b"data: a\n", []),  # the empty line is missing
        (b"data: a\n\ndata: b", [event("a")]),
        (b"data\n\n", [event("")]),
        (b"data:\n\n", [event("")]),
        (b"data\ndata\n\n", [event("\n")]),
        (b"data:a\n\n", [event("a")]),
        (b"data:  a \n\n", [event(" a ")]),  # one space goes, and no other
        (b"data:\ta\n\n", [event("\ta")]),
        (b"data: a: b\n\n", [event("a: b")]),
        (b": a comment\n\ndata: a\n:\n\n", [event("a")]),
        (b"event: a\n\ndata: b\n\n", [event("b")]),  # no data, no event; its type is gone
        (b"event: a\nevent:\ndata: b\n\n", [event("b")]),
        (b"Data: a\nnews: b\n\n", []),
        (b"data : a\n\n", []),
        (b"\xef\xbb\xbfdata: a\n\n", [event("a")]),
        (b"\xef\xbb\xbf\xef\xbb\xbfdata: a\n\n", []),  # one mark is skipped, at the beginning
        (b"data: a\n\n\xef\xbb\xbfdata: b\n\n", [event("a")]),
        (b"\n\n\ndata: a\n\n\n\n", [event("a")]),
        (b"data: [DONE]\n\n", [event("[DONE]")]),
        ("data: ä😀\n\n".encode(), [event("ä😀")]),
        (b"data: \xff\xc3\n\n", [event("\ufffd\ufffd")]),
        (b"data: a\0b\n\n", [event("a\0b")]),
    ],
)
def test_a_stream_is_read_as_a_browser_reads_it(stream, events):
    assert parsed(stream) == events


def test_an_id_holds_until_the_next():
    stream = b"id: 1\ndata: a\n\ndata: b\n\nid: 2\n\ndata: c\n\nid\ndata: d\n\n"

    assert [one.id for one in parsed(stream)] == ["1", "1", "2", ""]


def test_an_id_with_nul_is_no_id():
    assert [one.id for one in parsed(b"id: 1\ndata: a\n\nid: 2\0\ndata: b\n\n")] == ["1", "1"]


@pytest.mark.parametrize("text", ["-1", "1.5", "1s", "", " 5", "٣", "1" * 5_000])
def test_a_retry_that_is_no_number_is_no_retry(text):
    stream = f"retry: 250\nretry: {text}\ndata: a\n\n".encode()

    assert parsed(stream) == [event("a", retry=250)]


def test_a_retry_holds_until_the_next():
    stream = b"data: a\n\nretry: 10\n\ndata: b\n\nretry: 0020\ndata: c\n\n"

    assert [one.retry for one in parsed(stream)] == [None, 10, 20]


#: Bytes of which about each second stream has an event in it.
STREAMS = st.lists(
    st.sampled_from(
        [
            *(b"data", b"event", b"id", b"retry", b":", b" ", b"7", b"x", b"\0"),
            *(b"\n", b"\r", b"\r\n", b"\n\n", b"data: x\n\n"),
            *(b"\xef\xbb\xbf", "ä".encode(), "😀".encode(), b"\xff"),
        ]
    ),
    max_size=40,
).map(b"".join)


@given(STREAMS, st.lists(st.integers(0, 200), max_size=12))
@example(b"data: a\r\n\r\ndata: b\r\n\r\n", [8, 9, 10, 11])
@example(b"data: a\r\ndata: b\r\n\r\n", [8])
@example(b"\xef\xbb\xbfdata: a\n\n", [1, 2])
@example("data: 😀\n\n".encode(), [7, 8, 9])
def test_the_events_are_the_same_however_the_bytes_come_apart(stream, cuts):
    parser = EventParser()
    places = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]

    found = [one for start, end in pairwise(places) for one in parser.feed(stream[start:end])]

    assert found == parsed(stream)


@given(STREAMS)
def test_one_byte_at_a_time_gives_the_same_events(stream):
    parser = EventParser()

    found = [one for byte in stream for one in parser.feed(bytes([byte]))]

    assert found == parsed(stream)


@given(
    st.lists(
        st.tuples(
            st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"])),
            st.text(st.characters(exclude_characters="\r\0", exclude_categories=["Cs"])),
        ),
        max_size=5,
    )
)
def test_what_a_server_writes_is_what_is_read(events):
    stream = "".join(
        f"event: {name}\n" + "".join(f"data: {line}\n" for line in data.split("\n")) + "\n"
        for name, data in events
    )

    assert parsed(stream.encode()) == [
        event(data, event=name or "message") for name, data in events
    ]


def response(content: bytes, content_type: str | None) -> Response:
    headers = {} if content_type is None else {"Content-Type": content_type}
    return Response(status=200, url="http://a.test/", content=content, headers=Headers(headers))


@pytest.mark.parametrize("media", ["text/event-stream", "Text/Event-Stream; charset=utf-8"])
def test_a_response_gives_its_events(media):
    assert response(b"data: a\n\n", media).events() == [event("a")]


@pytest.mark.parametrize("media", [None, "application/json", "text/event-stream-x"])
def test_a_response_of_another_type_has_no_events_unless_they_are_forced(media):
    found = response(b"data: a\n\n", media)

    with pytest.raises(InvalidResponse, match="text/event-stream"):
        found.events()
    assert found.events(force=True) == [event("a")]
