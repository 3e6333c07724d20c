"""The operations of a store, and the results that each may have.

The classes are the vocabulary, in a module of each subject; what is atomic, ordered and told stands in `store.py`.
"""

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
    ToDevices,
    ToGroup,
    Undeliverable,
)
from ironwire.store.contract.records import Mailbox

Carrying = Append | ChangeGroup
"""Operations that carry an envelope into mailboxes."""
Known = Duplicate | IdTaken
AppendResult = Appended | Known | MailboxFull | Undeliverable | NotMember
ChangeResult = Appended | Known | EpochPassed | TooManyGroups
NotNext = AlreadySettled | OutOfTurn | SessionOver
"""Why a number was not the next one."""
RegisterResult = Mailbox | TooManyDevices | DeviceNotLogged | DeviceNameTaken
DeviceResult = RegisterResult | Touched | Removed | NoSuchDevice | Swept | Acked | SessionOver
BlockResult = Blocked | TooManyBlocks | Unblocked
LogRefusal = AlreadyLogged | LogMoved | LogRefused | TooManyDevices
LogResult = Logged | LogRefusal

DeviceOperation = Register | Touch | Remove | Sweep | Acknowledge
Operation = DeviceOperation | Append | ChangeGroup | RefuseNumber | Forget | AddBlock | RemoveBlock | AppendToLog
Result = (
    DeviceResult | AppendResult | ChangeResult | Held | NumberRefused | NotNext | Forgotten | BlockResult | LogResult
)

__all__ = [
    "Acked",
    "Acknowledge",
    "AddBlock",
    "AlreadyLogged",
    "AlreadySettled",
    "Append",
    "AppendResult",
    "AppendToLog",
    "Appended",
    "Audience",
    "BlockResult",
    "Blocked",
    "Carrying",
    "ChangeGroup",
    "ChangeResult",
    "DeviceNameTaken",
    "DeviceNotLogged",
    "DeviceOperation",
    "DeviceResult",
    "Duplicate",
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
    "Placed",
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
    "ToDevices",
    "ToGroup",
    "TooManyBlocks",
    "TooManyDevices",
    "TooManyGroups",
    "Touch",
    "Touched",
    "Unblocked",
    "Undeliverable",
]
