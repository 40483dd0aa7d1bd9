"""The API key that is measured with, of this run alone."""

from __future__ import annotations

from wallet_app import service

KEY = service.Vault("development", {}).make_key().text
SETTINGS = {"WALLET_BOOTSTRAP_API_KEY": KEY, "WALLET_KEY_PEPPER": "the_pepper_of_the_bench_is_no_secret"}
"""By which a service knows it."""
HEADERS = {"Authorization": f"Bearer {KEY}"}
