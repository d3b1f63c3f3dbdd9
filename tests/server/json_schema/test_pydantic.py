"""Types as pydantic writes them: they are served, and answers follow their schemas."""

import datetime
import decimal
import enum
import json
import pathlib
import random
import uuid
from typing import Annotated, Any, Literal, Optional

import jsonschema_rs
import pytest
from pydantic import BaseModel, Field, SecretStr, TypeAdapter

from muxjax.server.json_schema import notices
from muxjax.server.json_schema.walk import descendants
from tests.server.json_schema.test_follow import accepts, random_answer


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Node(BaseModel):
    value: int
    children: list["Node"] = []
    next: Optional["Node"] = None


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int


class Dog(BaseModel):
    kind: Literal["dog"]
    weight: float


_TYPES: list[Any] = [
    *(pathlib.Path, SecretStr, bytes, uuid.UUID, decimal.Decimal, bool, None, Color, Node),
    *(datetime.date, datetime.datetime, datetime.time, datetime.timedelta),
    *(list[int], tuple[int, str], tuple[int, ...], dict[str, int], dict[Color, int], dict[Annotated[str, Field(pattern="^a+$")], int]),
    *(Literal["a", 1, None], int | str, int | None, Node | None),
    Annotated[Cat | Dog, Field(discriminator="kind")],
    Annotated[int, Field(gt=1, le=5)],
    Annotated[str, Field(pattern="^a+$", max_length=5)],
    Annotated[list[int], Field(min_length=1, max_length=3)],
]


@pytest.mark.parametrize("kind", _TYPES, ids=str)
def test_answers_are_of_the_type(kind):
    schema = TypeAdapter(kind).json_schema()
    answers = [answer for seed in range(10) if (answer := random_answer(schema, random.Random(seed), 300)) is not None]
    assert answers
    for answer in answers:
        jsonschema_rs.validate(schema, json.loads(answer))


class Base(BaseModel):
    name: str


class Order(Base):
    path: pathlib.Path
    key: SecretStr
    raw: bytes
    numbers: set[int]
    pair: tuple[int, str]
    size: Literal["s", "m"]
    who: Cat | Dog | None = None
    by_color: dict[Color, int] = {}
    node: Node


def members_of(value: Any) -> set[str]:
    """Names of all members, at any depth."""
    if isinstance(value, dict):
        return set(value).union(*map(members_of, value.values()))
    return set().union(*map(members_of, value)) if isinstance(value, list) else set()


@pytest.mark.parametrize("kind", [Order, Node, Annotated[Cat | Dog, Field(discriminator="kind")]], ids=str)
def test_models_have_no_members_but_their_own(kind):
    schema = TypeAdapter(kind).json_schema()
    named = {name for _, one in descendants(schema) if isinstance(one, dict) for name in one.get("properties", ())}
    answers = [answer for seed in range(10) if (answer := random_answer(schema, random.Random(seed), 800)) is not None]
    assert answers
    for answer in answers:
        assert members_of(json.loads(answer)) <= named | {"red", "blue"}


def test_a_set_is_a_list_that_pydantic_makes_one_of(caplog, monkeypatch):
    monkeypatch.setattr(notices, "_told", set())
    schema = TypeAdapter(set[int]).json_schema()
    assert accepts(schema, [1, 2]) and TypeAdapter(set[int]).validate_python([1, 1]) == {1}
    assert "'uniqueItems'" in caplog.text


def test_keys_of_a_dictionary_are_those_of_their_type():
    by_color = TypeAdapter(dict[Color, int]).json_schema()
    assert accepts(by_color, {"blue": 3}) and not accepts(by_color, {"green": 3}) and not accepts(by_color, {"blue": "3"})
    by_pattern = TypeAdapter(dict[Annotated[str, Field(pattern="^a+$")], int]).json_schema()
    assert accepts(by_pattern, {"aa": 3}) and not accepts(by_pattern, {"b": 3})
