"""Chat completions by OpenAI's own client, as a product would use it."""

STRAWBERRY = "How many r's are in strawberry?"

# Agents of the deployment under test.
HOMES_MAX = 3


def collect(stream):
    """A stream's reasoning, content, finish reasons and usages, and the kind of text of each delta in order."""
    reasoning, content, finish, usages, kinds = "", "", [], [], []
    for chunk in stream:
        assert chunk.object == "chat.completion.chunk"
        if chunk.usage is not None:
            usages.append((chunk.choices, chunk.usage))
        for choice in chunk.choices:
            thought = getattr(choice.delta, "reasoning_content", None) or ""
            said = choice.delta.content or ""
            reasoning, content = reasoning + thought, content + said
            kinds += ["reasoning"] * bool(thought) + ["content"] * bool(said)
            if choice.finish_reason:
                finish.append(choice.finish_reason)
    return reasoning, content, finish, usages, kinds


def test_answers_with_reasoning_apart(ask, model):
    answer = ask(STRAWBERRY)
    assert (answer.object, answer.model) == ("chat.completion", model)
    (choice,) = answer.choices
    assert choice.finish_reason == "stop"
    assert choice.message.role == "assistant"
    assert choice.message.content.strip() == "r appears 3 times in strawberry."
    assert choice.message.reasoning_content.startswith("spell strawberry")
    assert "think>" not in choice.message.content + choice.message.reasoning_content


def test_usage_counts_reasoning_within_completion(ask):
    usage = ask(STRAWBERRY).usage
    assert usage.prompt_tokens > 5
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    assert 0 < usage.completion_tokens_details.reasoning_tokens < usage.completion_tokens


def test_stream_is_the_whole_answer_in_pieces(ask):
    whole = ask(STRAWBERRY).choices[0].message
    reasoning, content, finish, usages, kinds = collect(ask(STRAWBERRY, stream=True))
    assert (reasoning, content) == (whole.reasoning_content, whole.content)
    assert finish == ["stop"]
    assert usages == []
    assert kinds == sorted(kinds, reverse=True), "reasoning comes before content"
    assert kinds.count("reasoning") > 5, "it came in pieces"


def test_stream_with_usage_ends_with_it(ask):
    whole = ask(STRAWBERRY)
    stream = ask(STRAWBERRY, stream=True, stream_options={"include_usage": True})
    *_, usages, _ = collect(stream)
    ((choices, usage),) = usages
    assert choices == []
    counts = (usage.prompt_tokens, usage.completion_tokens, usage.completion_tokens_details)
    assert counts == (
        whole.usage.prompt_tokens,
        whole.usage.completion_tokens,
        whole.usage.completion_tokens_details,
    )


def test_a_repeated_prompt_is_found_in_the_cache(ask):
    question = "Here are some words: one two three four five six seven eight nine ten. " * 2
    # More often than there are homes, so that some home sees it again.
    usages = [ask(question, max_tokens=2).usage for _ in range(HOMES_MAX + 1)]
    cached = [usage.prompt_tokens_details.cached_tokens for usage in usages]
    # No other test's prompt begins like this one beyond the template.
    assert max(cached) > cached[0]
    assert all(tokens < usages[0].prompt_tokens for tokens in cached), "one is always computed"


def test_max_tokens_cuts_with_length(ask):
    for limit in ({"max_tokens": 7}, {"max_completion_tokens": 7}):
        answer = ask(STRAWBERRY, **limit)
        assert answer.choices[0].finish_reason == "length"
        assert answer.usage.completion_tokens == 7
        assert answer.usage.completion_tokens_details.reasoning_tokens == 7
        assert not answer.choices[0].message.content


def test_stop_string_ends_the_answer_before_it(ask):
    whole = ask(STRAWBERRY).choices[0].message.content
    assert " times in" in whole
    for stop in (" times in", ["never written", " times in"]):
        choice = ask(STRAWBERRY, stop=stop).choices[0]
        assert choice.finish_reason == "stop"
        assert choice.message.content == whole.split(" times in")[0]
    *streamed, _, _ = collect(ask(STRAWBERRY, stop=" times in", stream=True))
    assert streamed[1] == whole.split(" times in")[0]


def texts(answer):
    return [(c.message.reasoning_content, c.message.content) for c in answer.choices]


def test_seed_repeats_and_choices_differ(ask):
    options = dict(temperature=2, max_tokens=60, n=3)
    first, again = (texts(ask(STRAWBERRY, seed=7, **options)) for _ in range(2))
    other = texts(ask(STRAWBERRY, seed=8, **options))
    assert first == again
    assert len(set(first)) == 3
    assert first != other


def test_n_choices_stream_by_index(ask):
    whole = texts(ask(STRAWBERRY, seed=7, temperature=2, max_tokens=40, n=3))
    streamed = {}
    for chunk in ask(STRAWBERRY, seed=7, temperature=2, max_tokens=40, n=3, stream=True):
        for choice in chunk.choices:
            said = streamed.setdefault(choice.index, ["", ""])
            said[0] += getattr(choice.delta, "reasoning_content", None) or ""
            said[1] += choice.delta.content or ""
    assert [tuple(streamed[i]) for i in range(3)] == [(r or "", c or "") for r, c in whole]


def test_logprobs_of_chosen_and_best_tokens(ask):
    answer = ask(STRAWBERRY, logprobs=True, top_logprobs=3)
    tokens = answer.choices[0].logprobs.content
    assert len(tokens) >= answer.usage.completion_tokens - 1, "one for each token; the end token may have none"
    for token in tokens:
        assert token.logprob <= 0
        best = [top.logprob for top in token.top_logprobs]
        assert len(best) == 3 and best == sorted(best, reverse=True)
        assert token.token == token.top_logprobs[0].token, "greedy takes the best"
    said = b"".join(bytes(token.bytes or []) for token in tokens).decode()
    assert answer.choices[0].message.content in said


def test_logprobs_stream(ask):
    whole = ask(STRAWBERRY, logprobs=True, top_logprobs=0).choices[0].logprobs.content
    streamed = []
    for chunk in ask(STRAWBERRY, logprobs=True, top_logprobs=0, stream=True):
        for choice in chunk.choices:
            streamed += choice.logprobs.content if choice.logprobs and choice.logprobs.content else []
    assert [(t.token, t.logprob) for t in streamed] == [(t.token, t.logprob) for t in whole]


def test_a_conversation_goes_on(client, model):
    messages = [{"role": "user", "content": "Hello!"}]
    first = client.chat.completions.create(model=model, messages=messages, temperature=0)
    messages += [
        {"role": "assistant", "content": first.choices[0].message.content},
        {"role": "user", "content": "What is 17 + 25?"},
    ]
    second = client.chat.completions.create(model=model, messages=messages, temperature=0)
    assert second.usage.prompt_tokens > first.usage.prompt_tokens + 10
    assert second.choices[0].finish_reason == "stop"


def test_text_beyond_ascii_streams_whole(ask):
    _, content, *_ = collect(ask("Xin chào", stream=True))
    assert content.strip() == "Xin chào! Hãy hỏi tôi một phép tính."
