"""Who may give orders through a browser: the balancer's own page, at a name that nobody else can take."""

import pytest

from balancer.admin.cross_site import objection


def order(**headers: str) -> dict[str, str]:
    """Header fields; names are written with _ for -."""
    return {name.replace("_", "-"): value for name, value in headers.items()}


OURS = "http://127.0.0.1:8090"


@pytest.mark.parametrize(
    "headers",
    [
        order(Host="127.0.0.1:8090"),  # a program
        order(Host="127.0.0.1:8090", Origin=OURS, Sec_Fetch_Site="same-origin"),
        order(Host="127.0.0.1:8090", Origin=OURS),  # an older browser
        order(Host="localhost:8090", Origin="http://localhost:8090"),
        order(Host="[::1]:8090", Origin="http://[::1]:8090"),
        order(Host="balancer.site:8090"),  # a program that knows it by name
    ],
)
def test_our_page_and_programs_may(headers: dict[str, str]) -> None:
    assert objection(headers, has_token=False) is None


@pytest.mark.parametrize(
    "headers",
    [
        order(Host="127.0.0.1:8090", Origin="http://evil.site"),
        order(Host="127.0.0.1:8090", Origin="http://127.0.0.1:8080"),  # the site behind the balancer
        order(Host="127.0.0.1:8090", Origin="null"),  # a sandboxed frame, a file
        order(Host="127.0.0.1:8090", Origin="http://[broken"),
        order(Host="127.0.0.1:8090", Origin=OURS, Sec_Fetch_Site="cross-site"),
        order(Host="127.0.0.1:8090", Origin=OURS, Sec_Fetch_Site="same-site"),
    ],
)
@pytest.mark.parametrize("has_token", [True, False])
def test_pages_from_elsewhere_may_not_whatever_password_the_browser_knows(
    headers: dict[str, str], *, has_token: bool
) -> None:
    assert objection(headers, has_token=has_token) is not None


def test_a_name_that_could_be_pointed_here_by_anybody_is_believed_with_a_token_only() -> None:
    headers = order(Host="evil.site:8090", Origin="http://evil.site:8090", Sec_Fetch_Site="same-origin")
    assert "evil.site" in (objection(headers, has_token=False) or "")
    assert objection(headers, has_token=True) is None
