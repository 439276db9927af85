"""Break the stores, one sentence of the contract at a time, and see who notices.

    python tests/mutants.py [words of a mutant's name...]

Each mutant is one deliberate mistake in a copy of the package.  For each the
tests of its backend are run until one fails; a mutant that no test kills is a
sentence that no test holds, and makes this program fail.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
STORES = "huey_patient/stores"
CONTRACT = ("tests/contract/test_store_contract.py", "tests/contract/test_store_machine.py")
RECEIPTS = ("tests/contract/test_receipts.py",)
OUTBOX = ("tests/contract/test_outbox.py", "tests/crash/test_outbox_killed.py")
RESEAL = "tests/contract/test_store_reseal.py"
CRASH = "tests/crash"
OWNER = "tests/unit/test_owner.py"


@dataclass(frozen=True)
class Mutant:
    """One mistake: ``edits`` are (file, what stands there, what stands there then)."""

    name: str
    kind: str  #: The backend, as in the tests' parameters.
    edits: tuple[tuple[str, str, str], ...]
    tests: tuple[str, ...] = CONTRACT


def mutant(name: str, kind: str, file: str, old: str, new: str, *tests: str) -> Mutant:
    return Mutant(name, kind, ((file, old, new),), tests or CONTRACT)


MUTANTS = [
    # No epoch check: a holder that was overtaken may settle.
    mutant(
        "no epoch check",
        "memory",
        "memory.py",
        'if request.epoch != one.epoch:\n            return "stale"',
        "pass",
    ),
    mutant(
        "no epoch check",
        "sqlite",
        "sqlite.py",
        '"delete from patient_request where queue = ? and id = ? and epoch = ?"',
        '"delete from patient_request where queue = ? and id = ? and ? > 0"',
    ),
    mutant(
        "no epoch check",
        "redis",
        "lua/settle.lua",
        "if epoch ~= 'any' and current ~= epoch then return 'stale' end",
        "",
    ),
    mutant(
        "no epoch check",
        "postgres",
        "postgres_sql.py",
        "(a.epoch is null or a.epoch = f.epoch)",
        "true",
    ),
    # Reap without compare-and-swap: an owner that has beaten since is harmed.
    mutant(
        "reap without compare-and-swap",
        "memory",
        "memory.py",
        "if silent is None or silent.beat != beat_seen:",
        "if silent is None:",
    ),
    mutant(
        "reap without compare-and-swap",
        "sqlite",
        "sqlite.py",
        "and id = ? and beat = ? and reaped_at is null",
        "and id = ? and ? > 0 and reaped_at is null",
    ),
    mutant(
        "reap without compare-and-swap",
        "redis",
        "lua/reap.lua",
        "if redis.call('HGET', KEYS[1], owner) ~= ARGV[2] then return 0 end",
        "if redis.call('HEXISTS', KEYS[1], owner) == 0 then return 0 end",
    ),
    mutant(
        "reap without compare-and-swap",
        "postgres",
        "postgres_sql.py",
        "and beat = %(seen)s and",
        "and",
    ),
    # No tombstone: a submit repeated after the answer runs a second time.
    mutant(
        "no tombstone",
        "memory",
        "memory.py",
        "self._shelf.tombs[one.id] = (one.epoch, self._clock())",
        "pass",
    ),
    mutant(
        "no tombstone",
        "sqlite",
        "sqlite.py",
        "self._bury(db, one.id, one.epoch)",
        "pass",
    ),
    mutant(
        "no tombstone",
        "redis",
        "lua/settle.lua",
        "redis.call('SET', tomb, buried, 'EX', ARGV[2])",
        "",
    ),
    mutant(
        "no tombstone",
        "postgres",
        "postgres_sql.py",
        "where r.answered_at <= {now} - %(remembered)s\n    returning",
        "where r.answered_at is not null\n    returning",
    ),
    # Claim without owner guard: leases nobody will ever reap.
    mutant(
        "claim without owner guard",
        "memory",
        "memory.py",
        "living = self._living(owner)\n            self._bring_due()",
        "living = self._shelf.owners.setdefault(owner, Owner(b''))\n            self._bring_due()",
    ),
    mutant(
        "claim without owner guard",
        "sqlite",
        "sqlite.py",
        "if not self._lives(db, owner):",
        "if False:",
    ),
    mutant(
        "claim without owner guard",
        "redis",
        "lua/claim.lua",
        "if redis.call('HEXISTS', KEYS[1], owner) == 0 then return 'fenced' end",
        "",
    ),
    mutant(
        "claim without owner guard",
        "postgres",
        "postgres_sql.py",
        "and exists (select 1 from living) and not",
        "and not",
    ),
    # A beat that upserts revives the dead.
    mutant(
        "beat that upserts",
        "memory",
        "memory.py",
        "living = self._living(owner)\n            living.beat += 1",
        "living = self._shelf.owners.setdefault(owner, Owner(b''))\n            living.beat += 1",
    ),
    mutant(
        "beat that upserts",
        "sqlite",
        "sqlite.py",
        "if not beaten.rowcount:\n                raise Fenced(owner)",
        "if not beaten.rowcount:\n                db.execute('insert or replace into patient_owner"
        " (queue, id, info, beat_at) values (?, ?, ?, 1)', (self._queue, owner, info))",
    ),
    mutant(
        "beat that upserts",
        "redis",
        "lua/beat.lua",
        "if redis.call('HEXISTS', KEYS[1], owner) == 0 then return 'fenced' end",
        "",
    ),
    mutant(
        "beat that upserts",
        "postgres",
        "postgres_sql.py",
        "update {owner} set beat = beat + 1, beat_at = {now}, info = %(info)s\n"
        "    where queue = %(queue)s and id = %(owner)s and reaped_at is null returning 1",
        "insert into {owner} as o (queue, id, info, beat_at)\n"
        "    values (%(queue)s, %(owner)s, %(info)s, {now})\n"
        "    on conflict (queue, id) do update set beat = o.beat + 1, info = excluded.info,\n"
        "    reaped_at = null returning 1",
    ),
    # Release without owner: somebody else's lease is given back.
    mutant(
        "release without owner",
        "memory",
        "memory.py",
        "if request is None or (request.owner, request.epoch) != (owner, epoch):",
        "if request is None or request.owner is None or request.epoch != epoch:",
    ),
    mutant(
        "release without owner",
        "sqlite",
        "sqlite.py",
        "and id = ? and epoch = ? and owner = ?",
        "and id = ? and epoch = ? and ? <> ''",
    ),
    mutant(
        "release without owner",
        "redis",
        "lua/release.lua",
        "local held = redis.call('HGET', KEYS[1], id) == owner",
        "local held = redis.call('HEXISTS', KEYS[1], id) == 1",
    ),
    mutant(
        "release without owner",
        "postgres",
        "postgres_sql.py",
        "where r.queue = %(queue)s and r.owner = %(owner)s\n    order by",
        "where r.queue = %(queue)s and r.owner is not null and %(owner)s <> ''\n    order by",
    ),
    # A pause that is forgotten: what nobody here can open is claimed again and again.
    mutant(
        "release without its pause",
        "memory",
        "memory.py",
        "self._shelf.put_back(id, strike=strike, due=due)",
        "self._shelf.put_back(id, strike=strike)",
    ),
    mutant(
        "release without its pause",
        "sqlite",
        "sqlite.py",
        "due = self._clock() + pause if pause else None\n        with",
        "due = None\n        with",
    ),
    mutant(
        "release without its pause",
        "redis",
        "lua/release.lua",
        "if pause > 0 then",
        "if pause < 0 then",
    ),
    mutant(
        "release without its pause",
        "postgres",
        "postgres_sql.py",
        "due = {now} + %(pause)s::double precision\n",
        "due = {now} + null\n",
    ),
    # A pause that washes a suspect clean: it takes fresh ones along.
    mutant(
        "fresh after a pause",
        "memory",
        "memory.py",
        "self._shelf.ready[request.lane].add(id, request.place)",
        "self._shelf.ready['fresh'].add(id, request.place)",
    ),
    mutant(
        "fresh after a pause",
        "redis",
        "lua/claim.lua",
        "and KEYS[11] or KEYS[10]",
        "and KEYS[10] or KEYS[10]",
    ),
    # Release without epoch: a lease is given back that was given anew since.
    mutant(
        "release without epoch",
        "redis",
        "lua/release.lua",
        "if held and redis.call('HGET', KEYS[2], id) == ARGV[i + 1] then",
        "if held then",
    ),
    mutant(
        "release without epoch",
        "sqlite",
        "sqlite.py",
        "and id = ? and epoch = ? and owner = ?",
        "and id = ? and ? > 0 and owner = ?",
    ),
    # Two-step settle: what is killed in between has lost its callback.
    mutant(
        "two-step settle",
        "sqlite",
        "sqlite.py",
        "        self._bury(db, one.id, one.epoch)\n",
        "        db.execute('commit')\n        db.execute('begin immediate')\n"
        "        self._bury(db, one.id, one.epoch)\n",
        CRASH,
    ),
    Mutant(
        "two-step settle",
        "redis",
        (
            ("lua/settle.lua", "    push(message, score)\n", ""),
            (
                "redis.py",
                "        return [answer.decode() for answer in self._link.run("
                "_SETTLE, keys, args)]\n",
                "        answers = [a.decode() for a in self._link.run(_SETTLE, keys, args)]\n"
                "        for answer, entry in zip(answers, entries):\n"
                "            if answer == 'ok':\n"
                "                self._link.look(lambda ask: ask.lpush("
                "self._queue_key, entry.message))\n"
                "        return answers\n",
            ),
        ),
        (CRASH,),
    ),
    Mutant(
        "two-step settle",
        "postgres",
        (
            (
                "postgres_sql.py",
                "    insert into {task} (queue, data, priority)\n"
                "    select %(queue)s, message, priority from fitting order by n\n",
                "    select 1\n",
            ),
            (
                "postgres.py",
                "            answers += [row[0] for row in rows]\n",
                "            answers += [row[0] for row in rows]\n"
                "            for [answer], entry in zip(rows, batch):\n"
                "                if answer == 'ok':\n"
                "                    self._ask('insert into huey_task (queue, data) values"
                " (%(queue)s, %(data)s) returning 1', data=entry[2])\n",
            ),
        ),
        (CRASH,),
    ),
    # A script is not rolled back: what is removed before the push is lost if that fails.
    mutant(
        "removed before pushed",
        "redis",
        "lua/settle.lua",
        "    push(message, score)\n",
        "    redis.call('HDEL', KEYS[1], id)\n    push(message, score)\n",
        "tests/contract/test_redis_store.py",
    ),
    # A reap that was broken off is finished by nobody.
    mutant(
        "reap never finished",
        "redis",
        "redis.py",
        "        if dead:\n",
        "        if False:\n",
        "tests/contract/test_redis_store.py",
    ),
    # The scripts of a consumer do not run when memory is full.
    mutant(
        "no way out of a full memory",
        "redis",
        "redis_link.py",
        'b"#!lua flags=allow-oom\\n" + self.plain if when_full else self.plain',
        "self.plain",
        "tests/contract/test_redis_store.py",
    ),
    # A reaper that does not wait for a claim in flight.
    mutant(
        "reap without lock",
        "postgres",
        "postgres_sql.py",
        "and beat = %(seen)s and reaped_at is null\n    for update\n",
        "and beat = %(seen)s and reaped_at is null\n",
        "tests/contract/test_postgres_store.py",
    ),
    mutant(
        "claim without lock on its owner",
        "postgres",
        "postgres_sql.py",
        "and id = %(owner)s and reaped_at is null\n    for key share\n",
        "and id = %(owner)s and reaped_at is null\n",
        "tests/contract/test_postgres_store.py",
    ),
    # Half a transaction per call.
    mutant(
        "no write lock",
        "sqlite",
        "sqlite_link.py",
        'if not gevent_has_patched():\n            db.execute("begin immediate")',
        'if not gevent_has_patched():\n            db.execute("begin")',
        "tests/contract/test_store_sharing.py",
        "tests/crash/test_sqlite_killed.py",
    ),
    # Claimed anew, though nobody had it: an outcome that comes late is wasted.
    mutant(
        "epoch raised on release",
        "sqlite",
        "sqlite.py",
        'set owner = null, strikes = strikes + ?, due = ?"',
        'set owner = null, epoch = epoch + 1, strikes = strikes + ?, due = ?"',
    ),
    mutant(
        "place lost on release",
        "redis",
        "lua/release.lua",
        "redis.call('ZADD', lane, redis.call('HGET', KEYS[4], id), id)",
        "redis.call('ZADD', lane, 1e15 + i, id)",
    ),
    mutant(
        "connections cross a fork",
        "sqlite",
        "sqlite_link.py",
        "        tell_before_fork(self)\n",
        "",
        "tests/contract/test_store_sharing.py",
    ),
    # A settlement that says "stale" or "gone" as if what came before it had not happened.
    mutant(
        "batch out of order",
        "redis",
        "lua/settle.lua",
        "    if not answer then break end\n    answers[i] = answer\n",
        "    if answer then answers[#answers + 1] = answer end\n",
    ),
    # Redelivered, and due as before: the next caller puts it on the queue once more.
    mutant(
        "redeliver without moving the due",
        "memory",
        "memory_receipts.py",
        "answer.deliveries += 1\n"
        "        self._wait(id, answer, seconds * 2**doublings, running=False)\n",
        "answer.deliveries += 1\n        self._shelf.answers_due.add(id, answer.due)\n",
        *RECEIPTS,
    ),
    mutant(
        "redeliver without moving the due",
        "sqlite",
        "sqlite_receipts.py",
        'self._move(db, place, "waiting", at, deliveries + 1, lost)',
        'self._move(db, place, "waiting", now, deliveries + 1, lost)',
        *RECEIPTS,
    ),
    mutant(
        "redeliver without moving the due",
        "redis",
        "lua/redeliver.lua",
        "    redis.call('ZADD', KEYS[1], now + ARGV[1] * 2 ^ doublings, id)\n",
        "",
        *RECEIPTS,
    ),
    mutant(
        "redeliver without moving the due",
        "postgres",
        "postgres_receipts.py",
        "deliveries = r.deliveries + 1,\n        at = {now} + %(seconds)s * "
        "power(2, least(r.deliveries - d.lost, %(doublings)s))",
        "deliveries = r.deliveries + 1",
        *RECEIPTS,
    ),
    # Begin that ignores running: a callback runs beside itself.
    mutant(
        "begin that ignores running",
        "memory",
        "memory_receipts.py",
        'if answer.running:\n                return "busy"',
        "pass",
        *RECEIPTS,
    ),
    mutant(
        "begin that ignores running",
        "sqlite",
        "sqlite_receipts.py",
        'if row == ("running",):',
        "if False:",
        *RECEIPTS,
    ),
    mutant(
        "begin that ignores running",
        "redis",
        "lua/begin.lua",
        "if redis.call('SADD', KEYS[2], ARGV[1]) == 0 then return 'busy' end",
        "redis.call('SADD', KEYS[2], ARGV[1])",
        *RECEIPTS,
    ),
    mutant(
        "begin that ignores running",
        "postgres",
        "postgres_receipts.py",
        " and f.state = 'waiting'",
        "",
        *RECEIPTS,
    ),
    # Confirm that leaves the row: what was delivered is delivered again.
    mutant(
        "confirm that leaves the row",
        "memory",
        "memory_receipts.py",
        "return self._forget(id, self._shelf.answers.pop(id, None))",
        "return self._forget(id, self._shelf.answers.get(id))",
        *RECEIPTS,
    ),
    mutant(
        "confirm that leaves the row",
        "sqlite",
        "sqlite_receipts.py",
        '"delete from patient_receipt where queue',
        '"update patient_receipt set at = at where queue',
        *RECEIPTS,
    ),
    mutant(
        "confirm that leaves the row",
        "redis",
        "lua/forget.lua",
        "found = redis.call('ZREM', KEYS[1], id)\n",
        "found = redis.call('ZSCORE', KEYS[1], id) and 1 or 0\n",
        *RECEIPTS,
    ),
    mutant(
        "confirm that leaves the row",
        "postgres",
        "postgres_receipts.py",
        "    delete from {receipt}\n",
        "    update {receipt} set at = at\n",
        *RECEIPTS,
    ),
    # The same of the machine alone, which knows no single sentence.
    mutant(
        "begin that ignores running, by the machine",
        "sqlite",
        "sqlite_receipts.py",
        'if row == ("running",):',
        "if False:",
        "tests/contract/test_store_machine.py",
    ),
    mutant(
        "redeliver without moving the due, by the machine",
        "redis",
        "lua/redeliver.lua",
        "    redis.call('ZADD', KEYS[1], now + ARGV[1] * 2 ^ doublings, id)\n",
        "",
        "tests/contract/test_store_machine.py",
    ),
    mutant(
        "confirm that leaves the row, by the machine",
        "postgres",
        "postgres_receipts.py",
        "    delete from {receipt}\n",
        "    update {receipt} set at = at\n",
        "tests/contract/test_store_machine.py",
    ),
    # An answer that takes its worker down is delivered for ever.
    mutant(
        "no end of deliveries",
        "sqlite",
        "sqlite_receipts.py",
        "if running and lost >= most:",
        "if False:",
        *RECEIPTS,
    ),
    mutant(
        "no end of deliveries",
        "postgres",
        "postgres_receipts.py",
        "state = 'waiting' or lost + 1 < %(most)s as again",
        "%(most)s > 0 as again",
        *RECEIPTS,
    ),
    # A long queue alone makes dead letters of answers that nobody has ever begun.
    mutant(
        "waiting counts as lost",
        "memory",
        "memory_receipts.py",
        "lost = answer.lost + answer.running\n        if answer.running and lost >= most:",
        "lost = answer.lost + 1\n        if lost >= most:",
        *RECEIPTS,
    ),
    mutant(
        "waiting counts as lost",
        "sqlite",
        "sqlite_receipts.py",
        "lost += running\n                if running and lost >= most:",
        "lost += 1\n                if lost >= most:",
        *RECEIPTS,
    ),
    mutant(
        "waiting counts as lost",
        "redis",
        "lua/redeliver.lua",
        "local running = redis.call('SISMEMBER', KEYS[2], id)",
        "local running = 1",
        *RECEIPTS,
    ),
    mutant(
        "waiting counts as lost",
        "postgres",
        "postgres_receipts.py",
        "state = 'waiting' or lost + 1 < %(most)s as again",
        "lost + 1 < %(most)s as again",
        *RECEIPTS,
    ),
    mutant(
        "lost runs are not counted",
        "redis",
        "lua/redeliver.lua",
        "    if lost[id] > 0 then redis.call('HSET', KEYS[7], id, lost[id]) end\n",
        "",
        *RECEIPTS,
    ),
    mutant(
        "lost runs are not counted",
        "postgres",
        "postgres_receipts.py",
        "lost = d.lost, deliveries",
        "deliveries",
        "tests/contract/test_store_machine.py",
    ),
    mutant(
        "a revived one is no better than before",
        "redis",
        "lua/revive.lua",
        "redis.call('HDEL', KEYS[6], id)\n",
        "",
        *RECEIPTS,
    ),
    # A long queue grows by a copy of each message every few minutes, for ever.
    mutant(
        "no doubling",
        "memory",
        "memory_receipts.py",
        "seconds * 2**doublings",
        "seconds",
        *RECEIPTS,
    ),
    mutant(
        "no end of doubling",
        "sqlite",
        "sqlite_receipts.py",
        "min(deliveries - lost, MOST_DOUBLINGS)",
        "(deliveries - lost)",
        *RECEIPTS,
    ),
    mutant(
        "no doubling",
        "redis",
        "lua/redeliver.lua",
        " * 2 ^ doublings",
        "",
        *RECEIPTS,
    ),
    mutant(
        "no end of doubling",
        "postgres",
        "postgres_receipts.py",
        "least(r.deliveries - d.lost, %(doublings)s)",
        "r.deliveries - d.lost",
        *RECEIPTS,
    ),
    # A worker that was taken for lost is trusted again, beside its successor.
    mutant(
        "extend what waits",
        "postgres",
        "postgres_receipts.py",
        "where queue = %(queue)s and id = %(id)s and state = 'running'\n",
        "where queue = %(queue)s and id = %(id)s\n",
        *RECEIPTS,
    ),
    # Killed between the two steps, a message is counted that was never sent.
    mutant(
        "redeliver in two steps",
        "sqlite",
        "sqlite_receipts.py",
        "deliveries + 1, lost)\n                    self._enqueue(",
        "deliveries + 1, lost)\n                    db.execute('commit')\n"
        "                    db.execute('begin immediate')\n                    self._enqueue(",
        CRASH,
    ),
    mutant(
        "counted before pushed",
        "redis",
        "lua/redeliver.lua",
        "for n, id in ipairs(again) do\n",
        "for _, id in ipairs(again) do redis.call('HINCRBY', KEYS[6], id, 1) end\n"
        "for n, id in ipairs(again) do\n",
        "tests/contract/test_redis_store.py",
    ),
    # The tombstone of an answer that is kept is forgotten: its request is accepted again.
    mutant(
        "tombstone forgotten while kept",
        "redis",
        "lua/settle.lua",
        "    redis.call('PERSIST', tomb)\n",
        "",
        "tests/contract/test_redis_store.py",
    ),
    mutant(
        "tombstone forgotten while kept",
        "sqlite",
        "sqlite_receipts.py",
        "        self._date_tomb(db, one.id, FAR_FUTURE)\n",
        "",
        "tests/contract/test_sqlite_store.py",
    ),
    mutant(
        "tombstone forgotten while kept",
        "postgres",
        "postgres_sql.py",
        "then {_NOW} else 'infinity' end",
        "then {_NOW} else {_NOW} end",
        "tests/contract/test_postgres_store.py",
    ),
    # An outbox that commits: the request is there although the application rolls back.
    mutant(
        "outbox that commits",
        "sqlite",
        "sqlite.py",
        '            if cursor.rowcount:\n                return "new"\n',
        "            connection.commit()\n"
        '            if cursor.rowcount:\n                return "new"\n',
        *OUTBOX,
    ),
    mutant(
        "outbox that commits",
        "postgres",
        "postgres_link.py",
        "            return cursor.execute(statement, params, prepare=False).fetchall()\n",
        "            rows = cursor.execute(statement, params, prepare=False).fetchall()\n"
        "            db.commit()\n            return rows\n",
        *OUTBOX,
    ),
    # An outbox that stores through a connection of its own: the same, the other way round.
    mutant(
        "outbox beside the transaction",
        "postgres",
        "postgres.py",
        "        [[stored]] = self._link.ask_within(connection, sql.submit_apart, params)\n",
        "        [[stored]] = self._ask(sql.submit_apart, id=id, sealed=sealed, due=due)\n",
        *OUTBOX,
    ),
    # Accepted into a database that nobody claims from.
    mutant(
        "outbox of another database",
        "sqlite",
        "sqlite_outbox.py",
        "if file_identity(theirs) != ours:",
        "if False:",
        *OUTBOX,
    ),
    mutant(
        "outbox of another database",
        "postgres",
        "postgres_outbox.py",
        "    return here == place[:3]\n",
        "    return True\n",
        *OUTBOX,
    ),
    # All others wait for the application's commit.
    mutant(
        "outbox that locks a counter",
        "postgres",
        "postgres_sql.py",
        '_SUBMIT.format(**{**names, "counted": _COUNTED_APART.format(**names)})',
        "_SUBMIT.format(**names)",
        *OUTBOX,
    ),
    # Reseal without compare-and-swap: what was sealed meanwhile is overwritten.
    mutant(
        "reseal without compare-and-swap",
        "memory",
        "memory.py",
        "if request is None or request.sealed != old:",
        "if request is None:",
        RESEAL,
    ),
    mutant(
        "reseal without compare-and-swap",
        "sqlite",
        "sqlite.py",
        "where queue = ? and id = ? and sealed = ?",
        "where queue = ? and id = ? and ? is not null",
        RESEAL,
    ),
    mutant(
        "reseal without compare-and-swap",
        "redis",
        "lua/reseal.lua",
        "if redis.call('HGET', KEYS[1], id) ~= ARGV[2] then return 0 end",
        "",
        RESEAL,
    ),
    mutant(
        "reseal without compare-and-swap",
        "postgres",
        "postgres_sql.py",
        "and sealed = %(old)s and answered_at is null",
        "and answered_at is null",
        RESEAL,
    ),
    # Consumers that crash before the threshold has passed never free what others held.
    mutant(
        "no coarse fallback",
        "owner",
        "../owner.py",
        "if seen.silent > max(COARSE_THRESHOLDS * threshold, COARSE_SECONDS):",
        "if False:",
        OWNER,
    ),
    # A jump of the database's clock kills the living.
    mutant(
        "coarse fallback at first sight",
        "owner",
        "../owner.py",
        "threshold = min(threshold, COARSE_BEATS * beat)",
        "threshold = 0.0",
        OWNER,
    ),
    # Whoever runs with other settings is reaped while it lives.
    mutant(
        "our threshold for all",
        "owner",
        "../owner.py",
        'max(self._threshold, _seconds(said, "orphan_threshold", 0.0))',
        "self._threshold",
        OWNER,
    ),
    mutant(
        "our beats for all",
        "owner",
        "../owner.py",
        '_seconds(said, "heartbeat_interval", threshold)',
        "self._threshold / 6",
        OWNER,
    ),
]


def killer_of(mutant: Mutant) -> str | None:
    """Return the first test that fails with ``mutant`` in place, or None."""
    with tempfile.TemporaryDirectory(prefix="patient-mutant-") as folder:
        for part in ("huey_patient", "tests", "pyproject.toml"):
            copy = shutil.copytree if (PROJECT / part).is_dir() else shutil.copy
            copy(PROJECT / part, Path(folder, part))
        for file, old, new in mutant.edits:
            path = Path(folder, STORES, file)
            path.write_text(path.read_text().replace(old, new))
        options = ["-x", "-q", "-p", "no:randomly", "-p", "no:cacheprovider", "--timeout", "40"]
        done = subprocess.run(
            [sys.executable, "-m", "pytest", *options, *mutant.tests, "-k", _selection(mutant)],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": folder, "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
        )
    if done.returncode == 0:
        return None
    found = re.search(r"^(?:FAILED|ERROR) (?:\S*/)?(\S+)", done.stdout, re.MULTILINE)
    if done.returncode != 1 or found is None:
        sys.exit(f"{mutant.name}, {mutant.kind}: the tests did not run\n{done.stdout}{done.stderr}")
    return found[1]


def _selection(mutant: Mutant) -> str:
    # A list queue is enough for Redis; the other kinds share the same scripts.
    others = {"redis": " and not priority and not expire"}.get(mutant.kind, "")
    return f"{mutant.kind}{others}"


def misplaced() -> list[str]:
    """What is to be replaced, and does not stand there just once."""
    return [
        f"{one.name}, {one.kind}: {file} has {found} times\n{old}"
        for one in MUTANTS
        for file, old, _ in one.edits
        if (found := (PROJECT / STORES / file).read_text().count(old)) != 1
    ]


def main(words: list[str]) -> int:
    if wrong := misplaced():
        sys.exit("\n".join(wrong))
    survivors = 0
    for one in MUTANTS:
        name = f"{one.name}, {one.kind}"
        if not all(word in name for word in words):
            continue
        killer = killer_of(one)
        survivors += killer is None
        print(f"{name:45} {killer or 'SURVIVED'}", flush=True)
    return survivors


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
