"""A group as one device holds it: the whole of RFC 9420 that the rest of the project uses.

`process` replaces the state when everything is verified, and not before: an epoch is immutable, and the next one is
built beside it. A commit of one's own takes effect when `process` gets it back, as everybody else's does.
"""

from collections.abc import Sequence
from typing import Self

from attrs import define, evolve, field

from ironwire.crypto.signing import KeyPair
from ironwire.errors import MLSError
from ironwire.mls import framing, paths, suite
from ironwire.mls import messages as msg
from ironwire.mls import state as states
from ironwire.mls.changes import Changes, Proposed, apply, need_supported
from ironwire.mls.codec import need
from ironwire.mls.epoch import Epoch
from ironwire.mls.joining import Joined, KeyPackagePrivate, make_welcome, open_welcome
from ironwire.mls.nodes import Extension
from ironwire.mls.policy import Change, Participant, Policy
from ironwire.mls.public import open_key_package
from ironwire.mls.secret_tree import SecretTree
from ironwire.mls.suite import CIPHER_SUITE, VERSION
from ironwire.mls.tree import Tree


@define(eq=False)
class MLSGroup:
    """One device's place in one group."""

    _device_key: KeyPair = field(repr=False)
    _policy: Policy
    _state: states.MemberState = field(repr=False)
    _mark: int = 0

    # --- ways to have one ---

    @classmethod
    def create(
        cls,
        device_key: KeyPair,
        group_id: bytes,
        own: KeyPackagePrivate,
        policy: Policy,
        extensions: tuple[Extension, ...] = (),
    ) -> Self:
        """A group of this device alone, in epoch 0 (section 11).

        Raises:
            MLSError: the key package is not this device's, or does not support `extensions`.
        """
        leaf = own.package.leaf
        own.package.check()
        need(leaf.signature_key == device_key.public_key.raw, "a key package of another device")
        need_supported(extensions, leaf.capabilities)
        policy.leaf(leaf, None)
        tree = Tree([leaf])
        context = msg.GroupContext(VERSION, CIPHER_SUITE, group_id, 0, tree.hash(), b"", extensions)
        epoch = Epoch.begin(context, tree, suite.random(suite.HASH_BYTES), 0, {0: own.leaf_private})
        return cls(device_key, policy, states.MemberState.begin(epoch))

    @classmethod
    def join(
        cls, device_key: KeyPair, own: KeyPackagePrivate, welcome: bytes, policy: Policy, tree: bytes | None = None
    ) -> tuple[Self, Joined]:
        """The group that a Welcome leads into, and what its GroupInfo says besides (section 12.4.3.1).

        Raises:
            MLSError: the Welcome is not valid or not for this key package. Nothing was kept.
        """
        epoch, joined = open_welcome(device_key, own, welcome, policy, tree)
        return cls(device_key, policy, states.MemberState.begin(epoch)), joined

    @classmethod
    def restore(cls, state: bytes, message_keys: bytes, device_key: KeyPair, policy: Policy) -> Self:
        """The group that both were taken from. Restoring old ones uses keys twice: see `mark`.

        Raises:
            MLSError: not a state of this version, or of another device; or the keys of another state.
        """
        saved, rest = states.MemberState.decode(state), states.MessageKeys.decode(message_keys)
        rest.belong_to(saved)
        if (epoch := saved.epoch) is not None:
            own = epoch.tree.leaf(epoch.leaf)
            need(own.signature_key == device_key.public_key.raw, "a state of another device")
            need(epoch.channel.keys == states.NO_KEYS, "a state that has message keys")
        return cls(device_key, policy, saved.with_keys(rest.keys), rest.mark)

    # --- what it is ---

    def state(self) -> bytes:
        """All of it but the device key and what `message_keys` has: the same bytes for the same state."""
        return self._state.with_keys(states.NO_KEYS).encode()

    def state_mark(self) -> int:
        """The mark of the last change of `state`."""
        return self._state.mark

    def message_keys(self) -> bytes:
        """What every message changes, and is small: it is stored in one transaction with its message, and with `state`
        where that has changed.
        """
        return states.MessageKeys.of(self._state, self._mark).encode()

    def mark(self) -> int:
        """Grows with every change, so that a copy of it elsewhere shows that an old state came back."""
        return self._mark

    @property
    def is_active(self) -> bool:
        """Whether this device is a member still."""
        return self._state.epoch is not None

    @property
    def pending(self) -> states.PendingCommit | None:
        return self._state.pending

    @property
    def group_id(self) -> bytes:
        return self._epoch.context.group_id

    @property
    def epoch(self) -> int:
        return self._epoch.context.epoch

    @property
    def extensions(self) -> tuple[Extension, ...]:
        """Of the group context."""
        return self._epoch.context.extensions

    @property
    def me(self) -> Participant:
        return self._participant(self._epoch.leaf)

    def members(self) -> tuple[Participant, ...]:
        return tuple(Participant.at(*each) for each in self._epoch.tree.leaves())

    def authenticator(self) -> bytes:
        """Equal for all members who are in the same epoch of the same group (section 8.7)."""
        return self._epoch.secrets.authenticator

    def export(self, label: str, context: bytes, size: int) -> bytes:
        """`MLS-Exporter` (section 8.5)."""
        return self._epoch.secrets.export(label, context, size)

    def resumption_psk(self) -> bytes:
        """Section 8.6."""
        return self._epoch.secrets.resumption_psk

    def tree(self) -> bytes:
        """The ratchet tree, for a Welcome that does not carry it."""
        return self._epoch.tree.encode()

    def tree_hash(self) -> bytes:
        return self._epoch.context.tree_hash

    # --- sending ---

    def encrypt(self, data: bytes, authenticated_data: bytes = b"") -> bytes:
        """An application message of this epoch.

        Raises:
            MLSError: a commit is pending, or this device was removed.
        """
        need(self.pending is None, "a commit is pending")
        epoch = self._epoch
        message, keys = epoch.channel.seal(self._device_key, epoch.leaf, data, authenticated_data)
        self._use(keys)
        return framing.envelope(message)

    def commit(
        self,
        *,
        add: Sequence[bytes] = (),
        remove: Sequence[int] = (),
        authenticated_data: bytes = b"",
        path: bool = False,
        info_extensions: tuple[Extension, ...] = (),
    ) -> states.PendingCommit:
        """A commit that adds published key packages and removes leaves, and takes effect when it comes back.

        It has a path where it must have one (section 12.4), or where `path` asks for it. `info_extensions` go to those
        who join.

        Raises:
            MLSError: a commit is pending, or this one would not be valid. Nothing was changed.
        """
        need(self.pending is None, "a commit is pending")
        epoch, context = self._epoch, self._epoch.context
        proposals: list[msg.Proposal] = [msg.RemoveProposal(index) for index in remove]
        proposals += [msg.AddProposal(open_key_package(package)) for package in add]
        changes = self._apply(epoch.leaf, [(proposal, epoch.leaf) for proposal in proposals])
        new_path = update_path = None
        if path or changes.needs_path:
            own = epoch.tree.leaf(epoch.leaf)
            new_path = paths.new_path(changes.tree, epoch.leaf, self._device_key, context.group_id, own)
            update_path = new_path.encrypt(changes.tree, epoch.leaf, epoch.provisional(changes), changes.joiners)
        content = msg.Commit(tuple(map(msg.ByValue, proposals)), update_path)
        framed = framing.FramedContent(
            context.group_id, context.epoch, msg.MemberSender(epoch.leaf), authenticated_data, content
        )
        signed = framing.AuthenticatedContent.sign(self._device_key, framing.PUBLIC, framed, context)
        following, secrets = epoch.advance(changes, new_path.keys if new_path else None, signed)
        change = self._change(framed, content, changes)
        self._policy.change(change)
        confirmed = evolve(signed, auth=evolve(signed.auth, confirmation_tag=following.confirmation_tag))
        public = framing.protect_public(confirmed, epoch.secrets.membership_key, context)
        parts = secrets, changes, new_path, info_extensions
        welcome = make_welcome(following, self._device_key, *parts) if add else b""
        pending = states.PendingCommit(framing.envelope(public), welcome, change, following)
        self._replace(pending=pending)
        return pending

    def drop_pending(self) -> None:
        """Give up the pending commit, if there is one: another was first."""
        if self.pending is not None:
            self._replace(pending=None)

    # --- receiving ---

    def process(self, data: bytes) -> states.Event:
        """Take one message of the group: a PrivateMessage of this epoch or the last, or a PublicMessage of this epoch.

        Raises:
            MLSError: the message is not valid here, or the policy refuses it. The state is what it was.
        """
        epoch = self._epoch
        match framing.open_envelope(data):
            case msg.PrivateMessage() as private:
                return self._open(private)
            case framing.PublicMessage() as public:
                content = public.content
                need(content.group_id == epoch.context.group_id, "a message of another group")
                need(content.epoch == epoch.context.epoch, "a message of another epoch")
                sender = epoch.tree.leaf(content.member)
                public.verify_membership(epoch.secrets.membership_key, epoch.context)
                public.authenticated.verify(sender.signature_key, epoch.context)
                if isinstance(content.content, msg.StandaloneProposal):
                    return self._remember(public.authenticated, content.content.proposal)
                if not isinstance(content.content, msg.Commit):
                    raise MLSError("an application message that is not encrypted")
                if (pending := self.pending) is not None and data == pending.commit:
                    # Checked when it was made; the policy's answer of today must not part us from the others.
                    self._enter(pending.next_epoch)
                    return states.OwnCommit(pending.change)
                return self._receive(public.authenticated, content.content)
            case _:
                raise MLSError("neither a public nor a private message")

    def _open(self, message: msg.PrivateMessage) -> states.Application:
        epoch, past = self._epoch, self._state.past
        need(message.group_id == epoch.context.group_id, "a message of another group")
        if message.epoch == epoch.context.epoch:
            sender, data, keys = epoch.channel.open(message)
            self._use(keys)
        elif past is not None and message.epoch == past.context.epoch:
            sender, data, keys = past.open(message)
            self._replace(past=evolve(past, keys=keys))
        else:
            raise MLSError("a message of another epoch")
        return states.Application(sender, message.epoch, message.authenticated_data, data)

    def _remember(self, message: framing.AuthenticatedContent, proposal: msg.Proposal) -> states.ProposalReceived:
        known = self._state.proposals
        need(len(known) < states.MOST_PROPOSALS, "too many proposals in one epoch")
        sender = message.content.member
        ref = msg.proposal_ref(message.encode())
        need(all(each.ref != ref for each in known), "a proposal that came before")
        self._replace(proposals=(*known, states.RememberedProposal(ref, sender, proposal)))
        return states.ProposalReceived(self._participant(sender), message.content.authenticated_data, proposal)

    def _receive(
        self, message: framing.AuthenticatedContent, commit: msg.Commit
    ) -> states.Committed | states.RemovedFromGroup:
        """Section 12.4.2, from the proposals on."""
        epoch, sender = self._epoch, message.content.member
        need(sender != epoch.leaf, "a commit of one's own that is not pending")
        changes = self._apply(sender, [self._resolve(each, sender) for each in commit.proposals])
        need(commit.path is not None or not changes.needs_path, "a commit without the path that it must have")
        change = self._change(message.content, commit, changes)
        if any(each.leaf == epoch.leaf for each in changes.removed):
            self._policy.change(change)
            self._replace(epoch=None, past=None, pending=None, proposals=())
            return states.RemovedFromGroup(change)
        keys = None
        if commit.path is not None:
            leaf = commit.path.leaf
            self._policy.leaf(leaf, epoch.tree.leaf(sender))
            paths.merge(changes.tree, sender, commit.path, epoch.context.group_id)
            need_supported(changes.extensions, leaf.capabilities)
            context = epoch.provisional(changes)
            own = (epoch.private_keys, sender, commit.path, context, changes.joiners, epoch.leaf)
            keys = paths.receive(changes.tree, *own)
        following, _ = epoch.advance(changes, keys, message)
        tag = message.auth.confirmation_tag or b""
        need(suite.same(following.confirmation_tag, tag), "a commit whose confirmation tag is wrong")
        self._policy.change(change)
        self._enter(following)
        return states.Committed(change)

    # --- parts of these ---

    @property
    def _epoch(self) -> Epoch:
        epoch = self._state.epoch
        if epoch is None:
            raise MLSError("this device was removed from the group")
        return epoch

    def _participant(self, index: int) -> Participant:
        return Participant.at(index, self._epoch.tree.leaf(index))

    def _resolve(self, each: msg.ByValue | msg.ByReference, sender: int) -> Proposed:
        if isinstance(each, msg.ByValue):
            return each.proposal, sender
        found = next((known for known in self._state.proposals if known.ref == each.ref), None)
        if found is None:
            raise MLSError("a commit of a proposal that is not here")
        return found.proposal, found.sender

    def _apply(self, committer: int, proposals: Sequence[Proposed]) -> Changes:
        tree, context = self._epoch.tree, self._epoch.context
        return apply(tree, context.extensions, context.group_id, committer, proposals, self._policy)

    def _change(self, content: framing.FramedContent, commit: msg.Commit, changes: Changes) -> Change:
        return Change(
            content.epoch + 1,
            self._participant(content.member),
            content.authenticated_data,
            changes.added,
            changes.removed,
            changes.updated,
            commit.path is not None,
            changes.extensions if changes.changes_extensions else None,
        )

    def _enter(self, following: Epoch) -> None:
        """Begin the next epoch. Of the last one only late messages can be read from now on."""
        self._replace(epoch=following, past=self._epoch.channel, pending=None, proposals=())

    def _use(self, keys: SecretTree) -> None:
        self._mark += 1
        self._state = self._state.with_keys(keys)

    def _replace(self, **parts: object) -> None:
        self._mark += 1
        self._state = evolve(self._state, mark=self._mark, **parts)  # type: ignore[arg-type]  # of MemberState
