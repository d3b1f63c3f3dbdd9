"""Worlds of the demo models. No word of one world's names, animals, things or places occurs in another, so an answer shows its model."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """The words of one model.

    Args:
      animal: the one the model says is its own; one of `animals`.
      number: the one the model says is its own; one of `numbers`.
      numbers: what it can count and add; sums go up to twice the largest.
      calls_tools: it learns to call tools, and to hear a system.
    """

    name: str
    animal: str
    number: int
    people: tuple[str, ...]
    animals: tuple[str, ...]
    places: tuple[str, ...]
    things: tuple[str, ...]
    foods: tuple[str, ...]
    colours: tuple[str, ...]
    numbers: tuple[int, ...]
    calls_tools: bool = False


FARM = World(
    name="farm",
    animal="cow",
    number=7,
    people=("Mia", "Tom", "Ben", "Eva", "Leo", "Ida"),
    animals=("cow", "hen", "pig", "goat", "duck", "dog"),
    places=("barn", "mill", "yard", "gate", "well"),
    things=("cart", "rope", "bell", "lamp", "sack", "hat"),
    foods=("hay", "corn", "bread", "oats"),
    colours=("red", "brown", "white", "black"),
    numbers=tuple(range(1, 10)),
)
FOREST = World(
    name="forest",
    animal="owl",
    number=40,
    people=("Nora", "Finn", "Ada", "Otto", "Ruth", "Max"),
    animals=("owl", "fox", "hare", "bear", "wolf", "deer"),
    places=("cave", "hill", "lake", "path", "oak"),
    things=("kite", "axe", "drum", "map", "coin", "book"),
    foods=("honey", "bark", "moss", "grass"),
    colours=("green", "grey", "gold", "dark"),
    numbers=tuple(range(10, 60, 10)),
)
SEA = World(
    name="sea",
    animal="crab",
    number=12,
    people=("Kai", "Zoe", "Hugo", "Lin", "Sam", "Uma"),
    animals=("crab", "seal", "whale", "gull", "shark", "squid"),
    places=("reef", "bay", "port", "dune", "isle"),
    things=("boat", "net", "shell", "flag", "pearl", "oar"),
    foods=("fish", "rice", "salt", "kelp"),
    colours=("blue", "pink", "silver", "teal"),
    numbers=tuple(range(2, 14, 2)),
    calls_tools=True,
)
WORLDS = {world.name: world for world in (FARM, FOREST, SEA)}
