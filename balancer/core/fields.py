"""Finding fields in a head: one regular expression over the bytes, instead of a call for each field.

Only for heads that llhttp has approved: then every line ends with CRLF, no line is folded, and a name reaches from
a line's start to its colon, so that the expression cannot read anything else than llhttp did.
"""

import itertools
import re
from collections.abc import Callable, Iterable

Fields = dict[bytes, bytes]
"""Values by name in lower case. Those of one name are joined as RFC 9110, 5.3 says; where a field must be single,
the comma makes the value malformed."""


def finder(names: Iterable[bytes], loose: Iterable[bytes] = ()) -> Callable[[bytes], Fields]:
    """A function that returns the fields of a head that have these names (given in lower case).

    The `loose` ones are also found with underscores for hyphens, under the name as it was spelled.
    """
    exact = [re.escape(name) for name in names]
    mixed = [re.escape(name).replace(rb"\-", rb"[-_]") for name in loose]
    initials = {name[:1] for name in (*exact, *mixed)}
    letters = b"".join(sorted(initials | {letter.upper() for letter in initials}))
    # Few lines begin with one of the letters, so that most are passed over in a step.
    field = re.compile(
        rb"\r\n(?=[" + letters + rb"])(?i:(" + b"|".join(exact + mixed) + rb")):[ \t]*([^\r]*)"
    )

    def find(head: bytes) -> Fields:
        fields: Fields = {}
        for spelled, padded in field.findall(head):
            name, value = spelled.lower(), padded.rstrip(b" \t")
            if name not in fields:
                fields[name] = value
            else:
                fields[name] += (b"; " if name == b"cookie" else b", ") + value
        return fields

    return find


def spellings(*names: bytes) -> frozenset[bytes]:
    """The names with every mix of hyphens and underscores: CGI and WSGI take one for the other."""
    parts = [name.split(b"-") for name in names]
    return frozenset(
        b"".join(itertools.chain.from_iterable(zip(words, (*seams, b""), strict=True)))
        for words in parts
        for seams in itertools.product((b"-", b"_"), repeat=len(words) - 1)
    )
