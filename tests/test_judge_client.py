"""The judge's client against a server that misbehaves, one that is not there, and recorded replies."""

import logging
import math
import socket
import time

import pytest

from bad_server import bad_server
from prefvec.errors import EndpointError
from prefvec.judge.budget import Budget
from prefvec.judge.endpoint import Ask, Endpoint, Loss
from prefvec.judge.judging import Judge, judged, missingness, open_judge
from prefvec.judge.replies import Replies, Reply
from prefvec.judge.rubrics import load_rubric
from prefvec.judge.scores import MIN_MASS, five_point, score_of

SECRET = "sk-test-5f1d0c7e9b"
RECOVERS = [429, "429 after", 500, 503, "hang", "cut", "dropped", "truncated", "html", "no choices", "null"]  # fmt: skip
ANSWERS = ["refusal", "filtered", "refusal in words", "no log-probabilities", "out of range", "below range", "words", "little mass"]  # fmt: skip


def endpoint(server, store, **how):
    given = {"timeout": 1.0, "wait": 0.02, "parallel": 4, **how}
    return Endpoint(server.url, "m", Replies(store), **given)


def asks(n, top=20):
    return [Ask(user=f"item-{i}", top=top) for i in range(n)]


def test_nothing_is_lost_or_doubled_whatever_the_server_does_and_a_second_run_is_free(store):
    script = {i: [what] for i, what in enumerate([*RECOVERS, *ANSWERS])}
    script[50] = [500, "cut", 429]
    wanted = [*asks(len(RECOVERS) + len(ANSWERS)), Ask(user="item-50", top=20)]
    with bad_server(script) as server:
        found = endpoint(server, store).ask(wanted)
        assert all(isinstance(reply, Reply) for reply in found)
        expected = {i: 1 + (i < len(RECOVERS)) for i in range(len(wanted) - 1)} | {50: 4}
        assert dict(server.seen) == expected
        assert server.at_once <= 4
        before = server.requests
        again = endpoint(server, store)
        assert again.ask(wanted) == found
        assert server.requests == before and again.budget.spent_requests == 0
    scores = [score_of(reply, 9) for reply in found]
    reasons = [s.reason for s in scores]
    assert reasons[: len(RECOVERS)] == [""] * len(RECOVERS)
    assert reasons[len(RECOVERS) : -1] == [
        "refused", "refused", "refused", "", "out of range", "out of range", "unparsable",
        "too little numeric mass",
    ]  # fmt: skip
    assert all(math.isnan(s.value) == bool(s.reason) for s in scores)


@pytest.mark.parametrize(
    ("what", "reason"),
    [(500, "http 500"), (429, "http 429"), ("hang", "timeout"), ("cut", "connection"), ("dropped", "connection"), ("truncated", "malformed reply"), (400, "http 400")],
)  # fmt: skip
def test_what_never_recovers_is_a_counted_loss_of_that_item_alone(store, what, reason):
    with bad_server({1: [what] * 9}) as server:
        judge = endpoint(server, store, attempts=3, timeout=0.3)
        found = judge.ask(asks(3))
        assert [isinstance(f, Loss) for f in found] == [False, True, False]
        assert found[1] == Loss(reason) and judge.losses == {reason: 1}
        assert server.seen == {0: 1, 1: 1 if what == 400 else 3, 2: 1}
        assert score_of(found[1], 9).reason == reason and math.isnan(score_of(found[1], 9).value)


def test_retry_after_is_kept_to(store):
    with bad_server({0: ["429 after"]}, after=0.6) as server:
        assert isinstance(endpoint(server, store).ask(asks(1))[0], Reply)
        first, second = server.times[0]
        assert second - first >= 0.6


def test_waits_grow_without_retry_after(store):
    with bad_server({0: [429] * 4}) as server:
        endpoint(server, store, wait=0.1).ask(asks(1))
        gaps = [b - a for a, b in zip(server.times[0], server.times[0][1:], strict=False)]
    assert len(gaps) == 4 and gaps[2] >= 0.2 and gaps[3] >= 0.4  # at least 0.1 · 2ⁿ · ½


def test_equal_requests_are_sent_once_and_answered_each(store):
    with bad_server({}, delay=0.05) as server:
        found = endpoint(server, store).ask([*asks(2), *asks(2), *asks(2)])
        assert len(found) == 6 and server.requests == 2


