"""muxjax: many large language models on shared accelerators, in JAX."""


def __getattr__(name: str):
    """`LLMs` and `__version__`, imported when first asked for, so that importing a part stays cheap."""
    if name == "LLMs":
        from muxjax.server.llms import LLMs

        return LLMs
    if name == "__version__":
        from importlib.metadata import PackageNotFoundError, version

        try:
            return version("muxjax")
        except PackageNotFoundError:
            return "0+unknown"  # a checkout that was not installed
    raise AttributeError(f"module 'muxjax' has no attribute {name!r}")
