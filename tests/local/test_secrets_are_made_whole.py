"""Secrets of a local stack are made once, and whole: a disk that was full leaves none that is empty."""

from __future__ import annotations

from pathlib import Path

from usage_service.local.stack import LocalStack
from usage_service.shared.settings import UpSettings


def test_a_secret_is_made_once_and_never_empty(tmp_path: Path) -> None:
    def token() -> str:
        return LocalStack(UpSettings(), 8080, tmp_path, sample=False).token

    (tmp_path / "token").touch()
    (tmp_path / "token.partial").write_text("half")
    made = token()
    assert len(made) >= 32
    assert token() == made
    assert (tmp_path / "token").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["token"]
