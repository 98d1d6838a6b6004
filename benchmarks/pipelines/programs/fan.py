"""Our fan-out: a hundred steps that do nothing, and one that takes what they return."""

from modelops import pipeline, step

WIDTH = 100


@step
def numbers() -> list:
    return list(range(WIDTH))


@step
def nothing(number: int) -> int:
    return number


@step
def total(numbers: list) -> int:
    return sum(numbers)


@pipeline
def fan():
    total(nothing.map(numbers()))
