"""Two requests, one call that is broken off somewhere, and whether the books balance."""

from __future__ import annotations

from support.receipts import HOUR, kept_all

from huey_patient.stores.base import Counts, Settlement

NOTHING = {"fresh": 0, "suspect": 0, "later": 0, "held": 0}
#: A moment that does not come before a test is over.
FAR_AWAY = 4e9

#: How the requests "a" and "b" lie before each call, and after it.
BEFORE = {
    "submit": Counts(**NOTHING | {"fresh": 1}),
    "submit due": Counts(**NOTHING | {"fresh": 1}),
    "register": Counts(**NOTHING | {"fresh": 2}),
    "reseal": Counts(**NOTHING | {"fresh": 2}),
    "claim": Counts(**NOTHING | {"fresh": 2}),
    "settle": Counts(**NOTHING | {"held": 2}),
    "release": Counts(**NOTHING | {"held": 2}),
    "put off": Counts(**NOTHING | {"held": 2}),
    "reap": Counts(**NOTHING | {"held": 2}),
    "cancel": Counts(**NOTHING | {"held": 2}),
    "beat": Counts(**NOTHING | {"held": 2}),
    "keep": Counts(**NOTHING | {"held": 2}),
    "begin": Counts(**NOTHING | {"receipts": 2}),
    "extend": Counts(**NOTHING | {"receipts": 2}),
    "postpone": Counts(**NOTHING | {"receipts": 2}),
    "redeliver_due": Counts(**NOTHING | {"receipts": 2}),
    "confirm": Counts(**NOTHING | {"receipts": 2}),
    "give_up": Counts(**NOTHING | {"receipts": 2}),
    "revive": Counts(**NOTHING | {"receipts": 1, "dead": 1}),
    "discard": Counts(**NOTHING | {"receipts": 1, "dead": 1}),
}
AFTER = {
    "submit": Counts(**NOTHING | {"fresh": 2}),
    "submit due": Counts(**NOTHING | {"fresh": 1, "later": 1}),
    "register": Counts(**NOTHING | {"fresh": 2}),
    "reseal": Counts(**NOTHING | {"fresh": 2}),
    "claim": Counts(**NOTHING | {"held": 2}),
    "settle": Counts(**NOTHING),
    "release": Counts(**NOTHING | {"suspect": 2}),
    "put off": Counts(**NOTHING | {"later": 2}),
    "reap": Counts(**NOTHING | {"suspect": 2}),
    "cancel": Counts(**NOTHING | {"held": 1}),
    "beat": Counts(**NOTHING | {"held": 2}),
    "keep": Counts(**NOTHING | {"receipts": 2}),
    "begin": Counts(**NOTHING | {"receipts": 2}),
    "extend": Counts(**NOTHING | {"receipts": 2}),
    "postpone": Counts(**NOTHING | {"receipts": 2}),
    "redeliver_due": Counts(**NOTHING | {"receipts": 1, "dead": 1}),
    "confirm": Counts(**NOTHING | {"receipts": 1}),
    "give_up": Counts(**NOTHING | {"receipts": 1, "dead": 1}),
    "revive": Counts(**NOTHING | {"receipts": 2}),
    "discard": Counts(**NOTHING | {"receipts": 1}),
}
CALLS = list(BEFORE)

#: What shows that a call was made, where the counts do not.
SHOWS = {
    "register": lambda store: "new" in {owner.id for owner in store.owners()},
    "reseal": lambda store: store.read("a") == b"y",
    "extend": lambda store: store.begin("a", HOUR) == "busy",
    "postpone": lambda store: store.begin("a", HOUR) == "run",
}

#: What has been on Huey's queue once all is over, where it is not "a" and "b".
MESSAGES = {"redeliver_due": [b"a", b"a", b"b", b"b"], "revive": [b"a", b"a", b"b"]}


def settlements(receipt=None):
    return [Settlement(id=id, epoch=1, message=id.encode(), receipt=receipt) for id in ("a", "b")]


def prepare(store, call):
    """Bring ``store`` to where ``call`` can be made by the owner "o"."""
    if BEFORE[call].receipts:
        kept_all(store, ["b", "a"], receipt=0.0)
    else:
        store.submit("a", b"x")
        if BEFORE[call] != BEFORE["submit"]:
            store.submit("b", b"x")
        store.register("o", b"")
        store.claim("o", "fresh", BEFORE[call].held)
    if call == "redeliver_due":
        # "b" has had two deliveries and is lost again: it is given up; "a" goes on
        # the queue again.
        store.redeliver_due(1, 0.0, 9)
        store.begin("b", 0.0)
    if call in ("confirm", "give_up", "extend", "postpone"):
        store.begin("a", HOUR)
    if call in ("revive", "discard"):
        store.give_up("a")
    assert store.counts() == BEFORE[call]


def make(call, store):
    """Make ``call``, as it would be made again after a failure."""
    return {
        "submit": lambda: store.submit("b", b"x"),
        "submit due": lambda: store.submit("b", b"x", due=FAR_AWAY),
        "register": lambda: store.register("new", b""),
        "reseal": lambda: store.reseal("a", b"x", b"y"),
        "claim": lambda: store.claim("o", "fresh", 2),
        "settle": lambda: store.settle("o", settlements()),
        "release": lambda: store.release("o", [("a", 1), ("b", 1)], strike=True),
        "put off": lambda: store.release("o", [("a", 1), ("b", 1)], strike=False, pause=FAR_AWAY),
        "reap": lambda: store.reap("o", 1),
        "cancel": lambda: store.cancel("a", b"canceled"),
        "beat": lambda: store.beat("o", b""),
        "keep": lambda: store.settle("o", settlements(HOUR)),
        "begin": lambda: store.begin("a", HOUR),
        "extend": lambda: store.extend("a", HOUR),
        "postpone": lambda: store.postpone("a", HOUR),
        "redeliver_due": lambda: store.redeliver_due(9, HOUR, 1),
        "confirm": lambda: store.confirm("a"),
        "give_up": lambda: store.give_up("a"),
        "revive": lambda: store.revive("a", HOUR),
        "discard": lambda: store.discard("a"),
    }[call]()


def assert_they_balance(backend, call):
    """After ``call`` was broken off: all of it happened or nothing, and nothing is lost."""
    store = backend.store
    assert store.counts() in (BEFORE[call], AFTER[call])

    # Repeating the call, as its caller would, ends in the same place.
    make(call, store)
    assert store.counts() == AFTER[call]
    assert call not in SHOWS or SHOWS[call](store)

    # Then the owner is lost, and another one answers all there is.
    for owner in store.owners():
        assert store.reap(owner.id, owner.beat)
    store.register("last", b"")
    leases = store.claim("last", "fresh", 9) + store.claim("last", "suspect", 9)
    answers = [Settlement(id=x.id, epoch=x.epoch, message=x.id.encode()) for x in leases]
    assert store.settle("last", answers) == ["ok"] * len(leases)
    not_yet = {id for id in "ab" if AFTER[call].later and store.cancel(id, id.encode())}
    assert len(not_yet) == AFTER[call].later

    # And whatever is kept is delivered by somebody.
    left = {id for id in "ab" if store.confirm(id)}
    assert len(left) == AFTER[call].receipts + AFTER[call].dead

    messages = [b"a" if message == b"canceled" else message for message in backend.queued()]
    assert sorted(messages) == MESSAGES.get(call, [b"a", b"b"])
    assert store.counts() == Counts(**NOTHING)
    assert store.owners()[0].held == 0
