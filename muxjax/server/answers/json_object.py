"""The end of a JSON object in a text that comes piece by piece."""


class JsonObject:
    """Finds the end of one JSON object: braces balance outside of strings."""

    def __init__(self):
        self._depth = 0
        self._in_string = self._escaped = False
        self.complete = False

    def end(self, text: str) -> int:
        """Characters of the next text that belong to the object."""
        for place, character in enumerate(text):
            self._step(character)
            if self.complete:
                return place + 1
        return len(text)

    def _step(self, character: str) -> None:
        if self._in_string:
            self._in_string = self._escaped or character != '"'
            self._escaped = character == "\\" and not self._escaped
        elif character == '"':
            self._in_string = True
        elif character in "{}":
            self._depth += 1 if character == "{" else -1
            self.complete = self._depth == 0
