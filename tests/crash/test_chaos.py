"""The short form of ``make chaos``: real consumers, killed under load, and the books."""

import pytest
from chaos.balance import run
from chaos.databases import KINDS
from support import servers

pytestmark = pytest.mark.timeout(240)


@pytest.fixture(autouse=True)
def _servers_are_here():
    for name in ("redis-server", "postgres"):
        try:
            servers.binary(name)
        except FileNotFoundError as reason:
            servers.missing(str(reason))


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_lost_and_nothing_comes_twice_whatever_is_killed(kind):
    books = run(kind, seconds=6, seed=7)

    assert books.accepted > 0
    assert (books.lost, books.twice, books.alien, books.left_over) == (0, 0, 0, 0)


def test_settling_in_two_steps_loses_answers_so_the_books_can_tell():
    books = run("redis", seconds=8, seed=7, control=True)

    assert books.lost > 0
