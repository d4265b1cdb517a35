"""The queue of sessions to be mended: first come, first served, and of what was found together the hottest first."""

from sessiond.core.aftermath import Backlog, Finds, Sweep
from sessiond.core.copies import Copy, CopyStore, Role
from sessiond.core.types import Life, Term

TERM = Term(1, Life("node1", 1))


def copy_of(name: bytes, used_at: float) -> Copy:
    copy = Copy(name, Role.PRIMARY, TERM, 0.0)
    copy.accessed_at = used_at
    return copy


def taken(backlog: Backlog) -> list[bytes]:
    return [backlog.popleft() for _ in range(len(backlog))]


def test_what_was_used_last_comes_first():
    finds = Finds()
    for name, used_at in ((b"cold", 0.0), (b"warm", 90.0), (b"hot", 99.5), (b"hot too", 100.0)):
        finds.add(copy_of(name, used_at), 100.0)
    backlog = Backlog()
    backlog.extend(finds)
    assert len(backlog) == finds.count == 4
    assert taken(backlog) == [b"hot", b"hot too", b"warm", b"cold"]


def test_finds_queue_behind_what_waits_and_before_what_comes_later():
    first, second = Finds(), Finds()
    first.add(copy_of(b"2", 0.0), 0.0)
    second.add(copy_of(b"4", 0.0), 0.0)
    backlog = Backlog()
    backlog.append(b"1")
    backlog.extend(first)
    backlog.append(b"3")
    backlog.extend(Finds())
    backlog.extend(second)
    assert taken(backlog) == [b"1", b"2", b"3", b"4"]
    assert not backlog
    backlog.append(b"5")
    assert taken(backlog) == [b"5"]


def test_a_sweep_looks_at_all_copies_in_slices_as_they_are_then():
    copies = CopyStore()
    for number in range(5000):
        copies.put(copy_of(number.to_bytes(16), 0.0))
    finds = Finds()
    sweep = Sweep(copies, lambda copy: finds)
    assert not sweep.go_on(0.0)
    seen = finds.count
    assert 0 < seen < 5000
    assert sweep.unseen == 5000 - seen
    copies.remove((4999).to_bytes(16))
    while not sweep.go_on(0.0):
        pass
    assert sweep.unseen == 0
    assert finds.count == 4999
