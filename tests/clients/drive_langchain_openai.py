"""langchain-openai."""

from features import ASK, MODEL, PERSON, SUN, TEXT, drive, feature, same
from langchain_core.messages import HumanMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from pydantic import BaseModel


class Person(BaseModel):
    """Somebody."""

    name: str
    age: int


@tool
def weather(city: str) -> str:
    """The weather of a city."""
    same(city, "Rome")
    return "sun"


def model(url: str, **options) -> ChatOpenAI:
    return ChatOpenAI(model=MODEL, base_url=url, api_key="none", max_retries=0, **options)


@feature("chat")
def chat(url: str) -> None:
    same(model(url).invoke(ASK).content, TEXT)


@feature("stream")
def stream(url: str) -> None:
    same("".join(chunk.content for chunk in model(url).stream(ASK)), TEXT)


@feature("tools")
def tools(url: str) -> None:
    bound = model(url).bind_tools([weather])
    first = bound.invoke(ASK)
    same([call["args"] for call in first.tool_calls], [{"city": "Rome"}])
    same(bound.invoke([HumanMessage(ASK), first, weather.invoke(first.tool_calls[0])]).content, SUN)


@feature("form")
def form(url: str) -> None:
    for method in ("json_schema", "function_calling"):
        same(model(url).with_structured_output(Person, method=method).invoke(ASK), Person(**PERSON))


@feature("responses")
def responses(url: str) -> None:
    same(model(url, use_responses_api=True).invoke(ASK).text, TEXT)


drive()
