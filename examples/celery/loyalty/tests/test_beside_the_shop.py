"""
`run.py start` beside a running shop, on RabbitMQ and on Redis. What waits in the queue `celery` goes to this test's own
database: stop a programme that runs beside the same shop, and run none of this where its points matter.
"""

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from unittest import skipUnless
from urllib.error import URLError
from urllib.request import Request, urlopen
from uuid import uuid4

from celery import Celery
from django.test import SimpleTestCase

from run import running_shop, shop_brokers

FOLDER = Path(__file__).parents[2]
SHOP = running_shop()
GATEWAY_URL = os.environ.get("GATEWAY_URL") or SHOP.get("gatewayUrl")
STAFF = {
    "email": os.environ.get("STAFF_EMAIL") or SHOP.get("staff", {}).get("email"),
    "password": os.environ.get("STAFF_PASSWORD") or SHOP.get("staff", {}).get("password"),
}
BROKERS = shop_brokers() if GATEWAY_URL and STAFF["password"] else {}
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


def register() -> tuple[str, dict]:
    account = {"email": f"celery-{uuid4()}@example.com", "password": "correct horse battery", "displayName": "Ada"}
    return call("POST", "/v1/users", account)["id"], account


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


def workers_below(pid: int) -> list[int]:
    """Processes of the Celery worker that `run.py start` has started: its own, and those that run tasks."""
    lines = subprocess.run(["ps", "-A", "-o", "pid=,ppid=,args="], capture_output=True, text=True, check=True).stdout
    processes = [line.split(None, 2) for line in lines.splitlines()]
    family = [pid]
    for parent in family:
        family += [int(each[0]) for each in processes if each[1] == str(parent) and "-m celery" in each[2]]
    return family[1:]


class Programme:
    """`run.py start` on a broker. Both brokers have the same database: an event that comes by both counts once."""

    def __init__(self, broker: str, state: str):
        self.url, self.state, self.port = BROKERS[broker], Path(state), free_port()
        self._log = (self.state / f"{broker}.log").open("w+")
        own = {"LOYALTY_STATE": state, "LOYALTY_PORT": str(self.port), "CELERY_VISIBILITY_TIMEOUT": "10"}
        self.env = {**os.environ, **own}
        self.command = [sys.executable, "run.py"], ["--broker", broker]
        self.process = subprocess.Popen(self.arguments("start"), cwd=FOLDER, env=self.env, stdout=self._log, stderr=self._log)

    def arguments(self, what: str) -> list[str]:
        before, after = self.command
        return [*before, what, *after]

    def log(self) -> str:
        return Path(self._log.name).read_text()

    def points_of(self, user_id: str) -> int:
        with urlopen(f"http://127.0.0.1:{self.port}/members/{user_id}", timeout=5) as answer:
            return json.load(answer)["points"]

    @contextmanager
    def stopped_database(self):
        """While this lasts no task ends: each waits for its turn to write."""
        database = sqlite3.connect(self.state / "loyalty.sqlite3", isolation_level=None, timeout=20)
        database.execute("BEGIN IMMEDIATE")
        try:
            yield
        finally:
            database.execute("ROLLBACK")
            database.close()

    def kill_worker(self) -> None:
        for pid in workers_below(self.process.pid):
            os.kill(pid, signal.SIGKILL)

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)


