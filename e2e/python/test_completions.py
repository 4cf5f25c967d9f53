"""Text completions by OpenAI's own client."""


def test_continues_the_prompt(complete, model):
    answer = complete("What is 12 + 34?")
    assert (answer.object, answer.model) == ("text_completion", model)
    (choice,) = answer.choices
    assert choice.finish_reason == "stop"
    assert choice.text.endswith("12 + 34 = 46")
    assert "</think>" in choice.text, "plain completions are not taken apart"
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


def test_stream_is_the_whole_text_in_pieces(complete):
    whole = complete("What is 12 + 34?").choices[0].text
    pieces, usages = [], []
    stream = complete("What is 12 + 34?", stream=True, stream_options={"include_usage": True})
    for chunk in stream:
        pieces += [choice.text for choice in chunk.choices]
        usages += [chunk.usage] * (chunk.usage is not None)
    assert "".join(pieces) == whole
    assert len(pieces) > 5
    (usage,) = usages
    assert usage.completion_tokens > 10


def test_stop_max_tokens_and_seed(complete):
    whole = complete("What is 12 + 34?").choices[0].text
    stopped = complete("What is 12 + 34?", stop=["carry"]).choices[0]
    assert (stopped.text, stopped.finish_reason) == (whole.split("carry")[0], "stop")
    cut = complete("What is 12 + 34?", max_tokens=5)
    assert (cut.choices[0].finish_reason, cut.usage.completion_tokens) == ("length", 5)
    assert whole.startswith(cut.choices[0].text)
    wild = dict(temperature=2, max_tokens=40, n=2)
    first, again, other = (
        [choice.text for choice in complete("What is 12 + 34?", seed=seed, **wild).choices] for seed in (1, 1, 2)
    )
    assert first == again
    assert first[0] != first[1]
    assert first != other


def test_logprobs_lie_beside_the_tokens(complete):
    answer = complete("What is 12 + 34?", logprobs=2, max_tokens=8)
    logprobs = answer.choices[0].logprobs
    assert len(logprobs.tokens) == len(logprobs.token_logprobs) == len(logprobs.top_logprobs) == 8
    assert "".join(logprobs.tokens) == answer.choices[0].text
    for token, logprob, top in zip(logprobs.tokens, logprobs.token_logprobs, logprobs.top_logprobs):
        assert logprob <= 0
        assert top[token] == logprob == max(top.values())
    assert logprobs.text_offset == sorted(logprobs.text_offset)


def test_a_list_of_prompts_gives_a_choice_each(client, model):
    answer = client.completions.create(model=model, prompt=["a", "b", "c"], max_tokens=4, temperature=0)
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
