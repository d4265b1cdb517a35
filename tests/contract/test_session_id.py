"""Session ids: made by us or refused, the same everywhere, and useless to who reads a log."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessiond.contract.names import NODE_NAME
from sessiond.contract.session_id import KEY_BYTES, TOKEN_CHARS, Keyring, SessionId, derive, join, split

SECRET = b"a secret of the cluster"
RANDOM = bytes(range(16))

randoms = st.binary(min_size=16, max_size=16)
node_names = st.from_regex(NODE_NAME, fullmatch=True)


@given(randoms, node_names)
def test_an_id_that_was_made_is_taken_apart_and_verified_again(random_bytes: bytes, node: str) -> None:
    keyring = Keyring([SECRET], "test")
    token = keyring.new_token(random_bytes)
    assert len(token) == TOKEN_CHARS
    assert split(join(token, node)) == SessionId(token, node)
    key = keyring.key_of(token)
    assert key is not None
    assert len(key) == KEY_BYTES


def test_tokens_and_keys_are_the_same_on_every_node_and_in_every_version() -> None:
    # Written down: a change of these makes every cookie in every browser worthless.
    keyring = Keyring([SECRET], "test")
    token = keyring.new_token(RANDOM)
    key = keyring.key_of(token)
    assert key is not None
    assert token == "AAECAwQFBgcICQoLDA0OD22HnHgb"
    assert key.hex() == "f1b5b44cf5d904a40c578d6969f73186"


@given(randoms, st.integers(0, TOKEN_CHARS - 1), st.characters(codec="ascii"))
def test_a_token_with_one_character_changed_is_refused(random_bytes: bytes, at: int, other: str) -> None:
    keyring = Keyring([SECRET], "test")
    token = keyring.new_token(random_bytes)
    forged = token[:at] + other + token[at + 1 :]
    assert (keyring.key_of(forged) is None) == (forged != token)


@given(st.text(max_size=40))
def test_whatever_a_browser_sends_is_an_id_of_ours_or_none(text: str) -> None:
    assert Keyring([SECRET], "test").key_of(text) is None
    taken = split(text)
    assert taken is None or join(*taken) == text


@pytest.mark.parametrize(
    "value",
    [
        "",
        ".",
        "x" * TOKEN_CHARS,
        "x" * TOKEN_CHARS + ".",
        "x" * (TOKEN_CHARS - 1) + ".node1",
        "x" * (TOKEN_CHARS + 1) + ".node1",
        "x" * TOKEN_CHARS + "..node1",
        "x" * TOKEN_CHARS + ".-node",
        "x" * TOKEN_CHARS + ".node.1",
        "x" * TOKEN_CHARS + ".node1\n",
        "x" * TOKEN_CHARS + ".no de",
        "x" * TOKEN_CHARS + "." + "n" * 64,
        "x" * TOKEN_CHARS + ".nöde",
    ],
)
def test_a_value_without_the_shape_of_an_id_is_not_taken_apart(value: str) -> None:
    assert split(value) is None


@pytest.mark.parametrize(
    "token",
    [
        "+" * TOKEN_CHARS,
        "/" * TOKEN_CHARS,
        "=" * TOKEN_CHARS,
        "é" * TOKEN_CHARS,
        "\n" * TOKEN_CHARS,
        "A" * (TOKEN_CHARS - 1),
        "A" * (TOKEN_CHARS + 4),
    ],
)
def test_a_token_in_another_alphabet_or_of_another_length_is_refused(token: str) -> None:
    assert Keyring([SECRET], "test").key_of(token) is None


def test_a_token_of_another_cluster_is_refused() -> None:
    token = Keyring([b"another secret"], "test").new_token(RANDOM)
    assert Keyring([SECRET], "test").key_of(token) is None


def test_a_change_of_secret_ends_no_session_before_its_time() -> None:
    old, new = b"old", b"new"
    before = Keyring([old], "test")
    token = before.new_token(RANDOM)
    during = Keyring([new, old], "test")
    after = Keyring([new], "test")
    assert during.key_of(token) == before.key_of(token)
    assert after.key_of(token) is None
    fresh = during.new_token(RANDOM)
    assert after.key_of(fresh) == during.key_of(fresh)
    assert before.key_of(fresh) is None


def test_without_a_secret_the_cluster_name_makes_the_ids() -> None:
    token = Keyring([], "one").new_token(RANDOM)
    assert Keyring([], "one").key_of(token) is not None
    assert Keyring([], "other").key_of(token) is None


def test_a_key_tells_nothing_of_its_token() -> None:
    keyring = Keyring([SECRET], "test")
    token = keyring.new_token(RANDOM)
    key = keyring.key_of(token)
    assert key is not None
    assert key != RANDOM
    assert keyring.key_of(key.hex()[:TOKEN_CHARS]) is None


def test_keys_for_different_purposes_differ() -> None:
    assert len({derive(SECRET, "token mac"), derive(SECRET, "key hash"), derive(b"x", "key hash")}) == 3
    assert len(derive(SECRET, "any")) == 32


@pytest.mark.parametrize("length", [0, 15, 17])
def test_a_token_is_made_of_exactly_sixteen_random_bytes(length: int) -> None:
    with pytest.raises(ValueError, match="16 random bytes"):
        Keyring([SECRET], "test").new_token(b"x" * length)
