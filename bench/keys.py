"""The API key that is measured with, and what else services know secrets by, of this run alone."""

from __future__ import annotations

import secrets

from wallet_app import service

KEY = service.Vault("development", {}).make_key().text
SETTINGS = {
    "WALLET_BOOTSTRAP_API_KEY": KEY,
    "WALLET_KEY_PEPPER": "the_pepper_of_the_bench_is_no_secret",
    "WALLET_TOTP_KEY": secrets.token_hex(32),
}
"""By which a service knows it, and its operators."""
HEADERS = {"Authorization": f"Bearer {KEY}"}
