"""Who makes a request: a user, a session or an address, and whether it is a program."""

from __future__ import annotations

from django.http import HttpRequest

from usage_service import user_agents


def user_or_session(request: HttpRequest) -> str:
    """Return the visitor: the user's key, else the session's, else address and user agent.

    The service makes a pseudonym of it. Loads the session and the user when the request names a session: two look-ups
    where the view did not need them.
    """
    session = getattr(request, "session", None)
    if session is None or not session.session_key:
        return address_and_agent(request)
    user = getattr(request, "user", None)
    if user is not None and user.is_authenticated:
        return f"user {user.pk}"
    return f"session {session.session_key}"


def address_and_agent(request: HttpRequest) -> str:
    """Return the visitor as far as the request alone tells: a digest of address and user agent."""
    return user_agents.visitor_of(str(request.META.get("REMOTE_ADDR", "")), _agent(request))


def is_bot(request: HttpRequest) -> bool:
    """Return whether the user agent is missing or names a program."""
    return user_agents.is_bot(_agent(request))


def _agent(request: HttpRequest) -> str:
    return str(request.META.get("HTTP_USER_AGENT", ""))
