"""Making a link: connect, introduce, ask both cores, welcome. The course of `net.connection`, on virtual time.

The dialer learns first who answered and decides first; the acceptor's welcome makes the link, and its frames
may follow the welcome at once. Either process may be dead, paused, cut off, or in another life by any step.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from sessiond.core.identity import Identity, Refusal, RefusalCode
from sessiond.net.limits import LinkLimits

if TYPE_CHECKING:
    from tests.sim.process import Process

LIMITS = LinkLimits()
RETRANSMISSION_S = 0.1
OWN_FINDINGS = frozenset({RefusalCode.SELF, RefusalCode.REDUNDANT})
"""As in `node`: refusals that say something about a dialed address, whichever side noticed."""


class Dial:
    """One attempt of one process to make a link with whoever answers at an address."""

    def __init__(self, dialer: "Process", address: str) -> None:
        self.address = address
        self.is_over = False
        self._dialer = dialer
        self._network = dialer.network
        self._timeline = dialer.network.timeline
        self._life = dialer.machine.life
        self._acceptor: Process | None = None
        self._introduction: Identity | None = None
        self._began = 0
        self._timeline.after(self._network.delay(), self._connect)

    def abort(self) -> None:
        """The dialer is not who it was; nobody wants to know how this ends."""
        self.is_over = True
        if self._introduction is not None:
            self._dialer.rivals.withdraw(self._introduction.life, self)

    def fail(self, kind: str, detail: str, refusal: Refusal | None = None) -> None:
        if not self.is_over:
            self.is_over = True
            self._dialer.enter(self, self._failed, kind, detail, refusal)

    def _failed(self, now: float, kind: str, detail: str, refusal: Refusal | None) -> None:
        if self._dialer.dials.pop(self.address, None) is self:
            self.abort()
            self._dialer.machine.dial_failed(self.address, kind, detail, refusal, now)

    def _connect(self) -> None:
        if self.is_over:
            return
        acceptor = self._network.hosts.get(self.address)
        if self._network.is_cut_off(self._dialer.address, self.address):
            self._timeline.after(LIMITS.connect_timeout_s, self.fail, "timeout", "no connection in time")
        elif acceptor is None:
            self.fail("refused", "connection refused")
        else:
            self._acceptor = acceptor
            self._timeline.after(
                LIMITS.handshake_timeout_s, self.fail, "handshake", "the handshake took too long"
            )
            self._hop(acceptor, self._accepted)

    def _hop(self, to: "Process", step: Callable[..., None], *args: object) -> None:
        self._timeline.after(self._network.delay(), self._arrive, to, step, args)

    def _arrive(self, to: "Process", step: Callable[..., None], args: tuple[object, ...]) -> None:
        source = self._dialer if to is self._acceptor else self._acceptor
        if to.is_gone:
            self.fail("handshake", "the other side hung up")
        elif source is not None and self._network.is_cut(source.address, to.address):
            if not self.is_over:
                self._timeline.after(RETRANSMISSION_S, self._arrive, to, step, args)
        else:
            to.enter(self, step, *args)

    def _accepted(self, _now: float) -> None:
        acceptor = self._acceptor
        assert acceptor is not None, "it was reached"
        self._introduction = acceptor.machine.identity
        self._began = acceptor.rivals.moment()
        self._hop(self._dialer, self._introduced)

    # --- the dialer decides ---------------------------------------------------------------------------

    def _introduced(self, now: float) -> None:
        if self.is_over or self._introduction is None:
            return
        refusal = self._dialers_objection(self._introduction)
        if refusal is not None:
            self._dialer_refuses(refusal)
        else:
            self._dialer.ask_admission(self._introduction, now, self._dialer_decided)

    def _dialers_objection(self, peer: Identity) -> Refusal | None:
        if peer.boot_id == self._dialer.machine.identity.boot_id:
            return Refusal(RefusalCode.SELF, "the address is the node's own")
        if not self._dialer.rivals.may_commit(peer.life):
            return Refusal(RefusalCode.REDUNDANT, "there is a link already")
        return None

    def _dialer_decided(self, _now: float, refusal: Refusal | None) -> None:
        if self.is_over or self._introduction is None or self._acceptor is None:
            return
        refusal = refusal or self._dialers_objection(self._introduction)
        if refusal is not None:
            self._dialer_refuses(refusal)
        else:
            self._dialer.rivals.commit(self._introduction.life, self)
            self._hop(self._acceptor, self._asked)

    def _dialer_refuses(self, refusal: Refusal) -> None:
        assert self._acceptor is not None, "somebody answered"
        self._hop(self._acceptor, self._refused_by_dialer, refusal)
        self.fail("refusal", refusal.detail, refusal if refusal.code in OWN_FINDINGS else None)

    def _refused_by_dialer(self, now: float, refusal: Refusal) -> None:
        acceptor, introduction = self._acceptor, self._introduction
        if acceptor is not None and introduction is not None and self._is_same(acceptor, introduction):
            acceptor.machine.refused(refusal, now)

    # --- the acceptor decides -------------------------------------------------------------------------

    def _asked(self, now: float) -> None:
        acceptor, introduction = self._acceptor, self._introduction
        assert acceptor is not None, "somebody answered"
        assert introduction is not None, "it introduced itself"
        if not self._is_same(acceptor, introduction):
            self.fail("handshake", "the other side hung up")
            return
        refusal = self._acceptors_objection(acceptor)
        if refusal is not None:
            self._hop(self._dialer, self._refused_by_acceptor, refusal)
        else:
            acceptor.ask_admission(self._identity(), now, self._acceptor_decided)

    def _identity(self) -> Identity:
        return self._dialer.machine.identity

    @staticmethod
    def _is_same(process: "Process", identity: Identity) -> bool:
        """Whether a process is in the life in which it introduced itself."""
        return process.machine.life == identity.life

    def _acceptors_objection(self, acceptor: "Process") -> Refusal | None:
        own, peer = acceptor.machine.identity, self._identity()
        is_lower = (self._life, peer.boot_id) < (own.life, own.boot_id)
        if acceptor.rivals.may_accept(self._life, began=self._began, peer_is_lower=is_lower):
            return None
        return Refusal(RefusalCode.REDUNDANT, "there is a link already")

    def _acceptor_decided(self, now: float, refusal: Refusal | None) -> None:
        acceptor, introduction = self._acceptor, self._introduction
        assert acceptor is not None, "somebody answered"
        assert introduction is not None, "it introduced itself"
        is_abandoned = self.is_over or self._dialer.is_gone or self._dialer.machine.life != self._life
        if is_abandoned or not self._is_same(acceptor, introduction):
            self.fail("handshake", "the other side hung up")
            return
        refusal = refusal or self._acceptors_objection(acceptor)
        if refusal is not None:
            self._hop(self._dialer, self._refused_by_acceptor, refusal)
        else:
            end = self._network.join(acceptor, self._identity(), self._dialer, self)
            acceptor.opened(end, now)

    def _refused_by_acceptor(self, _now: float, refusal: Refusal) -> None:
        self.fail("refusal", refusal.detail, refusal)

    def is_welcome(self) -> bool:
        """The welcome arrived; False if nobody waits for it any more. The dial ends with it."""
        if self.is_over:
            return False
        self.abort()
        self._dialer.dials.pop(self.address, None)
        return True
