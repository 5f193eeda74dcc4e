"""How the playground's fields become a question."""

from bitnet_core.text import finite_in
from bitnet_tui.key_names import key
from bitnet_tui.view.play.answers import Asked
from bitnet_tui.view.typed import plain_count

LONGEST = 4096
_MOST_SEED = (1 << 32) - 1


def asked_of(texts: dict[str, str], bits: int | None) -> Asked | str:
    """What the fields `prompt`, `system`, `temperature`, `length` and `seed` ask, or what is wrong with one."""
    temperature, length, seed = finite_in(texts["temperature"]), _whole(texts["length"]), _whole(texts["seed"])
    if temperature is None or not 0 <= temperature <= 100:
        return "Temperature: give a number from 0 (always the likeliest token) to 100."
    if length is None or not 1 <= length <= LONGEST:
        return f"Length: give a whole number of tokens from 1 to {LONGEST:,}."
    if seed is None or not 0 <= seed <= _MOST_SEED:
        return f"Seed: give a whole number from 0 to {_MOST_SEED:,}."
    if not texts["prompt"].strip():
        return f"Type a prompt first; press {key('play.prompt')} or click to begin."
    return Asked(texts["prompt"], texts["system"].strip(), temperature, length, seed, bits)


def _whole(text: str) -> int | None:
    text = plain_count(text.strip())
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 12 else None
