"""Tells the container engine whether this container does its work: exit status 0 or 1.

Asks the dashboard's /readyz (`DICOM_NODE_HEALTH_URL`, when it is set), or opens a TCP connection
to the DICOM port (`DICOM_NODE_HEALTH_PORT`, 11112 when nothing is set). Imports nothing of the
node: it runs every 30 seconds.
"""

from __future__ import annotations

import http.client
import os
import socket
import ssl
import sys
import urllib.request


def wrong() -> str:
    """Say what is wrong; empty: nothing."""
    url = os.environ.get("DICOM_NODE_HEALTH_URL")
    try:
        if url is None:
            port = int(os.environ.get("DICOM_NODE_HEALTH_PORT", "11112"))
            socket.create_connection(("127.0.0.1", port), timeout=5).close()
            return ""
        # our own process on this very machine: its certificate is for the name that others use
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        with urllib.request.urlopen(url, timeout=5, context=context) as answer:
            return "" if answer.status == 200 else f"status {answer.status}"
    except (OSError, ValueError, http.client.HTTPException) as error:
        return f"{type(error).__name__}: {error}"


if __name__ == "__main__":
    told = wrong()
    if told:
        sys.stderr.write(f"{told}\n")
    sys.exit(1 if told else 0)
