"""What a commit carries by each granularity, and that one reads what the other wrote."""

import asyncio

import pytest
from structlog.testing import capture_logs

from sessiond.backend import WHOLE
from sessiond.errors import ChangesUndone, Conflict, SessionGone, SessionTooLarge, ValueNotStorable
from sessiond.session import Session, Sessions
from sessiond.settings import Settings
from sessiond.values import decode, encode, register
from sessiond.whole import pack, unpack
from tests.support.fake_backend import FakeNode

LIMIT = 1000


class School:
    def __init__(self, name: str) -> None:
        self.name = name


class Student:
    def __init__(self, school: School) -> None:
        self.school = school


register(School, "tests.granularity.school", lambda school: school.name, School)
register(Student, "tests.granularity.student", lambda student: [student.school], lambda p: Student(*p))


class Visits:
    """One stored session at a node, and requests of it by any granularity: each on a node of its own, as it were."""

    def __init__(self, **attributes: object) -> None:
        self.node = FakeNode(Settings(attribute_bytes_max=LIMIT))
        self.token, self.key = self.node.new_session(
            **{name: encode(name, value) for name, value in attributes.items()}
        )
        self._sessions: dict[tuple[str, str], Sessions] = {}

    def at(self, place: str, granularity: str) -> Sessions:
        if (place, granularity) not in self._sessions:
            self._sessions[place, granularity] = Sessions(self.node, self.node.keyring, granularity, LIMIT)
        return self._sessions[place, granularity]

    def by(self, granularity: str, *, at: str = "here") -> Session:
        """A request at a place that has decoded state of its own."""
        checkout = self.node.try_open(self.key)
        assert checkout is not None
        return self.at(at, granularity).attach(self.key, self.token, "node1", checkout)

    @property
    def stored(self) -> dict[str, object]:
        attributes = self.node.stored[self.key].attributes
        return {name: unpack(data) if name == WHOLE else decode(data) for name, data in attributes.items()}


async def done(session: Session) -> None:
    await session.settle()
    session.close()


# --- what a commit carries -----------------------------------------------------------------------------------


@pytest.mark.parametrize("granularity", ["dirty", "session"])
async def test_a_change_of_one_attribute_carries_the_whole_session(granularity):
    visits = Visits()
    session = visits.by(granularity)
    session["n"], session["cart"] = 1, ["mug"]
    await done(session)
    session = visits.by(granularity)
    session["n"] = 2
    await done(session)
    assert visits.node.committed[-1] == {WHOLE: pack({"n": 2, "cart": ["mug"]}, LIMIT)}
    session = visits.by(granularity)
    session["cart"].append("lamp")
    del session["n"]
    await done(session)
    assert visits.stored == {WHOLE: {"cart": ["mug", "lamp"]}}


@pytest.mark.parametrize(("granularity", "times"), [("attribute", 0), ("dirty", 0), ("session", 2)])
async def test_only_session_writes_after_a_request_that_changed_nothing(granularity, times):
    visits = Visits()
    session = visits.by(granularity)
    session["n"], session["cart"] = 1, ["mug"]
    await done(session)
    before = dict(visits.node.stored[visits.key].attributes)
    visits.node.committed.clear()
    await done(visits.by(granularity))
    session = visits.by(granularity)
    assert session["cart"] == ["mug"]
    await done(session)
    assert [changes for changes in visits.node.committed if changes] == [before] * times
    assert visits.node.stored[visits.key].attributes == before


@pytest.mark.parametrize("granularity", ["dirty", "session"])
async def test_a_session_that_loses_its_last_attribute_is_an_empty_one(granularity):
    visits = Visits(n=1)
    session = visits.by(granularity)
    del session["n"]
    await done(session)
    assert visits.stored == {}
    assert dict(visits.by(granularity)) == {}


@pytest.mark.parametrize("granularity", ["dirty", "session"])
async def test_a_visitor_who_stores_nothing_has_no_session(granularity):
    visits = Visits()
    session = visits.at("here", granularity).new()
    assert session.get("n") is None
    await session.settle()
    assert visits.node.committed == []
    assert session.key is None


