"""The judge of the soak: what grows is told from what warms up."""

from tests.proof.footprint import Footprint
from tests.proof.soak import Course


def course(*rss: int, descriptors: int = 100, afterwards: int = 20) -> Course:
    """Twenty samples of each memory size, in MiB."""
    seen = [Footprint(20_000, 20)] + [Footprint(size * 1024, descriptors) for size in rss for _ in range(20)]
    return Course("balancer", seen, Footprint(rss[-1] * 1024, afterwards))


def test_what_grows_in_the_first_quarter_and_stays_is_flat() -> None:
    assert course(40, 50, 50, 50).problems == []


def test_what_goes_on_growing_is_named() -> None:
    (problem,) = course(40, 50, 55, 60).problems
    assert problem == "balancer grew from 51200 to 61440 KiB"


def test_descriptors_that_stay_when_all_have_left_are_named() -> None:
    (problem,) = course(50, 50, 50, 50, afterwards=90).problems
    assert "keeps 90 descriptors" in problem
