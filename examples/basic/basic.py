"""The SDK by hand, for programs that no integration covers: own spans, and settings by key.

stardust-auto --local --summary python examples/basic/basic.py

Give it a value first, and change it while it runs:

stardustctl config set --app basic batches=4 greeting=Hello --publish
"""

import os
import sys
import time

from stardust_auto import StardustClient

client = StardustClient(
    server=os.environ.get("STARDUST_SERVER", "http://127.0.0.1:6600"),
    app_id=os.environ.get("STARDUST_APP_ID", "basic"),
    secret=os.environ.get("STARDUST_SECRET"),
    enable_trace=True,
    enable_config=True,
)


@client.trace("job:read")
def read_batch(number: int) -> list[int]:
    """A decorated function is a span; async functions and generators work the same."""
    time.sleep(0.005)
    return list(range(number * 10))


def import_batch(number: int) -> None:
    """A span by hand: tag and value are free to use, an exception marks it as failed and goes on to the caller."""
    with client.new_span("job:import") as span:
        rows = read_batch(number)
        span.tag = f"batch {number}"
        span.value = len(rows)
        if number == 3:
            raise ValueError("batch 3 is damaged")


@client.on_config_change
def show_settings(values: dict[str, str]) -> None:
    """Called with the first values of the center, then after each change."""
    print(f"settings are now {dict(sorted(values.items()))}", flush=True)


def main() -> int:
    client.start()
    for number in range(1, client.get_config_int("batches", 5) + 1):  # the first read waits for the center
        try:
            import_batch(number)
            print(f"{client.get_config('greeting', 'imported')} batch {number}", flush=True)
        except ValueError as error:
            print(f"skipped: {error}", flush=True)
        time.sleep(float(client.get_config("pause", "0")))
    client.stop()  # reports what is left, at most a second
    return 0


if __name__ == "__main__":
    sys.exit(main())
