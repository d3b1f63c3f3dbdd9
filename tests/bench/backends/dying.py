"""The server that is killed by its second stream, as a module of its own."""

from tests.bench.backends.server import main

if __name__ == "__main__":
    main("dies")