def test_an_interrupted_run_keeps_what_it_paid_for(store):
    with bad_server({3: [401]}, delay=0.02) as server:
        with pytest.raises(
            EndpointError, match="the key was refused .HTTP 401.; answers that came"
        ):
            endpoint(server, store, parallel=1).ask(asks(6))
        assert server.requests == 4  # and nobody was asked after the refusal
        endpoint(server, store, parallel=1).ask(asks(6))
        assert dict(server.seen) == {0: 1, 1: 1, 2: 1, 3: 2, 4: 1, 5: 1}


def test_an_account_without_credit_is_an_error_at_once(store):
    with bad_server({0: ["no credit"] * 9}) as server:
        with pytest.raises(EndpointError, match="no credit left"):
            endpoint(server, store).ask(asks(1))
        assert server.requests == 1


@pytest.mark.parametrize(
    "budget",
    [
        Budget(requests=3),
        Budget(tokens=3 * 60),
        Budget(money=3 * 40e-6, price_in=0.6, price_out=2.0),
    ],
)
def test_a_budget_stops_cleanly_and_the_next_run_goes_on(store, budget):
    with bad_server({}) as server:
        first = endpoint(server, store, budget=budget, parallel=1)
        found = first.ask(asks(6))
        done = sum(isinstance(f, Reply) for f in found)
        assert 1 <= done <= 3 and first.losses == {"budget": 6 - done}
        assert server.requests == done == budget.spent_requests
        assert budget.spent_tokens == 52 * done
        limits = {"spent_requests": budget.requests, "spent_tokens": budget.tokens, "spent_money": budget.money}  # fmt: skip
        assert all(getattr(budget, k) <= v for k, v in limits.items() if v is not None)
        assert all(isinstance(f, Reply) for f in endpoint(server, store).ask(asks(6)))
        assert server.requests == 6


def test_retries_count_towards_the_budget(store):
    with bad_server({0: [500] * 9}) as server:
        judge = endpoint(server, store, budget=Budget(requests=2))
        assert judge.ask(asks(1)) == [Loss("budget")]
        assert server.requests == 2


def test_a_server_that_is_not_there_is_one_line_within_ten_seconds(store):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    for address in (url, "https://no-such-host.invalid/v1", "http://192.0.2.1:9/v1"):
        started = time.monotonic()
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("OPENAI_API_KEY", SECRET)
            with pytest.raises(EndpointError, match="no server answers at") as error:
                Endpoint(address, "m", Replies(store)).ask(asks(1))
        assert time.monotonic() - started < 10
        assert "\n" not in str(error.value) and SECRET not in str(error.value)


