"""Payloads through the real data plane, judged by what the origin received, in either direction."""
