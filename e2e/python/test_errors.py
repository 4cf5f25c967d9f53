"""What goes wrong arrives as the client library's own exceptions, with a field and a code."""

import urllib.request

import openai
import pytest


def fails(error, call):
    with pytest.raises(error) as caught:
        call()
    body = caught.value.body
    assert set(body) == {"message", "type", "param", "code"}, "OpenAI's four keys"
    assert body["message"]
    return caught.value


def test_models_are_listed(client, model):
    listed = client.models.list().data
    assert [entry.id for entry in listed] == [model]
    assert listed[0].object == "model"


def test_unknown_model(client):
    messages = [{"role": "user", "content": "hi"}]
    error = fails(
        openai.NotFoundError, lambda: client.chat.completions.create(model="gpt-none", messages=messages)
    )
    assert error.code == "model_not_found"
    assert "gpt-none" in str(error)


@pytest.mark.parametrize(
    ("param", "value"),
    [
        ("temperature", 5),
        ("temperature", "hot"),
        ("top_p", 0),
        ("top_p", 1.5),
        ("n", 0),
        ("max_tokens", 0),
        ("max_tokens", -3),
        ("presence_penalty", 3),
        ("stop", ["a", "b", "c", "d", "e"]),
        ("top_logprobs", 50),
    ],
)
def test_bad_parameter_is_named(ask, param, value):
    options = {param: value} | ({"logprobs": True} if param == "top_logprobs" else {})
    error = fails(openai.BadRequestError, lambda: ask("hi", **options))
    assert error.param == param, error


def test_bad_messages_are_named(client, model):
    for messages in ([], [{"role": "user"}], [{"content": "no role"}], "hi"):
        error = fails(
            openai.BadRequestError,
            lambda: client.chat.completions.create(model=model, messages=messages),
        )
        assert error.param.startswith("messages"), error


def test_prompt_longer_than_the_context(ask):
    error = fails(openai.BadRequestError, lambda: ask("word " * 2000))
    assert error.code == "context_length_exceeded"
    assert "512" in str(error), "it says how long a prompt may be"


def test_a_refused_stream_is_refused_at_once(ask):
    error = fails(openai.BadRequestError, lambda: ask("word " * 2000, stream=True))
    assert error.code == "context_length_exceeded"


def metric(url, name):
    with urllib.request.urlopen(f"{url}/metrics", timeout=10) as response:
        lines = response.read().decode().splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.split("{")[0].split(" ")[0] == name)


def test_health_and_metrics(url, ask):
    with urllib.request.urlopen(f"{url}/health", timeout=10) as response:
        assert response.status == 200
    before = metric(url, "boyle_router_generation_tokens_total")
    tokens = ask("Hello").usage.completion_tokens
    assert metric(url, "boyle_router_generation_tokens_total") == before + tokens
