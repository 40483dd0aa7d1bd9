"""The API key of a drill: made by the process that begins it, and given to its children in their environment."""

from __future__ import annotations

import os

from wallet_app import service

SETTING = "WALLET_BOOTSTRAP_API_KEY"
KEY = os.environ.get(SETTING) or service.Vault("development", {}).make_key().text
HEADERS = {"Authorization": f"Bearer {KEY}"}
