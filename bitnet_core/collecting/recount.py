"""Charges that an earlier version believed and no request can have cost: counted as if the server had not told them.

Such a request counts with its worst case, as one whose server tells nothing does. A request of other settings is not
known here, so its charge stays as it is; the user can raise the limits by it.
"""

from bitnet_core.collecting.accounting import PROBE_KEY
from bitnet_core.collecting.journal import Charge, Journal
from bitnet_core.collecting.requests import Collection
from bitnet_core.teachers.neutral import MESSAGES
from bitnet_core.teachers.prices import Price
from bitnet_core.teachers.usage import Messages, is_absurd, most_prompt_tokens


def recount(journal: Journal, collection: Collection, price: Price | None) -> int:
    """Put absurd charges of this collection right in the journal, and return how many there were."""
    suspects = journal.charged()
    if not suspects or collection.given:  # a given answer counts as prompt, and may be of any length
        return 0
    keys, most = {key for _, key, _ in suspects}, collection.options.sampling.max_tokens
    asked: dict[str, Messages] = {PROBE_KEY: MESSAGES}
    asked |= {request.key: request.prompt.messages for request in collection.requests() if request.key in keys}
    found = 0
    for sent, key, charge in suspects:
        messages = asked.get(key)
        if messages is None or not is_absurd(charge.prompt_tokens, charge.completion_tokens, messages, most):
            continue
        tokens = most_prompt_tokens(messages), most
        journal.close_sent(sent, "recounted", Charge(*tokens, price.usd(*tokens) if price else 0.0))
        found += 1
    return found
