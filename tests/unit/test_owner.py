"""A consumer's life, and its eye on others, on a clock that the test moves."""

from __future__ import annotations

import orjson
import pytest
from huey.storage import MemoryStorage
from support.carrying import Clock

from huey_patient.owner import Owner, Watch
from huey_patient.stores.base import Fenced
from huey_patient.stores.memory import MemoryStore


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def store():
    return MemoryStore(MemoryStorage("q"))


@pytest.fixture
def owner(store, clock):
    return Owner(store, info=lambda: b"info", orphan_threshold=30, clock=clock)


def test_each_registration_has_a_name_of_its_own(owner, store):
    owner.register()
    first = owner.id
    owner.register()

    assert owner.registered
    assert {seen.id for seen in store.owners()} == {first, owner.id}
    assert first != owner.id


def test_it_is_out_of_touch_after_two_thirds_of_the_threshold(owner, clock):
    owner.register()

    clock.pass_(20)
    assert not owner.out_of_touch
    clock.pass_(0.1)
    assert owner.out_of_touch


def test_a_beat_brings_it_back_in_touch(owner, clock):
    owner.register()
    clock.pass_(19)
    assert owner.beat().held == 0
    clock.pass_(19)

    assert not owner.out_of_touch


def test_an_owner_that_is_not_registered_is_not_out_of_touch(owner, clock):
    clock.pass_(1000)

    assert not owner.out_of_touch


def test_a_beat_counts_from_when_it_was_sent_not_from_its_reply(store, clock):
    class Slow(MemoryStore):
        def beat(self, owner, info):
            clock.pass_(15)
            return super().beat(owner, info)

    slow = Owner(Slow(store._storage), info=lambda: b"", orphan_threshold=30, clock=clock)
    slow.register()
    slow.beat()  # Its reply takes 15 s.
    clock.pass_(6)

    assert slow.out_of_touch  # 21 s since it was sent.


def test_a_registration_that_failed_leaves_it_unregistered(owner, store, monkeypatch):
    def away(*_):
        raise ConnectionError

    monkeypatch.setattr(store, "register", away)
    with pytest.raises(ConnectionError):
        owner.register()

    assert not owner.registered


def test_a_reaped_owner_is_told_at_its_next_beat(owner, store):
    owner.register()
    assert store.reap(owner.id, 1)

    with pytest.raises(Fenced):
        owner.beat()


@pytest.fixture
def watch(store, clock):
    return Watch(store, orphan_threshold=30, clock=clock)


@pytest.fixture
def silent(store):
    """An owner that holds one request and will never beat."""
    store.register("silent", b"")
    store.submit("request", b"")
    store.claim("silent", "fresh", 1)


@pytest.mark.usefixtures("silent")
class TestWatch:
    def test_a_silent_owner_is_reaped_after_the_threshold_and_not_before(self, watch, store, clock):
        assert watch.look("me") == 0
        clock.pass_(29.9)
        assert watch.look("me") == 0
        clock.pass_(0.1)
        assert watch.look("me") == 1

        assert store.owners() == []
        assert store.counts().suspect == 1

    def test_silence_is_counted_from_the_first_look(self, watch, clock):
        clock.pass_(1000)  # However long it was silent before we came.

        assert watch.look("me") == 0

    def test_an_owner_that_beats_now_and_then_lives(self, watch, store, clock):
        for _ in range(5):
            watch.look("me")
            clock.pass_(29)
            store.beat("silent", b"")

        assert watch.look("me") == 0

    def test_a_beat_between_the_look_and_the_reap_saves_it(self, store, clock):
        class Late(MemoryStore):
            def owners(self):
                seen = super().owners()
                if clock.now > 1000:
                    self.beat("silent", b"")  # just after it was looked at
                return seen

        watch = Watch(Late(store._storage), orphan_threshold=30, clock=clock)
        watch.look("me")
        clock.pass_(31)

        assert watch.look("me") == 0
        assert [seen.id for seen in store.owners()] == ["silent"]

    def test_it_never_reaps_itself(self, watch, clock):
        watch.look("silent")
        clock.pass_(100)

        assert watch.look("silent") == 0

    def test_who_left_and_came_again_is_looked_at_anew(self, watch, store, clock):
        store.register("guest", b"")
        watch.look("me")
        store.reap("guest", 1)
        clock.pass_(31)
        assert watch.look("me") == 1  # the silent one

        store.register("another", b"")
        assert watch.look("me") == 0

    def test_of_two_watches_one_reaps(self, watch, store, clock):
        other = Watch(store, orphan_threshold=30, clock=clock)
        watch.look("me")
        other.look("other")
        clock.pass_(31)

        assert watch.look("me") + other.look("other") == 1


def saying(**info):
    """What an owner says of itself."""
    return orjson.dumps(info)


#: A consumer of the default settings, as it describes itself.
SLOW = saying(heartbeat_interval=5.0, orphan_threshold=30.0, workers=1)


