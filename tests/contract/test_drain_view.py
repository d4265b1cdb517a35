"""The body of `/v1/drain`, as one program writes it and another one reads it."""

import json

import pytest

from sessiond.contract.cluster_view import MemberState
from sessiond.contract.drain_view import DrainView

VIEW = DrainView("node1", MemberState.DRAINING, 3, 4, 5, 6, safe_to_stop=False, hindrance="no other node")


def test_what_is_written_is_read_again():
    assert DrainView.from_json(json.loads(json.dumps(VIEW.to_json()))) == VIEW


def test_copies_of_every_role_count():
    assert VIEW.copies == 12


def test_a_reader_takes_what_it_knows():
    assert DrainView.from_json({**VIEW.to_json(), "since": 7}) == VIEW


@pytest.mark.parametrize("change", [{"state": "gone"}, {"primaries": "many"}, {"primaries": None}])
def test_what_is_no_drain_view_is_refused(change):
    with pytest.raises((KeyError, TypeError, ValueError)):
        DrainView.from_json({**VIEW.to_json(), **change})


def test_a_field_that_is_missing_is_refused():
    body = VIEW.to_json()
    del body["safe_to_stop"]
    with pytest.raises(KeyError):
        DrainView.from_json(body)
