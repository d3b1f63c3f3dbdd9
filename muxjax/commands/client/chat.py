"""`muxjax chat`: a conversation in the terminal with the models of a running server."""

import contextlib
import sys
from collections.abc import Callable, Iterator

from muxjax.commands.client.chat_client import ChatClient, Message
from muxjax.errors import ConfigError, MuxError

_HELP = """\
/models         the server's models
/model NAME     go on with another model; the conversation stays
/system TEXT    instructions to the model; without a text, none
/clear          forget the conversation
/help           this
/exit           leave, as Ctrl-D does; /quit and /bye too
Ctrl-C stops an answer."""
_LEAVE = ("/exit", "/quit", "/bye")
_STEERING = {code: None for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"}


def run(url: str, model: str | None) -> None:
    """Talks until the input ends; a terminal gets prompts and a line editor, a pipe only answers.

    Raises:
      ConfigError: no server, no model, or none of that name.
      SystemExit: with 1, of a pipe, some line of which had an error in place of an answer.
    """
    client = ChatClient(url)
    models = client.models()
    if model is not None and model not in models:
        raise ConfigError(f"the server has no model {model!r}, but {', '.join(models)}", field="model")
    chat = Chat(client, model or models[0])
    if not sys.stdin.isatty():
        chat.follow(iter(sys.stdin.readline, ""))
        sys.exit(int(chat.has_failed))
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401  (input() edits lines once it is loaded)
    print(f"{chat.model} of {', '.join(models)}; /help says more")
    chat.follow(_typed(chat))


def _typed(chat: "Chat") -> Iterator[str]:
    """Lines from a terminal until Ctrl-D; Ctrl-C begins a new line."""
    while True:
        try:
            yield input(f"{chat.model}> ")
        except KeyboardInterrupt:
            print()
        except EOFError:
            print()
            return


class Chat:
    """One conversation, which may go from model to model.

    Attributes:
      has_failed: some line had an error.
    """

    def __init__(self, client: ChatClient, model: str):
        self.model, self.has_failed = model, False
        self._client = client
        self._system = ""
        self._messages: list[Message] = []
        self._commands: dict[str, Callable[[str], None]] = {
            "/models": self._show_models,
            "/model": self._switch,
            "/system": self._instruct,
            "/clear": self._clear,
            "/help": lambda _: print(_HELP),
        }

    def follow(self, lines: Iterator[str]) -> None:
        """Does what each line says, until one says to leave; an error of the server is told, and the conversation goes on."""
        for line in lines:
            text = line.strip()
            if text in _LEAVE:
                return
            try:
                if text.startswith("/"):
                    name, _, argument = text.partition(" ")
                    self._commands.get(name, self._unknown)(argument.strip())
                elif text:
                    self._say(text)
            except MuxError as error:
                self.has_failed = True
                print(f"error: {error}", file=sys.stderr)

    def _say(self, text: str) -> None:
        """Asks, and prints the answer as it comes; what Ctrl-C leaves of it is part of the conversation."""
        question: Message = {"role": "user", "content": text}
        system: list[Message] = [{"role": "system", "content": self._system}] if self._system else []
        parts: list[str] = []
        try:
            with contextlib.closing(self._client.answer(self.model, [*system, *self._messages, question])) as answer:
                for part in answer:
                    parts.append(part)
                    print(part.translate(_STEERING), end="", flush=True)
        except KeyboardInterrupt:
            print(" [stopped]", end="")
        finally:
            print(flush=True)
        if parts:
            self._messages += [question, {"role": "assistant", "content": "".join(parts)}]

    def _show_models(self, _: str) -> None:
        for name in self._client.models():
            print(f"{'*' if name == self.model else ' '} {name}")

    def _switch(self, name: str) -> None:
        models = self._client.models()
        if name not in models:
            raise ConfigError(f"there is no model {name!r}, but {', '.join(models)}", field="model")
        self.model = name

    def _instruct(self, text: str) -> None:
        self._system = text

    def _clear(self, _: str) -> None:
        self._messages.clear()

    def _unknown(self, _: str) -> None:
        print(_HELP)