async def test_a_repetition_does_not_undo_what_another_node_wrote_meanwhile():
    visits = Visits()
    session = visits.by("session")
    session["n"] = 1
    await done(session)
    reader = visits.by("session")
    assert reader["n"] == 1
    other = visits.by("session", at="there")
    other["n"] = 2
    await done(other)
    await done(reader)
    assert visits.stored == {WHOLE: {"n": 2}}


async def test_a_read_of_a_session_that_ended_meanwhile_is_no_error_and_a_write_is():
    visits = Visits(n=1)
    reader, writer = visits.by("session"), visits.by("session", at="there")
    assert reader["n"] == 1
    writer["n"] = 2
    del visits.node.stored[visits.key]
    await reader.settle()
    with pytest.raises(SessionGone):
        await writer.settle()


@pytest.mark.parametrize("granularity", ["dirty", "session"])
async def test_limits_and_values_that_cannot_be_stored_name_the_attribute(granularity):
    visits = Visits(n=1)
    session = visits.by(granularity)
    session["big"] = "x" * (LIMIT + 1)
    with pytest.raises(SessionTooLarge, match="'big'"):
        await session.settle()
    session["big"] = [object()]
    with pytest.raises(ValueNotStorable, match=r"big\[0\]"):
        await session.settle()
    del session["big"]
    session["n"] = 2
    await done(session)
    assert visits.stored == {WHOLE: {"n": 2}}


# --- shared objects -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("granularity", ["dirty", "session"])
@pytest.mark.parametrize("kind", ["plain", "registered"])
async def test_an_object_of_two_attributes_is_one_object_on_another_node(granularity, kind):
    visits = Visits()
    session = visits.by(granularity)
    if kind == "plain":
        school = session["school"] = {"name": "Old"}
        session["student"] = {"school": school}
    else:
        session["school"] = School("Old")
        session["student"] = Student(session["school"])
    with capture_logs() as logs:
        await done(session)
    assert logs == []
    session = visits.by(granularity, at="there")
    student, school = session["student"], session["school"]
    assert (student["school"] if kind == "plain" else student.school) is school


async def test_by_attribute_it_is_two_objects_and_that_is_reported_by_name_and_counted():
    visits = Visits()
    session = visits.by("attribute")
    session["school"] = School("Old")
    session["student"] = Student(session["school"])
    with capture_logs() as logs:
        await done(session)
    assert [(line["event"], line["attributes"]) for line in logs] == [
        ("session.shared_object", ["school", "student"])
    ]
    assert visits.at("here", "attribute").shared_objects.count == 1
    session = visits.by("attribute", at="there")
    assert session["student"].school is not session["school"]


async def test_objects_that_a_registered_type_makes_up_for_each_commit_are_not_taken_for_shared():
    class Pair:
        def __init__(self, *items: int) -> None:
            self.items = items

    register(Pair, "tests.granularity.pair", lambda pair: list(pair.items), lambda plain: Pair(*plain))
    visits = Visits()
    session = visits.by("attribute")
    for number in range(20):
        session[f"pair{number}"] = Pair(number, number)
    with capture_logs() as logs:
        await done(session)
    assert logs == []


# --- requests side by side ---------------------------------------------------------------------------------------


async def test_a_failed_request_takes_back_its_attributes_and_no_others():
    visits = Visits(n=1, cart=["mug"])
    failing, other = visits.by("dirty"), visits.by("dirty")
    failing["cart"].append("lamp")
    other["n"] = 2
    failing.undo()
    await done(other)
    assert visits.stored == {WHOLE: {"n": 2, "cart": ["mug"]}}


async def test_where_objects_are_shared_a_failed_request_takes_back_everything_and_others_hear_of_it():
    visits = Visits()
    session = visits.by("dirty")
    session["a"] = session["b"] = ["mug"]
    await done(session)
    failing, other = visits.by("dirty"), visits.by("dirty")
    failing["a"].append("lamp")
    other["c"] = 1
    failing.undo()
    with pytest.raises(Conflict, match="were undone"):
        await other.settle()
    assert visits.stored == {WHOLE: {"a": ["mug"], "b": ["mug"]}}
    assert other["a"] is other["b"]


