"""What STUDENT_INIT_LAYERS says: which layers of a model a student keeps."""

from bitnet_core.errors import UsageError

_LONGEST_NUMBER = 6


def keeps_no_layers(layers: str) -> bool:
    """Whether this STUDENT_INIT_LAYERS takes a model's embedding alone."""
    return layers.strip() == "0"


def layer_numbers(text: str) -> tuple[int, ...]:
    """The numbers of `6` or `0, 2, 5`. ValueError for another text, and for a list that does not rise."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() and len(part) <= _LONGEST_NUMBER for part in parts):
        raise ValueError("not whole numbers with commas")
    numbers = tuple(map(int, parts))
    if list(numbers) != sorted(set(numbers)):
        raise ValueError("not in rising order")
    return numbers


def kept_layers(text: str, total: int) -> tuple[int, ...]:
    """The layers that STUDENT_INIT_LAYERS keeps of `total`: all if empty, that many if a number, else those listed.

    UsageError for anything else.
    """
    if not text:
        return tuple(range(total))
    fault = UsageError(
        f"STUDENT_INIT_LAYERS is {text!r:.60}; give a number from 0 to {total}, or layers from 0 to {total - 1} in "
        "rising order, such as 0,1,2."
    )
    try:
        numbers = layer_numbers(text)
    except ValueError:
        raise fault from None
    if len(numbers) == 1 and 1 <= numbers[0] <= total:
        return spread_layers(numbers[0], total)
    if len(numbers) == 1 or numbers[-1] >= total:
        raise fault
    return numbers


def spread_layers(count: int, total: int) -> tuple[int, ...]:
    """`count` of `total` layers: the first two thirds of them from the beginning, the rest from the end."""
    last = count // 3
    return (*range(count - last), *range(total - last, total))
