"""The tables, a product and as many tokens as there are clients; prints what a load generator needs, as JSON."""

import json
import os
import secrets
import sys

import django
from django.core.management import call_command

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")
django.setup()

from shop.models import Product, Token  # noqa: E402 (needs the settings)

call_command("migrate", run_syncdb=True, verbosity=0)
skus = [f"sku-{number}" for number in range(int(sys.argv[2]))]
Product.objects.bulk_create(
    Product(sku=sku, name="A thing", price_cents=1_000, stock=1_000_000_000) for sku in skus
)
tokens = [secrets.token_hex(32) for _ in range(int(sys.argv[1]))]
Token.objects.bulk_create(Token(key=key, email=f"customer-{number}@example.com") for number, key in enumerate(tokens))
print(json.dumps({"skus": skus, "tokens": tokens}))