async def test_what_another_node_wrote_joins_what_was_changed_here():
    visits = Visits(n=1, cart=["mug"], name="Ada", gone=1)
    here, there = visits.by("dirty"), visits.by("dirty", at="there")
    cart = here["cart"]
    there["n"] = 2
    there["new"] = 3
    del there["gone"]
    await done(there)
    cart.append("lamp")
    del here["name"]
    visits.by("dirty").close()  # a request brings the news
    await done(here)
    assert visits.stored == {WHOLE: {"n": 2, "cart": ["mug", "lamp"], "new": 3}}


async def test_where_objects_are_shared_the_changes_of_one_side_win_whole():
    visits = Visits()
    session = visits.by("dirty")
    session["a"] = session["b"] = ["mug"]
    await done(session)
    here, there = visits.by("dirty"), visits.by("dirty", at="there")
    shared = here["a"]
    there["n"] = 1
    await there.settle()
    shared.append("lamp")
    visits.by("dirty").close()
    await done(here)
    assert visits.stored == {WHOLE: {"a": ["mug", "lamp"], "b": ["mug", "lamp"]}}


async def test_where_objects_are_shared_and_nothing_was_changed_here_all_of_it_is_read_anew():
    visits = Visits()
    session = visits.by("dirty")
    session["a"] = session["b"] = ["mug"]
    await done(session)
    here, there = visits.by("dirty"), visits.by("dirty", at="there")
    assert here["a"] == ["mug"]
    there["a"].append("lamp")
    await done(there)
    visits.by("dirty").close()
    assert here["a"] == ["mug", "lamp"]
    assert here["a"] is here["b"]


async def test_a_conflict_takes_back_what_was_changed_and_shows_what_is_committed():
    visits = Visits()
    session = visits.by("dirty")
    session["a"] = session["b"] = ["mug"]
    await done(session)
    here, there = visits.by("dirty"), visits.by("dirty", at="there")
    version = here.version
    there["n"] = 1
    await done(there)
    here["a"].append("lamp")
    with pytest.raises(Conflict):
        await here.save(if_version=version)
    assert dict(here) == {"a": ["mug"], "b": ["mug"], "n": 1}


async def test_a_change_made_while_a_commit_runs_goes_with_the_next_one():
    visits = Visits(cart=["mug"])
    first, second = visits.by("dirty"), visits.by("dirty")
    first["cart"].append("lamp")
    with visits.node.held():
        committing = asyncio.create_task(first.settle())
        await visits.node.until_waiting()
        second["cart"].append("plant")
    await committing
    assert visits.stored == {WHOLE: {"cart": ["mug", "lamp"]}}
    await second.settle()
    assert visits.stored == {WHOLE: {"cart": ["mug", "lamp", "plant"]}}


async def test_where_objects_are_shared_a_change_inside_what_the_other_side_replaced_is_refused_and_not_lost():
    visits = Visits()
    session = visits.by("dirty")
    session["a"] = session["b"] = ["mug"]
    await done(session)
    here, there = visits.by("dirty"), visits.by("dirty", at="there")
    held = here["a"]
    there["c"] = 1
    await done(there)
    visits.by("dirty").close()  # a request brings the news
    held.append("lamp")
    with pytest.raises(ChangesUndone, match="written a since"):
        await here.settle()
    assert visits.stored == {WHOLE: {"a": ["mug"], "b": ["mug"], "c": 1}}


# --- one form and the other ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("granularity", ["dirty", "session"])
async def test_what_was_written_by_attribute_becomes_a_whole_at_the_next_write(granularity):
    visits = Visits(n=1, cart=["mug"])
    session = visits.by(granularity)
    assert dict(session) == {"n": 1, "cart": ["mug"]}
    session["n"] = 2
    await done(session)
    assert visits.stored == {WHOLE: {"n": 2, "cart": ["mug"]}}


