"""The operations of a store, and the results that each may have.

The classes are the vocabulary, in a module of each subject; what is atomic, ordered and told stands in `store.py`.
"""

from ironwire.store.contract.operations.conversations import (
    AdvanceConversation,
    Advanced,
    AskedToRejoin,
    AskToRejoin,
    ClaimedPackage,
    ClaimPackages,
    ConversationMoved,
    Encrypted,
    PackageKnown,
    PackagesClaimed,
    PackagesPublished,
    PublishPackages,
    TooManyPackages,
)
from ironwire.store.contract.operations.devices import (
    Acked,
    Acknowledge,
    AlreadyLogged,
    AppendToLog,
    DeviceNameTaken,
    DeviceNotLogged,
    Logged,
    LogMoved,
    LogRefused,
    NoSuchDevice,
    Register,
    Remove,
    Removed,
    SessionOver,
    Sweep,
    Swept,
    TooManyDevices,
    Touch,
    Touched,
)
from ironwire.store.contract.operations.directory import (
    AddBlock,
    Blocked,
    ChangeGroup,
    EpochPassed,
    RemoveBlock,
    TooManyBlocks,
    TooManyGroups,
    Unblocked,
)
from ironwire.store.contract.operations.envelopes import (
    AlreadySettled,
    Append,
    Appended,
    Audience,
    Duplicate,
    Forget,
    Forgotten,
    Held,
    IdTaken,
    LostPlace,
    MailboxFull,
    NotMember,
    NumberRefused,
    OutOfTurn,
    Placed,
    RefuseNumber,
    ToClient,
    ToConversation,
    ToDevices,
    ToGroup,
    Undeliverable,
)
from ironwire.store.contract.records import Mailbox

Carrying = Append | ChangeGroup
"""Operations that carry one envelope into mailboxes, in the order of a session."""
Known = Duplicate | IdTaken
AppendResult = Appended | Known | MailboxFull | Undeliverable | NotMember | ConversationMoved | Encrypted
ChangeResult = Appended | Known | EpochPassed | TooManyGroups
NotNext = AlreadySettled | OutOfTurn | SessionOver
"""Why a number was not the next one."""
RegisterResult = Mailbox | TooManyDevices | DeviceNotLogged | DeviceNameTaken
DeviceResult = RegisterResult | Touched | Removed | NoSuchDevice | Swept | Acked | SessionOver
BlockResult = Blocked | TooManyBlocks | Unblocked
LogRefusal = AlreadyLogged | LogMoved | LogRefused | TooManyDevices
LogResult = Logged | LogRefusal

AdvanceResult = Advanced | Known | ConversationMoved | EpochPassed | TooManyGroups
PublishResult = PackagesPublished | PackageKnown | TooManyPackages | SessionOver
ConversationResult = AdvanceResult | PublishResult | PackagesClaimed | AskedToRejoin
ConversationOperation = AdvanceConversation | PublishPackages | ClaimPackages | AskToRejoin

DeviceOperation = Register | Touch | Remove | Sweep | Acknowledge
Operation = (
    DeviceOperation
    | Append
    | ChangeGroup
    | RefuseNumber
    | Forget
    | AddBlock
    | RemoveBlock
    | AppendToLog
    | ConversationOperation
)
Result = (
    DeviceResult
    | AppendResult
    | ChangeResult
    | Held
    | NumberRefused
    | NotNext
    | Forgotten
    | BlockResult
    | LogResult
    | ConversationResult
)

__all__ = [
    "Acked",
    "Acknowledge",
    "AddBlock",
    "AdvanceConversation",
    "AdvanceResult",
    "Advanced",
    "AlreadyLogged",
    "AlreadySettled",
    "Append",
    "AppendResult",
    "AppendToLog",
    "Appended",
    "AskToRejoin",
    "AskedToRejoin",
    "Audience",
    "BlockResult",
    "Blocked",
    "Carrying",
    "ChangeGroup",
    "ChangeResult",
    "ClaimPackages",
    "ClaimedPackage",
    "ConversationMoved",
    "ConversationOperation",
    "ConversationResult",
    "DeviceNameTaken",
    "DeviceNotLogged",
    "DeviceOperation",
    "DeviceResult",
    "Duplicate",
    "Encrypted",
    "EpochPassed",
    "Forget",
    "Forgotten",
    "Held",
    "IdTaken",
    "Known",
    "LogMoved",
    "LogRefusal",
    "LogRefused",
    "LogResult",
    "Logged",
    "LostPlace",
    "MailboxFull",
    "NoSuchDevice",
    "NotMember",
    "NotNext",
    "NumberRefused",
    "Operation",
    "OutOfTurn",
    "PackageKnown",
    "PackagesClaimed",
    "PackagesPublished",
    "Placed",
    "PublishPackages",
    "PublishResult",
    "RefuseNumber",
    "Register",
    "RegisterResult",
    "Remove",
    "RemoveBlock",
    "Removed",
    "Result",
    "SessionOver",
    "Sweep",
    "Swept",
    "ToClient",
    "ToConversation",
    "ToDevices",
    "ToGroup",
    "TooManyBlocks",
    "TooManyDevices",
    "TooManyGroups",
    "TooManyPackages",
    "Touch",
    "Touched",
    "Unblocked",
    "Undeliverable",
]
