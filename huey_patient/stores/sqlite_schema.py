"""The tables of the SQLite store."""

from __future__ import annotations

__all__ = ["SCHEMA"]

# A trigger counts, because then no statement can forget to, and counting the
# rows of a long backlog would take longer the longer it is.
#
# `place` grows for life (autoincrement never hands out a number twice), and
# finding the next one does not search the table.
SCHEMA = """
create table if not exists patient_owner (
    queue text not null,
    id text not null,
    beat integer not null default 1,
    beat_at real not null,
    info blob not null,
    reaped_at real,
    primary key (queue, id)
) without rowid;

create table if not exists patient_request (
    place integer primary key autoincrement,
    queue text not null,
    id text not null,
    sealed blob not null,
    epoch integer not null default 0,
    strikes integer not null default 0,
    due real,
    owner text,
    lane text not null generated always as (case
        when owner is not null then 'held'
        when due is not null then 'later'
        when strikes > 0 then 'suspect'
        else 'fresh' end) virtual,
    unique (queue, id),
    foreign key (queue, owner) references patient_owner (queue, id)
);
create index if not exists patient_place on patient_request (queue, lane, place);
create index if not exists patient_due on patient_request (queue, due) where due is not null;
create index if not exists patient_held
    on patient_request (queue, owner) where owner is not null;

create table if not exists patient_tomb (
    queue text not null,
    id text not null,
    epoch integer not null,
    at real not null,
    primary key (queue, id)
) without rowid;
create index if not exists patient_tomb_at on patient_tomb (at);

create table if not exists patient_counter (
    queue text not null,
    lane text not null,
    n integer not null default 0,
    primary key (queue, lane)
) without rowid;

create trigger if not exists patient_came after insert on patient_request begin
    insert into patient_counter (queue, lane, n) values (new.queue, new.lane, 1)
    on conflict do update set n = n + 1;
end;
create trigger if not exists patient_moved
after update of owner, strikes, due on patient_request when old.lane <> new.lane begin
    update patient_counter set n = n - 1 where queue = old.queue and lane = old.lane;
    insert into patient_counter (queue, lane, n) values (new.queue, new.lane, 1)
    on conflict do update set n = n + 1;
end;
create trigger if not exists patient_went after delete on patient_request begin
    update patient_counter set n = n - 1 where queue = old.queue and lane = old.lane;
end;

create table if not exists patient_receipt (
    place integer primary key,
    queue text not null,
    id text not null,
    message blob not null,
    priority real,
    deliveries integer not null default 1,
    lost integer not null default 0,  -- of these, how many were begun, and their workers lost
    state text not null default 'waiting',  -- or running, or dead
    at real not null,  -- when it is due; of a dead letter, since when it is one
    unique (queue, id)
);
create index if not exists patient_receipt_due on patient_receipt (queue, at)
    where state <> 'dead';
create index if not exists patient_receipt_dead on patient_receipt (queue, at)
    where state = 'dead';

create trigger if not exists patient_receipt_came after insert on patient_receipt begin
    insert into patient_counter (queue, lane, n) values (new.queue, 'receipts', 1)
    on conflict do update set n = n + 1;
end;
create trigger if not exists patient_receipt_moved
after update of state on patient_receipt when (old.state = 'dead') <> (new.state = 'dead') begin
    update patient_counter set n = n - 1
    where queue = old.queue and lane = iif(old.state = 'dead', 'dead', 'receipts');
    insert into patient_counter (queue, lane, n)
    values (new.queue, iif(new.state = 'dead', 'dead', 'receipts'), 1)
    on conflict do update set n = n + 1;
end;
create trigger if not exists patient_receipt_went after delete on patient_receipt begin
    update patient_counter set n = n - 1
    where queue = old.queue and lane = iif(old.state = 'dead', 'dead', 'receipts');
end;
"""
