"""/login: sign in with a token, for a session whose cookie scripts cannot read and other sites cannot use."""

from __future__ import annotations

from typing import Annotated

import msgspec
from aiohttp import web
from msgspec import Meta

from usage_service.problems import Problem
from usage_service.shared.patterns import worded
from usage_service.tokens import SESSION_LIFETIME
from usage_service.web.access import ACCESS, COOKIE, check_origin, needs_token
from usage_service.web.bodies import json_body
from usage_service.web.pages.panels import html_answer
from usage_service.web.parameters import query_parameters

Following = Annotated[
    str,
    Meta(
        max_length=2_000,
        pattern=worded(r"^/(?![/\\])[^\x00-\x1f]*$", "a page of this service, which begins with one /"),
        description="a page of this service",
    ),
]


class LoginRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Token to sign in with."""

    token: Annotated[str, Meta(min_length=1, max_length=1_000)]


class LoginParameters(msgspec.Struct, forbid_unknown_fields=True):
    """Page to go to after signing in."""

    following: Following = "/"


async def get_login(request: web.Request) -> web.Response:
    """Answer with the form."""
    asked = query_parameters(request, LoginParameters)
    needed = needs_token(request, "build")
    return await html_answer(request, "login", {"problem": None, "following": asked.following, "needed": needed})


async def post_login(request: web.Request) -> web.Response:
    """Answer 204 with the cookie; raise a Problem: 401 when the token is not valid, 429 after many that were not."""
    check_origin(request)
    asked = await json_body(request, LoginRequest)
    secret = await request.app[ACCESS].sign_in(request, asked.token)
    if secret is None:
        raise Problem(401, "Wrong token", "this token is not valid: it was mistyped, has expired or was revoked")
    answer = web.Response(status=204)
    answer.set_cookie(
        COOKIE, secret, max_age=int(SESSION_LIFETIME.total_seconds()), path="/", httponly=True, samesite="Strict",
        secure=request.secure or request.headers.get("X-Forwarded-Proto") == "https",
    )  # fmt: skip
    return answer


async def delete_login(request: web.Request) -> web.Response:
    """Sign out: end the session, answer 204 and delete the cookie."""
    check_origin(request)
    await request.app[ACCESS].sign_out(request)
    answer = web.Response(status=204)
    answer.del_cookie(COOKIE, path="/", httponly=True, samesite="Strict")
    return answer
