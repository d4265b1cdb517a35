"""URLs of stores: what they choose, and what is said about those that choose nothing."""

import importlib

import pytest

from sessiond.errors import ConfigurationError, StoreUnavailable, StoreUnusable
from sessiond.stores import store_for
from sessiond.stores.choosing import BACKENDS
from sessiond.stores.url import StoreUrl
from tests.support.certificates import authority


@pytest.mark.parametrize(
    ("url", "kind", "shared"),
    [
        ("file:///var/lib/sessiond", "FileStore", False),
        ("file:///dir?size_max=512M&timeout_s=2.5", "FileStore", False),
        ("sqlite:///sessions.db", "SqliteStore", False),
        ("sqlite:////var/lib/sessions.db?timeout_s=1", "SqliteStore", False),
        ("postgresql://user:word@host:5432/shop?sslmode=require&pool_size=3", "PostgresqlStore", True),
        ("postgresql://host/shop", "PostgresqlStore", True),
        ("redis://host", "RedisStore", True),
        ("redis://:word@host:6379/2?prefix=shop:&timeout_s=1&pool_size=2", "RedisStore", True),
        ("rediss://host/0?ssl_ca_certs=/etc/ca.pem", "RedisStore", True),
    ],
)
async def test_the_scheme_chooses(url, kind, shared):
    store = store_for(url)
    assert type(store).__name__ == kind
    assert store.shared is shared
    await store.close()


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("", "begins with no scheme"),
        ("/var/lib/sessiond", "begins with no scheme"),
        ("mysql://host/db", "begins with mysql, which is no kind of store: write one like file:///var/lib"),
        ("file://", "names no directory"),
        ("file://var/lib", "names no directory: write file:///dir, with three slashes"),
        ("file:///dir?size_max=lots", "size_max=lots: write bytes, as in size_max=512M"),
        ("file:///dir?size_max=0", "size_max=0"),
        ("file:///dir?timeout_s=-1", "timeout_s=-1: write seconds, as in timeout_s=5"),
        ("file:///dir?timeout_s=inf", "timeout_s=inf"),
        ("file:///dir?timeout=5", "does not know: timeout; it knows size_max, timeout_s"),
        ("file:///dir?timeout_s=5&timeout_s=6", "gives timeout_s twice"),
        ("sqlite://sessions.db", "names no file: write sqlite:///name.db"),
        ("postgresql://host", "names no database"),
        ("postgresql://host/db?sslmode=maybe", "sslmode=maybe, which is none of disable, allow"),
        ("postgresql://host/db?pool_size=0", "pool_size=0: write a number of 1 or more"),
        ("postgresql://host:port/db", "cannot be read"),
        ("redis:///0", "names no host"),
        ("redis://host/0?ssl_ca_certs=/ca.pem", "does not know: ssl_ca_certs"),
    ],
)
def test_a_url_that_names_no_store_is_refused_with_the_way_out(url, told):
    with pytest.raises(ConfigurationError) as caught:
        store_for(url)
    assert told in str(caught.value)


def test_no_error_shows_a_password():
    with pytest.raises(ConfigurationError) as caught:
        store_for("postgresql://me:letmein@host/db?nonsense=1&password=letmein")
    assert "postgresql://me:***@host/db" in str(caught.value)
    assert "letmein" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://user:{}/word@host/db",
        "postgresql://user:{}[word@host/db",
        "postgresql://user:{}@[::1/db",
        "postgresql://user:word@{}/word@host/db",
        "postgresql://us/er:{}@host/db",
        "redis://:{}#word@host/0",
        "redis://:{}",
        "redis://user:{}?word@host/0",
        "redis://user:12?{}@host/0",
        "redis://user:12?{}=1&{}=2@host/0",
        "redis://user:12?timeout_s={}@host/0",
        "redis://:12?{}@host/0",
        "mysql://user:12/{}@host/db",
        "user:{}@host/db",
        "redis://user:{}@host:port/0",
        "redis://user:{}@ho℀st/0",
    ],
)
@pytest.mark.parametrize("password", ["letmein", "90210"])
def test_no_error_shows_a_part_of_a_password_that_breaks_the_url(url, password):
    with pytest.raises(ConfigurationError) as caught:
        store_for(url.replace("{}", password))
    assert password not in str(caught.value)


def test_the_text_of_a_url_shows_all_but_the_password():
    assert str(StoreUrl("redis://user:word@host:6379/0?prefix=x")) == "redis://user:***@host:6379/0"
    assert str(StoreUrl("redis://host:6379/0")) == "redis://host:6379/0"
    assert str(StoreUrl("file:///srv/@sessions")) == "file:///srv/@sessions"


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("postgresql://user:let/me/in@host/db", "its port is no number"),
        ("postgresql://user:let[mein@host/db", "its host is none"),
        ("redis://user:12/letmein@host/0", "it has an @ after its host"),
    ],
)
def test_a_url_that_a_password_may_have_cut_short_says_what_to_encode(url, reason):
    with pytest.raises(ConfigurationError, match=rf"{reason} \(percent-encode / \? # @ in the password"):
        store_for(url)


def test_a_password_may_hold_anything_percent_encoded():
    assert StoreUrl("redis://:a%2Fb%3Fc%23d%40e@host/0").parts.hostname == "host"
    assert StoreUrl("redis://host/0?prefix=a%40b").text("prefix", "") == "a@b"


@pytest.mark.parametrize(
    ("content", "reason"), [(None, "No such file"), ("", "no certificate"), ("no certificates", "")]
)
async def test_authorities_that_cannot_be_read_make_a_store_unusable_by_the_options_name(
    tmp_path, content, reason
):
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_text(content)
    store = store_for(f"rediss://:letmein@127.0.0.1:1/0?ssl_ca_certs={file}")
    with pytest.raises(StoreUnusable, match=f"ssl_ca_certs={file}.*{reason}") as caught:
        await store.open()
    await store.close()
    assert "letmein" not in str(caught.value)


async def test_with_authorities_that_can_be_read_the_server_is_looked_for(tmp_path):
    file = tmp_path / "ca.pem"
    authority().cert_pem.write_to_path(file)
    store = store_for(f"rediss://127.0.0.1:1/0?ssl_ca_certs={file}")
    with pytest.raises(StoreUnavailable, match=r"127\.0\.0\.1:1"):
        await store.open()
    await store.close()


@pytest.mark.parametrize("scheme", BACKENDS)
def test_a_missing_extra_is_named_with_the_command_that_installs_it(scheme, monkeypatch):
    backend = BACKENDS[scheme]
    real = importlib.import_module

    def without(name):
        if name == backend.libraries[-1]:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real(name)

    monkeypatch.setattr(importlib, "import_module", without)
    with pytest.raises(ConfigurationError) as caught:
        store_for(f"{scheme}:///x")
    assert f"needs {backend.libraries[-1]}" in str(caught.value)
    assert f"pip install 'sessiond[{backend.extra}]'" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "size"), [("17", 17), ("4K", 4096), ("2MiB", 2**21), ("3gb", 3 * 2**30), ("1T", 2**40)]
)
def test_sizes_have_units(text, size):
    assert StoreUrl(f"file:///x?size_max={text}").size("size_max", 1) == size
