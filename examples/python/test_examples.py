"""Against a running shop: python -m unittest.

Environment: KAFKA_BROKERS, SCHEMA_REGISTRY_URL, GATEWAY_URL, MAIL_URL
"""

import csv
import json
import os
import subprocess
import sys
import tempfile
import time
import unittest
from datetime import datetime, timezone
from pathlib import Path
from threading import Timer
from urllib.request import Request, urlopen
from uuid import uuid4

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient, record_subject_name_strategy
from confluent_kafka.schema_registry.avro import AvroSerializer
from confluent_kafka.schema_registry.error import SchemaRegistryError
from confluent_kafka.serialization import MessageField, SerializationContext

from import_customers import PRODUCER, TOPIC, user_id_of
from schemas import Schemas, Unreadable
from shop import KAFKA_BROKERS, SCHEMA_REGISTRY_URL

FOLDER = Path(__file__).parent
GATEWAY_URL = os.environ.get("GATEWAY_URL", "http://127.0.0.1:8080")
MAIL_URL = os.environ.get("MAIL_URL", "http://127.0.0.1:1080")
LIMIT_S = 120


def run(*args: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, *args], cwd=FOLDER, capture_output=True, text=True, timeout=LIMIT_S)


def eventually(what: str, probe):
    """The first truthy value of `probe`; fails after LIMIT_S seconds with the last value seen."""
    deadline = time.monotonic() + LIMIT_S
    while True:
        value = probe()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {LIMIT_S} s for {what}; the last value was {value!r}")
        time.sleep(0.1)


