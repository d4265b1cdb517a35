"""Process torture: real nodes and the real balancer under faults, clients that record, and a checker that judges.

`python -m tests.torture` hurts a cluster at random; the modules `proof_…` each try one promise of docs/reliability.md.
"""
