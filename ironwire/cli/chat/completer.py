"""What is completed in `ironwire chat`: commands, the names of people and groups, the paths of files."""

from collections.abc import Callable, Iterable, Sequence

from attrs import define, field
from prompt_toolkit.completion import CompleteEvent, Completer, Completion, PathCompleter, WordCompleter
from prompt_toolkit.document import Document

from ironwire.cli.chat.conversation import SENDING


@define(eq=False)
class ChatCompleter(Completer):
    """Completes what begins with a slash, and nothing else: the rest is what people say."""

    _commands: Sequence[str]
    _names: Callable[[], Iterable[str]]
    _paths: PathCompleter = field(factory=lambda: PathCompleter(expanduser=True), init=False)

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        """What the text before the cursor may become."""
        command, space, argument = document.text_before_cursor.partition(" ")
        if not space:
            words = WordCompleter([*self._commands], sentence=True)
            return words.get_completions(document, complete_event) if command.startswith("/") else []
        if command == "/to":
            names = WordCompleter([*self._names()], sentence=True)
            return names.get_completions(Document(argument), complete_event)
        if command in SENDING:
            return self._paths.get_completions(Document(argument), complete_event)
        return []