class TestWatchOfOneWithOtherSettings:
    """A deploy changes the settings, and for a while both kinds run."""

    @pytest.fixture
    def watch(self, store, clock):
        return Watch(store, orphan_threshold=3, clock=clock)

    def test_who_may_be_silent_for_longer_than_we_is_given_that_time(self, watch, store, clock):
        store.register("slow", SLOW)
        watch.look("me")

        clock.pass_(29.9)
        assert watch.look("me") == 0
        clock.pass_(0.1)
        assert watch.look("me") == 1

    def test_who_promises_a_sign_of_life_sooner_is_given_our_time(self, store, clock):
        watch = Watch(store, orphan_threshold=30, clock=clock)
        store.register("fast", saying(heartbeat_interval=0.5, orphan_threshold=3.0))
        watch.look("me")

        clock.pass_(29.9)
        assert watch.look("me") == 0
        clock.pass_(0.1)
        assert watch.look("me") == 1

    def test_what_it_says_at_its_last_beat_counts(self, watch, store, clock):
        store.register("slow", b"")
        watch.look("me")
        store.beat("slow", SLOW)
        watch.look("me")

        clock.pass_(29)
        assert watch.look("me") == 0

    @pytest.mark.parametrize(
        "info",
        [
            b"",
            b"\xff",
            b"{",
            b"[30]",
            b"null",
            saying(orphan_threshold=None),
            saying(orphan_threshold="30", heartbeat_interval=[]),
            saying(orphan_threshold=-30),
            saying(orphan_threshold=True, heartbeat_interval=False),
        ],
        ids=str,
    )
    def test_who_says_nothing_that_we_know_is_given_our_time(self, watch, store, clock, info):
        store.register("strange", info)
        watch.look("me")

        clock.pass_(2.9)
        assert watch.look("me") == 0
        clock.pass_(0.1)
        assert watch.look("me") == 1


HOUR = 3600


class TestTheClockOfTheDatabase:
    """It may jump; and it is all that is left when nobody lives long enough to watch."""

    @pytest.fixture
    def database_clock(self):
        return Clock()

    @pytest.fixture
    def store(self, database_clock):
        store = MemoryStore(MemoryStorage("q"), clock=database_clock)
        store.register("owner", SLOW)
        return store

    @pytest.fixture
    def pass_(self, clock, database_clock):
        def pass_(seconds):
            clock.pass_(seconds)
            database_clock.pass_(seconds)

        return pass_

    @pytest.mark.parametrize("jump", [HOUR, -HOUR])
    def test_a_jump_of_it_reaps_nobody_who_beats(self, watch, store, pass_, database_clock, jump):
        for n in range(20):
            if n == 10:
                database_clock.pass_(jump)
            assert watch.look("me") == 0
            pass_(5)
            store.beat("owner", SLOW)
            assert watch.look("me") == 0
            # Between its beat and our next look.
            database_clock.pass_(jump if n == 15 else 0)

    def test_whoever_has_just_come_is_not_deceived_by_a_jump(self, watch, store, database_clock):
        database_clock.pass_(HOUR)

        assert watch.look("me") == 0

    def test_consumers_that_die_too_soon_to_watch_reap_in_the_end(self, store, clock, pass_):
        lives = 0
        while store.owners() and lives < 100:
            # Each lives for less than the threshold, and for more than two beats.
            watch = Watch(store, orphan_threshold=30, clock=clock)
            for _ in range(3):
                watch.look("me")
                pass_(5)
            lives += 1

        assert lives == 300 / 15 + 1

    def test_two_beats_must_be_missed_under_our_eyes(self, watch, pass_):
        pass_(HOUR)
        assert watch.look("me") == 0
        pass_(9.9)
        assert watch.look("me") == 0

        pass_(0.1)
        assert watch.look("me") == 1

    def test_the_beats_are_those_of_the_other(self, store, pass_, clock):
        store.reap("owner", 1)
        store.register("rare", saying(heartbeat_interval=50.0, orphan_threshold=300.0))
        watch = Watch(store, orphan_threshold=30, clock=clock)
        pass_(HOUR)
        watch.look("me")

        pass_(99.9)
        assert watch.look("me") == 0
        pass_(0.1)
        assert watch.look("me") == 1

    def test_who_does_not_tell_its_beats_is_watched_for_the_whole_time(self, store, pass_, watch):
        store.beat("owner", b"")
        pass_(HOUR)
        watch.look("me")

        pass_(29.9)
        assert watch.look("me") == 0
        pass_(0.1)
        assert watch.look("me") == 1

    def test_a_silence_of_less_than_five_minutes_is_not_that_long(self, watch, pass_):
        pass_(290)
        watch.look("me")
        pass_(10)
        assert watch.look("me") == 0  # 300 s by the database's clock, and not more.

        pass_(0.1)
        assert watch.look("me") == 1
