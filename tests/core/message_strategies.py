"""Hypothesis strategies for every kind of message."""

from typing import get_args

from hypothesis import strategies as st

from sessiond.core import messages as m
from sessiond.core.codec import DIGESTS_BYTES
from sessiond.core.directory import BUCKETS, GROUPS
from sessiond.core.types import Attribute, Life, Location, Stamp, Term

KINDS: tuple[type, ...] = get_args(m.Message)

uints = st.integers(0, 2**63 - 1)
seconds = st.floats(0, 1e9, allow_nan=False)
keys = st.binary(min_size=16, max_size=16)
names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}", fullmatch=True)
texts = st.text(max_size=40)
lives = st.builds(Life, names, uints)
terms = st.builds(Term, uints, lives)
stamps = st.builds(Stamp, terms, uints)
life_lists = st.lists(lives, max_size=4).map(tuple)
locations = st.builds(Location, terms, uints, life_lists, st.booleans())
entries = st.lists(st.tuples(keys, locations), max_size=4).map(tuple)
digests = st.binary(min_size=DIGESTS_BYTES, max_size=DIGESTS_BYTES)
attribute_names = st.text(min_size=1, max_size=60)
values = st.none() | st.binary(max_size=60)
changes = st.dictionaries(attribute_names, values, max_size=5)
copies = st.builds(
    m.CopyData,
    st.dictionaries(attribute_names, st.builds(Attribute, values, stamps), max_size=5),
    uints,
    stamps,
    st.booleans(),
    seconds,
    seconds,
    st.lists(st.binary(max_size=16), max_size=3).map(tuple),
    st.none() | st.tuples(keys, seconds),
)
statuses = st.builds(m.Status, st.booleans(), st.booleans(), st.booleans(), uints, uints, uints)
rumours = st.lists(st.builds(m.Rumour, lives, uints, life_lists), max_size=3).map(tuple)
held = st.builds(m.Held, st.sampled_from("PBQ"), terms, uints, life_lists, stamps)
votes = st.builds(m.Vote, lives, names, seconds, st.booleans())
acquaintances = st.builds(m.Acquaintance, lives, texts)

FIELDS: dict[type, tuple[st.SearchStrategy, ...]] = {
    m.Ping: (uints, statuses, rumours),
    m.Pong: (uints, statuses, rumours),
    m.PingRequest: (uints, lives),
    m.Relayed: (uints, lives, st.booleans()),
    m.Vote: (lives, names, seconds, st.booleans()),
    m.Leave: (lives,),
    m.Roll: (st.lists(names, max_size=3).map(tuple), st.lists(votes, max_size=3).map(tuple)),
    m.LeaseAsk: (uints,),
    m.LeaseAnswer: (uints, uints),
    m.StandingAsk: (),
    m.StandingAnswer: (st.booleans(),),
    m.SnapshotRequest: (uints,),
    m.Snapshot: (
        entries,
        st.booleans(),
        st.lists(acquaintances, max_size=3).map(tuple),
        life_lists,
        uints,
        uints,
    ),
    m.Locations: (entries,),
    m.Denied: (st.lists(st.tuples(keys, terms, uints), max_size=4).map(tuple),),
    m.Digest: (st.none() | st.integers(0, GROUPS - 1), digests),
    m.Dir: (st.integers(0, BUCKETS - 1), entries, st.booleans()),
    m.Aliases: (st.lists(st.tuples(keys, keys, seconds), max_size=4).map(tuple),),
    m.Put: (keys, terms, uints, life_lists, copies),
    m.Patch: (
        keys,
        terms,
        uints,
        st.none() | terms,
        uints,
        uints,
        changes,
        st.none() | st.binary(max_size=16),
    ),
    m.Ack: (uints,),
    m.Nack: (uints,),
    m.Gap: (keys, terms),
    m.Fenced: (keys, locations),
    m.Release: (keys, terms, uints),
    m.Released: (keys, terms, uints),
    m.Confirm: (keys, terms, uints, stamps),
    m.Resigned: (keys, terms),
    m.Touch: (st.lists(st.tuples(keys, seconds), max_size=4).map(tuple),),
    m.Forward: (keys, st.binary(max_size=16), changes, st.none() | uints, st.booleans(), st.none() | keys),
    m.ForwardResult: (st.binary(max_size=16), texts, uints, st.booleans(), texts),
    m.Who: (keys, uints),
    m.Here: (keys, uints, st.none() | held, st.none() | locations, st.booleans(), st.booleans()),
    m.Claim: (keys, lives, st.none() | terms, st.none() | terms, uints, st.none() | locations),
    m.Grant: (keys, terms, life_lists, copies),
    m.Refer: (keys, st.none() | locations, st.booleans(), uints),
    m.Offer: (keys, terms, copies),
    m.OfferOk: (keys,),
}


def of_kind(kind: type) -> st.SearchStrategy:
    """Messages of one kind."""
    return st.builds(kind, *FIELDS[kind])


any_message = st.sampled_from([kind for kind in KINDS if kind in FIELDS]).flatmap(of_kind)
