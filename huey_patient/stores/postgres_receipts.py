"""The PostgreSQL store's answers that are kept until they are delivered.

    <prefix>_patient_receipt   one row an answer; `state` says where it is

Its tombstone, which is the row of its request, was answered at infinity as
long as the row is there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .base import BeginAnswer, DeadLetter, Store
from .receipts import MOST_DOUBLINGS

__all__ = ["PostgresReceipts", "ReceiptStatements"]

SCHEMA = """
create table if not exists {receipt} (
    queue text not null,
    id text not null,
    message bytea not null,
    priority double precision not null,
    deliveries integer not null default 1,
    lost integer not null default 0,  -- of these, how many were begun, and their workers lost
    state text not null default 'waiting',  -- or running, or dead
    at double precision not null,  -- when it is due; of a dead letter, since when it is one
    primary key (queue, id)
);
create index if not exists {receipt}_due on {receipt} (queue, at) where state <> 'dead';
create index if not exists {receipt}_dead on {receipt} (queue, at) where state = 'dead';
"""

_BEGIN = """
with found as materialized (
    select id, state from {receipt}
    where queue = %(queue)s and id = %(id)s and state <> 'dead' for update
), begun as (
    update {receipt} r set state = 'running', at = {now} + %(seconds)s from found f
    where r.queue = %(queue)s and r.id = f.id and f.state = 'waiting'
    returning 1
)
select case
    when exists (select 1 from begun) then 'run'
    when exists (select 1 from found) then 'busy'
    else 'gone' end
"""

_RENEW = """
update {receipt} set state = %(state)s, at = {now} + %(seconds)s
where queue = %(queue)s and id = %(id)s and state = 'running'
returning 1
"""

_FORGET = """
with moved as (
    delete from {receipt}
    where queue = %(queue)s and id = %(id)s and state = any(%(states)s::text[])
    returning case state when 'dead' then 'dead' else 'receipts' end as was, null::text as "is"
), dated as (
    update {request} set answered_at = {now}
    where queue = %(queue)s and id = %(id)s and exists (select 1 from moved)
), counted as ({counted_receipts})
select 1 from moved
"""

_GIVE_UP = """
with moved as (
    update {receipt} set state = 'dead', at = {now}
    where queue = %(queue)s and id = %(id)s and state <> 'dead'
    returning 'receipts' as was, 'dead' as "is"
), counted as ({counted_receipts})
select 1 from moved
"""

# Rows that another one is just redelivering are passed by; those that it was
# faster with are not due any more in the version that is locked.
_REDELIVER = """
with due as materialized (
    select id, message, priority, at, lost + (state = 'running')::int as lost,
        state = 'waiting' or lost + 1 < %(most)s as again
    from {receipt} where queue = %(queue)s and state <> 'dead' and at <= {now}
    order by at limit %(limit)s for update skip locked
), redelivered as (
    update {receipt} r set state = 'waiting', lost = d.lost, deliveries = r.deliveries + 1,
        at = {now} + %(seconds)s * power(2, least(r.deliveries - d.lost, %(doublings)s))
    from due d where r.queue = %(queue)s and r.id = d.id and d.again
), moved as (
    update {receipt} r set state = 'dead', at = {now}
    from due d where r.queue = %(queue)s and r.id = d.id and not d.again
    returning 'receipts' as was, 'dead' as "is"
), queued as (
    insert into {task} (queue, data, priority)
    select %(queue)s, message, priority from due where again order by at
), counted as ({counted_receipts}), notified as materialized (
    select pg_notify(%(channel)s, '') where exists (select 1 from due where again)
)
select count(*) filter (where again), count(*) filter (where not again) from due
where (select count(*) from notified) >= 0
"""

_DEAD_LETTERS = """
select id, deliveries, at from {receipt}
where queue = %(queue)s and state = 'dead' order by at limit %(limit)s
"""

_REVIVE = """
with revived as (
    update {receipt} set state = 'waiting', at = {now} + %(seconds)s, deliveries = 1, lost = 0
    where queue = %(queue)s and id = %(id)s and state = 'dead'
    returning message, priority
), moved as (
    select 'dead' as was, 'receipts' as "is" from revived
), queued as (
    insert into {task} (queue, data, priority)
    select %(queue)s, message, priority from revived
), counted as ({counted_receipts}), notified as materialized (
    select pg_notify(%(channel)s, '') from revived
)
select 1 from notified
"""


class ReceiptStatements:
    """The statements of this half, with the table names filled in."""

    def __init__(self, names: Mapping[str, str]) -> None:
        self.schema = SCHEMA.format(**names)
        self.begin = _BEGIN.format(**names)
        self.renew = _RENEW.format(**names)
        self.forget = _FORGET.format(**names)
        self.give_up = _GIVE_UP.format(**names)
        self.redeliver = _REDELIVER.format(**names)
        self.dead_letters = _DEAD_LETTERS.format(**names)
        self.revive = _REVIVE.format(**names)


class PostgresReceipts(Store):
    """This half of `PostgresStore`."""

    _kept: ReceiptStatements

    def _ask(self, statement: str, **params: Any) -> list[Any]:
        raise NotImplementedError

    def begin(self, id: str, seconds: float) -> BeginAnswer:
        [[answer]] = self._ask(self._kept.begin, id=id, seconds=seconds)
        return answer  # type: ignore[no-any-return]

    def extend(self, id: str, seconds: float) -> bool:
        return bool(self._ask(self._kept.renew, id=id, seconds=seconds, state="running"))

    def postpone(self, id: str, seconds: float) -> bool:
        return bool(self._ask(self._kept.renew, id=id, seconds=seconds, state="waiting"))

    def confirm(self, id: str) -> bool:
        return bool(self._ask(self._kept.forget, id=id, states=["waiting", "running", "dead"]))

    def give_up(self, id: str) -> bool:
        return bool(self._ask(self._kept.give_up, id=id))

    def redeliver_due(self, limit: int, seconds: float, most: int) -> tuple[int, int]:
        [[queued, dead]] = self._ask(
            self._kept.redeliver,
            limit=max(limit, 0),
            seconds=seconds,
            most=most,
            doublings=MOST_DOUBLINGS,
        )
        return queued, dead

    def dead_letters(self, limit: int = 100) -> list[DeadLetter]:
        return [
            DeadLetter(id=id, deliveries=deliveries, since=since)
            for id, deliveries, since in self._ask(self._kept.dead_letters, limit=max(limit, 0))
        ]

    def revive(self, id: str, seconds: float) -> bool:
        return bool(self._ask(self._kept.revive, id=id, seconds=seconds))

    def discard(self, id: str) -> bool:
        return bool(self._ask(self._kept.forget, id=id, states=["dead"]))
