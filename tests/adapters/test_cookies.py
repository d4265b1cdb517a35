"""The session cookie is found among anything, believed only if it verifies, and set as configured."""

import pytest

from sessiond.adapters.cookies import CANDIDATES_MAX, HEADER_CHARS_KEPT_MAX, SessionCookie, values_of
from sessiond.contract.session_id import Keyring
from sessiond.settings import Settings

RING = Keyring([b"0123456789abcdef"], "default")
TOKEN = RING.new_token(b"a" * 16)
OTHER = RING.new_token(b"b" * 16)
FOREIGN = Keyring([b"fedcba9876543210"], "default").new_token(b"a" * 16)


def cookie(**settings: object) -> SessionCookie:
    return SessionCookie(Settings(name="node1", **settings), RING)


@pytest.mark.parametrize(
    ("header", "values"),
    [
        ("SID=a", ["a"]),
        ("x=1; SID=a; y=2; SID=b", ["a", "b"]),
        ("x=1;SID=a;;  ; =5; SID", ["a"]),
        ('SID="a"', ["a"]),
        (" SID = a ", ["a"]),
        ("XSID=a; SIDX=b; sid=c", []),
        ("x=SID=a", []),
        ("SID=a=b", ["a=b"]),
        ("SID=", [""]),
        ("", []),
        ("\x00\udcff; SID=a", ["a"]),
    ],
)
def test_the_cookie_header_is_read_tolerantly(header, values):
    assert list(values_of(header, "SID")) == values


def test_a_verified_cookie_gives_token_route_and_key():
    presented = cookie().find([f"lang=de; SESSIONID={TOKEN}.node7"])
    assert presented == (TOKEN, "node7", RING.key_of(TOKEN))


@pytest.mark.parametrize(
    "value",
    [
        "",
        "node1",
        f"{FOREIGN}.node1",
        TOKEN,
        f"{TOKEN}.",
        f"{TOKEN}.no.de",
        f"x{TOKEN}.node1",
        f"{TOKEN[:-1]}.node1",
    ],
)
def test_what_this_cluster_did_not_make_is_no_session(value):
    assert cookie().find([f"SESSIONID={value}"]) is None


def test_of_several_cookies_the_first_that_verifies_counts():
    header = f"SESSIONID=junk; SESSIONID={FOREIGN}.node1; SESSIONID={TOKEN}.node2; SESSIONID={OTHER}.node3"
    presented = cookie().find([header])
    assert presented is not None
    assert presented.token == TOKEN


def test_several_cookie_headers_are_one():
    presented = cookie().find(["a=b", f"SESSIONID={FOREIGN}.node1", f"SESSIONID={TOKEN}.node2"])
    assert presented is not None
    assert presented.token == TOKEN


def test_a_header_too_long_to_be_remembered_is_read_all_the_same():
    padding = "x" * HEADER_CHARS_KEPT_MAX
    for _ in range(2):
        assert cookie().find([f"pad={padding}; SESSIONID={TOKEN}.node1"]) is not None


def test_a_flood_of_forged_cookies_is_given_up():
    forged = f"SESSIONID={FOREIGN}.node1; "
    assert cookie().find([forged * (CANDIDATES_MAX - 1) + f"SESSIONID={TOKEN}.node1"]) is not None
    assert cookie().find([forged * CANDIDATES_MAX + f"SESSIONID={TOKEN}.node1"]) is None


def test_the_name_is_a_setting():
    assert cookie(cookie_name="__Host-id", cookie_secure=True).find([f"__Host-id={TOKEN}.node1"]) is not None
    assert cookie(cookie_name="other").find([f"SESSIONID={TOKEN}.node1"]) is None


@pytest.mark.parametrize(
    ("settings", "header"),
    [
        ({}, f"SESSIONID={TOKEN}.node1; Path=/; HttpOnly; SameSite=Lax"),
        (
            {"cookie_name": "__Host-id", "cookie_secure": True, "cookie_max_age_s": 60},
            f"__Host-id={TOKEN}.node1; Path=/; HttpOnly; SameSite=Lax; Secure; Max-Age=60",
        ),
    ],
)
def test_the_cookie_is_set_as_configured(settings, header):
    assert cookie(**settings).answer(TOKEN, ended=False) == header


def test_an_ended_session_clears_the_cookie_under_the_same_attributes():
    cleared = cookie(cookie_secure=True, cookie_max_age_s=60).answer(None, ended=True)
    assert cleared == "SESSIONID=; Max-Age=0; Path=/; HttpOnly; SameSite=Lax; Secure"


def test_no_session_sets_no_cookie():
    assert cookie().answer(None, ended=False) is None
