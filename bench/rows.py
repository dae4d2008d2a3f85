"""The rows of the results, and how two things are compared: in turn, several times, by their medians."""

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

ROUNDS = 5
Result = TypeVar("Result")


@dataclass(frozen=True)
class Row:
    """A comparison: what was measured, what it is divided by, and what the ratio should be at least (or at most).

    What it is divided by is None if that could not be measured, because a program is missing.
    """

    measure: str
    figure: float
    compared_with: float | None
    bound: float
    is_upper_bound: bool = False

    def __str__(self) -> str:
        """The row in Markdown."""
        wanted = f"{'at most' if self.is_upper_bound else 'at least'} {self.bound:g}"
        if self.compared_with is None:
            return f"| {self.measure} | {number(self.figure)} | not measured | {wanted} | |"
        ratio = self.figure / self.compared_with
        is_met = ratio <= self.bound if self.is_upper_bound else ratio >= self.bound
        figures = number(self.figure) if self.compared_with == 1 else f"{number(self.figure)} ÷ {number(self.compared_with)}"
        return f"| {self.measure} | {figures} | {ratio:.2f} | {wanted} | {'yes' if is_met else '**no**'} |"


def number(value: float) -> str:
    """With as many digits as matter."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"


def in_turn(measures: Mapping[str, Callable[[], Result]], rounds: int = ROUNDS) -> dict[str, list[Result]]:
    """The results of each measure by its name. Each is measured once in each round; a round before these warms up.

    Every other round goes backwards, because what comes first after a pause is slower.
    """
    results: dict[str, list[Result]] = {name: [] for name in measures}
    for number_of_round in range(rounds + 1):
        for name in list(measures)[:: 1 if number_of_round % 2 else -1]:
            result = measures[name]()
            if number_of_round:
                results[name].append(result)
    return results


def medians(measures: Mapping[str, Callable[[], float]], rounds: int = ROUNDS) -> dict[str, float]:
    """The medians of what is measured in turn, by name."""
    return {name: statistics.median(results) for name, results in in_turn(measures, rounds).items()}
