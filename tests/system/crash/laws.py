"""What must be true of the files of all devices, once everything has settled.

One device that says nothing has everything in the order of the mailboxes: it says what others must have, and in which
order. Dave comes and goes in the group: between two words of the manager he must have heard everything, and elsewhere
what he has must be in order, and there once.
"""

from collections.abc import Iterator, Sequence

from attrs import define, field, frozen

from ironwire.client import DeliveredText, HistoryEntry, read_everything
from ironwire.ids import Address, is_group
from tests.system.crash.member import CAME, COMING_AND_GOING, GOES, HEARD, PAIRS, READY, SILENT, WRONG, Plan, id_of

_SHOWN = 40


@frozen
class Word:
    """Something that was said. `by` is the device that its reader was told."""

    by: str
    text: str


@define
class Story:
    """What one device has said and heard, by conversation, and what it was handed out."""

    name: str
    said: dict[Address, list[str]] = field(factory=dict)
    """Accepted, in the order in which it was queued."""
    heard: dict[Address, list[Word]] = field(factory=dict)
    came: list[str] = field(factory=list)
    """Every text that came, in the order in which it came."""
    handed_out: list[str] = field(factory=list)
    """The same as the program was told, with the beginning of every run."""
    waiting: int = 0
    faults: list[str] = field(factory=list)

    @property
    def client(self) -> str:
        return self.name.partition(".")[0]


def story_of(plan: Plan, printed: str) -> Story:
    """Raises:
    LocalStoreError: the device's file cannot be read.
    """
    story = Story(plan.name)
    entries = read_everything(plan.home / "device.db", plan.owner, plan.store_key)
    for conversation, entry in sorted(entries, key=lambda each: each[1].number):
        if isinstance(entry.message, DeliveredText):
            _tell(story, conversation, entry, entry.message)
    for line in printed.splitlines():
        if line.startswith(WRONG):
            story.faults.append(line)
        elif line == READY or line.startswith(HEARD):
            story.handed_out.append(line)
    return story


def _tell(story: Story, conversation: Address, entry: HistoryEntry, message: DeliveredText) -> None:
    text, was_out = message.text, story.client == COMING_AND_GOING and is_group(conversation)
    if not entry.is_encrypted and entry.state in ("received", "accepted"):
        story.faults.append(f"in the clear: {text[:_SHOWN]}")
    match entry.state:
        case "received":
            name = next((name for name in PAIRS if id_of(name) == message.sender), message.sender)
            story.heard.setdefault(conversation, []).append(Word(f"{name}.{message.device}", text))
            story.came.append(text)
        case "accepted":
            story.said.setdefault(conversation, []).append(text)
        case "queued":
            story.waiting += 1
        case "refused" if was_out:
            pass
        case _:
            story.faults.append(f"{entry.state} for {entry.reason}: {text[:_SHOWN]}")


# --- the laws --------------------------------------------------------------------------------------------------------


def broken(stories: Sequence[Story]) -> Iterator[str]:
    """Every law that does not hold."""
    for story in stories:
        yield from (f"{story.name}: {fault}" for fault in story.faults)
        if story.waiting:
            yield f"{story.name}: {story.waiting} texts have no answer"
        if once_each(story.handed_out) != story.came:
            yield f"{story.name} was handed out something else than it keeps"
    for group in {each for story in stories for each in (*story.said, *story.heard) if is_group(each)}:
        yield from _broken_in_group(stories, group)
    for pair in {frozenset(pair) for pair in PAIRS.items()}:
        yield from _broken_in_pair([story for story in stories if story.client in pair])


def _broken_in_group(stories: Sequence[Story], group: Address) -> Iterator[str]:
    order = next(story.heard.get(group, []) for story in stories if story.name == SILENT)
    for story in stories:
        said, heard = story.said.get(group, []), story.heard.get(group, [])
        if story.name != SILENT:
            yield from _differ(f"{SILENT} of {story.name} in the group", _of(story.name, order), said)
        if story.client == COMING_AND_GOING:
            yield from _came_and_went(story.name, heard, order)
        elif story.name != SILENT:
            yield from _same_order(story.name, heard, order)


def _broken_in_pair(stories: Sequence[Story]) -> Iterator[str]:
    """Everybody has what each of the others said; and where there is the silent device, all have it in one order."""
    said = {story.name: story.said.get(id_of(PAIRS[story.client]), []) for story in stories}
    heard = {story.name: story.heard.get(id_of(PAIRS[story.client]), []) for story in stories}
    for reader, words in heard.items():
        for writer, texts in said.items():
            if reader != writer:
                yield from _differ(f"{reader} of {writer}", _of(writer, words), texts)
        if SILENT in heard and reader != SILENT:
            yield from _same_order(reader, words, heard[SILENT])


def _same_order(name: str, heard: Sequence[Word], order: Sequence[Word]) -> Iterator[str]:
    """A device has what the silent one has, but for what it said itself, and besides what the silent one said."""
    got = [word.text for word in heard if word.by != SILENT]
    yield from _differ(f"{name} in the order of all", got, [word.text for word in order if word.by != name])


def _came_and_went(name: str, heard: Sequence[Word], order: Sequence[Word]) -> Iterator[str]:
    got, is_here = [word for word in heard if word.by != SILENT], False
    for word in order:
        is_here = is_here or word.text.startswith(CAME)
        if is_here and word.by != name and word not in got:
            yield f"{name} has not got {word.text[:_SHOWN]}"
        is_here = is_here and not word.text.startswith(GOES)
    rest = iter(order)
    if wrong := next((word for word in got if word not in rest), None):
        yield f"{name} has another order, or twice: {wrong.text[:_SHOWN]}"


def once_each(lines: Sequence[str]) -> list[str]:
    """The texts that a device was handed out. What it was handed last before a kill may come again, as the first thing
    after.
    """
    texts: list[str] = []
    is_first = False
    for line in lines:
        text = line.removeprefix(HEARD)
        if line == READY:
            is_first = True
            continue
        if not (is_first and texts and texts[-1] == text):
            texts.append(text)
        is_first = False
    return texts


def _of(writer: str, words: Sequence[Word]) -> list[str]:
    return [word.text for word in words if word.by == writer]


def _differ(what: str, got: Sequence[str], wanted: Sequence[str]) -> Iterator[str]:
    if got == wanted:
        return
    lost = [text[:_SHOWN] for text in wanted if text not in got]
    strange = [text[:_SHOWN] for text in got if text not in wanted]
    if lost or strange:
        yield f"{what}: {len(lost)} missing, as {lost[:3]}; {len(strange)} too many, as {strange[:3]}"
    else:
        first = next((index for index, (a, b) in enumerate(zip(got, wanted, strict=False)) if a != b), -1)
        yield f"{what}: another order, or twice, from {first} on: {got[first][:_SHOWN]}"
