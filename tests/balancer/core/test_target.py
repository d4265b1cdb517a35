"""Which targets mean the nodes' own paths, and what becomes of the other forms of targets."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.core.framing import Refused
from balancer.core.target import Target, interpret, is_internal


@pytest.mark.parametrize(
    "path",
    [
        b"/_sessiond", b"/_sessiond/", b"/_sessiond/health", b"//_sessiond/", b"/%5F%73essiond/", b"/%255fsessiond",
        b"/%25255fsessiond", b"/a/../_sessiond", b"/a/..%2f_sessiond", b"/a/..%5c_sessiond", b"/./%2e/_sessiond", b"/_sessiond/..",
        b"/_sessiond;x=y/health", b"/_Sessiond/", b"/..//_sessiond", b"/a/b/../../_sessiond/x", b"/%2525252525255fsessiond",
        b"//x/_sessiond/health", b"///x:80/_sessiond", b"/%2fx/%5fsessiond/", b"/\\x/_sessiond/", b"//x/a/../_sessiond",
    ],
)  # fmt: skip
def test_every_way_to_the_nodes_own_paths_is_seen(path: bytes) -> None:
    assert is_internal(path)
    assert is_internal(path + b"?a=b")


@pytest.mark.parametrize(
    "path",
    [b"/", b"*", b"/a", b"/_sessiondx", b"/a/_sessiond/health", b"/?/_sessiond/", b"/%20/%7e", b"/a/..", b"/x_sessiond/", b"/%",
     b"//x/a/_sessiond/", b"//_sessiondx/%61", b"//%61"],
)  # fmt: skip
def test_other_paths_are_left_alone(path: bytes) -> None:
    assert not is_internal(path)


@given(st.data())
def test_encoding_any_letters_does_not_hide_the_path(data: st.DataObject) -> None:
    encoded = b"".join(
        b"%%%02x" % letter if data.draw(st.booleans()) else bytes([letter]) for letter in b"_sessiond/health"
    )
    assert is_internal(b"/" + encoded)


@pytest.mark.parametrize(
    ("method", "target", "expected"),
    [
        (b"GET", b"/a?b", Target(b"/a?b", None)),
        (b"OPTIONS", b"*", Target(b"*", None)),
        (b"GET", b"http://a.example", Target(b"/", b"a.example")),
        (b"GET", b"HTTP://a:81/b?c", Target(b"/b?c", b"a:81")),
        (b"GET", b"https://[::1]:8443?x", Target(b"/?x", b"[::1]:8443")),
        (b"OPTIONS", b"http://a", Target(b"*", b"a")),
    ],
)
def test_targets_travel_in_origin_form(method: bytes, target: bytes, expected: Target) -> None:
    assert interpret(method, target) == expected


@pytest.mark.parametrize(
    "target", [b"a", b"a:80", b"ftp://a", b"http://", b"http://a b/", b"http://u:p@a/", b"*", b"http://a,b/"]
)
def test_other_targets_are_refused(target: bytes) -> None:
    with pytest.raises(Refused) as caught:
        interpret(b"GET", target)
    assert caught.value.status == 400
