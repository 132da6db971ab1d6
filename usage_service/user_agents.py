"""What address and user agent tell of a request: whether a program made it, and who its visitor is.

The Django middleware and imports of access logs ask here, so that both tell the same of the same request.
"""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache

from crawleruseragents import is_crawler

MOST_CHARACTERS = 512  # of an agent that is judged
MOST_KEPT = 4_096  # answers for agents
# What the kept list lacks: programs that say so by a common word, plain clients, checks of health.
PROGRAM = re.compile(
    r"(?<!cu)bot\b|bot[/;_-]|crawl|spider|slurp|headless|monitor|health-?check|^(curl|wget|python|go-http|java)\b"
    r"|^(googlehc|kube-probe|prometheus)/",
    re.IGNORECASE,
)


def is_bot(agent: str) -> bool:
    """Return whether a user agent is missing, names a program, or is on the kept list of crawlers."""
    return not agent or _names_program(agent[:MOST_CHARACTERS])


def visitor_of(address: str, agent: str) -> str:
    """Return the visitor as far as a request alone tells: a digest of address and user agent.

    The service makes a pseudonym of it. Neither address nor agent leaves the program that saw the request.
    """
    return hashlib.blake2b(f"{address} {agent}".encode("utf-8", "replace"), digest_size=16).hexdigest()


@lru_cache(MOST_KEPT)
def _names_program(agent: str) -> bool:
    return PROGRAM.search(agent) is not None or is_crawler(agent)
