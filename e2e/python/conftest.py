"""The deployment under test: e2e's Rust tests start it and say where it is."""

import os

import openai
import pytest


@pytest.fixture(scope="session")
def url():
    return os.environ["BOYLE_URL"]


@pytest.fixture(scope="session")
def model():
    return os.environ["BOYLE_MODEL"]


@pytest.fixture(scope="session")
def client(url):
    # No retries: an error that a second try would hide is what we look for.
    return openai.OpenAI(base_url=f"{url}/v1", api_key="not-used", max_retries=0, timeout=60)


@pytest.fixture
def ask(client, model):
    """Asks one question greedily, unless told otherwise."""

    def ask(question, **options):
        options.setdefault("temperature", 0)
        messages = [{"role": "user", "content": question}]
        return client.chat.completions.create(model=model, messages=messages, **options)

    return ask


@pytest.fixture
def complete(client, model):
    """Continues a prompt that looks as the chat template would render this question."""

    def complete(question, **options):
        options.setdefault("temperature", 0)
        options.setdefault("max_tokens", 300)
        prompt = f"<｜begin▁of▁sentence｜><｜User｜>{question}<｜Assistant｜><think>\n"
        return client.completions.create(model=model, prompt=prompt, **options)

    return complete
