import contextlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from muxjax.engine.options import UnitOptions
from muxjax.server.background import in_background
from muxjax.server.catalog import Catalog
from muxjax.server.config import HttpOptions
from muxjax.server.service import Service
from muxjax.server.text.tokenizer import HfTokenizer
from muxjax.types import Pooling
from tests.fakes import FakeEngine
from tests.server.kit import BOS, VOCAB, Server, served

CORPUS = ["the cat sat on the mat", "the dog ran to the cat", "user: hello assistant: hello"] * 3


@pytest.fixture(scope="session")
def tokenizer_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A byte-level BPE that puts a BOS before a text, as LLaMA's does."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", BOS)])
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    tokenizer.save(str(path))
    return path


@pytest.fixture(scope="session")
def tokenizer(tokenizer_path: Path) -> HfTokenizer:
    return HfTokenizer(tokenizer_path)


@pytest.fixture(scope="session")
def catalog(tokenizer: HfTokenizer) -> Catalog:
    """Two models: "org/a", also called "a", which makes embeddings, and "plain" without a chat template."""
    return Catalog([served(tokenizer, "org/a", aliases=("a",), pooling=Pooling.LAST), served(tokenizer, "plain", template=None)])


Serve = Callable[..., contextlib.AbstractContextManager[Server]]


@pytest.fixture
def serve(catalog: Catalog) -> Serve:
    """Starts an endpoint; the service's and HTTP's options may be given, other arguments are the FakeEngine's."""

    @contextlib.contextmanager
    def started(
        *, max_body_bytes: int = 2**20, options: UnitOptions | None = None, http: Mapping[str, Any] | None = None, **engine_options
    ) -> Iterator[Server]:
        engine = FakeEngine(["org/a", "plain"], **engine_options)
        service = Service(engine, catalog, options)
        with in_background(service, HttpOptions(port=0, max_body_bytes=max_body_bytes, **(http or {}))) as url:
            server = Server(engine, service, url)
            with server.client:
                yield server

    return started


@pytest.fixture
def server(serve: Serve) -> Iterator[Server]:
    with serve() as running:
        yield running
