"""Every statement of the PostgreSQL store, with the table names filled in.

``%(name)s`` are parameters of psycopg; ``{request}`` and the like are names of
tables, which come from Huey's own prefix and hold nothing but letters, digits
and underscores.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .postgres_receipts import ReceiptStatements

__all__ = ["Statements"]

# Of the statement, and not of the very moment: only what stays the same
# throughout a statement can be looked up in an index.
_NOW = "extract(epoch from statement_timestamp())::double precision"

_SCHEMA = """
create table if not exists {owner} (
    queue text not null,
    id text not null,
    beat bigint not null default 1,
    beat_at double precision not null,
    info bytea not null,
    reaped_at double precision,
    primary key (queue, id)
);

create table if not exists {request} (
    place bigserial not null,
    queue text not null,
    id text not null,
    sealed bytea not null,
    epoch bigint not null default 0,
    strikes integer not null default 0,
    due double precision,
    owner text,
    answered_at double precision,
    lane text not null generated always as (case
        when answered_at is not null then 'answered'
        when owner is not null then 'held'
        when due is not null then 'later'
        when strikes > 0 then 'suspect'
        else 'fresh' end) stored,
    primary key (queue, id),
    foreign key (queue, owner) references {owner} (queue, id)
);
-- `place` alone has no index, or the planner might walk along that one, past
-- every answered request, to find the first that is ready.
create index if not exists {request}_place on {request} (queue, lane, place)
    where answered_at is null;
create index if not exists {request}_due on {request} (queue, due) where due is not null;
create index if not exists {request}_held on {request} (queue, owner) where owner is not null;
create index if not exists {request}_answered on {request} (queue, answered_at)
    where answered_at is not null;

create table if not exists {counter} (
    queue text not null,
    shard bigint not null,
    fresh bigint not null default 0,
    suspect bigint not null default 0,
    later bigint not null default 0,
    held bigint not null default 0,
    receipts bigint not null default 0,
    dead bigint not null default 0,
    primary key (queue, shard)
) with (fillfactor = 50);
"""

_LANES = ("fresh", "suspect", "later", "held")
_KEPT_LANES = ("receipts", "dead")

# What the rows of ``moved`` (was, is: two lanes, or null) change.  It comes last
# in a statement, so nothing is waited for while its row is locked.
_COUNTED = """
    insert into {counter} as c (queue, shard, {lanes})
    select %(queue)s, pg_backend_pid() %% 16, {changes}
    from moved having count(*) > 0
    on conflict (queue, shard) do update set {sums}
"""

# Inside a transaction of the application a row of the counter would stay locked
# for as long as that lasts, and others wait for it.  So it gets one of its own,
# which the next beat adds to the others.
_COUNTED_APART = """
    insert into {counter} (queue, shard, fresh, later)
    select %(queue)s, 16 + place, ("is" = 'fresh')::int, ("is" = 'later')::int from moved
"""

# A tombstone older than the hour makes room for a request of the same id.
_SUBMIT = """
with moved as (
    insert into {request} as r (queue, id, sealed, due)
    values (%(queue)s, %(id)s, %(sealed)s,
        case when %(due)s::double precision > {now} then %(due)s::double precision end)
    on conflict (queue, id) do update set
        place = excluded.place, sealed = excluded.sealed, due = excluded.due,
        epoch = 0, strikes = 0, answered_at = null
    where r.answered_at <= {now} - %(remembered)s
    returning null::text as was, lane as "is", place
), counted as ({counted}), rung as (
    select pg_notify(%(bell)s, '') from moved
)
select count(*) from rung
"""

_IS_ANSWERED = """
select exists (select 1 from {request}
    where queue = %(queue)s and id = %(id)s and answered_at is not null)
"""

_REGISTER = """
insert into {owner} as o (queue, id, info, beat_at)
values (%(queue)s, %(owner)s, %(info)s, {now})
on conflict (queue, id) do update set info = excluded.info, beat_at = excluded.beat_at
where o.reaped_at is null
returning 1
"""

_BEAT = """
with beaten as (
    update {owner} set beat = beat + 1, beat_at = {now}, info = %(info)s
    where queue = %(queue)s and id = %(owner)s and reaped_at is null returning 1
)
select (select count(*) from beaten),
    (select count(*) from {request} where queue = %(queue)s and owner = %(owner)s),
    exists (select 1 from {counter} where queue = %(queue)s and shard >= 16)
