"""GET /v1/products: the products that anything is known of, with their channels."""

from __future__ import annotations

from dataclasses import dataclass

from aiohttp import web
from msgspec import Struct

from usage_service.projections.state import Projection
from usage_service.shared.postgres import Connection
from usage_service.stats.catalogue import KnownProduct, products_with_channels
from usage_service.web.answering import Question, answer
from usage_service.web.answers import Body, as_json
from usage_service.web.freshness import FreshnessParameters
from usage_service.web.openapi.operations import described, json_of, tagged
from usage_service.web.parameters import query_parameters


class ProductsParameters(FreshnessParameters, forbid_unknown_fields=True):
    """Nothing but how fresh the answer has to be."""


class ProductsAnswer(Struct, frozen=True):
    """Products, the one with the most probes first."""

    products: list[KnownProduct]


@dataclass(frozen=True)
class ChannelsQuestion(Question):
    """Products and their channels."""

    @property
    def reads(self) -> tuple[Projection, ...]:
        """Return the projections of the catalogue, of views, and of releases."""
        return ("catalogue", "popularity", "releases", "timeseries")

    async def answer(self, connection: Connection) -> Body:
        """Return the products with their channels."""
        return as_json(ProductsAnswer(await products_with_channels(connection)))

    @property
    def address(self) -> str:
        """Return where the API answers this question."""
        return "/v1/products"


@described(*tagged(json_of(ProductsAnswer)), query=ProductsParameters, table="products")
async def get_products(request: web.Request) -> web.Response:
    """List the products that a probe was registered or viewed of, and the channels of their views and releases."""
    asked = query_parameters(request, ProductsParameters)
    return await answer(request, asked, ChannelsQuestion())
