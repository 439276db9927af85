"""Kill everything that can be killed, under load, and balance the books.

``python -m chaos --seconds 20`` (from ``tests/``) or ``make chaos SECONDS=20``.

    submitters   two processes that submit with ids of their own, and write down
                 each id once the store has taken it
    consumers    two real consumers with a courier and an I/O process each, and
                 no worker: what they settle stays on Huey's queue, to be counted
    remote       a server that takes up to half a second, and counts what it sees
    chaos        kills, stops and cuts, by a seed

Afterwards everything is left alone until the store is empty, and the queue is
counted: *lost* were accepted and have no message, *twice* have more than one,
*alien* have a message and were never submitted.  All three must be none.  The
control settles in two steps, remove and then push, as job queues do: it must
lose something, or this program would prove nothing.
"""