class BesideTheShop:
    broker = ""
    state = tempfile.TemporaryDirectory()

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the programme is stopped all the same

    def test_points_by_tasks_and_events_about_them_whatever_is_repeated_or_killed(self):
        user_id, account = register()
        self.programme = programme = Programme(self.broker, self.state.name)
        try:
            self.eventually_has_points(user_id, 50)
            token = login(account)
            order_id = self.buy_and_ship(token)
            self.eventually_has_points(user_id, 60)
            self.orders_are_printed(order_id)
            self.a_task_that_comes_twice_counts_once(user_id)
            self.a_killed_worker_loses_nothing(user_id, token)
            self.eventually("an empty outbox", self.outbox_is_empty)
        except BaseException:
            print(programme.log(), file=sys.stderr)
            raise
        finally:
            code = programme.stop()
        self.assertEqual(code, 0)

    def a_task_that_comes_twice_counts_once(self, user_id: str) -> None:
        now = datetime.now(timezone.utc).isoformat()
        event = {"specversion": "1.0", "id": str(uuid4()), "type": "OrderShipped", "source": "/test", "subject": str(uuid4())}
        event |= {"time": now, "data": {"orderId": event["subject"], "userId": user_id}}
        with Celery(broker=self.programme.url) as celery:
            for _ in range(2):
                celery.send_task("shopstream.OrderShipped", [event], task_id=event["id"])
        ends = f"Task shopstream.OrderShipped[{event['id']}] succeeded"
        self.eventually("the end of both tasks", lambda: self.programme.log().count(ends) == 2)
        self.assertEqual(self.programme.points_of(user_id), 70)

    def a_killed_worker_loses_nothing(self, user_id: str, token: str) -> None:
        """It is killed with a task that it has begun."""
        tasks = lambda: self.programme.log().count("Task shopstream.OrderShipped[")
        with self.programme.stopped_database():
            before = tasks()
            self.buy_and_ship(token)
            self.eventually("a task", lambda: tasks() > before)
            time.sleep(1)  # it has begun by then; if not, this shows less and does not fail
            self.programme.kill_worker()
        self.eventually_has_points(user_id, 80)

    def buy_and_ship(self, token: str) -> str:
        staff, sku = login(STAFF), f"celery-{uuid4()}"
        product = {"name": "A thing", "description": "For a test.", "price": {"amount": 1000, "currency": "EUR"}}
        call("PUT", f"/v1/products/{sku}", product, staff)
        call("POST", f"/v1/products/{sku}/stock-adjustments", {"delta": 1, "reason": "delivery"}, staff)
        order = {"items": [{"sku": sku, "quantity": 1}], "shippingAddress": ADDRESS}
        # The order service learns of the product by an event: it may take a moment.
        placed = self.eventually("an order", lambda: call("POST", "/v1/orders", order, token))
        self.assertEqual(placed["status"], "confirmed")
        call("POST", f"/v1/orders/{placed['id']}/shipment", {"carrier": "Post", "trackingNumber": "T-1"}, staff)
        return placed["id"]

    def orders_are_printed(self, order_id: str) -> None:
        programme, printed = self.programme, self.programme.state / f"{self.broker}.orders"
        with printed.open("w") as out:
            reader = subprocess.Popen(programme.arguments("orders"), cwd=FOLDER, env=programme.env, stdout=out)
        try:
            expected = [f"{kind} order {order_id}" for kind in ("OrderPlaced", "OrderConfirmed", "OrderShipped")]
            self.eventually("its events", lambda: all(each in printed.read_text() for each in expected))
        finally:
            reader.send_signal(signal.SIGINT)
            reader.wait(30)

    def outbox_is_empty(self) -> bool:
        database = sqlite3.connect(self.programme.state / "loyalty.sqlite3", timeout=20)
        try:
            return database.execute("SELECT count(*) FROM loyalty_outboxevent").fetchone() == (0,)
        finally:
            database.close()

    def eventually_has_points(self, user_id: str, points: int) -> None:
        self.eventually(f"{points} points", lambda: self.programme.points_of(user_id) == points)

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


@skipUnless("rabbitmq" in BROKERS, "no shop runs with RabbitMQ: npm start -- --with rabbitmq")
class OnRabbitMQ(BesideTheShop, SimpleTestCase):
    broker = "rabbitmq"


@skipUnless("redis" in BROKERS, "no shop runs with Redis: npm start -- --with redis")
class OnRedis(BesideTheShop, SimpleTestCase):
    broker = "redis"
