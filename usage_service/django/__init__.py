"""What a Django app records its usage with: `UsageMiddleware`, and `usage_service.django.urls` for its pages' script.

Settings: `USAGE_SERVICE = {"URL": ...}`, the other keys as in `OPTIONS`.
"""

from usage_service.django.middleware import UsageMiddleware
from usage_service.django.misses import answer_misses
from usage_service.django.recording import OPTIONS
from usage_service.django.visitors import address_and_agent, is_bot, user_or_session

__all__ = ["OPTIONS", "UsageMiddleware", "address_and_agent", "answer_misses", "is_bot", "user_or_session"]