def test_the_api_without_a_key_is_one_line(store, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with (
        open_judge("gpt-4o", store=store) as judge,
        pytest.raises(EndpointError, match="OPENAI_API_KEY is not set"),
    ):
        judge.endpoint.ask(asks(1))
    with pytest.raises(EndpointError, match="base URL 'localhost:8000'"):
        Endpoint("localhost:8000", "m", Replies(store)).ask(asks(1))


def test_the_key_goes_to_the_server_and_nowhere_else(store, monkeypatch, caplog, capfd, tmp_path):
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    caplog.set_level(logging.DEBUG)
    with bad_server({0: [500], 1: [400], 2: [401]}) as server:
        judge = endpoint(server, store, parallel=1)
        judge.ask(asks(2))
        with pytest.raises(EndpointError) as refused:
            judge.ask(asks(3))
        assert all(h["authorization"] == f"Bearer {SECRET}" for h in server.headers)
    judge.replies.record(tmp_path / "recorded.jsonl")
    captured = capfd.readouterr()
    written = [p.read_text() for p in tmp_path.rglob("*") if p.is_file()]
    assert len(written) >= 2
    shown = [repr(judge), repr(judge.__dict__), repr(judge._client), str(refused.value), repr(refused.value), caplog.text, captured.out, captured.err]  # fmt: skip
    for text in (*shown, *written):
        assert SECRET not in text
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    with bad_server({}) as server:  # a server that we start ourselves is not told the key
        endpoint(server, store, send_key=False).ask([Ask(user="item-9 again")])
        assert SECRET not in str(server.headers)


def test_recorded_replies_are_replayed_without_server_or_key(store, tmp_path, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    rubric, path = load_rubric("formality"), tmp_path / "recorded.jsonl"
    questions, texts = ["Why?"] * 4, [f"item-{i}" for i in range(4)]
    with bad_server({2: ["refusal"]}) as server:
        live = judged(Judge(endpoint(server, store), 100), rubric, questions, texts)
        made = endpoint(server, store)
        assert judged(Judge(made, 100), rubric, questions, texts).equals(live)
        made.replies.record(path)
    with open_judge("m", "http://127.0.0.1:1/v1", recording=path) as judge:
        assert judge.top == 100
        assert judged(judge, rubric, questions, texts).equals(live)
        more = judged(judge, rubric, ["Why?"], ["item-77"])
    assert more.reason.tolist() == ["not recorded"]
    path.write_text('{"key": 1}\n')
    with pytest.raises(EndpointError, match="line 1: not a reply"):
        Replies(recording=path)


def test_the_judge_sees_texts_in_an_order_of_its_own_and_nothing_else(store):
    rubric = load_rubric("coherence")
    texts = [f"item-{i}" for i in range(12)]
    with bad_server({}) as server:
        table = judged(Judge(endpoint(server, store, parallel=1), 9), rubric, ["Why?"] * 12, texts, seed=3)  # fmt: skip
        asked = [body["messages"][1]["content"] for body in server.bodies]
    order = [next(t for t in texts[::-1] if t in text) for text in asked]
    assert sorted(order) == sorted(texts) and order != texts
    assert len(table) == 12 and not table.score.isna().any()
    assert set(server.bodies[0]) == {"messages", "max_tokens", "temperature", "model", "logprobs", "top_logprobs"}  # fmt: skip
    assert {m["content"] for body in server.bodies for m in body["messages"][:1]} == {
        rubric.ask("", "", 9).system
    }


def test_the_score_is_an_expectation_over_the_numbers_of_the_scale():
    half = math.log(0.5)
    reply = Reply(
        "80", tokens=("80",), top=((" 80", half), ("40", math.log(0.25)), ("the", half - 2))
    )
    found = score_of(reply, 100)
    assert found.value == pytest.approx((80 * 0.5 + 40 * 0.25) / 0.75)
    assert found.by == "logprobs" and found.mass == pytest.approx(0.75)
    digits = Reply("3", tokens=("3", ""), top=(("3", half), ("12", half)))
    assert score_of(digits, 9).value == pytest.approx(100 / 3)  # 12 is not on the scale
    assert score_of(Reply("7", top=(("7", math.log(MIN_MASS / 2)),)), 9).reason == "too little numeric mass"  # fmt: skip


def test_a_number_of_several_tokens_is_read_from_the_text():
    reply = Reply("85", tokens=("8", "5"), top=(("8", -0.1), ("9", -2.0)))
    assert score_of(reply, 100)[:2] == (85.0, "text")
    assert score_of(reply, 9).reason == "out of range"


@pytest.mark.parametrize(
    ("text", "value"),
    [("70", 70), (" 70/100", 70), ("Rating: 70", 70), ("**70**", 70), ("Score is 70.", 70), ("72.5", 72.5)],
)  # fmt: skip
def test_text_that_holds_a_rating_is_parsed(text, value):
    assert score_of(Reply(text), 100)[:2] == (value, "text")


@pytest.mark.parametrize("text", ["", "In 1969 it was", "seven", "I give it 7 or 8"])
def test_text_that_does_not_is_missing_and_not_zero(text):
    found = score_of(Reply(text), 100)
    assert math.isnan(found.value) and found.reason == "unparsable"


def test_five_point_scale():
    assert [five_point(x) for x in (0, 50, 100)] == [1, 3, 5]


def test_missingness_counts_reasons_by_group(store):
    with bad_server({0: ["refusal"], 1: ["words"], 2: [400]}) as server:
        table = judged(
            Judge(endpoint(server, store), 9), load_rubric("silly"), ["Why?"] * 4,
            [f"item-{i}" for i in range(4)],
        )  # fmt: skip
    [row] = missingness(table.assign(rubric="silly")).to_dict("records")
    assert (row["asked"], row["missing"]) == (4, 3)
    assert row["reasons"] == "http 400: 1, refused: 1, unparsable: 1"
