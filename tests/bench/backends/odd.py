"""The server that answers in other words, as a module of its own."""

from tests.bench.backends.server import main

if __name__ == "__main__":
    main("wrong-words")
