"""A replacement for curl with the options that the documents use.

Prints what curl would print, and appends status, method and URL to the file named by CURL_LOG.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import httpx


def main() -> None:
    """Send one request."""
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("-i", action="store_true")
    parser.add_argument("-X", default="GET")
    parser.add_argument("-H", action="append", default=[])
    parser.add_argument("-d")
    parser.add_argument("--data-binary")
    arguments = parser.parse_args()
    body = arguments.d
    if arguments.data_binary is not None:
        assert arguments.data_binary == "@-"
        body = sys.stdin.read()
    headers = dict(header.split(": ", 1) for header in arguments.H)
    response = httpx.request(arguments.X, arguments.url, headers=headers, content=body, timeout=60)
    with Path(os.environ["CURL_LOG"]).open("a", encoding="utf-8") as log:
        log.write(f"{response.status_code} {arguments.X} {arguments.url}\n")
    if arguments.i:
        sys.stdout.write(f"HTTP/1.1 {response.status_code} {response.reason_phrase}\n")
        sys.stdout.write("".join(f"{name}: {value}\n" for name, value in response.headers.items()))
        sys.stdout.write("\n")
    sys.stdout.write(response.text)


if __name__ == "__main__":
    main()
