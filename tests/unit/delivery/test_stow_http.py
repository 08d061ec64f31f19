"""STOW-RS against servers that a test plays: early refusals, redirects, one bad object of many."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.parser import BytesParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread

from dicom_node.delivery import Outgoing, StowRs, Verdict, stow
from dicom_node.delivery.stow import WebTimeouts
from dicom_node.model.peers import WebPeer
from tests.factories import radiograph

Respond = Callable[[BaseHTTPRequestHandler, list[str]], tuple[int, object]]
SHORT = WebTimeouts(connect=5, answer=10)
BREAKS_OFF = 0


@contextmanager
def served(respond: Respond, *, reads: bool = True) -> Iterator[tuple[WebPeer, list[list[str]]]]:
    """A DICOMweb server; yields the peer, and the SOP Instance UIDs of each request."""
    requests: list[list[str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            uids: list[str] = []
            if reads:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                head = f"Content-Type: {self.headers['Content-Type']}\r\n\r\n".encode()
                message = BytesParser().parsebytes(head + body)
                for part in message.get_payload():  # type: ignore[union-attr]
                    assert part.get_content_type() == "application/dicom"  # type: ignore[union-attr]
                    data = part.get_payload(decode=True)  # type: ignore[union-attr]
                    uids.append(str(dcmread(BytesIO(data)).SOPInstanceUID))  # type: ignore[arg-type]
            requests.append(uids)
            status, told = respond(self, uids)
            if status == BREAKS_OFF:
                self.close_connection = True
                return
            answer = json.dumps(told).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/dicom+json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield WebPeer(url=f"http://127.0.0.1:{server.server_address[1]}/dicom-web"), requests
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def stored(uids: list[str]) -> dict[str, object]:
    items = [{"00081155": {"vr": "UI", "Value": [uid]}} for uid in uids]
    return {"00081199": {"vr": "SQ", "Value": items}}


@pytest.fixture
def items(tmp_path: Path) -> list[Outgoing]:
    """More objects than go into one request."""
    made = []
    for number in range(1, 26):
        dataset = radiograph(np.zeros((2, 2), np.uint16))
        file = tmp_path / f"{number}.dcm"
        dataset.save_as(file, enforce_file_format=True)
        made.append(Outgoing(number, file, str(dataset.SOPClassUID)))
    return made


def uid_of(item: Outgoing) -> str:
    return str(dcmread(item.file).SOPInstanceUID)


def test_every_object_arrives_whole_in_few_requests(items: list[Outgoing]) -> None:
    with served(lambda _, uids: (200, stored(uids))) as (peer, requests):
        answers = list(StowRs(peer, SHORT).send(items))
    assert [answer.verdict for answer in answers] == [Verdict.SENT] * 25
    assert [len(uids) for uids in requests] == [20, 5]
    assert [uid for uids in requests for uid in uids] == list(map(uid_of, items))


def test_large_objects_share_no_request(
    items: list[Outgoing], monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = [item.file.stat().st_size for item in items[:5]]
    monkeypatch.setattr(stow, "_BYTES_IN_ONE_REQUEST", max(sizes) * 2 + 10)
    with served(lambda _, uids: (200, stored(uids))) as (peer, requests):
        answers = list(StowRs(peer, SHORT).send(items[:5]))
    assert [answer.verdict for answer in answers] == [Verdict.SENT] * 5
    assert [len(uids) for uids in requests] == [2, 2, 1]


def test_one_object_that_a_server_chokes_on_does_not_hold_up_the_others(
    items: list[Outgoing],
) -> None:
    bad = uid_of(items[3])

    def respond(_: BaseHTTPRequestHandler, uids: list[str]) -> tuple[int, object]:
        return (413, {}) if bad in uids else (200, stored(uids))

    with served(respond) as (peer, requests):
        answers = {answer.id: answer.verdict for answer in StowRs(peer, SHORT).send(items)}
    assert answers.pop(4) is Verdict.NEVER
    assert set(answers.values()) == {Verdict.SENT}
    assert len(requests) == 1 + 20 + 1


def test_one_object_on_which_a_server_breaks_off_does_not_hold_up_the_others(
    items: list[Outgoing],
) -> None:
    bad = uid_of(items[3])

    def respond(_: BaseHTTPRequestHandler, uids: list[str]) -> tuple[int, object]:
        return (BREAKS_OFF, {}) if bad in uids else (200, stored(uids))

    with served(respond) as (peer, _):
        answers = {answer.id: answer for answer in StowRs(peer, SHORT).send(items)}
    broken = answers.pop(4)
    assert (broken.verdict, broken.away) == (Verdict.TRY_AGAIN, False)
    assert "no answer from" in broken.text
    assert {answer.verdict for answer in answers.values()} == {Verdict.SENT}
    assert len(answers) == 24


def test_a_server_that_wants_a_password_is_not_asked_for_each_object(
    items: list[Outgoing],
) -> None:
    with served(lambda *_: (401, {})) as (peer, requests):
        answers = list(StowRs(peer, SHORT).send(items[:5]))
    assert {answer.verdict for answer in answers} == {Verdict.TRY_AGAIN}
    assert len(requests) == 1


def test_a_refusal_before_the_body_was_read_is_heard_or_at_least_an_answer(
    tmp_path: Path,
) -> None:
    dataset = radiograph(np.zeros((4000, 4000), np.uint16))
    file = tmp_path / "large.dcm"
    dataset.save_as(file, enforce_file_format=True)
    with served(lambda *_: (413, {}), reads=False) as (peer, _):
        (answer,) = StowRs(peer, SHORT).send([Outgoing(1, file, str(dataset.SOPClassUID))])
    # what the kernel has thrown away with the connection cannot be known
    assert "413" in answer.text or "no answer from" in answer.text
    assert answer.verdict is not Verdict.SENT


def test_a_file_that_is_gone_holds_up_no_other(items: list[Outgoing]) -> None:
    items[0].file.unlink()
    with served(lambda _, uids: (200, stored(uids))) as (peer, _):
        answers = {answer.id: answer.verdict for answer in StowRs(peer, SHORT).send(items[:3])}
    assert answers == {1: Verdict.NEVER, 2: Verdict.SENT, 3: Verdict.SENT}


def test_a_file_that_breaks_off_holds_up_no_other_and_is_no_fault_of_the_peer(
    items: list[Outgoing], monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = items[1].file

    def read(file: Path, size: int) -> Iterator[bytes]:
        if file == bad:
            raise stow._FileError("Input/output error")
        yield from whole(file, size)

    whole = stow._file
    monkeypatch.setattr(stow, "_file", read)
    with served(lambda _, uids: (200, stored(uids))) as (peer, _):
        answers = {answer.id: answer for answer in StowRs(peer).send(items)}
    assert len(answers) == len(items)
    broken = answers.pop(items[1].id)
    assert broken.verdict is Verdict.TRY_AGAIN
    assert "cannot be read" in broken.text
    assert not broken.away
    assert all(answer.verdict is Verdict.SENT for answer in answers.values())


def test_a_server_that_says_nothing_is_left_after_a_while(items: list[Outgoing]) -> None:
    release = threading.Event()

    def respond(_: BaseHTTPRequestHandler, uids: list[str]) -> tuple[int, object]:
        release.wait(10)
        return 200, stored(uids)

    with served(respond) as (peer, _):
        (answer,) = StowRs(peer, WebTimeouts(connect=5, answer=0.3)).send(items[:1])
        release.set()
    assert answer.verdict is Verdict.TRY_AGAIN
    assert "no answer" in answer.text