"""

_FOLD_COUNTERS = """
with picked as (
    select shard from {counter} where queue = %(queue)s and shard >= 16
    order by shard limit %(many)s for update skip locked
), apart as (
    delete from {counter} c using picked p where c.queue = %(queue)s and c.shard = p.shard
    returning c.fresh, c.later
), counted as (
    insert into {counter} as c (queue, shard, fresh, later)
    select %(queue)s, pg_backend_pid() %% 16, sum(fresh), sum(later)
    from apart having count(*) > 0
    on conflict (queue, shard) do update set
        fresh = c.fresh + excluded.fresh, later = c.later + excluded.later
)
select 1
"""

# The lock on the owner keeps a reaper waiting until this claim is committed.
# No request is locked before it: the filter needs the answer of ``living``.
_CLAIM = """
with living as materialized (
    select 1 from {owner} where queue = %(queue)s and id = %(owner)s and reaped_at is null
    for key share
), due as materialized (
    select %(after_due)s and coalesce({first_due} <= {now}, false) as waiting
), picked as materialized (
    select id, lane from {request}
    where queue = %(queue)s and lane = %(lane)s and answered_at is null
        and exists (select 1 from living) and not (select waiting from due)
    order by place limit %(most)s for update skip locked
), taken as (
    update {request} r set owner = %(owner)s, epoch = r.epoch + 1
    from picked where r.queue = %(queue)s and r.id = picked.id
    returning r.place, r.id, r.epoch, r.strikes, r.sealed, picked.lane as was, r.lane as "is"
), moved as (select was, "is" from taken), counted as ({counted})
select (select count(*) from living), (select waiting from due),
    place, id, epoch, strikes, sealed
from (select 1) as always left join taken on true
order by place
"""

_BRING_DUE = """
with picked as (
    select id from {request} where queue = %(queue)s and due <= {now}
    order by due limit %(some)s for update skip locked
), moved as (
    update {request} r set due = null from picked
    where r.queue = %(queue)s and r.id = picked.id
    returning 'later' as was, r.lane as "is"
), counted as ({counted})
select 1
"""

# Rows are locked in the order of their ids, so that two batches never wait for
# each other in a circle; what is decided is decided on the locked versions.
# A null epoch is a cancel: it fits any, and leaves behind one that no claim has.
_SETTLE = """
with asked as materialized (
    select * from unnest(%(ids)s::text[], %(epochs)s::bigint[], %(messages)s::bytea[],
        %(priorities)s::double precision[], %(receipts)s::double precision[])
        with ordinality as a (id, epoch, message, priority, receipt, n)
), found as materialized (
    select id, epoch, answered_at, lane from {request}
    where queue = %(queue)s and id = any(%(ids)s::text[])
    order by id for update
), fitting as materialized (
    select a.*, f.lane from asked a join found f using (id)
    where f.answered_at is null and (a.epoch is null or a.epoch = f.epoch)
), removed as (
    update {request} r set answered_at = {answered_at}, epoch = coalesce(f.epoch, -1),
        owner = null, due = null, sealed = ''
    from fitting f where r.queue = %(queue)s and r.id = f.id
    returning r.id, f.lane as was, {kept_as} as "is"
), queued as (
    insert into {task} (queue, data, priority)
    select %(queue)s, message, priority from fitting order by n
), {keep} moved as (select was, "is" from removed), counted as ({counted}), forgotten as (
    delete from {request} where queue = %(queue)s and id in (
        select id from {request}
        where queue = %(queue)s and answered_at <= {now} - %(remembered)s
        order by answered_at limit %(some)s for update skip locked)
), notified as materialized (
    select pg_notify(%(channel)s, '') where exists (select 1 from removed)
)
select case
    when r.id is not null then 'ok'
    when f.id is null then 'gone'
    when f.answered_at is null then 'stale'
    when f.epoch = a.epoch then 'again'
    else 'gone' end
from asked a left join found f using (id) left join removed r using (id)
where (select count(*) from notified) >= 0
order by a.n
"""

# What is added where a message is to be kept.
_KEEP = """kept as (
    insert into {receipt} (queue, id, message, priority, at)
    select %(queue)s, id, message, priority, {now} + receipt from fitting
    where receipt is not null
),"""

_RELEASE = """
with asked as (
    select * from unnest(%(ids)s::text[], %(epochs)s::bigint[]) as a (id, epoch)
), found as materialized (
    select r.id from {request} r join asked a using (id, epoch)
    where r.queue = %(queue)s and r.owner = %(owner)s
    order by r.id for update of r
), moved as (
    update {request} r set owner = null, strikes = r.strikes + %(strikes)s,
        due = {now} + %(pause)s::double precision
    from found f where r.queue = %(queue)s and r.id = f.id
    returning 'held' as was, r.lane as "is"
), counted as ({counted}), rung as (
    select pg_notify(%(bell)s, '') where exists (select 1 from moved)
)
select count(*) from moved where (select count(*) from rung) >= 0
"""

# Only this lock conflicts with the one that a claim takes: an update alone, of
# columns that are no key, would pass it by.
_FENCE = """
with silent as materialized (
    select id from {owner}
    where queue = %(queue)s and id = %(owner)s and beat = %(seen)s and reaped_at is null
    for update
), fenced as (
    update {owner} o set reaped_at = {now} from silent
    where o.queue = %(queue)s and o.id = silent.id
    returning 1
), forgotten as (
    delete from {owner} where queue = %(queue)s and reaped_at <= {now} - %(remembered)s
)
select 1 from fenced
"""

_FREE = """
with moved as (
    update {request} r set owner = null, strikes = r.strikes + 1
    where queue = %(queue)s and owner = %(owner)s
    returning 'held' as was, r.lane as "is"
), counted as ({counted})
select pg_notify(%(bell)s, '')
"""

_IDS = """
select id from {request}
where queue = %(queue)s and id > %(after)s and answered_at is null
order by id limit %(most)s
"""

_RESEAL = """
update {request} set sealed = %(new)s
where queue = %(queue)s and id = %(id)s and sealed = %(old)s and answered_at is null
returning 1
"""

_READ = """
select sealed from {request}
where queue = %(queue)s and id = %(id)s and answered_at is null
"""

# What is due but was not brought yet is looked at for a few rows only; of more,
# the rest counts as "later" until somebody claims.
_COUNTS = """
select coalesce(sum(fresh), 0)::bigint, coalesce(sum(suspect), 0)::bigint,
    coalesce(sum(later), 0)::bigint, coalesce(sum(held), 0)::bigint,
    coalesce(sum(receipts), 0)::bigint, coalesce(sum(dead), 0)::bigint,
    (select count(*) from (select 1 from {request}
        where queue = %(queue)s and due <= {now} order by due limit %(some)s) as d)
