"""Runs the loyalty programme beside a running shop, or its tests.

Usage: python3 run.py start     migrates, then runs the Celery worker, the relay of our events, and the web server
       python3 run.py orders    prints the shop's orders as they change
       python3 run.py test      tests; those against a running shop take whichever of RabbitMQ and Redis it has
       --broker rabbitmq|redis  which of them, where the shop has both

The shop: npm start -- --with rabbitmq (or redis; or rabbitmq,redis). URLs and passwords are found in its folder, which
SHOPSTREAM_HOME names unless it is .shopstream of this repository. Outside of a virtual environment this makes one in .venv
first. Ctrl-C stops everything; what ends by itself is started again. Environment: CELERY_BROKER_URL, SHOP_BROKER_URL (the
same by default), LOYALTY_PORT (8091), LOYALTY_STATE (.state), CELERY_VISIBILITY_TIMEOUT (600 s, of Redis).
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
PORT = os.environ.get("LOYALTY_PORT", "8091")
STOP_LIMIT_S = 10
VARIABLES = {"rabbitmq": "RABBITMQ_URL", "redis": "REDIS_URL"}

WORKER = ["-m", "celery", "-A", "config", "worker", "--concurrency=2", "--loglevel=INFO"]
PROCESSES = {
    "worker": [*WORKER, "--without-gossip", "--without-mingle"],  # no queues for talk among workers
    "relay": ["manage.py", "relay_outbox"],
    "web": ["manage.py", "runserver", "--noreload", f"127.0.0.1:{PORT}"],
}


def running_shop() -> dict:
    """What a running shop says of itself; empty when none runs."""
    home = Path(os.environ.get("SHOPSTREAM_HOME") or FOLDER.parents[1] / ".shopstream")
    try:
        shop = json.loads((home / "shop.json").read_text("utf-8"))
        os.kill(shop["pid"], 0)  # asks whether it is there
        return shop
    except (FileNotFoundError, ProcessLookupError):
        return {}


def shop_brokers() -> dict[str, str]:
    """URLs of the brokers beside the shop, by their names."""
    urls = {**running_shop().get("companionUrls", {}), **os.environ}
    return {name: urls[variable] for name, variable in VARIABLES.items() if urls.get(variable)}


def broker_url(wanted: str | None) -> str:
    given = os.environ.get("CELERY_BROKER_URL")
    if given and not wanted:
        return given
    found = shop_brokers()
    if wanted and wanted not in found:
        sys.exit(f"no shop runs here, or one without {wanted}: npm start -- --with {wanted}")
    if not found:
        sys.exit("no shop runs here with a broker: npm start -- --with rabbitmq (or redis); or set CELERY_BROKER_URL")
    if len(found) > 1 and not wanted:
        sys.exit("the shop has RabbitMQ and Redis: say --broker rabbitmq or --broker redis")
    return found[wanted or next(iter(found))]


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


def start(python: str, env: dict[str, str]) -> int:
    subprocess.run([python, "manage.py", "migrate", "--verbosity=0"], cwd=FOLDER, env=env, check=True)
    stopping = False

    def stop(*_) -> None:
        nonlocal stopping
        stopping = True

    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, stop)
    running: dict[str, subprocess.Popen] = {}
    scheme = env["CELERY_BROKER_URL"].split(":")[0]
    print(f"the loyalty programme runs on {scheme}; points of a member: http://127.0.0.1:{PORT}/members/USER-ID", flush=True)
    try:
        while not stopping:
            for name, arguments in PROCESSES.items():
                ended = running.get(name)
                if ended is not None and ended.poll() is None:
                    continue
                if ended is not None:
                    print(f"{name} ended with code {ended.returncode}; starting it again", file=sys.stderr, flush=True)
                running[name] = subprocess.Popen([python, *arguments], cwd=FOLDER, env=env)
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


def orders(python: str, env: dict[str, str]) -> int:
    os.execve(python, [python, str(FOLDER / "orders.py")], env)


def test(python: str, env: dict[str, str]) -> int:
    return subprocess.run([python, "manage.py", "test"], cwd=FOLDER, env=env).returncode


COMMANDS = {"start": start, "orders": orders, "test": test}


def main() -> int:
    parser = argparse.ArgumentParser(usage="python3 run.py start|orders|test [--broker rabbitmq|redis]", add_help=False)
    parser.add_argument("command", choices=COMMANDS)
    parser.add_argument("--broker", choices=VARIABLES)
    if "--help" in sys.argv:
        print(__doc__)
        return 0
    options = parser.parse_args()
    url = {} if options.command == "test" else {"CELERY_BROKER_URL": broker_url(options.broker)}
    return COMMANDS[options.command](environment(), {**os.environ, **url})


if __name__ == "__main__":
    sys.exit(main())
