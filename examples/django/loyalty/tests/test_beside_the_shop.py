"""`run.py start` beside a running shop: a customer registers, orders, and is sent the parcel."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from unittest import skipUnless
from urllib.error import URLError
from urllib.request import Request, urlopen
from uuid import uuid4

from confluent_kafka import Consumer
from django.conf import settings
from django.test import SimpleTestCase

from loyalty.outgoing import TOPIC, decode

FOLDER = Path(__file__).parents[2]
GATEWAY_URL = os.environ.get("GATEWAY_URL", "http://127.0.0.1:8080")
STAFF = {"email": os.environ.get("STAFF_EMAIL", "staff@shop.example"), "password": os.environ.get("STAFF_PASSWORD")}
LIMIT_S = 120
ADDRESS = {"name": "Ada", "line1": "1 Way", "city": "London", "postalCode": "SW1Y 4JH", "country": "GB"}


def call(method: str, path: str, body: dict, token: str | None = None) -> dict:
    headers = {"content-type": "application/json", "prefer": "wait=10"}
    if token:
        headers["authorization"] = f"Bearer {token}"
    request = Request(f"{GATEWAY_URL}{path}", json.dumps(body).encode(), headers, method=method)
    with urlopen(request, timeout=30) as answer:
        return json.load(answer)


def login(account: dict) -> str:
    return call("POST", "/v1/sessions", {"email": account["email"], "password": account["password"]})["accessToken"]


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


@skipUnless(STAFF["password"], "STAFF_PASSWORD is not set; npm start prints it")
class BesideTheShop(SimpleTestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the programme is stopped all the same

    def test_points_for_joining_and_for_a_shipment_and_the_events_about_them(self):
        account = {"email": f"django-{uuid4()}@example.com", "password": "correct horse battery", "displayName": "Ada"}
        user_id = call("POST", "/v1/users", account)["id"]
        with tempfile.TemporaryDirectory() as state, tempfile.TemporaryFile("w+") as log:
            port = free_port()
            own = {"LOYALTY_STATE": state, "LOYALTY_PORT": str(port), "LOYALTY_GROUP": f"loyalty-{uuid4()}"}
            programme = subprocess.Popen(
                [sys.executable, "run.py", "start"], cwd=FOLDER, env={**os.environ, **own}, stdout=log, stderr=log
            )
            try:
                self.eventually_has_points(port, user_id, 50)
                self.buy_and_ship(login(account))
                self.eventually_has_points(port, user_id, 60)
                awards = [(1, 50, 50, "JOINED"), (2, 10, 60, "ORDER_SHIPPED")]
                self.assertEqual(self.awards_of(user_id, len(awards)), awards)
            except BaseException:
                log.seek(0)
                print(log.read(), file=sys.stderr)
                raise
            finally:
                programme.send_signal(signal.SIGTERM)
                code = programme.wait(30)
            self.assertEqual(code, 0)

    def buy_and_ship(self, token: str) -> None:
        staff, sku = login(STAFF), f"django-{uuid4()}"
        product = {"name": "A thing", "description": "For a test.", "price": {"amount": 1000, "currency": "EUR"}}
        call("PUT", f"/v1/products/{sku}", product, staff)
        call("POST", f"/v1/products/{sku}/stock-adjustments", {"delta": 1, "reason": "delivery"}, staff)
        order = {"items": [{"sku": sku, "quantity": 1}], "shippingAddress": ADDRESS}
        # The order service learns of the product by an event: it may take a moment.
        placed = self.eventually("an order", lambda: call("POST", "/v1/orders", order, token))
        self.assertEqual(placed["status"], "confirmed")
        call("POST", f"/v1/orders/{placed['id']}/shipment", {"carrier": "Post", "trackingNumber": "T-1"}, staff)

    def eventually_has_points(self, port: int, user_id: str, points: int) -> None:
        def has_points():
            with urlopen(f"http://127.0.0.1:{port}/members/{user_id}", timeout=5) as answer:
                return json.load(answer)["points"] == points

        self.eventually(f"{points} points", has_points)

    def awards_of(self, user_id: str, count: int) -> list[tuple]:
        """The first events about a member, in their order: sequence, points, total, reason."""
        group = {"group.id": f"test-{uuid4()}", "auto.offset.reset": "earliest", "enable.auto.commit": False}
        consumer = Consumer({"bootstrap.servers": settings.KAFKA_BROKERS, **group})
        consumer.subscribe([TOPIC])
        found, deadline = [], time.monotonic() + LIMIT_S
        try:
            while len(found) < count and time.monotonic() < deadline:
                message = consumer.poll(0.5)
                if message is None or message.error() or message.key().decode() != user_id:
                    continue
                event = decode(message.value())
                sequence = int(dict(message.headers())["ce_sequence"])
                found.append((sequence, event["points"], event["total"], event["reason"]))
        finally:
            consumer.close()
        return found

    def eventually(self, what: str, probe):
        deadline = time.monotonic() + LIMIT_S
        while True:
            try:
                last = probe()
                if last:
                    return last
            except (URLError, ConnectionError) as error:  # not yet
                last = error
            if time.monotonic() > deadline:
                self.fail(f"waited {LIMIT_S} s for {what}; the last answer was {last!r}")
            time.sleep(0.1)