from {counter} where queue = %(queue)s
"""

_OWNERS = """
select id, beat, (select count(*) from {request} r
    where r.queue = o.queue and r.owner = o.id), info, greatest({now} - beat_at, 0)
from {owner} o where queue = %(queue)s and reaped_at is null
"""

_HELD = """
select id, owner, epoch, strikes from {request}
where queue = %(queue)s and owner is not null
    and (%(owner)s::text is null or owner = %(owner)s)
"""

# Each is the first entry of an index, and not any row that fits: to find any,
# the planner might read the table from its beginning.
_FIRST_DUE = """(select due from {request}
    where queue = %(queue)s and due is not null order by due limit 1)"""

_FIRST_OF = """(select place from {request}
    where queue = %(queue)s and lane = '{lane}' and answered_at is null
    order by place limit 1)"""

_ANYTHING = """
select coalesce({first_due} <= {now}, false)
    or {first_fresh} is not null or {first_suspect} is not null
"""


class Statements:
    """The statements for the tables of one prefix, or of one prefix in one schema."""

    def __init__(self, prefix: str, task: str, schema: str | None = None) -> None:
        names = _names(prefix if schema is None else f"{schema}.{prefix}", task)
        self.request, self.receipt = names["request"], names["receipt"]
        self.receipts = ReceiptStatements(names)
        self.schema = _SCHEMA.format(**names) + self.receipts.schema
        self.submit = _SUBMIT.format(**names)
        self.submit_apart = _SUBMIT.format(**{**names, "counted": _COUNTED_APART.format(**names)})
        self.is_answered = _IS_ANSWERED.format(**names)
        self.register = _REGISTER.format(**names)
        self.beat = _BEAT.format(**names)
        self.fold_counters = _FOLD_COUNTERS.format(**names)
        self.claim = _CLAIM.format(**names)
        self.bring_due = _BRING_DUE.format(**names)
        self.settle = _SETTLE.format(**names, answered_at=_NOW, kept_as="null::text", keep="")
        self.settle_keeping = _SETTLE.format(
            **{**names, "counted": names["counted_all"]},
            answered_at=f"case when f.receipt is null then {_NOW} else 'infinity' end",
            kept_as="case when f.receipt is not null then 'receipts' end",
            keep=_KEEP.format(**names),
        )
        self.release = _RELEASE.format(**names)
        self.fence = _FENCE.format(**names)
        self.free = _FREE.format(**names)
        self.read = _READ.format(**names)
        self.ids = _IDS.format(**names)
        self.reseal = _RESEAL.format(**names)
        self.counts = _COUNTS.format(**names)
        self.owners = _OWNERS.format(**names)
        self.held = _HELD.format(**names)
        self.anything = _ANYTHING.format(**names)


def _names(prefix: str, task: str) -> dict[str, str]:
    """What stands for the words in braces."""
    names = {
        name: f"{prefix}_patient_{name}" for name in ("request", "receipt", "owner", "counter")
    }
    names |= {"task": task, "now": _NOW}
    names["counted"] = _counted(names, _LANES)
    names["counted_receipts"] = _counted(names, _KEPT_LANES)
    names["counted_all"] = _counted(names, (*_LANES, *_KEPT_LANES))
    names["first_due"] = _FIRST_DUE.format(**names)
    names["first_fresh"] = _FIRST_OF.format(**names, lane="fresh")
    names["first_suspect"] = _FIRST_OF.format(**names, lane="suspect")
    return names


def _counted(names: Mapping[str, str], lanes: Sequence[str]) -> str:
    """The part of a statement that counts what moves into and out of ``lanes``."""
    change = """count(*) filter (where "is" = '{0}') - count(*) filter (where was = '{0}')"""
    return _COUNTED.format(
        **names,
        lanes=", ".join(lanes),
        changes=", ".join(change.format(lane) for lane in lanes),
        sums=", ".join(f"{lane} = c.{lane} + excluded.{lane}" for lane in lanes),
    )
