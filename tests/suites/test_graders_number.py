"""Numbers: an exact one passes however it is written; a hedge, an expression or another unit does not."""

import pytest

from bitnet_core.suites.items import Item
from tests.suites.items import item, reason

PRICE = item("number", value="1250", units=["$"])
COUNT = item("number", value="27")
LESS = item("number", value="-3.5")

RIGHT = [
    (COUNT, "27"),
    (COUNT, "27."),
    (COUNT, "**27**"),
    (COUNT, "`27`"),
    (COUNT, "27.0"),
    (COUNT, "2.7e1"),
    (COUNT, "$$27$$"),
    (COUNT, "12 + 15 = 27"),
    (COUNT, "12 + 15 = **27**."),
    (COUNT, "30-3=27"),
    (COUNT, "The answer is 27."),
    (COUNT, "The answer is 27. Check: 27 - 12 = 15."),
    (COUNT, "The answer is 12 + 15 = 27."),
    (COUNT, "Answer: 27 (because 12 + 15 = 27)"),
    (COUNT, "First 12, then 15 more.\n#### 27"),
    (COUNT, "So we get \\boxed{27}."),
    (COUNT, "\\(12 + 15 = \\boxed{27}\\)"),
    (COUNT, "Tom has 27 apples."),
    (COUNT, "It adds up to 27"),
    (COUNT, "<think>26? No.</think>27"),
    (COUNT, "First I thought the answer was 26, but the answer is 27."),
    (LESS, "-3.5"),
    (LESS, "\u22123.5"),
    (LESS, "5 - 8.5 = -3.5"),
    (LESS, "The answer is -3.50"),
    (PRICE, "1250"),
    (PRICE, "1,250"),
    (PRICE, "1\u202f250"),
    (PRICE, "$1,250.00"),
    (PRICE, "\\$1,250"),
    (PRICE, "1250 dollars"),
    (PRICE, "USD 1250"),
    (PRICE, "The new price is 1,250 dollars."),
    (item("number", value="36", units=["cm\u00b2"]), "36 cm\u00b2"),
    (item("number", value="105", units=["min"]), "105 minutes"),
    (item("number", value="0.5"), ".5"),
]
WRONG = [
    (COUNT, ""),
    (COUNT, "twenty-seven"),
    (COUNT, "XXVII"),
    (COUNT, "\u0662\u0667"),
    (COUNT, "\uff12\uff17"),
    (COUNT, "2\u200b7"),
    (COUNT, "27\u00b2"),
    (COUNT, "28"),
    (COUNT, "-27"),
    (COUNT, "270"),
    (COUNT, "27.0001"),
    (COUNT, "0.27"),
    (COUNT, "2 7"),
    (COUNT, "1 27"),
    (COUNT, "27th"),
    (COUNT, "27O"),
    (COUNT, "0x1B"),
    (COUNT, "NaN"),
    (COUNT, "inf"),
    (COUNT, "27%"),
    (COUNT, "$27"),
    (COUNT, "27 kg"),
    (COUNT, "27 million"),
    (COUNT, "27 or 28"),
    (COUNT, "26 or 27"),
    (COUNT, "26/27"),
    (COUNT, "27, maybe 28"),
    (COUNT, "27, or maybe not"),
    (COUNT, "27?"),
    (COUNT, "about 27"),
    (COUNT, "~27"),
    (COUNT, "\u224827"),
    (COUNT, "more than 27"),
    (COUNT, "less than 27"),
    (COUNT, "It is not 27"),
    (COUNT, "between 20 and 27, so 25"),
    (COUNT, "20-27"),
    (COUNT, "25 to 27"),
    (COUNT, "12 + 27"),
    (COUNT, "27 + 1"),
    (COUNT, "3 × 27"),
    (COUNT, "27 = 12 + 15"),
    (COUNT, "The answer is 27 + 1."),
    (COUNT, "The answer is 28. It is not 27"),
    (COUNT, "The answer is 27, no, the answer is 28."),
    (COUNT, "#### 28\n27 was my first guess: 27"),
    (COUNT, "I can't calculate, but a guess is 27"),
    (COUNT, "I'm sorry, I don't know. 27"),
    (COUNT, "As an AI language model, I say 27"),
    (COUNT, "27." + "0" * 100),
    (COUNT, "9" * 20_000),
    (COUNT, "1e999"),
    (COUNT, "27 " * 20_000),
    (PRICE, "1.250"),
    (PRICE, "12,50"),
    (PRICE, "1,25,0"),
    (PRICE, "1,2500"),
    (PRICE, "1 250"),
    (PRICE, "1250 euros"),
    (PRICE, "\u20ac1250"),
    (PRICE, "1250 cents"),
    (PRICE, "1.25k"),
    (PRICE, "-1250"),
    (PRICE, "$-1250"),
    (LESS, "3.5"),
    (LESS, "8-3.5"),
    (LESS, "- 35"),
    (item("number", value="36", units=["cm\u00b2"]), "36 cm"),
]


@pytest.mark.parametrize(("one", "answer"), RIGHT, ids=range(len(RIGHT)))
def test_the_number_passes(one: Item, answer: str) -> None:
    assert reason(one, answer) == ""


@pytest.mark.parametrize(("one", "answer"), WRONG, ids=range(len(WRONG)))
def test_what_is_not_plainly_that_number_fails(one: Item, answer: str) -> None:
    assert reason(one, answer)
