"""Run by a test: submits in greenlets, carries in a native thread, all monkey-patched."""

import gevent.monkey

gevent.monkey.patch_all()

import sys  # noqa: E402
from pathlib import Path  # noqa: E402
from types import SimpleNamespace  # noqa: E402

import gevent  # noqa: E402
from support.backends import open_backend  # noqa: E402

from huey_patient.stores.base import Settlement  # noqa: E402

start_native_thread = gevent.monkey.get_original("_thread", "start_new_thread")
NativeLock = gevent.monkey.get_original("_thread", "allocate_lock")


def main(kind: str, where: str) -> None:
    resource = SimpleNamespace(port=int(where)) if where.isdigit() else Path(where)
    backend = open_backend(kind, resource)
    store = backend.store
    store.register("courier", b"")
    finished = []
    submitted, over = NativeLock(), NativeLock()
    submitted.acquire()
    over.acquire()

    def courier() -> None:
        settled = 0
        while settled < 60:
            leases = store.claim("courier", "fresh", 16)
            answers = [Settlement(id=x.id, epoch=x.epoch, message=x.id.encode()) for x in leases]
            settled += store.settle("courier", answers).count("ok")
            if not leases:
                store.wait(0.2)
        submitted.acquire()  # A greenlet may still wait for its last reply.
        store.close()
        finished.append(settled)
        over.release()

    def app(n: int) -> None:
        for i in range(6):
            store.submit(f"r{n}-{i}", b"x")
            gevent.sleep(0)

    # Two threads making gevent's very first hub at once wait for each other's import.
    gevent.get_hub()
    start_native_thread(courier, ())
    gevent.joinall([gevent.spawn(app, n) for n in range(10)], raise_error=True)
    submitted.release()
    while not over.acquire(False):
        gevent.sleep(0.01)
    answered = len(set(backend.queued()))
    backend.close()
    print(answered, "answered")


main(*sys.argv[1:])
