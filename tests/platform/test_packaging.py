"""The image's recipe, its neighbours and the vendored files, as far as they can be checked without a Docker daemon."""

from __future__ import annotations

import importlib.util
import re
import sys
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture(scope="module")
def packaging() -> ModuleType:
    loader = SourceFileLoader("check_packaging", str(ROOT / "scripts" / "check-packaging"))
    spec = importlib.util.spec_from_loader("check_packaging", loader)
    module = importlib.util.module_from_spec(spec)
    wanted, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        loader.exec_module(module)
    finally:
        sys.dont_write_bytecode = wanted
    return module


@pytest.mark.parametrize("check", ["dockerfile", "compose", "render", "settings", "vendor", "lint"])
def test_packaging_has_no_fault(packaging, check):
    assert list(getattr(packaging, f"{check}_faults")()) == []


def test_a_changed_vendored_file_is_noticed(packaging, tmp_path, monkeypatch):
    vendor = tmp_path / "static" / "vendor"
    vendor.mkdir(parents=True)
    (vendor / "README.md").write_text(f"| `x/a.js` | 1 | `{'0' * 64}` |\n| `x/gone.js` | 1 | `{'0' * 64}` |\n")
    (vendor / "x").mkdir()
    (vendor / "x" / "a.js").write_text("a")
    (vendor / "x" / "extra.js").write_text("a")
    monkeypatch.setattr(packaging, "ROOT", tmp_path)
    assert len(list(packaging.vendor_faults())) == 3


def test_docs_page_loads_only_what_we_ship():
    """Nothing inline and nothing from outside: the page lives under script-src and style-src 'self'."""
    page = (ROOT / "templates" / "docs.html").read_text()
    for name in re.findall(r"url_for\('static', filename='([^']+)'\)", page):
        assert (ROOT / "static" / name).is_file(), name
    assert not re.search(r"<style|\sstyle=|\son[a-z]+=|<script(?![^>]*\ssrc=)|https?://", page)


def test_docs_page_is_served_under_a_strict_policy(client):
    answer = client.get("/docs")
    assert answer.status_code == 200
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    for path in re.findall(r'(?:src|href)="(/static/[^"]+)"', answer.get_data(as_text=True)):
        assert client.get(path).status_code == 200, path