async def test_a_read_alone_leaves_the_other_form_as_it_is_if_only_changes_are_written():
    visits = Visits(n=1, cart=["mug"])
    session = visits.by("dirty")
    assert session["cart"] == ["mug"]
    await done(session)
    assert visits.stored == {"n": 1, "cart": ["mug"]}


async def test_what_was_written_as_a_whole_is_taken_apart_at_the_next_write():
    visits = Visits(n=1, cart=["mug"], old=[])
    session = visits.by("dirty")
    session["n"] = 2
    await done(session)
    session = visits.by("attribute")
    assert dict(session) == {"n": 2, "cart": ["mug"], "old": []}
    assert "cart" in session
    await session.settle()
    assert set(visits.stored) == {WHOLE}, "nothing was changed"
    session["n"] = 3
    del session["old"]
    await session.settle()
    assert visits.stored == {"n": 3, "cart": ["mug"]}
    session["cart"].append("lamp")
    await done(session)
    assert visits.node.committed[-1] == {"cart": encode("cart", ["mug", "lamp"])}


@pytest.mark.parametrize("granularity", ["attribute", "dirty", "session"])
async def test_the_name_of_the_whole_is_no_attribute_whoever_asks_for_it(granularity):
    visits = Visits(n=1)
    session = visits.by("dirty")
    session["n"] = 2
    await done(session)
    session = visits.by(granularity)
    assert session.get("", "none") == "none"
    assert "" not in session
    for operation in (session.__getitem__, session.__delitem__, session.pop):
        with pytest.raises(KeyError):
            operation("")
    with pytest.raises(ValueError, match="must not be empty"):
        session[""] = 1
    assert dict(session) == {"n": 2}
    await done(session)
    assert visits.stored == {WHOLE: {"n": 2}}


async def test_an_attribute_deleted_unread_does_not_come_back_out_of_the_whole():
    visits = Visits(n=1)
    visits.node.stored[visits.key].attributes[WHOLE] = pack({"n": 0, "cart": []}, LIMIT)
    session = visits.by("attribute")
    del session["n"]
    await done(session)
    assert visits.stored == {"cart": []}


@pytest.mark.parametrize("granularity", ["attribute", "dirty", "session"])
async def test_where_both_forms_are_found_single_attributes_stand_above_the_whole(granularity):
    visits = Visits(n=5)
    visits.node.stored[visits.key].attributes[WHOLE] = pack({"n": 0, "cart": ["mug"]}, LIMIT)
    session = visits.by(granularity)
    assert dict(session) == {"n": 5, "cart": ["mug"]}
    session["cart"].append("lamp")
    await done(session)
    assert dict(visits.by(granularity, at="there")) == {"n": 5, "cart": ["mug", "lamp"]}
    assert len(visits.stored) == (2 if granularity == "attribute" else 1)
    assert (WHOLE in visits.stored) == (granularity != "attribute")


@pytest.mark.parametrize("granularity", ["attribute", "dirty", "session"])
@pytest.mark.parametrize("before", ["attribute", "dirty"])
async def test_a_rotated_session_is_in_the_form_of_the_node_that_rotates_it(granularity, before):
    visits = Visits()
    session = visits.by(before)
    session["n"], session["cart"] = 1, ["mug"]
    await done(session)
    session = visits.by(granularity, at="there")
    session["n"] = 2
    await session.rotate()
    session["cart"].append("lamp")
    await session.settle()
    stored = visits.node.stored[bytes.fromhex(session.key)].attributes
    assert (WHOLE in stored) == (granularity != "attribute")
    assert dict(session) == {"n": 2, "cart": ["mug", "lamp"]}
    session.close()


# --- who waits ----------------------------------------------------------------------------------------------------


async def test_save_and_rotation_wait_whatever_the_settings_and_the_end_of_a_request_does_not():
    visits = Visits(n=1)
    session = visits.by("attribute")
    session["n"] = 2
    await session.save()
    session["n"] = 3
    await session.settle()
    session["n"] = 4
    await session.rotate()
    session.close()
    assert visits.node.flushed == [True, False, True]
