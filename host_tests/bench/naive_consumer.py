"""The ingest that one writes first: paho, json, one commit for each message.

`python -m host_tests.bench.naive_consumer PORT DATABASE RECORDS` prints `ready`, and `done` when so
many records are committed.
"""

import json
import sqlite3
import sys
import threading

import paho.mqtt.client as paho

COLUMNS = "meter, store, boot, seq, utc_s, type, import_wh, balance_mp, body"
VALUES = ", ".join(":" + column for column in COLUMNS.split(", "))
INSERT = f"INSERT OR IGNORE INTO records ({COLUMNS}) VALUES ({VALUES})"


def main(port: int, path: str, wanted: int) -> None:
    done = threading.Event()
    stored = 0
    database = sqlite3.connect(path, check_same_thread=False)
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("PRAGMA synchronous=FULL")
    database.execute(f"CREATE TABLE records ({COLUMNS}, PRIMARY KEY (meter, store, boot, seq))")

    def take(_client: object, _userdata: object, message: paho.MQTTMessage) -> None:
        nonlocal stored
        meter = message.topic.split("/")[2]
        up = json.loads(message.payload)
        rows = [
            {**record, "meter": meter, "store": up["store"], "body": json.dumps(record)}
            for record in up["records"]
        ]
        database.executemany(INSERT, rows)
        database.commit()
        stored += len(rows)
        if stored >= wanted:
            done.set()

    client = paho.Client(paho.CallbackAPIVersion.VERSION2, "naive", clean_session=False)
    client.on_message = take
    client.on_subscribe = lambda *_arguments: print("ready", flush=True)
    client.connect("127.0.0.1", port)
    client.subscribe("bijli/1/+/up", 1)
    client.loop_start()
    done.wait()
    print("done", flush=True)
    sys.stdin.readline()  # its processor time is read before it ends


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
