"""Stands in for curl in the documents' commands, as far as they use it.

Prints what curl would, and appends the status and the method to the file named by CURL_LOG.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import httpx


def main() -> None:
    """Do one request."""
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("-i", action="store_true")
    parser.add_argument("-X", default="GET")
    parser.add_argument("-H", action="append", default=[])
    parser.add_argument("-d")
    parser.add_argument("--data-binary")
    wanted = parser.parse_args()
    body = wanted.d
    if wanted.data_binary is not None:
        assert wanted.data_binary == "@-"
        body = sys.stdin.read()
    headers = dict(header.split(": ", 1) for header in wanted.H)
    answer = httpx.request(wanted.X, wanted.url, headers=headers, content=body, timeout=60)
    with Path(os.environ["CURL_LOG"]).open("a", encoding="utf-8") as log:
        log.write(f"{answer.status_code} {wanted.X} {wanted.url}\n")
    if wanted.i:
        sys.stdout.write(f"HTTP/1.1 {answer.status_code} {answer.reason_phrase}\n")
        sys.stdout.write("".join(f"{name}: {value}\n" for name, value in answer.headers.items()))
        sys.stdout.write("\n")
    sys.stdout.write(answer.text)


if __name__ == "__main__":
    main()
