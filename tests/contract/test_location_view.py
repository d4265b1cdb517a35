"""The body of `/v1/locate`, as one program writes it and another one reads it."""

import json

import pytest

from sessiond.contract.location_view import LocationView

VIEW = LocationView("0" * 32, "node1", ("node2",), 3, 7)


@pytest.mark.parametrize("version", [7, None])
def test_what_is_written_is_read_again(version):
    view = LocationView(VIEW.key, VIEW.primary, VIEW.backups, VIEW.epoch, version)
    assert LocationView.from_json(json.loads(json.dumps(view.to_json()))) == view


def test_a_reader_takes_what_it_knows():
    assert LocationView.from_json({**VIEW.to_json(), "since": 7}) == VIEW


@pytest.mark.parametrize(
    "change", [{"backups": None}, {"backups": "node2"}, {"epoch": "late"}, {"version": "new"}]
)
def test_what_is_no_location_view_is_refused(change):
    with pytest.raises((KeyError, TypeError, ValueError)):
        LocationView.from_json({**VIEW.to_json(), **change})


def test_a_field_that_is_missing_is_refused():
    body = VIEW.to_json()
    del body["version"]
    with pytest.raises(KeyError):
        LocationView.from_json(body)
