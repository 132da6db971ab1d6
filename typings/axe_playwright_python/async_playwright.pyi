from typing import Any

from playwright.async_api import Page

class AxeResults:
    response: dict[str, Any]
    def generate_report(self) -> str: ...

class Axe:
    def __init__(self) -> None: ...
    async def run(self, page: Page) -> AxeResults: ...
