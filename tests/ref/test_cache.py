"""The cache's names, and texts made once."""

from __future__ import annotations

import pytest

from ref.cache import cache_path, cached_text


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """An empty cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def test_everything_counts_for_the_name():
    names = {cache_path("so", parts) for parts in (["a", "b"], ["ab"], ["a", "c"], ["b", "a"])}
    assert len(names) == 4 and cache_path("txt", ["ab"]) not in names


def test_text_is_made_once():
    assert cached_text(["key"], lambda: "made") == "made"
    assert cached_text(["key"], lambda: "again") == "made"
    assert cached_text(["other"], lambda: "again") == "again"
