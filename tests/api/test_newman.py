"""The Postman collection: it calls every operation, its lock file is neutral, newman finds nothing."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from tests.api.conftest import ROOT
from wallet_app.api.openapi import document

POSTMAN = ROOT / "postman"


def requests() -> Iterator[dict[str, Any]]:
    collection = json.loads((POSTMAN / "dino-wallet.postman_collection.json").read_text())
    for folder in collection["item"]:
        for item in folder["item"]:
            yield item["request"]


def test_the_collection_calls_every_operation() -> None:
    called = set()
    for request in requests():
        path = re.sub(
            r"\{\{(wallet|otherWallet|systemWallet|noWallet)\}\}", "{walletId}", "/" + "/".join(request["url"]["path"])
        )
        path = re.sub(r"(?<=^/transactions/)[^/]+", "{transactionId}", path)
        path = re.sub(r"(?<=^/reports/assets/)[^/]+", "{assetCode}", path)
        path = re.sub(r"(?<=^/users/)[^/]+", "{userId}", path)
        path = re.sub(r"(?<=^/holds/)[^/]+", "{holdId}", path)
        path = re.sub(r"(?<=^/lots/)[^/]+", "{lotId}", path)
        path = re.sub(r"(?<=^/keys/)[^/]+", "{keyId}", path)
        path = re.sub(r"(?<=^/switches/)[^/]+", "{switchId}", path)
        called.add((request["method"], path))
    described = {(method.upper(), path) for path, operations in document()["paths"].items() for method in operations}
    assert described <= called


def test_the_lock_file_names_no_registry() -> None:
    lock = json.loads((POSTMAN / "package-lock.json").read_text())
    packages = [package for name, package in lock["packages"].items() if name]
    assert len(packages) > 100
    assert all("resolved" not in package and package["integrity"].startswith("sha512-") for package in packages)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_newman_finds_nothing() -> None:
    if shutil.which("npm") is None:
        message = "there is no npm, so the Postman collection was not run"
        pytest.fail(message) if os.environ.get("CI") else pytest.skip(message)
    environment = {name: value for name, value in os.environ.items() if name != "BASE_URL"}
    done = subprocess.run([POSTMAN / "run"], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-6_000:] + done.stderr
    assert int(re.search(r"assertions │ +(\d+) │ +0 │", done.stdout)[1]) >= 200, done.stdout[-3_000:]
