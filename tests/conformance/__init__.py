"""Conformance of the balancer, judged by sources other than its own code.

    make conformance         all of it, a few minutes; the figures stand at the end of the output
    make proof-tagged        a million tagged requests

| what                       | where                   | who wrote the expectation                              |
|----------------------------|-------------------------|--------------------------------------------------------|
| messages of llhttp's tests | llhttp/                 | llhttp's authors; exceptions listed with their clause  |
| smuggling payloads         | payloads/, smuggling/   | RFC 9112 and 9110, clause by clause                    |
| fuzzed messages            | fuzz/                   | h11, and the rule that no split changes a verdict      |
| WebSockets                 | websockets/             | the websockets library and the Autobahn suite          |
| transport                  | transport/              | RFC 9112, played by Debian's varnishtest               |
| tagged requests            | tagged/                 | each answer names the request that it belongs to       |

What is judged is always what arrives at the other side: the origin's bytes, read by servers of many tempers
(`tests.conformance.tempers`), and the client's. What needs the network (llhttp's corpus), a Debian package
(varnishtest) or a Python 2.7 (Autobahn) says so when it is missing.
"""