class ConsoleConsumers(unittest.TestCase):
    """Each prints, decoded, the event that a registration through the API causes."""

    @classmethod
    def setUpClass(cls):
        cls.email = f"python-{uuid4()}@example.com"
        account = {"email": cls.email, "password": "correct horse battery", "displayName": "Grażyna 李"}
        body = json.dumps(account).encode()
        urlopen(Request(f"{GATEWAY_URL}/v1/users", body, {"content-type": "application/json"}), timeout=30).close()

    def prints_the_event(self, *command: str):
        process = subprocess.Popen(
            [sys.executable, *command, TOPIC], cwd=FOLDER, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        limit = Timer(LIMIT_S, process.kill)
        limit.start()
        try:
            events = map(json.loads, process.stdout)
            found = next((event for event in events if event["data"].get("email") == self.email), None)
        finally:
            limit.cancel()
            process.kill()
            errors = process.communicate()[1]
        self.assertIsNotNone(found, f"{command} did not print the event of {self.email}; it said {errors}")
        self.assertEqual(found["type"], "UserRegistered")
        self.assertEqual(found["key"], found["data"]["userId"])
        self.assertEqual(found["data"]["displayName"], "Grażyna 李")
        self.assertRegex(found["data"]["registeredAt"], r"^\d{4}-\d\d-\d\dT[\d:.]+\+00:00$")

    def test_with_the_schema_registry(self):
        self.prints_the_event("console_consumer.py")

    def test_with_the_lock_file(self):
        self.prints_the_event("console_consumer_fastavro.py", "--schemas", "lock")

    def test_with_kafka_alone(self):
        self.prints_the_event("console_consumer_fastavro.py", "--schemas", "topic")


class Decoding(unittest.TestCase):
    def test_what_is_no_event_is_refused(self):
        schemas = Schemas.from_lock()
        whole = bytes.fromhex("00 000186a1 02000200")
        self.assertEqual(schemas.decode(whole), {"schemaId": 1, "subject": "", "version": 1, "schema": ""})
        for value in [None, b"", b"\0\0\1", b"\1" + whole[1:], b"\0\0\0\0\1x", whole[:-1], whole + b"!"]:
            with self.subTest(value=value), self.assertRaises(Unreadable):
                schemas.decode(value)


class Serializers(unittest.TestCase):
    """Confluent's serializer as it comes, and with what the README says to set."""

    SUBJECT = "shopstream.user.UserErased"
    DATA = {"userId": "0199a2b4-6c00-7000-8000-ca05e1d00001", "erasedAt": datetime(2026, 1, 15, tzinfo=timezone.utc)}
    RECORDS = {"subject.name.strategy": record_subject_name_strategy}

    def setUp(self):
        self.registry = SchemaRegistryClient({"url": SCHEMA_REGISTRY_URL})
        self.addCleanup(self.registry.close)
        self.latest = self.registry.get_latest_version(self.SUBJECT)

    def bytes_of(self, schema: Schema, settings: dict) -> bytes:
        serialize = AvroSerializer(self.registry, schema, conf=settings)
        return serialize(self.DATA, SerializationContext(TOPIC, MessageField.VALUE))

    def test_a_registered_schema_is_written_with_its_id_whatever_is_set(self):
        lookup = {"auto.register.schemas": False}
        documented = json.dumps({**json.loads(self.latest.schema.schema_str), "doc": "With words."}, indent=2)
        for settings in [{}, lookup, self.RECORDS, {**lookup, **self.RECORDS}, {"normalize.schemas": True}]:
            with self.subTest(settings=settings):
                value = self.bytes_of(Schema(documented, "AVRO"), settings)
                self.assertEqual(int.from_bytes(value[1:5], "big"), self.latest.schema_id)
        value = self.bytes_of(self.latest.schema, {**lookup, **self.RECORDS, "use.latest.version": True})
        self.assertEqual(int.from_bytes(value[1:5], "big"), self.latest.schema_id)

    def test_another_schema_is_refused_with_what_to_do(self):
        other = json.loads(self.latest.schema.schema_str)
        other["fields"].append({"name": "more", "type": "int", "default": 0})
        with self.assertRaisesRegex(SchemaRegistryError, "RecordNameStrategy.*npm run schemas") as refused:
            self.bytes_of(Schema(json.dumps(other), "AVRO"), {})
        self.assertEqual(refused.exception.error_code, 42205)
        with self.assertRaisesRegex(SchemaRegistryError, "RecordNameStrategy") as refused:
            self.bytes_of(self.latest.schema, {"auto.register.schemas": False, "use.latest.version": True})
        self.assertEqual(refused.exception.error_code, 40401)

    def test_whether_a_schema_could_be_the_next_version(self):
        good = json.loads(self.latest.schema.schema_str)
        good["fields"].append({"name": "more", "type": "int", "default": 0})
        bad = json.loads(self.latest.schema.schema_str)
        bad["fields"].append({"name": "more", "type": "int"})
        fits = lambda schema: self.registry.test_compatibility(self.SUBJECT, Schema(json.dumps(schema), "AVRO"))  # noqa: E731
        self.assertEqual([fits(good), fits(bad)], [True, False])


class ImportingCustomers(unittest.TestCase):
    def test_each_is_welcomed_once_however_often_the_file_is_imported(self):
        run_id = uuid4().hex[:12]
        customers = [(f"{run_id}-{n}", f"crm-{run_id}-{n}@example.com") for n in range(3)]
        file = self.file_of([(number, email.upper(), "Zofia Łuczak", "2019-04-01") for number, email in customers])
        places = []
        for _ in range(2):
            done = run("import_customers.py", file)
            self.assertEqual(done.returncode, 0, done.stderr)
            places += map(json.loads, done.stdout.splitlines())
        self.assertCountEqual([place["key"] for place in places], 2 * [user_id_of(number) for number, _ in customers])
        for _, email in customers:
            eventually(f"the welcome mail to {email}", lambda: self.mails_to(email))
        eventually("notification to have read both imports", lambda: all(map(self.is_read, places)))
        for _, email in customers:
            self.assertEqual([mail["subject"] for mail in self.mails_to(email)], ["A warm welcome to shopstream"])
        self.assertNotIn("Zofia", self.mails_to(customers[0][1])[0]["text"])  # nobody has confirmed the address

    def test_a_file_with_a_bad_line_writes_nothing(self):
        good = (uuid4().hex, f"crm-{uuid4()}@example.com", "Ada", "2019-04-01")
        for bad in [("1", "no-address", "B", "2019-04-01"), ("1", "b@example.com", "B", "1.4.2019"), ("1",)]:
            with self.subTest(bad=bad):
                done = run("import_customers.py", self.file_of([good, bad]))
                self.assertEqual((done.returncode, done.stdout), (2, ""))
                self.assertIn("line 3", done.stderr)
        self.assertEqual(run("import_customers.py", "no-such-file.csv").returncode, 2)

    def test_partitions_are_those_of_the_java_client(self):
        expected = json.loads((FOLDER.parent / "partitions.json").read_text("utf-8"))
        admin, topic = AdminClient({"bootstrap.servers": KAFKA_BROKERS}), f"example-python-{uuid4()}"
        admin.create_topics([NewTopic(topic, expected["partitions"], 1)])[topic].result(LIMIT_S)
        try:
            producer, actual = Producer({"bootstrap.servers": KAFKA_BROKERS, **PRODUCER}), {}
            for key in expected["ofKey"]:
                report = lambda error, message: actual.update({message.key().decode(): message.partition()})  # noqa: E731
                producer.produce(topic, key=key, value=b"x", on_delivery=report)
            self.assertEqual(producer.flush(LIMIT_S), 0)
            self.assertEqual(actual, expected["ofKey"])
        finally:
            admin.delete_topics([topic])[topic].result(LIMIT_S)

    def file_of(self, rows: list[tuple]) -> str:
        file = tempfile.NamedTemporaryFile("w", encoding="utf-8", newline="", suffix=".csv", delete=False)
        self.addCleanup(os.unlink, file.name)
        with file:
            csv.writer(file).writerows([("number", "email", "name", "since"), *rows])
        return file.name

    def mails_to(self, email: str) -> list[dict]:
        with urlopen(f"{MAIL_URL}/email", timeout=30) as answer:
            mails = json.load(answer)
        return [mail for mail in mails if any(to["address"] == email for to in mail["to"])]

    def is_read(self, place: dict) -> bool:
        """Whether the notification service has committed beyond the event."""
        reader = Consumer({"bootstrap.servers": KAFKA_BROKERS, "group.id": "notification"})
        try:
            [committed] = reader.committed([TopicPartition(place["topic"], place["partition"])], timeout=10)
            return committed.offset > place["offset"]
        finally:
            reader.close()


if __name__ == "__main__":
    unittest.main()
