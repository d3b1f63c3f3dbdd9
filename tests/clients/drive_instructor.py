"""instructor, whose default is a tool that is to be called."""

import instructor
import openai
from features import ASK, MODEL, PERSON, drive, feature, same
from pydantic import BaseModel

USER = [{"role": "user", "content": ASK}]


class Person(BaseModel):
    name: str
    age: int


def person(url: str, **options) -> Person:
    client = instructor.from_openai(openai.OpenAI(base_url=url, api_key="none", max_retries=0), **options)
    return client.chat.completions.create(model=MODEL, messages=USER, response_model=Person, max_retries=0)


@feature("tools")
def tools(url: str) -> None:
    same(person(url).model_dump(), PERSON)


@feature("form")
def form(url: str) -> None:
    same(person(url, mode=instructor.Mode.JSON_SCHEMA).model_dump(), PERSON)


@feature("responses")
def responses(url: str) -> None:
    same(person(url, mode=instructor.Mode.RESPONSES_TOOLS).model_dump(), PERSON)


drive()
