"""Runs the loyalty programme beside a running shop, or its tests.

Usage: python3 run.py start     migrates, then runs the consumer, the Celery worker, the relay and the web server
       python3 run.py test      tests; those against a running shop need STAFF_PASSWORD, as npm start prints it

Outside of a virtual environment it makes one in .venv first. Ctrl-C stops everything; what ends by itself is started
again. Environment: KAFKA_BROKERS, SCHEMA_REGISTRY_URL, CELERY_BROKER_URL (a RabbitMQ; else files in .state/queue),
LOYALTY_PORT (8090), LOYALTY_STATE (.state); for the tests also GATEWAY_URL, STAFF_EMAIL, STAFF_PASSWORD.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

FOLDER = Path(__file__).parent
PORT = os.environ.get("LOYALTY_PORT", "8090")
STOP_LIMIT_S = 10

PROCESSES = {
    "consumer": ["manage.py", "consume_events"],
    "worker": ["-m", "celery", "-A", "config", "worker", "--concurrency=2", "--loglevel=WARNING", "--without-mingle"],
    "relay": ["manage.py", "relay_outbox"],
    "web": ["manage.py", "runserver", "--noreload", f"127.0.0.1:{PORT}"],
}


def environment() -> str:
    """The Python that has what requirements.txt says; installs it when it is missing or stale."""
    if sys.prefix != sys.base_prefix:
        return sys.executable
    venv, wanted = FOLDER / ".venv", (FOLDER / "requirements.txt").read_text("utf-8")
    python, stamp = venv / "bin" / "python", venv / "installed.txt"
    if not stamp.exists() or stamp.read_text("utf-8") != wanted:
        print("installing requirements.txt in .venv …", flush=True)
        subprocess.run([sys.executable, "-m", "venv", venv], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", "-r", FOLDER / "requirements.txt"], check=True)
        stamp.write_text(wanted, "utf-8")
    return str(python)


def start(python: str) -> int:
    subprocess.run([python, "manage.py", "migrate", "--verbosity=0"], cwd=FOLDER, check=True)
    stopping = False

    def stop(*_) -> None:
        nonlocal stopping
        stopping = True

    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, stop)
    running: dict[str, subprocess.Popen] = {}
    print(f"the loyalty programme runs; points of a member: http://127.0.0.1:{PORT}/members/USER-ID", flush=True)
    try:
        while not stopping:
            for name, arguments in PROCESSES.items():
                ended = running.get(name)
                if ended is not None and ended.poll() is None:
                    continue
                if ended is not None:
                    print(f"{name} ended with code {ended.returncode}; starting it again", file=sys.stderr, flush=True)
                running[name] = subprocess.Popen([python, *arguments], cwd=FOLDER)
            time.sleep(1)
    finally:
        end(running)
    return 0


def end(running: dict[str, subprocess.Popen]) -> None:
    for process in running.values():
        process.terminate()
    deadline = time.monotonic() + STOP_LIMIT_S
    for name, process in running.items():
        try:
            process.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            print(f"{name} did not stop within {STOP_LIMIT_S} s and is killed", file=sys.stderr, flush=True)
            process.kill()
            process.wait()


def test(python: str) -> int:
    return subprocess.run([python, "manage.py", "test"], cwd=FOLDER).returncode


COMMANDS = {"start": start, "test": test}

if __name__ == "__main__":
    if "--help" in sys.argv:
        print(__doc__)
        sys.exit(0)
    if len(sys.argv) != 2 or sys.argv[1] not in COMMANDS:
        print(__doc__, file=sys.stderr)
        sys.exit(2)
    sys.exit(COMMANDS[sys.argv[1]](environment()))
