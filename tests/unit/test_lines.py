"""Which request may be sent when, and what is lost when a process dies."""

from __future__ import annotations

import pytest
from support.carrying import FakeIo, Landed

from huey_patient.lines import ALONE_FROM_STRIKES, FIRST_SUSPECTS, Flight, Line
from huey_patient.stores.base import Lease
from huey_patient.wire import Reason


def flight(id: str, *, strikes: int = 0, epoch: int = 1) -> Flight:
    return Flight(Lease(id=id, epoch=epoch, strikes=strikes, sealed=b"x"), "owner")


def line(lane: str, *flights: Flight, ready: bool = True) -> Line:
    made = Line(lane, FakeIo(ready=ready))  # type: ignore[arg-type]
    for one in flights:
        made.board(one)
    return made


def ids(flights) -> list[str]:
    return [one.lease.id for one in flights]


def test_fresh_requests_all_go_out_in_the_order_they_were_claimed():
    fresh = line("fresh", *(flight(str(n)) for n in range(5)))

    assert ids(fresh.launchable()) == ["0", "1", "2", "3", "4"]
    assert fresh.launchable() == []  # Each once.


def test_nothing_goes_out_while_the_process_is_not_ready():
    fresh = line("fresh", flight("a"), ready=False)

    assert fresh.launchable() == []
    fresh.io.ready = True
    assert ids(fresh.launchable()) == ["a"]


def test_a_fresh_line_has_the_room_that_the_courier_has():
    assert line("fresh", flight("a")).room(7) == 7


def test_few_suspects_are_held_at_first_and_more_with_each_that_comes_back():
    suspects = line("suspect")
    assert suspects.room(100) == FIRST_SUSPECTS
    assert suspects.room(3) == 3

    suspects.board(flight("a", strikes=1))
    suspects.launchable()
    assert suspects.room(100) == FIRST_SUSPECTS - 1
    landed = suspects.land(Landed("a", 1))
    suspects.drop(landed)

    assert suspects.room(100) == FIRST_SUSPECTS + 1


def test_a_death_makes_the_suspects_few_again():
    suspects = line("suspect", flight("a", strikes=1), flight("b", strikes=1))
    suspects.launchable()
    suspects.drop(suspects.land(Landed("a", 1)))

    suspects.crash()

    assert suspects.room(100) == FIRST_SUSPECTS


def test_suspects_with_one_strike_go_out_together():
    suspects = line("suspect", *(flight(str(n), strikes=1) for n in range(3)))

    assert ids(suspects.launchable()) == ["0", "1", "2"]


def test_a_suspect_of_two_lost_processes_goes_out_alone():
    hard = ALONE_FROM_STRIKES
    suspects = line(
        "suspect",
        flight("first", strikes=hard),
        flight("second", strikes=hard),
        flight("mild", strikes=1),
    )
    assert ids(suspects.launchable()) == ["first"]
    assert suspects.launchable() == []

    suspects.land(Landed("first", 1))
    assert ids(suspects.launchable()) == ["second"]
    suspects.land(Landed("second", 1))
    assert ids(suspects.launchable()) == ["mild"]


def test_a_hard_suspect_waits_until_the_milder_ones_are_back():
    suspects = line("suspect", flight("mild", strikes=1), flight("hard", strikes=2))
    assert ids(suspects.launchable()) == ["mild"]

    suspects.land(Landed("mild", 1))

    assert ids(suspects.launchable()) == ["hard"]


def test_an_answer_is_noted_once_and_only_of_this_epoch():
    fresh = line("fresh", flight("a", epoch=3))
    fresh.launchable()

    assert fresh.land(Landed("a", 2)) is None
    assert fresh.land(Landed("b", 3)) is None
    landed = fresh.land(Landed("a", 3))
    assert landed is not None
    assert landed.answer == (Reason.OUTCOME, b"outcome")
    assert fresh.land(Landed("a", 3)) is None


def test_a_death_takes_what_was_sent_and_not_answered():
    fresh = line("fresh", flight("answered"), flight("in the air"))
    fresh.launchable()
    fresh.land(Landed("answered", 1))
    fresh.io.ready = False
    fresh.board(flight("unsent"))

    assert ids(fresh.crash()) == ["in the air"]
    assert ids(fresh.flights()) == ["answered", "unsent"]
    fresh.io.ready = True
    assert ids(fresh.launchable()) == ["unsent"]


def test_grounding_stops_the_process_and_leaves_what_is_answered():
    fresh = line("fresh", flight("answered"), flight("in the air"))
    fresh.launchable()
    fresh.land(Landed("answered", 1))
    fresh.board(flight("unsent"))

    assert ids(fresh.ground()) == ["in the air", "unsent"]
    assert fresh.io.aborts == 1
    assert ids(fresh.flights()) == ["answered"]
    assert fresh.launchable() == []


def test_what_was_dropped_before_it_was_sent_is_not_sent():
    fresh = line("fresh", dropped := flight("dropped"), flight("kept"))

    fresh.drop(dropped)

    assert ids(fresh.launchable()) == ["kept"]


def test_dropping_an_older_self_leaves_the_newer_one():
    fresh = line("fresh", older := flight("a", epoch=1))
    fresh.board(flight("a", epoch=2))

    fresh.drop(older)

    assert [one.lease.epoch for one in fresh.flights()] == [2]
    assert [one.lease.epoch for one in fresh.launchable()] == [2]


@pytest.mark.parametrize("lane", ["fresh", "suspect"])
def test_what_is_answered_when_it_boards_is_never_sent(lane):
    decided = flight("a", strikes=3)
    decided.answer = Reason.ABANDONED, b"x"

    made = line(lane, decided)

    assert made.launchable() == []
    assert len(made) == 1
