"""Run chaos over one or all databases and print the balance."""

from __future__ import annotations

import argparse
import sys

from .balance import Books, run
from .databases import KINDS

#: The control loses something within seconds; more of it would prove no more.
CONTROL_SECONDS = 60.0
HEAD = f"{'store':16}{'kills':>7}{'accepted':>10}{'answered':>10}" + "".join(
    f"{name:>7}" for name in ("lost", "twice", "alien", "left", "sent+")
)


def row(name: str, books: Books) -> str:
    kills = sum(books.done.values())
    return f"{name:16}{kills:7}{books.accepted:10}{books.answered:10}" + "".join(
        f"{count:7}"
        for count in (books.lost, books.twice, books.alien, books.left_over, books.sent_again)
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="chaos", description=__doc__)
    parser.add_argument("--seconds", type=float, default=20.0, help="of chaos, for each store")
    parser.add_argument("--store", choices=[*KINDS, "all"], default="all")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--no-control", action="store_true", help="leave out the two-step control")
    options = parser.parse_args()
    kinds = list(KINDS) if options.store == "all" else [options.store]
    print(HEAD)
    good = True
    for kind in kinds:
        books = run(kind, seconds=options.seconds, seed=options.seed)
        print(row(kind, books), flush=True)
        good = good and books.balance
        if not options.no_control:
            seconds = min(options.seconds, CONTROL_SECONDS)
            control = run(kind, seconds=seconds, seed=options.seed, control=True)
            print(row("  in two steps", control), flush=True)
            good = good and not control.balance
    print("the books balance" if good else "THE BOOKS DO NOT BALANCE")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
